//! Each rule taken out, and the family in which that shows.

use weir_feed::rule::Rule;

use crate::api::Fate;
use crate::families::{API, DEAF, all as together, of_network, of_operator, of_storage, of_streamer};
use crate::family::Family;
use crate::fault::{Copy, Edit, Fault, Versions, Way};
use crate::situation::{NOT_PLACED, PLACED, Situation};

/// Longer than a Lease, a new leader's wait and a failover take together.
const LONGER: u64 = 18;

/// A mutant: what is taken out, and where that shows.
pub(crate) fn all() -> Vec<Family> {
    let restart = |copy| Fault::Restore(Copy::Old(copy), Versions::BackAndRestart);
    let family = |name, faults: &[Fault], budget| Family::new(name, faults.to_vec(), budget);
    let late = [Fault::Partition(0, None, Way::Both, 6), Fault::Write(0, Fate::Late)];
    let frozen = [Fault::Partition(0, None, Way::Both, 6), Fault::Write(0, Fate::FrozenMeanwhile)];
    let away = [restart(NOT_PLACED), Fault::CrashSidecar(0, 2), Fault::CrashSidecar(0, 4)];
    vec![
        family("Compare-and-swap", &late, 2)
            .at_phases(&[0, 3])
            .lacking(&[Rule::CompareAndSwapVersion, Rule::CompareAndSwapTerm]),
        family("Fence (a new leader)", &frozen, 2).at_phases(&[0, 3]).lacking(&[Rule::FenceOfNewLeader]),
        family("Fence (after a lost answer)", &late, 2).at_phases(&[0, 3]).lacking(&[Rule::FenceOfLostAnswer]),
        family("Term", &[restart(PLACED), restart(NOT_PLACED)], 1).lacking(&[Rule::Term, Rule::TermOfHello]),
        family("Wait", &away, 2).at_phases(&[0, 3]).lacking(&[Rule::Wait]),
        family("Bump", &[Fault::CrashStreamer(0, 6), Fault::FreezeSidecar(0, 6)], 1)
            .with_edits(&[Edit::Drain(0)], 1)
            .lacking(&[Rule::Bump]),
        family("503 until synced", &[Fault::LoseSidecar(0, 2)], 1).lacking(&[Rule::UnsyncedIs503]),
        family("Silence", &[Fault::FreezeOperator(0, LONGER), Fault::CrashSidecar(1, 4)], 2)
            .at_phases(&[0, 3])
            .lacking(&[Rule::Silence]),
        family("Keep", &[restart(PLACED)], 1).from(&[Situation::Moved]).lacking(&[Rule::Keep]),
        family("Evidence", &[Fault::CrashStreamer(0, 2), Fault::CrashStreamer(0, 4)], 1)
            .with_edits(&[Edit::Drain(0)], 1)
            .with_habits(&[DEAF])
            .lacking(&[Rule::Evidence]),
        family("Report (what is served)", &[restart(NOT_PLACED), Fault::CrashOperator(0, 4)], 1)
            .lacking(&[Rule::ReportOfRows]),
    ]
}

/// Mutants that are searched for on request: `WEIR_MODEL=search`.
pub(crate) fn searched() -> Vec<Family> {
    let restart = |copy| Fault::Restore(Copy::Old(copy), Versions::BackAndRestart);
    let family = |name, faults: &[Fault], budget| Family::new(name, faults.to_vec(), budget).at_phases(&[0, 3]);
    let answer_lost = [Fault::Partition(0, None, Way::Both, 6), Fault::Write(0, Fate::AnswerLost)];
    let wiped = [restart(NOT_PLACED), Fault::LoseSidecar(0, 4), Fault::LoseSidecar(0, 6), Fault::LoseSidecar(0, 8)];
    vec![
        family("Gate", &answer_lost, 2).lacking(&[Rule::Gate]),
        family("Adopt", &wiped, 2).lacking(&[Rule::Adopt]),
        family("Report (what is run)", &wiped, 2).with_habits(&[API, DEAF]).lacking(&[Rule::ReportOfRuns]),
        family("Final and Gate", &together([of_storage(), of_streamer(1)]), 2)
            .from(&[Situation::Moved])
            .lacking(&[Rule::Final, Rule::Gate]),
        family("Wait and All in", &[restart(NOT_PLACED), Fault::CrashSidecar(1, 6)], 2)
            .from(&[Situation::CutOff(1), Situation::CutOff(4)])
            .lacking(&[Rule::Wait, Rule::AllIn]),
        family("Released and Adopt", &together([of_network(0)]), 1)
            .with_edits(&[Edit::Drain(0)], 1)
            .lacking(&[Rule::Released, Rule::Adopt]),
        family("Evidence (an unread API is none) and Adopt", &[Fault::CrashStreamer(0, 2), Fault::Mute(0, 4)], 1)
            .with_edits(&[Edit::Drain(0)], 1)
            .lacking(&[Rule::EvidenceOfApi, Rule::Adopt]),
        family("Deadline", &together([of_operator(0)]), 1).with_edits(&[Edit::Drain(0)], 1).lacking(&[Rule::Deadline]),
        family("Term of the sidecar and Deadline", &together([of_operator(0)]), 1)
            .with_edits(&[Edit::Drain(0)], 1)
            .lacking(&[Rule::TermOfSidecar, Rule::Deadline]),
    ]
}
