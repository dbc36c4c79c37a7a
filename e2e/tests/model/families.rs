//! The explorations that CI makes.

use weir_feed::frames::Partition;

use crate::api::Fate;
use crate::family::Family;
use crate::fault::{Copy, Edit, Fault, Versions, Way};
use crate::sidecar;
use crate::situation::{NOT_PLACED, PLACED, Situation};
use crate::streamer::Habits;

/// It asks by name, has an API, and boots with its old configuration.
pub(crate) const API: Habits =
    Habits { asks_by_name: true, has_api: true, keeps_configuration: true, polls_late: false };

/// The same without an API.
pub(crate) const DEAF: Habits = Habits { has_api: false, ..API };

/// Nor does it ask by name.
pub(crate) const PLAIN: Habits = Habits { asks_by_name: false, ..DEAF };

/// It boots with an empty configuration.
pub(crate) const EMPTY: Habits = Habits { keeps_configuration: false, ..API };

/// Every phase of a unit.
const ANY: [u8; 6] = [0, 1, 2, 3, 4, 5];

/// Shorter than anything is noticed, and longer than a failover takes.
const SHORT: u64 = 2;
const LONG: u64 = 9;

/// Longer than a Lease, a new leader's wait and a failover take together.
pub(crate) const LONGER: u64 = 18;

pub(crate) fn of_operator(at: usize) -> Vec<Fault> {
    let fates = [Fate::RequestLost, Fate::AnswerLost, Fate::Late, Fate::ThenDies, Fate::FrozenMeanwhile];
    let mut faults: Vec<Fault> = fates.into_iter().map(|fate| Fault::Write(at, fate)).collect();
    faults.extend([
        Fault::CrashOperator(at, SHORT),
        Fault::FreezeOperator(at, LONG),
        Fault::CutOff(at, LONG),
        Fault::DeleteLease(at),
    ]);
    faults
}

pub(crate) fn of_streamer(at: usize) -> Vec<Fault> {
    vec![
        Fault::CrashSidecar(at, SHORT),
        Fault::LoseSidecar(at, SHORT),
        Fault::FreezeSidecar(at, LONG),
        Fault::Persist(at, sidecar::Fate::DiesBefore),
        Fault::Persist(at, sidecar::Fate::DiesAfter),
        Fault::CrashStreamer(at, SHORT),
        Fault::CrashStreamer(at, LONG),
        Fault::CrashNode(at, LONG),
        Fault::LoseNode(at, SHORT),
        Fault::Mute(at, LONG),
    ]
}

pub(crate) fn of_network(at: usize) -> Vec<Fault> {
    let ways = [Way::Up, Way::Down, Way::Both].into_iter();
    let mut faults: Vec<Fault> = ways.map(|way| Fault::Partition(at, None, way, LONG)).collect();
    faults.extend([Fault::Partition(at, Some(0), Way::Both, LONG), Fault::Partition(at, Some(0), Way::Down, SHORT)]);
    faults
}

pub(crate) fn of_storage() -> Vec<Fault> {
    let copies = [Copy::Old(NOT_PLACED), Copy::Old(PLACED), Copy::Last].into_iter();
    let versions = [Versions::Back, Versions::BackAndRestart, Versions::Bumped];
    copies.flat_map(|copy| versions.map(|versions| Fault::Restore(copy, versions))).collect()
}

pub(crate) const EDITS: [Edit; 6] =
    [Edit::Delete, Edit::Remake, Edit::Create, Edit::Disable, Edit::Enable, Edit::Drain(0)];

pub(crate) fn all(faults: impl IntoIterator<Item = Vec<Fault>>) -> Vec<Fault> {
    faults.into_iter().flatten().collect()
}

impl Family {
    pub(crate) fn new(name: &'static str, faults: Vec<Fault>, fault_budget: u8) -> Self {
        Self {
            name,
            situations: vec![Situation::Quiet],
            habits: vec![[API, API]],
            partition: Partition::KeepCapturing,
            faults,
            fault_budget,
            edits: vec![],
            edit_budget: 0,
            phases: ANY.to_vec(),
            lacking: vec![],
        }
    }

    pub(crate) fn from(self, situations: &[Situation]) -> Self {
        Self { situations: situations.to_vec(), ..self }
    }

    pub(crate) fn with_habits(self, habits: &[Habits]) -> Self {
        Self { habits: habits.iter().map(|habits| [*habits; 2]).collect(), ..self }
    }

    pub(crate) fn with_edits(self, edits: &[Edit], edit_budget: u8) -> Self {
        Self { edits: edits.to_vec(), edit_budget, ..self }
    }

    pub(crate) fn at_phases(self, phases: &[u8]) -> Self {
        Self { phases: phases.to_vec(), ..self }
    }

    pub(crate) fn lacking(self, rules: &[weir_feed::rule::Rule]) -> Self {
        Self { lacking: rules.to_vec(), ..self }
    }
}

