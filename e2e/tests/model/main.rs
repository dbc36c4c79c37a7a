//! A model of everything that keeps a stream captured once, explored exhaustively.
//!
//! One stream, two streamers with their sidecars, two operators, one API server and the network between them. Leader,
//! holder and planner are the product's own; the API, the campaign for the Lease, the streamers' habits and the network
//! are modelled. Time is discrete: each unit (a ping, a poll, a renewal of the Lease) has six phases, before each of which,
//! or before those that a family names, every fault of the family may strike, as often as its budget allows, at any time: a
//! system that is quiet is the same state again, so "any time" has no end. States that differ only in when things happened,
//! not in how long ago, are one (`fingerprint.rs`). From the end of every run a quiet system must come to rest.
//!
//! `cargo test --workspace --test model` explores what CI does (ARCHITECTURE.md has the families); with `WEIR_MODEL=deep`
//! further families follow.
//!
//! What the model does not cover:
//! - more than one stream, one slice and two streamers; documents that change or are refused, Secrets, on-demand streams;
//! - clocks that differ: all processes share one, so neither skew nor jumps;
//! - delays: what can be delivered arrives in the same phase, in order; only cuts, freezes and lost or late writes delay;
//! - the order within a phase (operators, sidecars, streamers, each by number), and how long a reading of the API takes;
//! - two faults of kinds or at phases other than those of a family, or three; faults that last otherwise than it says; edits
//!   other than a Stream deleted and made again;
//! - a copy of the API that is younger than the last renewal of the Lease, and watches that lag for more than a phase;
//! - disks that fail or lie (a crash before and after a write is covered), and a replica of another streamer;
//! - manifests mode, removals in numbers, foreign keys (`Disputed`), a new instance under a living name.

mod api;
mod check;
mod clock;
mod families;
mod family;
mod fault;
mod fingerprint;
#[cfg(debug_assertions)]
mod mutants;
mod network;
mod operator;
#[cfg(debug_assertions)]
mod shown;
mod sidecar;
mod situation;
mod story;
mod streamer;
mod world;

use family::{Family, explore};

/// At least so many different states are explored.
const STATES: usize = 2_000_000;

#[test]
fn no_run_has_two_streamers_capture_and_every_run_comes_to_rest() {
    let only = std::env::var("WEIR_FAMILY").unwrap_or_default();
    let mut states = 0;
    for family in families::all_families().into_iter().filter(|family| family.name.contains(&only)) {
        states += explored(&family);
    }
    println!("{states} states in all");
    assert!(!only.is_empty() || states >= STATES, "only {states} states");
}

/// Explores a family in which nothing may be violated.
fn explored(family: &Family) -> usize {
    let found = explore(family);
    println!("{}: {found}", family.name);
    if let Some(counterexample) = found.counterexample {
        panic!("{}:\n{}", family.name, counterexample.join("\n"));
    }
    found.states
}

/// Each rule, taken out, is seen to be missed; the shortest run that shows it is printed.
#[cfg(debug_assertions)]
#[test]
fn without_any_one_of_its_rules_the_model_fails() {
    let only = std::env::var("WEIR_RULE").unwrap_or_default();
    let mut missed = vec![];
    for mutant in mutants::all().into_iter().filter(|mutant| mutant.name.contains(&only)) {
        explored(&mutant.family);
        if !mutant.behind.is_empty() {
            explored(&mutant.saved());
        }
        let found = explore(&mutant.lost());
        println!("\nWithout {} ({found}):", mutant.name);
        match found.counterexample {
            Some(lines) => println!("{}", lines.join("\n")),
            None => missed.push(mutant.name),
        }
    }
    assert!(missed.is_empty(), "nothing fails without {missed:?}");
}
