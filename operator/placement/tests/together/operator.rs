//! An operator: the real leader and the real planner, in the product's loop (`operator/src/reconcile.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_feed::frames::{Hello, Up};
use weir_feed::grant::KeyRing;
use weir_feed::leader::step::{Effect, Input, SliceId};
use weir_feed::leader::{Leader, Role};
use weir_feed::periods::Periods;
use weir_feed::record::{StreamId, StreamerId};
use weir_feed::time::Now;
use weir_placement::plan;
use weir_placement::plan::Plan;
use weir_placement::world::{Namespace, Removal, Streamer, World as Facts};

use crate::api::{Call, Reply};
use crate::campaign::Campaign;
use crate::users::Wishes;
use crate::world::{self, NAMESPACE, Process, STREAMERS, World};

/// Changes that come within this time (ms) are planned together.
const DEBOUNCE: u64 = 50;

/// One operator.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) process: Process,
    pub(crate) leader: Leader,
    pub(crate) campaign: Campaign,
    /// It does not reach the API until then.
    pub(crate) cut_off_until: u64,
    /// When the watches last showed it something.
    pub(crate) seen_at: u64,
    pub(crate) observed_at: u64,
    observed: Option<Arc<Wishes>>,
    /// From which wishes and owners the leader's wants were last made.
    told: Option<(Arc<Wishes>, BTreeMap<String, String>)>,
    liveness: u64,
    /// When the next plan is due, in the world's time, and the number of that appointment.
    plan_at: Option<u64>,
    plans: u64,
}

/// What happens to it.
#[derive(Debug)]
pub(crate) enum Event {
    Tick,
    Plan(u64),
    Observed(Arc<Wishes>),
    Seen { id: SliceId, version: u64, term: u64 },
    Answer(Reply),
    Round(u64),
    Fed(Feed),
}

/// What comes over the feed.
#[derive(Debug)]
pub(crate) enum Feed {
    /// With the time of the streamer's last request when it was sent.
    Hello(u64, Box<Hello>, u64),
    Frame(u64, Up, u64),
    Gone(u64),
}

impl Operator {
    pub(crate) fn new() -> Self {
        Self {
            process: Process { offset: 3_600_000, ..Process::default() },
            leader: Leader::new(Periods::default()),
            campaign: Campaign::default(),
            cut_off_until: 0,
            seen_at: 0,
            observed_at: 0,
            observed: None,
            told: None,
            liveness: 0,
            plan_at: None,
            plans: 0,
        }
    }

    pub(crate) fn leads(&self) -> bool {
        self.process.up && self.leader.role() == Role::Leading
    }
}

impl World {
    pub(crate) fn start_operator(&mut self, at: usize) {
        self.sim.say(|| format!("operator {at} starts"));
        let now = self.sim.now;
        let operator = &mut self.operators[at];
        operator.process.start(now);
        operator.leader = Leader::new(Periods::default());
        operator.campaign = Campaign::default();
        (operator.observed, operator.told, operator.plan_at, operator.liveness) = (None, None, None, 0);
        (operator.seen_at, operator.observed_at) = (now, now);
        self.operator_after(at, 500, Event::Tick);
        self.operator_after(at, 1, Event::Round(0));
        let wishes = Arc::new(self.wishes.clone());
        self.show_wishes(at, &wishes);
        let slices: Vec<_> = self.api.slices.values().map(|s| (s.id.clone(), s.version, s.term)).collect();
        for (id, version, term) in slices {
            self.show_slice(at, &id, version, term);
        }
    }

    pub(crate) fn kill_operator(&mut self, at: usize) {
        self.sim.say(|| format!("operator {at} dies"));
        self.operators[at].process.stop();
        self.cut_all(|connection| connection.operator == at);
    }

    pub(crate) fn operator_after(&mut self, at: usize, ms: u64, event: Event) {
        let life = self.operators[at].process.life;
        self.sim.after(ms, world::Event::Operator(at, life, event));
    }

    pub(crate) fn operator_event(&mut self, at: usize, event: Event) {
        match event {
            Event::Tick => {
                self.operator_after(at, 500, Event::Tick);
                self.operator_step(at, Input::Tick);
                let now = self.operator_now(at);
                let operator = &mut self.operators[at];
                let liveness = operator.leader.liveness(now);
                if std::mem::replace(&mut operator.liveness, liveness) != liveness {
                    self.plan_in(at, DEBOUNCE);
                }
            }
            Event::Plan(number) if number == self.operators[at].plans => self.reconcile(at),
            Event::Plan(_) => {}
            Event::Observed(wishes) => self.observe(at, wishes),
            Event::Seen { id, version, term } => {
                self.operator_step(at, Input::SliceSeen { id, version: Some(version), term: Some(term) });
            }
            Event::Answer(Reply::Slices(input)) => {
                self.operator_step(at, input);
                if self.operators[at].leader.busy() == 0 {
                    self.plan_in(at, DEBOUNCE);
                }
            }
            Event::Answer(reply) => self.campaign_answered(at, reply),
            Event::Round(number) => self.round(at, number),
            Event::Fed(feed) => self.fed(at, feed),
        }
    }

