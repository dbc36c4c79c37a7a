//! Operators, sidecars and streamers as they are, over HTTP on a simulated network, in simulated time: seeded runs.
//!
//! Every process has a tokio run time of its own, whose clock is the run's; nothing happens by chance that is not the
//! seed's. `WEIR_SEED=n cargo test --test simulation` replays one run with its trace (`RUST_LOG=debug` adds the
//! processes' own logs); `WEIR_SEEDS=n` runs that many from `WEIR_FIRST` on; `WEIR_RULE=Keep,Final` takes these rules out, to see
//! that something fails then.

mod api;
mod check;
mod excuses;
mod faults;
mod host;
mod network;
mod operator;
mod panics;
mod random;
mod sidecar;
mod streamer;
mod supervisor;
mod users;
mod wire;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::{Event, PERIODS, World};

/// How many seeds a plain run tries.
const SEEDS: u64 = 2_000;
/// Lines of trace that a failure shows.
const SHOWN: usize = 120;
/// How long (ms) a quiet system may take to come to rest: a Lease, a leader's wait, a release that is called off and
/// tried again, a failover or a lease, and as much again for what one waits for the other.
const REST: u64 = 120_000;

/// One run: why it failed, and its trace.
fn run(seed: u64, trace: bool) -> (Option<String>, Vec<String>) {
    let mut world = World::new(seed, trace);
    world.run(8_000);
    world.dispatch(Event::Fault);
    let lasts = world.random.range(20_000, 70_000);
    world.run(8_000 + lasts);
    world.mend();
    come_to_rest(&mut world);
    (world.check.failure.take(), world.trace())
}

/// It rests when nothing is unsettled for two periods and a little.
fn come_to_rest(world: &mut World) {
    // What was held back by a way that was blocked comes late, and may still cost a connection.
    world.run(world.now + PERIODS.period);
    let end = world.now + REST;
    let mut rested = 0;
    while world.check.failure.is_none() && rested < 7 {
        pass(world);
        match world.unsettled() {
            None => rested += 1,
            Some(why) if world.now >= end => world.fail(format!("no rest: {why}")),
            Some(_) => rested = 0,
        }
    }
    if world.check.failure.is_none() {
        world.check_quiet();
    }
}

/// A while in which viewers ask for everything.
fn pass(world: &mut World) {
    for name in users::NAMES {
        world.view(name);
    }
    let next = world.now + PERIODS.period / 3;
    world.run(next);
}

/// The rules that `WEIR_RULE` takes out, by their names in the code: some seed must fail without them.
#[cfg(debug_assertions)]
fn take_rules_out() {
    use weir_feed::rule::{Rule, take_out};
    if let Ok(wanted) = std::env::var("WEIR_RULE") {
        let named = |rule: &&Rule| wanted.split(',').any(|name| name == format!("{rule:?}"));
        let rules: Vec<Rule> = Rule::ALL.iter().filter(named).copied().collect();
        assert!(!rules.is_empty(), "WEIR_RULE={wanted} is none of {:?}", Rule::ALL);
        take_out(&rules);
    }
}

#[cfg(not(debug_assertions))]
fn take_rules_out() {}

/// A run, with what it panicked of.
fn guarded(seed: u64, trace: bool) -> (Option<String>, Vec<String>) {
    take_rules_out();
    panics::caught(|| run(seed, trace)).unwrap_or_else(|why| (Some(format!("panicked: {why}")), vec![]))
}

fn show(seed: u64) {
    let (why, trace) = guarded(seed, true);
    let shown = if std::env::var("WEIR_SEED").is_ok() { trace.len() } else { SHOWN };
    for line in trace.iter().skip(trace.len().saturating_sub(shown)) {
        println!("{}", line.chars().take(220).collect::<String>());
    }
    println!("seed {seed}: {why:?}");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn every_stream_is_captured_once_whatever_fails_and_a_quiet_system_comes_to_rest() {
    if let Some(seed) = number("WEIR_SEED") {
        show(seed);
        assert_eq!(guarded(seed, false).0, None, "seed {seed} fails");
        return;
    }
    let (seeds, first) = (number("WEIR_SEEDS").unwrap_or(SEEDS), number("WEIR_FIRST").unwrap_or(0));
    let (next, failed) = (AtomicU64::new(first), Mutex::new(vec![]));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    if let Some(why) = guarded(seed, false).0 {
                        println!("seed {seed}: {why}");
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    if let Some(first) = failed.first() {
        show(*first);
        panic!("{} of {seeds} seeds fail, the first is WEIR_SEED={first}: {failed:?}", failed.len());
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..10 {
        let (first, second) = (guarded(seed, true).1, guarded(seed, true).1);
        let differs = first.iter().zip(&second).find(|(one, other)| one != other);
        assert_eq!((differs, first.len()), (None, second.len()), "seed {seed}");
    }
}
