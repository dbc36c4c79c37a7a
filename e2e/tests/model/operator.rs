//! An operator: the real leader and the real planner in the product's loop, and its campaign for the Lease.

use std::collections::{BTreeMap, BTreeSet};

use weir_feed::digest::document_hash;
use weir_feed::frames::{Partition, Up};
use weir_feed::grant::KeyRing;
use weir_feed::leader::step::{Conn, Document, Effect, Input, Want};
use weir_feed::leader::{Leader, Role};
use weir_feed::record::{StreamId, StreamerId};
use weir_feed::time::Now;
use weir_placement::plan;
use weir_placement::selector::Selector;
use weir_placement::world::{Namespace, Removal, Stream, Streamer, World as Facts};

use crate::api::{Lease, Reply, Wishes};
use crate::clock::{TIMEOUT, UNIT, now, periods};
use crate::world::{AFTER, DOCUMENT, NAME, NAMESPACE, World};

/// One operator.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Operator {
    pub(crate) up: bool,
    pub(crate) frozen: bool,
    pub(crate) leader: Leader,
    pub(crate) campaign: Campaign,
    /// It does not reach the API.
    pub(crate) cut_off: bool,
    pub(crate) next_write: Option<crate::api::Fate>,
    /// Answers of the API that have not come yet.
    pub(crate) replies: Vec<Reply>,
    /// The version of the slice that its watch has not shown yet.
    pub(crate) unseen: Option<u64>,
    /// Its watches show what is declared at its next look.
    pub(crate) undeclared: bool,
    observed: Option<Wishes>,
    told: Option<Wishes>,
}

/// Its campaign for the Lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Campaign {
    ours: Option<Lease>,
    deadline: u64,
    /// The version last seen, and since when.
    sighting: Option<(u64, u64)>,
    highest_term: u64,
    highest_version: u64,
    /// The term that is to stand in the Lease.
    term: u64,
    /// When it looks at the Lease next; monotonic ms.
    next: u64,
    /// When the request under way ends without an answer.
    fails: Option<u64>,
    lost: bool,
    hint: Option<usize>,
    keys: bool,
}

impl Operator {
    pub(crate) fn new() -> Self {
        Self {
            up: false,
            frozen: false,
            leader: Leader::new(periods()),
            campaign: Campaign::default(),
            cut_off: false,
            next_write: None,
            replies: vec![],
            unseen: None,
            undeclared: false,
            observed: None,
            told: None,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.up && !self.frozen
    }

    /// It leads, and its own Lease has not run out.
    pub(crate) fn leads(&self, mono: u64) -> bool {
        self.runs() && self.leader.role() == Role::Leading && mono < self.campaign.deadline
    }
}

impl World {
    pub(crate) fn start_operator(&mut self, at: usize) {
        self.say(|| format!("operator {at} starts"));
        let mono = self.mono();
        let unseen = self.api.stored.slice.as_ref().map(|slice| slice.version);
        let cut_off = self.operators[at].cut_off;
        let operator = self.operator(at);
        *operator = Operator { up: true, unseen, undeclared: true, cut_off, ..Operator::new() };
        operator.campaign.next = mono;
    }

    /// The process ends; its machine tells whom it was connected to.
    pub(crate) fn crash_operator(&mut self, at: usize) {
        self.say(|| format!("operator {at} dies"));
        let operator = self.operator(at);
        operator.up = false;
        operator.frozen = false;
        operator.replies.clear();
        operator.next_write = None;
        let api = std::sync::Arc::make_mut(&mut self.api);
        let copies = api.copies.iter_mut().chain(&mut api.before).map(std::sync::Arc::make_mut);
        for stored in copies.chain([&mut api.stored]) {
            if let Some((holder, current)) = &mut stored.lease.holder
                && *holder == at
            {
                *current = false;
            }
        }
        self.end_connections(|connection| connection.operator == at, true);
    }

