//! Each rule taken out, and the family in which that shows.

use weir_feed::rule::Rule;

use crate::api::Fate;
use crate::families::{API, DEAF, EDITS, all, of_network, of_operator, of_storage, of_streamer};
use crate::family::Family;
use crate::fault::{Copy, Edit, Fault, Versions, Way};
use crate::situation::{NOT_PLACED, PLACED, Situation};

/// Longer than a Lease, a new leader's wait and a failover take together.
const LONGER: u64 = 18;

/// A mutant: what is taken out, and where that shows.
pub(crate) fn all_mutants() -> Vec<Family> {
    let restart = |copy| Fault::Restore(Copy::Old(copy), Versions::BackAndRestart);
    let family = |name, faults: &[Fault], budget| Family::new(name, faults.to_vec(), budget);
    let lost_answer = [Fault::CrashNode(0, 6), Fault::Partition(0, None, Way::Both, 6), Fault::Write(0, Fate::Late)];
    vec![
        family("Compare-and-swap", &lost_answer, 2)
            .lacking(&[Rule::CompareAndSwapVersion, Rule::CompareAndSwapTerm]),
        family("Compare-and-swap: version", &lost_answer, 2).lacking(&[Rule::CompareAndSwapVersion]),
        family("Compare-and-swap: term", &lost_answer, 2).lacking(&[Rule::CompareAndSwapTerm]),
        family("Fence of a new leader", &[Fault::CrashNode(0, 6), Fault::Write(0, Fate::FrozenMeanwhile)], 2)
            .lacking(&[Rule::FenceOfNewLeader]),
        family("Fence after a lost answer", &lost_answer, 2).lacking(&[Rule::FenceOfLostAnswer]),
        family("Term", &[restart(PLACED), restart(NOT_PLACED)], 1).lacking(&[Rule::Term]),
        family("Deadline", &all([of_operator(0), of_network(0)]), 2).at_phases(&[0, 3]).lacking(&[Rule::Deadline]),
        family("Wait", &[restart(NOT_PLACED), Fault::CrashSidecar(0, 2), Fault::CrashSidecar(0, 4)], 2)
            .lacking(&[Rule::Wait]),
        family("All in", &[restart(NOT_PLACED), Fault::CrashSidecar(1, 2), Fault::CrashSidecar(1, 4)], 2)
            .from(&[Situation::CutOff(1), Situation::CutOff(4)])
            .lacking(&[Rule::AllIn]),
        family("Adopt", &[restart(NOT_PLACED), Fault::LoseSidecar(0, 2)], 2).lacking(&[Rule::Adopt]),
        family("Gate", &[restart(NOT_PLACED), Fault::LoseSidecar(0, 2)], 2).lacking(&[Rule::Gate]),
        family("Adopt and Gate", &[restart(NOT_PLACED), Fault::LoseSidecar(0, 2)], 2)
            .lacking(&[Rule::Adopt, Rule::Gate]),
        family("Bump", &[Fault::CrashStreamer(0, 6), Fault::FreezeSidecar(0, 6)], 1)
            .with_edits(&[Edit::Drain(0)], 1)
            .lacking(&[Rule::Bump]),
        family("503 until synced", &[Fault::LoseSidecar(0, 2)], 1).lacking(&[Rule::UnsyncedIs503]),
        family("Silence", &[Fault::FreezeOperator(0, LONGER), Fault::CrashSidecar(1, 4)], 2)
            .lacking(&[Rule::Silence]),
        family("Term of the sidecar", &all([of_operator(0), of_network(0)]), 2)
            .at_phases(&[0, 3])
            .lacking(&[Rule::TermOfSidecar]),
        family("Final", &all([of_storage(), of_streamer(1)]), 2)
            .from(&[Situation::Moved])
            .at_phases(&[0, 3])
            .lacking(&[Rule::Final]),
        family("Keep", &[restart(PLACED)], 1).from(&[Situation::Moved]).lacking(&[Rule::Keep]),
        family("Released", &all([of_network(0), of_streamer(0)]), 2)
            .with_edits(&[Edit::Drain(0)], 1)
            .at_phases(&[0, 3])
            .lacking(&[Rule::Released]),
        family("Evidence", &[Fault::CrashStreamer(0, 2), Fault::CrashStreamer(0, 4)], 1)
            .with_edits(&[Edit::Drain(0)], 1)
            .lacking(&[Rule::Evidence]),
        family("Evidence: an API that cannot be read", &[Fault::CrashStreamer(0, 4), Fault::Mute(0, 4)], 1)
            .with_edits(&[Edit::Drain(0)], 1)
            .lacking(&[Rule::EvidenceOfApi]),
        family("Report: rows", &[restart(NOT_PLACED), Fault::CrashOperator(0, 4)], 1).lacking(&[Rule::ReportOfRows]),
        family("Report: runs", &[restart(NOT_PLACED), Fault::LoseSidecar(0, 2)], 2)
            .with_habits(&[API, DEAF])
            .lacking(&[Rule::ReportOfRuns]),
    ]
}