    pub(crate) fn operator_now(&self, at: usize) -> Now {
        self.operators[at].process.now(self.sim.now)
    }

    pub(crate) fn operator_step(&mut self, at: usize, input: Input) {
        let now = self.operator_now(at);
        let effects = self.operators[at].leader.step(input, now);
        for effect in effects {
            self.perform(at, effect);
        }
        let term = self.operators[at].leader.term();
        self.publish(at, term);
    }

    fn perform(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Send { conn, frame } => {
                self.check_sent(at, conn, &frame);
                self.send_down(conn, Some(frame));
            }
            Effect::Close { conn } => {
                self.send_down(conn, None);
                self.operator_after(at, 20, Event::Fed(Feed::Gone(conn)));
            }
            Effect::Abort { conn } => self.cut(conn),
            Effect::Corrected { streams } => self.sim.say(|| format!("operator {at} corrects {streams:?}")),
            Effect::StepDown { why } => {
                self.sim.say(|| format!("operator {at} steps down: {why}"));
                self.resign(at);
            }
            Effect::Exit { why } => {
                self.sim.say(|| format!("operator {at} exits: {why}"));
                self.kill_operator(at);
                self.sim.after(2_000, world::Event::StartOperator(at));
            }
            Effect::Warn { message } => self.sim.say(|| format!("operator {at}: {message}")),
            call => self.call(at, &Call::Slices(call)),
        }
    }

    fn plan_in(&mut self, at: usize, ms: u64) {
        let due = self.sim.now + ms;
        if self.operators[at].plan_at.is_none_or(|at| due < at) {
            self.plan_at(at, due);
        }
    }

    fn plan_at(&mut self, at: usize, due: u64) {
        let operator = &mut self.operators[at];
        operator.plan_at = Some(due);
        operator.plans += 1;
        let number = operator.plans;
        self.operator_after(at, due - self.sim.now, Event::Plan(number));
    }

    fn fed(&mut self, at: usize, feed: Feed) {
        self.check_fed(at, &feed);
        match feed {
            Feed::Hello(conn, hello, _) => {
                let id = StreamerId { namespace: hello.namespace.clone(), name: hello.streamer.clone() };
                let verified = self.verified;
                self.network.greeted.insert(conn);
                self.operator_step(at, Input::Connected { conn, streamer: id, verified, hello });
                self.plan_in(at, DEBOUNCE);
            }
            Feed::Frame(conn, frame, _) => {
                let matters =
                    matches!(frame, Up::Runs { .. } | Up::Released { .. } | Up::Rejected { .. } | Up::Goodbye {});
                if !matches!(frame, Up::Alive { .. } | Up::Applied { .. }) {
                    self.sim.say(|| format!("operator {at} hears on {conn}: {frame:?}"));
                }
                self.operator_step(at, Input::Frame { conn, frame });
                if matters {
                    self.plan_in(at, DEBOUNCE);
                }
            }
            Feed::Gone(conn) => {
                if self.network.greeted.remove(&conn) {
                    self.operator_step(at, Input::Disconnected { conn });
                    self.plan_in(at, DEBOUNCE);
                }
                self.network.connections.remove(&conn);
            }
        }
    }

    fn observe(&mut self, at: usize, wishes: Arc<Wishes>) {
        let ready = wishes.ready.iter().map(|name| StreamerId { namespace: NAMESPACE.into(), name: name.clone() });
        self.operator_step(at, Input::Expected { streamers: ready.collect() });
        let ended = wishes
            .ended
            .iter()
            .map(|(name, instance)| (StreamerId { namespace: NAMESPACE.into(), name: name.clone() }, instance.clone()));
        self.operator_step(at, Input::Ended { instances: ended.collect() });
        if wishes.unknown {
            self.operators[at].told = None;
            self.operator_step(at, Input::WantsUnknown);
        }
        self.operators[at].observed = Some(wishes);
        self.plan_in(at, DEBOUNCE);
    }

    fn reconcile(&mut self, at: usize) {
        self.operators[at].plan_at = None;
        if self.operators[at].leader.role() != Role::Leading {
            return;
        }
        let Some(wishes) = self.operators[at].observed.clone() else {
            return;
        };
        let now = self.operator_now(at);
        let facts = facts(&wishes, &self.operators[at].leader, now);
        self.tell_what_is_wanted(at, &wishes, &facts);
        if !self.operators[at].leader.may_plan(now) {
            return;
        }
        let plan = plan(&facts, now);
        self.carry_plan_out(at, &plan, now);
        if self.operators[at].leader.busy() == 0 {
            self.report(at, now);
        }
    }

    fn tell_what_is_wanted(&mut self, at: usize, wishes: &Arc<Wishes>, facts: &Facts) {
        if wishes.unknown {
            return;
        }
        let owners: BTreeMap<String, String> = facts
            .namespaces
            .values()
            .flat_map(weir_placement::owners)
            .map(|(name, owner)| (name.to_owned(), owner.object.clone()))
            .collect();
        let told = Some((Arc::clone(wishes), owners.clone()));
        if self.operators[at].told == told {
            return;
        }
        let wants = owners.iter().map(|(name, object)| {
            let stream = StreamId { namespace: NAMESPACE.into(), name: name.clone() };
            (stream, wishes.streams[object].want(object))
        });
        let wants = wants.collect();
        self.operators[at].told = told;
        self.operator_step(at, Input::Wants { wants });
    }

    fn carry_plan_out(&mut self, at: usize, plan: &Plan, now: Now) {
        for planned in &plan.changes {
            self.sim.say(|| format!("operator {at} plans: {}: {}", planned.stream.name, planned.why));
        }
        let changes = plan.changes.iter();
        let changes = changes.map(|p| (p.stream.clone(), p.change.clone(), p.urgent)).collect();
        let held = plan.held_removals.iter();
        let held_removals = held.map(|(namespace, held)| (namespace.clone(), held.until)).collect();
        self.operator_step(at, Input::Plan { changes, held_removals });
        if let Some(wake) = plan.wake_in {
            self.plan_at(at, self.sim.now + wake.max(DEBOUNCE));
        }
        let leader = &self.operators[at].leader;
        if !plan.changes.is_empty() && leader.busy() == 0 {
            let again = leader.budget_in(now).max(Periods::default().ping);
            self.plan_at(at, self.sim.now + again);
        }
    }

    /// Of all statuses, the one that decisions depend on.
    fn report(&mut self, at: usize, now: Now) {
        let leader = &self.operators[at].leader;
        let ready: Vec<String> = (0..STREAMERS)
            .map(|streamer| format!("s{streamer}"))
            .filter(|name| !self.wishes.ready.contains(name))
            .filter(|name| {
                let id = StreamerId { namespace: NAMESPACE.into(), name: name.clone() };
                leader.streamer(&id, now).is_some_and(|view| view.connected && view.alive)
            })
            .collect();
        if !ready.is_empty() && self.sim.now >= self.api.down_until {
            self.wishes.ready.extend(ready);
            self.declared();
        }
    }
}

