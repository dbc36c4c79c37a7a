//! Each rule taken out, and the family in which that shows.

use weir_feed::frames::Partition;
use weir_feed::rule::Rule;

use crate::api::Fate;
use crate::families::{API, DEAF, EMPTY, LONGER};
use crate::family::Family;
use crate::fault::{Copy, Edit, Fault, Versions, Way};
use crate::sidecar;
use crate::situation::{NOT_PLACED, PLACED, Situation};
use crate::streamer::Habits;

/// Longer than any lease.
const FOR_GOOD: u64 = 30;

/// It polls in the second half of each unit.
const LATE_EMPTY: Habits = Habits { polls_late: true, ..EMPTY };

/// What is taken out, and where that shows.
#[derive(Debug, Clone)]
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    /// Nothing fails here with every rule in place.
    pub(crate) family: Family,
    pub(crate) rules: Vec<Rule>,
    /// Rules that hide what is taken out: they are taken out too, and without them alone nothing fails here.
    pub(crate) behind: Vec<Rule>,
    /// Streamers with other habits, where the rule is theirs.
    pub(crate) habits: Option<[Habits; 2]>,
}

impl Mutant {
    fn behind(self, rules: &[Rule]) -> Self {
        Self { behind: rules.to_vec(), ..self }
    }

    /// The family in which nothing may fail because of the rule, though what hides it is out.
    pub(crate) fn saved(&self) -> Family {
        self.family.clone().lacking(&self.behind)
    }

    /// The one in which something must.
    pub(crate) fn lost(&self) -> Family {
        let family = self.family.clone().lacking(&[&self.rules[..], &self.behind].concat());
        Family { habits: self.habits.map_or(family.habits, |habits| vec![habits]), ..family }
    }
}

impl Family {
    fn without(self, rules: &[Rule]) -> Mutant {
        Mutant { name: self.name, family: self, rules: rules.to_vec(), behind: vec![], habits: None }
    }

    fn but_with(self, habits: [Habits; 2]) -> Mutant {
        Mutant { habits: Some(habits), ..self.without(&[]) }
    }

    fn with_each(self, habits: [Habits; 2]) -> Self {
        Self { habits: vec![habits], ..self }
    }

    fn stopping(self) -> Self {
        Self { partition: Partition::StopCapturing, ..self.with_habits(&[EMPTY]) }
    }
}

/// So many of `faults`, before the operators act; nothing else happens.
fn family(name: &'static str, faults: &[Fault], budget: u8) -> Family {
    Family::new(name, faults.to_vec(), budget).at_phases(&[0, 3])
}

fn restart(copy: usize) -> Fault {
    Fault::Restore(Copy::Old(copy), Versions::BackAndRestart)
}

fn partition(at: usize, units: u64) -> Fault {
    Fault::Partition(at, None, Way::Both, units)
}

/// All of them.
pub(crate) fn all() -> Vec<Mutant> {
    [of_writes(), of_leaders(), of_sidecars(), of_leases()].concat()
}

fn of_writes() -> Vec<Mutant> {
    let late = [partition(0, 6), Fault::Write(0, Fate::Late)];
    let frozen = [partition(0, 6), Fault::Write(0, Fate::FrozenMeanwhile)];
    let restored = [Fault::Write(0, Fate::Late), restart(PLACED)];
    vec![
        family("Compare-and-swap", &late, 2).without(&[Rule::CompareAndSwapVersion, Rule::CompareAndSwapTerm]),
        family("Compare-and-swap (the term)", &restored, 2)
            .from(&[Situation::Lost(2)])
            .without(&[Rule::CompareAndSwapTerm]),
        family("Compare-and-swap (the resourceVersion)", &late[1..], 1)
            .with_edits(&[Edit::Drain(0)], 1)
            .without(&[Rule::CompareAndSwapVersion])
            .behind(&[Rule::FenceOfLostAnswer]),
        family("Fence (a new leader)", &frozen, 2).without(&[Rule::FenceOfNewLeader]),
        family("Fence (after a lost answer)", &late, 2).without(&[Rule::FenceOfLostAnswer]),
        Family::new("Bump", vec![Fault::CrashStreamer(0, 6), Fault::FreezeSidecar(0, 6)], 1)
            .with_edits(&[Edit::Drain(0)], 1)
            .without(&[Rule::Bump]),
    ]
}

fn of_leaders() -> Vec<Mutant> {
    let away = [restart(NOT_PLACED), Fault::CrashSidecar(0, 2), Fault::CrashSidecar(0, 4)];
    let thawed = [Fault::FreezeOperator(0, 12), Fault::Partition(0, Some(1), Way::Both, FOR_GOOD)];
    let wiped = [restart(NOT_PLACED), Fault::LoseSidecar(1, 2), Fault::LoseSidecar(1, 4)];
    let told_nobody = [Fault::Write(0, Fate::ThenDies), Fault::Stall(0, 12)];
    vec![
        Family::new("Term", vec![restart(PLACED), restart(NOT_PLACED)], 1).without(&[Rule::Term, Rule::TermOfHello]),
        family("Deadline", &thawed, 2).stopping().without(&[Rule::Deadline]).behind(&[Rule::SpokenOut]),
        family("Wait", &away, 2).without(&[Rule::Wait]),
        family("All in", &[restart(NOT_PLACED), Fault::CrashSidecar(1, 6)], 2)
            .from(&[Situation::CutOff(1), Situation::CutOff(4)])
            .without(&[Rule::AllIn]),
        family("Adopt", &wiped, 2).from(&[Situation::Moved]).without(&[Rule::Adopt]),
        family("Gate", &told_nobody, 2).from(&[Situation::Lost(2)]).without(&[Rule::Gate]),
    ]
}

