//! Every run of a small world, with the product's own leader, holder and planner in it.

mod api;
mod check;
mod clock;
mod family;
mod fault;
mod fingerprint;
mod network;
mod operator;
mod sidecar;
mod situation;
mod story;
mod streamer;
mod world;

use std::time::Instant;

use stateright::{Checker, Model};
use weir_feed::frames::Partition;

use family::{Action, Exploration, Family};
use fault::{Fault, Way};
use situation::Situation;
use streamer::Habits;

const API: Habits = Habits { asks_by_name: true, has_api: true, keeps_configuration: true };

#[test]
fn quick() {
    let d = 4;
    let faults = vec![
        Fault::CrashOperator(0, d),
        Fault::FreezeOperator(0, 9),
        Fault::CrashSidecar(0, d),
        Fault::CrashNode(0, 9),
        Fault::Partition(0, None, Way::Both, 9),
    ];
    let family = Family {
        name: "quick",
        situations: vec![Situation::Quiet],
        habits: vec![[API, API]],
        partition: Partition::KeepCapturing,
        faults,
        fault_budget: std::env::var("N").map_or(1, |n| n.parse().unwrap()),
        edits: vec![],
        edit_budget: 0,
        phases: vec![0, 1, 2, 3, 4, 5],
        lacking: vec![],
    };
    explore(family);
}

fn explore(family: Family) {
    let begun = Instant::now();
    let exploration = Exploration::of(family);
    let calm = std::sync::Arc::clone(&exploration.calm);
    let checker = exploration.checker().threads(2);
    let checker = checker.finish_when(stateright::HasDiscoveries::Any).spawn_bfs().join();
    println!(
        "{} states, {} more to rest, depth {}, {:?}",
        checker.unique_state_count(),
        calm.lock().unwrap().len(),
        checker.max_depth(),
        begun.elapsed()
    );
    for (property, path) in checker.discoveries() {
        println!("{property}");
        let model = checker.model();
        let mut world = path.clone().into_states()[0].clone();
        world.trace = Some(vec![]);
        weir_feed::rule::take_out(&model.family.lacking);
        for (_, action) in path.into_vec() {
            if let Some(action) = action {
                Exploration::carry_out(&mut world, action);
            }
        }
        if world.check.failure.is_none() {
            world.trace.as_mut().unwrap().push("... nothing more happens".into());
            let why = model.come_to_rest(&mut world);
            println!("{why:?}");
        }
        for line in world.trace.unwrap() {
            println!("{line}");
        }
        panic!("violated");
    }
    let _ = Action::Go;
}

#[test]
fn cycle() {
    let mut world = Situation::Quiet.world(Partition::KeepCapturing, [API, API]);
    let mut seen = std::collections::BTreeMap::new();
    let mut last: Vec<String> = vec![];
    for step in 0..400 {
        if let Some(before) = seen.insert(world.fingerprint(), step) {
            println!("cycle of {} from {before}", step - before);
            return;
        }
        if world.phase == 0 {
            let text = format!("{:#?}", (&world.operators, &world.sidecars, &world.check, &world.network, &world.api));
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if step > 100 && step < 130 {
                for (a, b) in last.iter().zip(&lines) {
                    if a != b {
                        println!("{a} -> {b}");
                    }
                }
                println!("----");
            }
            last = lines;
        }
        world.run_phase();
    }
}