    /// One phase of an operator's life.
    pub(crate) fn run_operator(&mut self, at: usize) {
        self.take_replies(at);
        if !self.operators[at].runs() {
            return;
        }
        if !self.operators[at].cut_off {
            self.watch(at);
        }
        self.operator_step(at, Input::Tick);
        self.campaign(at);
        self.reconcile(at);
    }

    /// Answers of the API that have come.
    fn take_replies(&mut self, at: usize) {
        let mono = self.mono();
        let due = |operator: &Operator| operator.replies.iter().position(|reply| reply.due <= mono);
        while let Some(place) = due(&self.operators[at]).filter(|_| self.operators[at].runs()) {
            let reply = self.operator(at).replies.remove(place);
            self.operator_step(at, reply.input);
        }
    }

    /// What its watches show.
    fn watch(&mut self, at: usize) {
        if let Some(version) = self.operator(at).unseen.take() {
            let term = self.api.stored.slice.as_ref().map(|slice| slice.term);
            self.operator_step(at, Input::SliceSeen { id: crate::api::slice_id(), version: Some(version), term });
        }
        if std::mem::take(&mut self.operator(at).undeclared) {
            let wishes = self.api.stored.wishes;
            let ready = (0..2).filter(|streamer| wishes.ready[*streamer]).map(streamer_id);
            self.operator_step(at, Input::Expected { streamers: ready.collect() });
            self.operator(at).observed = Some(wishes);
        }
    }

    pub(crate) fn operator_step(&mut self, at: usize, input: Input) {
        if !self.operators[at].runs() {
            return;
        }
        let now = now(self.time);
        let effects = self.operator(at).leader.step(input, now);
        for effect in effects {
            let ends = matches!(effect, Effect::Exit { .. });
            self.perform(at, effect);
            if ends || !self.operators[at].up {
                return;
            }
        }
        self.take_replies(at);
        let term = self.operators[at].leader.term();
        if self.operators[at].campaign.term != term {
            let operator = self.operator(at);
            operator.campaign.term = term;
            operator.campaign.next = now.mono;
        }
    }

    fn perform(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Send { conn, frame } => {
                self.frame_sent(at, conn, &frame);
                self.send_down(conn, Some(frame));
            }
            Effect::Close { conn } | Effect::Abort { conn } => self.send_down(conn, None),
            Effect::Corrected { streams } => {
                self.say(|| format!("operator {at} corrects the record: {} has it", streams[0].1));
            }
            Effect::StepDown { why } => {
                self.say(|| format!("operator {at} leads no more: {why}"));
                self.resign(at);
            }
            Effect::Exit { why } => {
                self.say(|| format!("operator {at} starts anew: {why}"));
                self.crash_operator(at);
                self.start_operator(at);
            }
            Effect::Warn { message } => self.say(|| format!("operator {at}: {message}")),
            call => self.call(at, call),
        }
    }

    fn reconcile(&mut self, at: usize) {
        let now = now(self.time);
        let operator = &self.operators[at];
        if !operator.runs() || operator.leader.role() != Role::Leading {
            return;
        }
        let Some(wishes) = operator.observed else { return };
        if operator.told != Some(wishes) {
            self.operator(at).told = Some(wishes);
            let stream = StreamId { namespace: NAMESPACE.into(), name: NAME.into() };
            let wants = wishes.stream.map(|uid| (stream, want(uid, &wishes, self.partition)));
            self.operator_step(at, Input::Wants { wants: wants.into_iter().collect() });
        }
        if !self.operators[at].leader.may_plan(now) {
            return;
        }
        let plan = plan(&facts(&wishes, self.partition, &self.operators[at].leader, now), now);
        for planned in &plan.changes {
            self.say(|| format!("operator {at} decides: {}", planned.why));
        }
        let changes = plan.changes.into_iter();
        let changes = changes.map(|planned| (planned.stream, planned.change, planned.urgent)).collect();
        let held = plan.held_removals.iter();
        let held_removals = held.map(|(namespace, held)| (namespace.clone(), held.until)).collect();
        self.operator_step(at, Input::Plan { changes, held_removals });
        self.report(at);
    }

