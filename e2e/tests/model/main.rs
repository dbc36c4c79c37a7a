//! Every run of a small world, with the product's own leader, holder and planner in it.

mod api;
mod check;
mod clock;
mod families;
mod family;
mod fault;
mod fingerprint;
mod mutants;
mod network;
mod operator;
mod sidecar;
mod situation;
mod story;
mod streamer;
mod world;

use family::Family;

#[test]
fn try_it() {
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    let mut family = match var("F").as_str() {
        "edit" => families::everything_once_with_an_edit(),
        _ => families::everything_once(),
    };
    if !var("S").is_empty() {
        family.situations = var("S").split(',').map(|at| families::SITUATIONS[at.parse::<usize>().unwrap()]).collect();
    }
    show(&family);
}

#[test]
fn mutants() {
    let only = std::env::var("R").unwrap_or_default();
    for family in mutants::all_mutants().into_iter().filter(|family| family.name.contains(&only)) {
        let found = family::explore(&family);
        println!("\nWithout {} ({found}):", family.name);
        match found.counterexample {
            Some(lines) => lines.iter().for_each(|line| println!("{line}")),
            None => println!("NOTHING"),
        }
    }
}

fn show(family: &Family) {
    let found = family::explore(family);
    println!("{}: {found}", family.name);
    if let Some(counterexample) = found.counterexample {
        for line in &counterexample {
            println!("{line}");
        }
        panic!("violated");
    }
}
