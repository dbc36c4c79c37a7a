//! Leaders, planner and sidecars together, as they are, among streamers and an API that misbehave: seeded runs.
//!
//! `WEIR_SEED=n cargo test -p weir-placement --test together` replays one run with its trace;
//! `WEIR_SEEDS=n` runs that many.

mod api;
mod campaign;
mod check;
mod faults;
mod network;
mod operator;
mod random;
mod sidecar;
mod streamer;
mod users;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use world::{Event, World};

/// How many seeds a plain run tries.
const SEEDS: u64 = 400;
/// Lines of trace that a failure shows.
const SHOWN: usize = 120;
/// How long (ms) a quiet system may take to come to rest: a Lease (15 s), a leader's wait (15 s), a release that is
/// called off and tried again (90 s), a failover (30 s), and as much again for what one waits for the other.
const REST: u64 = 240_000;

/// One run: why it failed, and its trace.
fn run(seed: u64, trace: bool) -> Result<(), (String, Vec<String>)> {
    let mut world = World::new(seed, trace);
    world.run(30_000);
    world.dispatch(Event::Fault);
    let lasts = world.sim.random.range(60_000, 300_000);
    world.run(30_000 + lasts);
    world.mend();
    come_to_rest(&mut world);
    match world.check.failure.take() {
        None => Ok(()),
        Some(why) => Err((why, world.trace().cloned().collect())),
    }
}

/// It rests when nothing is unsettled for half a minute.
fn come_to_rest(world: &mut World) {
    let end = world.sim.now + REST;
    let mut rested = 0;
    while world.check.failure.is_none() && rested < 7 {
        pass(world);
        match world.unsettled() {
            None => rested += 1,
            Some(why) if world.sim.now >= end => world.fail(format!("no rest: {why}")),
            Some(_) => rested = 0,
        }
    }
    world.check_quiet();
}

/// Five seconds in which viewers ask for everything.
fn pass(world: &mut World) {
    for name in users::NAMES {
        world.view(name);
    }
    let next = world.sim.now + 5_000;
    world.run(next);
}

/// A run, with what it panicked of.
fn guarded(seed: u64, trace: bool) -> Result<(), (String, Vec<String>)> {
    std::panic::catch_unwind(|| run(seed, trace)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err((format!("panicked: {}", text.unwrap_or_default()), vec![]))
    })
}

fn show(seed: u64) {
    if let Err((why, trace)) = guarded(seed, true) {
        let shown = if std::env::var("WEIR_SEED").is_ok() { trace.len() } else { SHOWN };
        for line in trace.iter().skip(trace.len().saturating_sub(shown)) {
            println!("{}", line.chars().take(220).collect::<String>());
        }
        println!("seed {seed}: {why}");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn together_every_stream_is_captured_once_and_a_quiet_system_comes_to_rest() {
    if let Some(seed) = number("WEIR_SEED") {
        show(seed);
        assert!(guarded(seed, false).is_ok(), "seed {seed} fails");
        return;
    }
    let (seeds, next, failed) = (number("WEIR_SEEDS").unwrap_or(SEEDS), AtomicU64::new(0), Mutex::new(vec![]));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if let Err((why, _)) = guarded(seed, false) {
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
