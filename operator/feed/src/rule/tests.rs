//! Which unit tests show each rule: with it they pass, without it they fail.

use std::fs;

use super::proof::prefix;
use super::{Rule, Test, lacks, prove, without};
use crate::holder::{rows, tests as holder};
use crate::leader::tests::{feed, lease, settle, truth};
use crate::rule_tests;

/// The tests that fail without a rule alone. Empty where another line stands before it, or the rule is another crate's.
fn alone(rule: Rule) -> &'static [Test] {
    match rule {
        Rule::CompareAndSwapVersion => rule_tests![truth::compare_and_swap_reads_again_what_was_refused],
        Rule::CompareAndSwapTerm => rule_tests![
            truth::compare_and_swap_writes_nothing_over_another_leaders_term_where_a_restored_version_fits_again,
        ],
        Rule::FenceOfNewLeader => {
            rule_tests![truth::fence_writes_the_term_into_every_slice_before_anybody_is_accepted]
        }
        Rule::FenceOfLostAnswer => rule_tests![truth::fence_takes_a_slice_again_whose_write_had_no_answer],
        Rule::Term | Rule::TermOfHello => rule_tests![truth::term_exceeds_every_term_seen_and_the_time],
        Rule::Deadline => rule_tests![
            truth::deadline_is_checked_before_every_frame,
            lease::deadline_of_its_own_ends_what_a_leader_may_grant,
        ],
        Rule::Wait => rule_tests![
            settle::wait_for_every_expected_streamer_but_at_most_one_period,
            settle::wait_for_silence_even_when_all_have_reported,
            settle::wait_after_the_first_streamer_where_none_is_expected,
        ],
        Rule::AllIn => rule_tests![
            settle::all_in_corrects_a_record_from_the_highest_grant_once_everybody_has_reported,
            settle::all_in_one_that_turns_out_to_be_expected_later_is_waited_for_until_it_is_gone,
        ],
        // The planner's: `operator/placement/src/claim.rs`.
        Rule::Adopt => &[],
        Rule::Gate => rule_tests![
            feed::gate_holds_a_stream_that_another_streamer_may_still_be_running,
            feed::gate_opens_when_the_other_one_is_gone_for_long_enough,
        ],
        Rule::Bump => rule_tests![
            truth::bump_gives_every_change_a_greater_epoch,
            truth::bump_exceeds_what_the_holder_has_stopped_serving,
            truth::bump_exceeds_the_delete_that_ended_what_the_holder_served,
        ],
        Rule::UnsyncedIs503 => rule_tests![
            holder::answer::until_synced_it_answers_503,
            holder::answer::until_synced_again_after_a_restart_it_answers_503_or_for_ten_seconds,
            holder::answer::until_synced_again_after_a_restart_nothing_is_said_of_a_stream_that_the_replica_never_heard_of,
        ],
        Rule::Silence => rule_tests![
            holder::link::silence_leaves_a_connection_and_drops_what_no_mark_followed,
            holder::link::silence_a_thawed_sidecar_takes_nothing_that_an_old_leader_had_sent,
            holder::link::silence_a_thawed_sidecar_applies_nothing_that_had_waited_for_its_disk,
        ],
        Rule::SpokenOut => {
            rule_tests![holder::link::silence_a_leader_that_has_outlived_its_lease_is_left_whatever_it_sends]
        }
        Rule::TermOfSidecar => rule_tests![
            holder::link::term_a_lower_one_than_stored_is_never_listened_to,
            holder::link::term_a_hello_shows_the_last_welcome_and_a_higher_ping_counts_too,
        ],
        Rule::Final => rule_tests![
            rows::tests::final_an_epoch_that_was_stopped_is_never_served_again_only_a_greater_one,
            settle::final_an_epoch_that_its_holder_has_stopped_is_not_sent_to_it_again,
        ],
        Rule::Keep => rule_tests![
            rows::tests::keep_nothing_is_dropped_or_replaced_for_a_record_below_the_rows_epoch,
            holder::link::keep_and_final_show_in_the_next_hello,
        ],
        Rule::Released => rule_tests![feed::released_counts_only_for_the_epoch_of_the_record],
        Rule::Evidence => rule_tests![
            holder::evidence::evidence_with_an_api_is_an_answer_without_the_stream_and_a_reading_after_it,
            holder::evidence::evidence_is_no_reading_that_was_begun_before_the_answer,
            holder::evidence::evidence_begins_again_with_a_streamer_that_was_started_anew,
            holder::evidence::evidence_is_no_answer_to_one_whose_own_file_runs_it,
            holder::evidence::evidence_without_an_api_is_an_answer_to_its_name_and_a_later_poll,
            holder::evidence::evidence_of_one_that_asks_by_name_is_that_it_asked_for_this_one,
            holder::evidence::evidence_of_one_that_never_asks_by_name_is_two_more_polls,
            holder::evidence::evidence_of_before_a_503_counts_no_more,
            holder::evidence::evidence_of_an_answer_before_a_503_needs_another_answer,
            holder::evidence::evidence_is_no_silence,
        ],
        Rule::EvidenceOfApi => rule_tests![holder::evidence::evidence_is_no_api_that_cannot_be_read],
        Rule::ReportOfRows => rule_tests![holder::link::report_a_hello_says_what_is_served_with_its_grant_and_what_runs],
        Rule::ReportOfRuns => rule_tests![
            holder::link::report_a_hello_says_what_is_served_with_its_grant_and_what_runs,
            holder::link::report_what_it_runs_is_unknown_until_a_whole_cycle_or_a_reading,
            holder::link::report_of_an_empty_replica_waits_for_the_first_reading_of_its_streamer,
        ],
        Rule::Lease => rule_tests![
            holder::lease::lease_a_stream_that_stops_is_served_only_while_it_runs,
            holder::lease::lease_is_counted_from_the_streamers_request_so_that_a_late_ping_lengthens_none,
            holder::lease::lease_of_before_a_restart_is_none,
            holder::lease::lease_proof_without_an_api_is_what_was_left_out_and_not_asked_for,
        ],
        Rule::GrantOfRunning => {
            rule_tests![lease::grant_one_that_runs_goes_on_under_a_new_leader_before_it_has_settled]
        }
        Rule::GrantToHeard => {
            rule_tests![lease::grant_one_that_has_run_out_waits_for_every_streamer_that_may_still_have_one]
        }
        Rule::GrantOfApplied => rule_tests![lease::grant_nothing_to_one_that_has_not_applied_what_it_was_told],
        Rule::GrantAfterFormer => {
            rule_tests![lease::grant_nothing_to_a_new_instance_while_the_former_may_have_a_lease]
        }
        Rule::GrantToBest => rule_tests![lease::grant_nothing_for_a_row_that_another_sidecar_proves_old],
        Rule::GrantAlone => {
            rule_tests![lease::grant_nothing_for_a_row_above_the_record_while_somebody_else_runs_the_stream]
        }
        Rule::Unheard => {
            rule_tests![lease::gate_holds_what_one_that_was_not_heard_may_be_serving_under_a_lease_of_the_last_leader]
        }
        Rule::LeaseOver => rule_tests![lease::lease_poll_and_kill_are_waited_for_exactly],
        Rule::Boot => rule_tests![holder::boot::boot_what_a_streamer_captures_before_it_is_answered_is_said],
    }
}