/// Every situation.
pub(crate) const SITUATIONS: [Situation; 7] = [
    Situation::FirstStart,
    Situation::Quiet,
    Situation::CutOff(1),
    Situation::CutOff(4),
    Situation::Down(1),
    Situation::Down(4),
    Situation::Moved,
];

/// What CI explores; more by a setting.
pub(crate) fn all_families() -> Vec<Family> {
    let mut families = vec![
        everything_once(),
        crashes_twice(),
        everything_once_stopping(),
        crashes_twice_stopping(),
        many_twice_stopping(),
        remade(),
        stopping("a Stream deleted and made again, and a fault, StopCapturing", remade()),
    ];
    if std::env::var("WEIR_MODEL").is_ok_and(|mode| mode == "deep") {
        families.push(everything_once_with_an_edit());
        families.push(everything_twice());
    }
    families
}

fn every_fault() -> Vec<Fault> {
    let faults = [of_operator(0), of_operator(1), of_streamer(0), of_streamer(1), of_network(0), of_network(1)];
    all([all(faults), of_storage()])
}

fn everything_once() -> Family {
    Family::new("every fault, once", every_fault(), 1).from(&SITUATIONS).with_habits(&[API, DEAF, PLAIN])
}

/// The same, where a lease and the time to kill come on top of a failover.
fn longer(fault: Fault) -> Fault {
    match fault {
        Fault::FreezeSidecar(at, LONG) => Fault::FreezeSidecar(at, LONGER),
        Fault::CrashStreamer(at, LONG) => Fault::CrashStreamer(at, LONGER),
        Fault::CrashNode(at, LONG) => Fault::CrashNode(at, LONGER),
        Fault::Partition(at, operator, way, LONG) => Fault::Partition(at, operator, way, LONGER),
        fault => fault,
    }
}

/// `StopCapturing`: streamers are supervised, and boot with an empty configuration.
fn stopping(name: &'static str, family: Family) -> Family {
    let faults = family.faults.iter().copied().map(longer).collect();
    Family { name, faults, partition: Partition::StopCapturing, ..family.with_habits(&[EMPTY]) }
}

fn everything_once_stopping() -> Family {
    let situations = [Situation::Quiet, Situation::Moved, Situation::CutOff(4)];
    stopping("every fault, once, StopCapturing", everything_once()).from(&situations)
}

fn crashes_twice() -> Family {
    let faults = vec![
        Fault::CrashOperator(0, 4),
        Fault::FreezeOperator(0, LONG),
        Fault::CrashSidecar(0, 4),
        Fault::CrashNode(0, LONG),
        Fault::Partition(0, None, Way::Both, LONG),
    ];
    Family::new("crash, freeze and partition, twice", faults, 2).at_phases(&[0, 3])
}

fn crashes_twice_stopping() -> Family {
    stopping("crash, freeze and partition, twice, StopCapturing", crashes_twice())
}

/// Two faults of further kinds.
fn many_twice_stopping() -> Family {
    let faults = vec![
        Fault::Write(0, Fate::AnswerLost),
        Fault::Write(0, Fate::Late),
        Fault::FreezeOperator(0, LONG),
        Fault::DeleteLease(1),
        Fault::LoseSidecar(0, SHORT),
        Fault::FreezeSidecar(0, LONG),
        Fault::CrashStreamer(0, SHORT),
        Fault::Stall(0, LONG),
        Fault::Partition(0, None, Way::Up, LONG),
        Fault::Partition(0, None, Way::Down, LONG),
        Fault::Restore(Copy::Old(PLACED), Versions::BackAndRestart),
        Fault::Restore(Copy::Last, Versions::BackAndRestart),
    ];
    let family = Family::new("", faults, 2).at_phases(&[0]);
    stopping("a dozen faults, twice, StopCapturing", family)
}

/// The Stream is deleted and made again while something breaks.
fn remade() -> Family {
    let faults = vec![
        Fault::Write(0, Fate::Late),
        Fault::CrashOperator(0, 4),
        Fault::CrashSidecar(0, 4),
        Fault::LoseSidecar(0, SHORT),
        Fault::CrashNode(0, LONG),
        Fault::Partition(0, None, Way::Both, LONG),
        Fault::Restore(Copy::Last, Versions::BackAndRestart),
    ];
    Family::new("a Stream deleted and made again, and a fault", faults, 1)
        .with_edits(&[Edit::Delete, Edit::Create], 2)
        .at_phases(&[0])
}

fn everything_once_with_an_edit() -> Family {
    let situations = [Situation::Quiet, Situation::CutOff(4), Situation::Down(4)];
    Family::new("every fault and every edit, once", every_fault(), 1).from(&situations).with_edits(&EDITS, 1)
}

fn everything_twice() -> Family {
    Family::new("every fault, twice", every_fault(), 2).at_phases(&[0, 3])
}