    /// Of all statuses, the one that decisions depend on.
    fn report(&mut self, at: usize) {
        let now = now(self.time);
        let mut ready = self.api.stored.wishes.ready;
        for (streamer, ready) in ready.iter_mut().enumerate() {
            let view = self.operators[at].leader.streamer(&streamer_id(streamer), now);
            *ready |= view.is_some_and(|view| view.connected && view.alive);
        }
        if ready != self.api.stored.wishes.ready && self.operators[at].runs() && !self.operators[at].cut_off {
            self.stored().wishes.ready = ready;
            self.declared();
        }
    }

    /// A look at the Lease, and what follows from it: it is taken only after it stood still for as long as it holds.
    fn campaign(&mut self, at: usize) {
        let mono = self.mono();
        let campaign = &mut self.operator(at).campaign;
        if let Some(fails) = campaign.fails {
            if mono < fails {
                return;
            }
            campaign.fails = None;
            campaign.next = mono + UNIT;
            if campaign.deadline <= mono {
                self.lease_is_lost(at, None);
            }
            return;
        }
        if mono < campaign.next || !self.operators[at].runs() {
            return;
        }
        if self.operators[at].cut_off {
            let campaign = &mut self.operator(at).campaign;
            campaign.ours = None;
            campaign.fails = Some(mono + TIMEOUT);
            return;
        }
        let lease = self.operator(at).campaign.ours.take();
        let lease = lease.unwrap_or_else(|| self.api.stored.lease.clone());
        self.decide(at, &lease, mono);
    }

    fn decide(&mut self, at: usize, lease: &Lease, mono: u64) {
        let campaign = &mut self.operator(at).campaign;
        if lease.version < campaign.highest_version {
            self.say(|| format!("operator {at} starts anew: the Lease is older than it was"));
            self.crash_operator(at);
            return self.start_operator(at);
        }
        campaign.highest_version = lease.version;
        campaign.highest_term = campaign.highest_term.max(lease.term);
        let free = match lease.holder {
            None => true,
            Some(holder) if holder == (at, true) => true,
            Some(_) => {
                let sighting = campaign.sighting.filter(|(version, _)| *version == lease.version);
                let (_, since) = *campaign.sighting.insert(sighting.unwrap_or((lease.version, mono)));
                mono >= since + periods().lease
            }
        };
        if !free {
            campaign.next = mono + UNIT;
            return self.lease_is_lost(at, lease.holder.map(|(holder, _)| holder));
        }
        let term = lease.term.max(campaign.term).max(campaign.highest_term);
        if self.api.stored.lease.version != lease.version {
            self.operator(at).campaign.next = mono;
            return;
        }
        let stored = self.stored();
        stored.version += 1;
        stored.lease = Lease { version: stored.version, holder: Some((at, true)), term };
        let ours = stored.lease.clone();
        let campaign = &mut self.operator(at).campaign;
        campaign.sighting = None;
        campaign.highest_version = ours.version;
        campaign.ours = Some(ours);
        campaign.deadline = mono + periods().lease - periods().lease / 5;
        campaign.next = mono + periods().lease / 3;
        campaign.lost = false;
        let (deadline, highest_term) = (campaign.deadline, campaign.highest_term);
        if !std::mem::replace(&mut campaign.keys, true) {
            self.operator_step(at, Input::Keys { ring: keys() });
        }
        self.operator_step(at, Input::Lease { deadline, highest_term });
    }

    fn lease_is_lost(&mut self, at: usize, leader: Option<usize>) {
        let campaign = &mut self.operator(at).campaign;
        let said = (std::mem::replace(&mut campaign.lost, true), std::mem::replace(&mut campaign.hint, leader));
        if said != (true, leader) {
            self.operator_step(at, Input::NoLease { leader: leader.map(|leader| leader.to_string()) });
        }
    }