#[test]
fn every_rule_has_tests_of_its_name_that_fail_without_it() {
    for rule in Rule::ALL {
        prove(*rule, &[], alone(*rule));
    }
    let elsewhere: Vec<&Rule> = Rule::ALL.iter().filter(|rule| alone(**rule).is_empty()).collect();
    assert_eq!(elsewhere, [&Rule::Adopt]);
}

/// The proof itself can fail.
#[test]
fn a_test_of_another_name_or_one_that_passes_without_its_rule_proves_nothing() {
    fn gate_asks() {
        assert!(!lacks(Rule::Gate));
    }
    fn asks() {
        gate_asks();
    }
    fn gate_is_of_no_interest() {}
    fn gate_is_second_to_adopt() {
        assert!(!(lacks(Rule::Gate) && lacks(Rule::Adopt)));
    }
    let proves = |first: &'static [Rule], tests: &'static [Test]| without(&[], || prove(Rule::Gate, first, tests));
    assert!(proves(&[], rule_tests![gate_asks]));
    assert!(!proves(&[], rule_tests![asks]));
    assert!(!proves(&[], rule_tests![gate_is_of_no_interest]));
    assert!(!proves(&[], rule_tests![gate_is_second_to_adopt]));
    assert!(proves(&[Rule::Adopt], rule_tests![gate_is_second_to_adopt]));
    assert!(!proves(&[Rule::Adopt], rule_tests![gate_asks]), "it is missed alone");
    gate_asks();
}

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Sources below a folder of the repository, with their paths.
fn sources(folder: &str) -> Vec<(String, String)> {
    let (mut folders, mut sources) = (vec![format!("{ROOT}/{folder}")], vec![]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(name);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                sources.push((name, text));
            }
        }
    }
    sources
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// One row of the table of rules: its rule, where it stands, its tests, and where it is at stake.
fn row<'a>(document: &'a str, name: &str) -> [Vec<&'a str>; 3] {
    let of_rule = |line: &&str| line.starts_with(&format!("| **{name}**")) && line.matches(" | ").count() == 3;
    let rows: Vec<&str> = document.lines().filter(of_rule).collect();
    assert_eq!(rows.len(), 1, "ARCHITECTURE.md has one row of {name}");
    let cells: Vec<&str> = rows[0].trim_matches('|').split(" | ").collect();
    [quoted(cells[1]), quoted(cells[2]), cells[3].trim().split(", ").collect()]
}

