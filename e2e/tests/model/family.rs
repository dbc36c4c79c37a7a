//! What one exploration goes through, exhaustively: initial situations, faults, edits, and when they may strike.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use stateright::{Checker as _, Model, Property};
use weir_feed::frames::Partition;
use weir_feed::rule::{Rule, take_out};

use crate::clock::PHASES;
use crate::fault::{Edit, Fault};
use crate::situation::Situation;
use crate::streamer::Habits;
use crate::world::World;

/// A quiet system has come to rest after so many units: a Lease, a leader's wait, a release that is called off and tried
/// again, a failover, and as much again for what one waits for the other.
const REST: usize = 80;

/// It stays at rest for so many units.
const RESTED: u8 = 4;

/// One exploration.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) situations: Vec<Situation>,
    pub(crate) habits: Vec<[Habits; 2]>,
    pub(crate) partition: Partition,
    pub(crate) faults: Vec<Fault>,
    pub(crate) fault_budget: u8,
    pub(crate) edits: Vec<Edit>,
    pub(crate) edit_budget: u8,
    /// Faults and edits strike before these phases of a unit.
    pub(crate) phases: Vec<u8>,
    /// Rules that are taken out.
    pub(crate) lacking: Vec<Rule>,
}

/// A family, and what is known of its states.
#[derive(Debug)]
pub(crate) struct Exploration {
    pub(crate) family: Family,
    /// States from which a quiet system comes to rest.
    pub(crate) calm: Arc<Mutex<HashSet<u64>>>,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Nothing: the next phase.
    Go,
    Fault(Fault),
    Edit(Edit),
    /// A write that was late lands.
    Land,
}

impl Exploration {
    pub(crate) fn of(family: Family) -> Self {
        Self { family, calm: Arc::default() }
    }

    pub(crate) fn carry_out(world: &mut World, action: Action) {
        match action {
            Action::Go => world.run_phase(),
            Action::Fault(fault) => world.strike(fault),
            Action::Edit(edit) => world.edit(edit),
            Action::Land => world.land(),
        }
        if world.check.failure.is_none() && matches!(action, Action::Land) {
            world.check_everything();
        }
    }

    /// Nothing more can happen to it from outside.
    fn is_left_alone(world: &World) -> bool {
        world.faults == 0 && world.edits == 0 && world.ends.is_empty() && world.api.late.is_empty()
    }

    /// A write that is to be late may yet come, and land at any time after.
    fn may_be_late(world: &World) -> bool {
        use crate::api::Fate::{FrozenMeanwhile, Late};
        world.operators.iter().any(|operator| matches!(operator.next_write, Some(Late | FrozenMeanwhile)))
    }

    /// Goes on without faults until all is at rest, and stays so; why not, otherwise.
    pub(crate) fn come_to_rest(&self, world: &mut World) -> Option<String> {
        let (mut path, mut rested) = (Vec::new(), 0);
        while rested < RESTED * PHASES {
            let fingerprint = world.fingerprint();
            if world.trace.is_none() && self.calm.lock().unwrap().contains(&fingerprint) {
                break;
            }
            path.push(fingerprint);
            world.run_phase();
            if let Some(failure) = world.check.failure.clone() {
                return Some(failure);
            }
            rested = if world.unrest().is_none() { rested + 1 } else { 0 };
            if path.len() > REST * usize::from(PHASES) {
                let never = "it comes to rest again and again, and does not stay so".to_owned();
                return Some(world.unrest().unwrap_or(never));
            }
        }
        self.calm.lock().unwrap().extend(path);
        None
    }
}

