//! Which mutant shows each rule, or why none does.

use weir_feed::rule::Rule;

use crate::mutants;

enum Shown {
    /// By the mutant of that name.
    By(&'static str),
    /// The reason.
    Not(&'static str),
}

fn shown(rule: Rule) -> Shown {
    use Shown::{By, Not};
    match rule {
        Rule::CompareAndSwapVersion => By("Compare-and-swap (the resourceVersion)"),
        Rule::CompareAndSwapTerm => By("Compare-and-swap (the term)"),
        Rule::FenceOfNewLeader => By("Fence (a new leader)"),
        Rule::FenceOfLostAnswer => By("Fence (after a lost answer)"),
        Rule::Term | Rule::TermOfHello => By("Term"),
        Rule::Deadline => By("Deadline"),
        Rule::Wait => By("Wait"),
        Rule::AllIn => By("All in"),
        Rule::Adopt => By("Adopt"),
        Rule::Gate => By("Gate"),
        Rule::Bump => By("Bump"),
        Rule::UnsyncedIs503 => By("503 until synced"),
        Rule::Silence | Rule::SpokenOut => By("Silence"),
        Rule::TermOfSidecar => By("Term of the sidecar"),
        Rule::Final => By("Final"),
        Rule::Keep => By("Keep"),
        Rule::Released => By("Released"),
        Rule::Evidence => By("Evidence"),
        Rule::EvidenceOfApi => By("Evidence (an unread API is none)"),
        Rule::ReportOfRows => By("Report (what is served)"),
        Rule::ReportOfRuns => By("Report (what is run)"),
        Rule::Lease => By("Lease"),
        Rule::GrantOfRunning => By("Grant (what runs goes on)"),
        Rule::GrantToHeard => By("Grant (nobody is unheard)"),
        Rule::GrantOfApplied => By("Grant (rows that it has from this leader)"),
        Rule::GrantAfterFormer => {
            Not("no instance lives on under the name of another: a wiped sidecar has died before")
        }
        Rule::GrantToBest => By("Grant (rows that nobody exceeds)"),
        Rule::GrantAlone => By("Grant (nobody else runs it)"),
        Rule::Unheard => By("Gate (nobody is unheard)"),
        Rule::LeaseOver => By("Lease (a ping less)"),
        Rule::Boot => Not("all streamers of a family boot alike: the habit that it tells of is the mutant Boot"),
    }
}

#[test]
fn every_rule_has_a_mutant_or_a_reason_why_it_has_none() {
    let mutants = mutants::all();
    for rule in Rule::ALL {
        match shown(*rule) {
            Shown::By(name) => {
                let mut named = mutants.iter().filter(|mutant| mutant.name == name);
                let mutant = named.next().unwrap_or_else(|| panic!("there is no mutant {name}"));
                assert!(mutant.rules.contains(rule), "the mutant {name} has {rule:?}");
            }
            Shown::Not(why) => {
                println!("{rule:?} is not shown: {why}");
                let mutant = mutants.iter().find(|mutant| mutant.rules.contains(rule));
                assert!(mutant.is_none(), "{rule:?} is shown by {mutant:?}");
            }
        }
    }
}