/// The rules are in the table of ARCHITECTURE.md, and what it says of each is there.
#[test]
fn the_table_of_rules_tells_the_truth() {
    let document = fs::read_to_string(format!("{ROOT}/ARCHITECTURE.md")).unwrap();
    let product: Vec<_> = ["operator/feed/src", "operator/placement/src", "operator/src", "sidecar/src"]
        .iter()
        .flat_map(|folder| sources(folder))
        .collect();
    let named = |end: &str| {
        let mut found = product.iter().filter(|(path, _)| path.ends_with(&format!("/{end}")));
        found.next().unwrap_or_else(|| panic!("there is no {end}"))
    };
    let mutants = fs::read_to_string(format!("{ROOT}/e2e/tests/model/mutants.rs")).unwrap();
    for rule in Rule::ALL {
        let name = rule.name();
        let [places, tests, at_stake] = row(&document, name);
        let places: Vec<_> = places.into_iter().map(named).collect();
        for (path, text) in &places {
            assert!(text.contains(&format!("**{name}**")), "{path} does not say {name}");
        }
        let question = format!("lacks(Rule::{rule:?})");
        let is_test = |path: &str| path.contains("/tests") || path.contains("/rule");
        for (path, _) in product.iter().filter(|(path, text)| !is_test(path) && text.contains(&question)) {
            assert!(places.iter().any(|(place, _)| place == path), "{name} stands in {path} too");
        }
        let (called, files) = tests.split_first().unwrap();
        assert_eq!(called.trim_end_matches('…'), prefix(name));
        for file in files {
            assert!(named(file).1.contains(&format!("fn {}", prefix(name))), "no test of {name} in {file}");
        }
        for stake in at_stake {
            match stake.trim_matches('`') {
                "model" => {
                    let rules = Rule::ALL.iter().filter(|rule| rule.name() == name);
                    let mut taken = rules.filter(|rule| mutants.contains(&format!("Rule::{rule:?}")));
                    assert!(taken.next().is_some(), "the model does not take out {name}");
                }
                scenario => {
                    let path = format!("{ROOT}/e2e/tests/scenarios/{scenario}.rs");
                    assert!(fs::exists(&path).unwrap(), "there is no {path}");
                }
            }
        }
    }
}