impl Model for Exploration {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        // The initial situation comes about with every rule in place.
        take_out(&[]);
        let family = &self.family;
        let situations = family.situations.iter();
        let all = situations.flat_map(|situation| {
            family.habits.iter().map(|habits| {
                let mut world = situation.world(family.partition, *habits);
                (world.faults, world.edits) = (family.fault_budget, family.edit_budget);
                let restores = |fault: &Fault| matches!(fault, Fault::Restore(..));
                if !family.faults.iter().any(restores) {
                    let api = Arc::make_mut(&mut world.api);
                    api.copies.clear();
                    api.before = None;
                }
                world
            })
        });
        all.collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.check.failure.is_some() || (Self::is_left_alone(world) && !Self::may_be_late(world)) {
            return;
        }
        actions.push(Action::Go);
        if !world.api.late.is_empty() {
            actions.push(Action::Land);
        }
        if !self.family.phases.contains(&world.phase) {
            return;
        }
        if world.faults > 0 {
            let can = self.family.faults.iter().filter(|fault| world.can(**fault));
            actions.extend(can.map(|fault| Action::Fault(*fault)));
        }
        if world.edits > 0 {
            let edits = self.family.edits.iter().filter(|edit| world.would(**edit));
            actions.extend(edits.map(|edit| Action::Edit(*edit)));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        take_out(&self.family.lacking);
        let mut next = world.clone();
        Self::carry_out(&mut next, action);
        next.forget();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("captured once", |_, world: &World| world.check.failure.is_none()),
            Property::always("comes to rest", |exploration: &Self, world: &World| {
                if world.check.failure.is_some() || !Self::is_left_alone(world) {
                    return true;
                }
                take_out(&exploration.family.lacking);
                exploration.come_to_rest(&mut world.clone()).is_none()
            }),
        ]
    }
}

impl World {
    /// What cannot matter any more: without it more states are the same.
    fn forget(&mut self) {
        if self.faults == 0 && (!self.api.copies.is_empty() || self.api.before.is_some()) {
            let api = Arc::make_mut(&mut self.api);
            api.copies.clear();
            api.before = None;
        }
    }
}

/// What an exploration has found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Different states that were explored, and those on the way to rest from their ends.
    pub(crate) states: usize,
    pub(crate) to_rest: usize,
    /// The longest run, in phases.
    pub(crate) depth: usize,
    pub(crate) took: std::time::Duration,
    /// The shortest run that violates something, in words.
    pub(crate) counterexample: Option<Vec<String>>,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { states, to_rest, depth, took, .. } = self;
        write!(f, "{states} states (and {to_rest} to rest), runs of up to {depth} phases, {:.1} s", took.as_secs_f64())
    }
}

/// Goes through all of a family, breadth first: what is found is the shortest there is.
pub(crate) fn explore(family: &Family) -> Found {
    let begun = std::time::Instant::now();
    let exploration = Exploration::of(family.clone());
    let calm = Arc::clone(&exploration.calm);
    // Only a single thread goes strictly by length.
    let threads =
        if family.lacking.is_empty() { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    let checker = exploration.checker().threads(threads).finish_when(stateright::HasDiscoveries::Any);
    let checker = checker.spawn_bfs().join();
    let path = checker.discoveries().into_values().min_by_key(|path| path.clone().into_vec().len());
    let counterexample = path.map(|path| {
        let actions = path.clone().into_actions();
        let first = path.into_states().remove(0);
        tell(checker.model(), first, &actions)
    });
    let to_rest = calm.lock().unwrap().len();
    Found {
        states: checker.unique_state_count(),
        to_rest,
        depth: checker.max_depth(),
        took: begun.elapsed(),
        counterexample,
    }
}

/// A run in words.
fn tell(exploration: &Exploration, mut world: World, actions: &[Action]) -> Vec<String> {
    take_out(&exploration.family.lacking);
    world.trace = Some(vec![]);
    for action in actions {
        Exploration::carry_out(&mut world, *action);
    }
    let mut end = None;
    if world.check.failure.is_none() {
        world.say(|| "from here on nothing happens from outside".to_owned());
        end = exploration.come_to_rest(&mut world).filter(|_| world.check.failure.is_none());
    }
    take_out(&[]);
    let mut lines = world.trace.take().unwrap_or_default();
    lines.extend(end.map(|why| crate::story::line(world.time, &format!("VIOLATED: it never comes to rest: {why}"))));
    lines
}