/// As `operator/src/observe.rs` makes it.
fn facts(wishes: &Wishes, leader: &Leader, now: Now) -> Facts {
    let streamer = |(name, streamer): (&String, &Streamer)| {
        let id = StreamerId { namespace: NAMESPACE.into(), name: name.clone() };
        let view = leader.streamer(&id, now);
        let not_ready = match view {
            Some(view) if view.connected && view.alive => None,
            Some(view) if view.connected => Some("is not polled by its streamer"),
            Some(view) if view.reported => Some("is silent"),
            _ => Some("has not reported yet"),
        };
        let supervised = leader.streamer(&id, now).is_some_and(|view| view.supervised);
        (name.clone(), Streamer { not_ready: not_ready.map(Into::into), supervised, ..streamer.clone() })
    };
    let streams = wishes.streams.iter().filter(|_| !wishes.unknown);
    let removal = leader.removal(NAMESPACE, now);
    let namespace = Namespace {
        streams: streams.map(|(object, wish)| wish.facts(object)).collect(),
        unreadable: std::collections::BTreeSet::new(),
        streamers: wishes.streamers.iter().map(streamer).collect(),
        known: leader.known(now).remove(NAMESPACE).unwrap_or_default(),
        removal: Removal {
            unknown: wishes.unknown,
            until: removal.until,
            confirmed: removal.confirmed,
            namespace_terminating: false,
            recent: removal.recent,
            wait: removal.wait,
        },
        unheard: leader.unheard(NAMESPACE, now),
    };
    Facts {
        settled: leader.is_settled(),
        settles_in: leader.settles_in(now),
        periods: Periods::default(),
        namespaces: BTreeMap::from([(NAMESPACE.to_owned(), namespace)]),
    }
}

/// The keys that every operator reads from the one Secret.
pub(crate) fn keys() -> KeyRing {
    KeyRing::new(BTreeMap::from([("k1".to_owned(), vec![7; 32])])).unwrap()
}