fn of_sidecars() -> Vec<Mutant> {
    let wiped = [restart(NOT_PLACED), Fault::LoseSidecar(1, 2), Fault::LoseSidecar(1, 4)];
    let corrected_late = [restart(PLACED), Fault::Write(0, Fate::RequestLost), Fault::Write(1, Fate::RequestLost)];
    let down = [Fault::CrashStreamer(0, 2), Fault::CrashStreamer(0, 4)];
    let mute = [Fault::CrashSidecar(1, 2), Fault::Mute(1, 8)];
    vec![
        Family::new("503 until synced", vec![Fault::LoseSidecar(0, 2)], 1).without(&[Rule::UnsyncedIs503]),
        family("Silence", &[Fault::FreezeOperator(0, LONGER), Fault::CrashSidecar(1, 4)], 2)
            .without(&[Rule::Silence, Rule::SpokenOut]),
        family("Term of the sidecar", &[Fault::Partition(0, Some(1), Way::Both, FOR_GOOD)], 1)
            .stopping()
            .from(&[Situation::Frozen(12)])
            .without(&[Rule::TermOfSidecar])
            .behind(&[Rule::Deadline, Rule::SpokenOut, Rule::TermOfHello]),
        family("Final", &corrected_late, 2).from(&[Situation::Moved]).without(&[Rule::Final]).behind(&[Rule::Gate]),
        Family::new("Keep", vec![restart(PLACED)], 1).from(&[Situation::Moved]).without(&[Rule::Keep]),
        family("Released", &[], 0)
            .stopping()
            .from(&[Situation::CalledOff(1)])
            .with_edits(&[Edit::Disable, Edit::Enable], 2)
            .without(&[Rule::Released])
            .behind(&[Rule::Adopt, Rule::Gate]),
        Family::new("Evidence", down.to_vec(), 1)
            .with_edits(&[Edit::Drain(0)], 1)
            .with_habits(&[DEAF])
            .without(&[Rule::Evidence]),
        family("Evidence (an unread API is none)", &mute, 2)
            .from(&[Situation::Moved])
            .with_edits(&[Edit::Drain(1)], 1)
            .at_phases(&[3])
            .without(&[Rule::EvidenceOfApi]),
        Family::new("Report (what is served)", vec![restart(NOT_PLACED), Fault::CrashOperator(0, 4)], 1)
            .without(&[Rule::ReportOfRows]),
        family("Report (what is run)", &wiped, 2).from(&[Situation::Moved]).without(&[Rule::ReportOfRuns]),
    ]
}

fn of_leases() -> Vec<Mutant> {
    let silent = [partition(0, FOR_GOOD), Fault::Stall(0, 4)];
    let corrected_late = [restart(PLACED), Fault::Write(0, Fate::RequestLost), Fault::Write(1, Fate::RequestLost)];
    let cut_off = [Situation::CutOff(1), Situation::CutOff(4)];
    let other_away = [Fault::CrashNode(1, LONGER), Fault::CrashOperator(0, FOR_GOOD)];
    let unheard = [restart(PLACED), Fault::Stall(1, 6)];
    vec![
        family("Lease", &silent[..1], 1).stopping().without(&[Rule::Lease]),
        family("Lease (a ping less)", &silent, 2)
            .stopping()
            .with_each([LATE_EMPTY, LATE_EMPTY])
            .at_phases(&[1, 2])
            .without(&[Rule::LeaseOver]),
        family("Boot", &[Fault::CrashNode(0, FOR_GOOD)], 1).stopping().but_with([API, API]),
        family("Grant (what runs goes on)", &other_away, 2).stopping().without(&[Rule::GrantOfRunning]),
        family("Grant (nobody else runs it)", &unheard[..1], 1)
            .stopping()
            .from(&[Situation::CutOffInTurn(FOR_GOOD)])
            .without(&[Rule::GrantAlone]),
        family("Grant (nobody is unheard)", &unheard, 2)
            .at_phases(&[0])
            .stopping()
            .from(&[Situation::CutOffInTurn(FOR_GOOD)])
            .without(&[Rule::GrantToHeard])
            .behind(&[Rule::GrantAfterFormer]),
        family("Grant (rows that it has from this leader)", &[Fault::Persist(0, sidecar::Fate::Slow)], 1)
            .stopping()
            .from(&cut_off)
            .without(&[Rule::GrantOfApplied]),
        family("Grant (rows that nobody exceeds)", &corrected_late, 2)
            .stopping()
            .from(&cut_off)
            .without(&[Rule::GrantToBest])
            .behind(&[Rule::GrantAfterFormer]),
        family("Gate (nobody is unheard)", &unheard, 2)
            .at_phases(&[0])
            .stopping()
            .from(&[Situation::MovedAndCutOff(FOR_GOOD)])
            .without(&[Rule::Unheard]),
    ]
}