    /// Gives the Lease back, and rests.
    fn resign(&mut self, at: usize) {
        let mono = self.mono();
        let campaign = &mut self.operator(at).campaign;
        let was_ours = campaign.deadline > mono;
        campaign.deadline = 0;
        let ours = campaign.ours.take();
        let term = campaign.term.max(campaign.highest_term);
        campaign.next = mono + periods().lease / 2;
        if was_ours {
            self.lease_is_lost(at, None);
        }
        if let Some(lease) = ours
            && lease.version == self.api.stored.lease.version
            && !self.operators[at].cut_off
        {
            let stored = self.stored();
            stored.version += 1;
            stored.lease = Lease { version: stored.version, holder: None, term };
        }
    }

    /// Something comes over the feed.
    pub(crate) fn fed(&mut self, at: usize, conn: Conn, frame: Option<Up>) {
        match frame {
            Some(Up::Hello(hello)) => {
                let streamer = StreamerId { namespace: hello.namespace.clone(), name: hello.streamer.clone() };
                self.operator_step(at, Input::Connected { conn, streamer, verified: false, hello });
            }
            Some(frame) => {
                if let Up::Released { .. } = &frame {
                    self.say(|| format!("operator {at} hears: released"));
                }
                self.operator_step(at, Input::Frame { conn, frame });
            }
            None => self.operator_step(at, Input::Disconnected { conn }),
        }
    }
}

pub(crate) fn streamer_id(at: usize) -> StreamerId {
    StreamerId { namespace: NAMESPACE.into(), name: format!("s{at}") }
}

fn want(uid: u8, wishes: &Wishes, partition: Partition) -> Want {
    Want {
        stream: NAME.into(),
        uid: uid.to_string(),
        after: AFTER,
        partition,
        is_static: true,
        disabled: wishes.disabled,
        document: Some(Document { text: DOCUMENT.into(), hash: document_hash(&[DOCUMENT]) }),
    }
}

/// As `operator/src/observe.rs` makes it.
fn facts(wishes: &Wishes, partition: Partition, leader: &Leader, now: Now) -> Facts {
    let streamer = |at: usize| {
        let not_ready = match leader.streamer(&streamer_id(at), now) {
            Some(view) if view.connected && view.alive => None,
            Some(view) if view.connected => Some("is not polled by its streamer"),
            Some(view) if view.reported => Some("is silent"),
            _ => Some("has not reported yet"),
        };
        let not_ready = not_ready.map(Into::into);
        let supervised = leader.streamer(&streamer_id(at), now).is_some_and(|view| view.supervised);
        (format!("s{at}"), Streamer { not_ready, supervised, drain: wishes.drained == Some(at), ..Streamer::default() })
    };
    let stream = wishes.stream.map(|uid| Stream {
        object: NAME.into(),
        uid: uid.to_string(),
        name: NAME.into(),
        created: 1,
        labels: BTreeMap::new(),
        streamer_selector: Selector::default(),
        disabled: wishes.disabled,
        after: AFTER,
        partition,
    });
    let removal = leader.removal(NAMESPACE, now);
    let namespace = Namespace {
        streams: stream.into_iter().collect(),
        unreadable: BTreeSet::new(),
        streamers: (0..2).map(streamer).collect(),
        unheard: leader.unheard(NAMESPACE, now),
        known: leader.known(now).remove(NAMESPACE).unwrap_or_default(),
        removal: Removal {
            unknown: false,
            until: removal.until,
            confirmed: removal.confirmed,
            namespace_terminating: false,
            recent: removal.recent,
        },
    };
    Facts {
        settled: leader.is_settled(),
        settles_in: leader.settles_in(now),
        periods: periods(),
        namespaces: BTreeMap::from([(NAMESPACE.to_owned(), namespace)]),
    }
}

/// The keys that every operator reads from the one Secret.
fn keys() -> KeyRing {
    KeyRing::new(BTreeMap::from([("k1".to_owned(), vec![7; 32])])).unwrap()
}

impl Campaign {
    /// It looks at the Lease at this time, and not before.
    pub(crate) fn look_at(&mut self, mono: u64) {
        self.next = mono;
    }
}
