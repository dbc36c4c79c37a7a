//! The README's table of failovers: real processes on a real API server, with the Periods and the `failover.after` that Weir has by
//! itself. A streamer and its sidecar are killed; what follows is measured.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use weir_e2e::measure::cameras;
use weir_e2e::measure::failover::{Failover, settled};
use weir_e2e::measure::machine;
use weir_e2e::measure::numbers::{bytes, millis, quantile, runs, seconds};
use weir_e2e::measure::usage::Usage;
use weir_e2e::site::{Kind, Plan, Site};
use weir_feed::periods::Periods;

/// How long the idle processes' CPU time is looked at.
const IDLE: Duration = Duration::from_secs(30);
/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_mins(5);

/// Measures failovers and prints a table in Markdown.
#[derive(Parser)]
struct Args {
    /// Streams, and how many failovers of as many are measured
    #[arg(long = "case", value_name = "STREAMS:RUNS", value_parser = case, default_values = ["200:3", "2000:2"])]
    cases: Vec<Case>,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    streams: usize,
    runs: usize,
}

fn case(text: &str) -> Result<Case> {
    let (streams, runs) = text.split_once(':').context("as in 200:3")?;
    Ok(Case { streams: streams.parse()?, runs: runs.parse()? })
}

/// One run: idle, then a failover.
struct Run {
    failover: Failover,
    idle: Idle,
    /// What `failover.after` is by default.
    after: String,
    /// What a plan took between the kill and the end, on average.
    plan: Duration,
}

/// Shares of a core, in percent.
struct Idle {
    operator: f64,
    /// Of each sidecar, the most.
    sidecar: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let load = machine::load();
    let mut columns = Vec::new();
    for case in args.cases {
        let mut measured = Vec::new();
        for number in 1..=case.runs {
            eprintln!("{} streams, run {number} of {} …", case.streams, case.runs);
            measured.push(run(case.streams).await?);
        }
        columns.push((case, measured));
    }
    print(&columns, load);
    Ok(())
}

async fn run(streams: usize) -> Result<Run> {
    let plan = Plan { periods: Periods::default(), ..Plan::default() };
    let mut site = Site::prepare(&format!("bench-{streams}"), &plan).await?;
    for operator in &mut site.operators {
        operator.process.flag("log-format", "json");
    }
    site.start_processes().await?;
    let names = cameras::apply(&site, streams).await?;
    site.registry.await_each_once(&names, PATIENCE).await?;
    settled(&site, streams, PATIENCE).await?;
    let after = default_after(&site, &names).await?;
    let idle = idle(&site).await?;
    let before = plans(&site).await?;
    let failover = Failover::of(&site, "s1", &names, PATIENCE).await?;
    let plans = plans(&site).await?;
    let plan = Duration::from_secs_f64((plans.0 - before.0) / (plans.1 - before.1));
    site.finish().await?;
    Ok(Run { failover, idle, after, plan })
}

/// The operator's plans since its start: how long they took in all (s), and how many there were.
async fn plans(site: &Site) -> Result<(f64, f64)> {
    let operator = site.operators.first().context("no operator")?;
    let metric = async |part: &str| operator.metric(&format!("weir_plan_duration_seconds_{part}")).await;
    Ok((metric("sum").await?, metric("count").await?))
}

/// What the API server has filled in.
async fn default_after(site: &Site, names: &BTreeSet<String>) -> Result<String> {
    let name = names.first().context("no streams")?;
    let stream = site.get(Kind::Stream, name).await?;
    Ok(stream["spec"]["failover"]["after"].as_str().context("the API server fills in no failover.after")?.to_owned())
}

async fn idle(site: &Site) -> Result<Idle> {
    let operator = site.operators.first().context("no operator")?.process.child()?.pid();
    let sidecars =
        site.streamers.iter().map(|streamer| Ok(streamer.sidecar.child()?.pid())).collect::<Result<Vec<_>>>()?;
    let pids: Vec<u32> = std::iter::once(operator).chain(sidecars).collect();
    let cpu = || pids.iter().map(|pid| Ok(Usage::of(*pid)?.cpu)).collect::<Result<Vec<Duration>>>();
    let (before, begun) = (cpu()?, tokio::time::Instant::now());
    tokio::time::sleep(IDLE).await;
    let (after, took) = (cpu()?, begun.elapsed());
    let share = |(after, before): (&Duration, &Duration)| {
        after.saturating_sub(*before).as_secs_f64() / took.as_secs_f64() * 100.0
    };
    let shares: Vec<f64> = after.iter().zip(&before).map(share).collect();
    let sidecar = quantile(shares.get(1..).unwrap_or_default(), 1.0);
    Ok(Idle { operator: shares.first().copied().unwrap_or_default(), sidecar: sidecar.unwrap_or_default() })
}

type Column = (Case, Vec<Run>);

fn print(columns: &[Column], load_before: Option<f64>) {
    let after = columns.iter().flat_map(|(_, measured)| measured).next().map_or("", |run| run.after.as_str());
    let load =
        [load_before, machine::load()].map(|load| load.map_or("unknown".to_owned(), |load| format!("{load:.1}")));
    println!(
        "`cargo bench -p weir-e2e`{} on {} (load average {} before, {} after), which also ran etcd (without fsync), \
         kube-apiserver, three streamers and three sidecars; the Periods and `failover.after` are Weir's own ({after}). Several \
         runs: median (least–most).\n",
        if cfg!(debug_assertions) { ", **a debug build**," } else { "" },
        machine::describe(),
        load[0],
        load[1],
    );
    let head = |(case, measured): &Column| {
        let moved = runs(&each(measured, |run| run.failover.moved), |n| n.to_string());
        format!(
            "{} streams, {moved} of them move, {} {}",
            case.streams,
            case.runs,
            if case.runs == 1 { "run" } else { "runs" }
        )
    };
    println!("| A streamer and its sidecar are killed | {} |", row(columns, head));
    println!("|---|{}", "---|".repeat(columns.len()));
    for (name, cell) in rows(after) {
        println!("| {name} | {} |", row(columns, |(_, measured)| cell(measured)));
    }
}

/// What has a row of its own.
const TOLD: [&str; 5] = ["placements", "streams/status", "streamers/status", "events", "leases"];

type Cell = Box<dyn Fn(&[Run]) -> String>;

fn rows(after: &str) -> Vec<(String, Cell)> {
    let mut rows: Vec<(String, Cell)> = Vec::new();
    let mut add = |name: &str, cell: Cell| rows.push((name.to_owned(), cell));
    add("noticed: its sidecar's connection ended", time(|f| f.noticed, millis));
    add(
        &format!("planned: `failover.after` ({after} from the last that was heard of it) is over"),
        time(|f| f.planned, seconds),
    );
    add("a plan of all streams", Box::new(|all| runs(&each(all, |run| run.plan), millis)));
    add("… → persisted: the last Placement is acknowledged", time(|f| f.persisted.saturating_sub(f.planned), millis));
    add("… → replicated: the last replica has it on disk", time(|f| f.replicated.saturating_sub(f.persisted), millis));
    add("**Weir's own part**, planned → replicated", time(|f| f.replicated.saturating_sub(f.planned), millis));
    add("captured: at the streamers' next poll, 2–3 s apart; median stream", time(|f| at(&f.captured, 0.5), seconds));
    add("captured: last stream", time(|f| at(&f.captured, 1.0), seconds));
    add("dark, median stream", time(|f| at(&f.dark, 0.5), seconds));
    add("dark, worst stream", time(|f| at(&f.dark, 1.0), seconds));
    for (name, resource) in [
        ("API writes: Placements", "placements"),
        ("API writes: status of Streams", "streams/status"),
        ("API writes: status of Streamers", "streamers/status"),
        ("API writes: Events", "events"),
    ] {
        add(name, Box::new(move |all| runs(&each(all, |run| run.failover.writes.of(resource)), |n| n.to_string())));
    }
    add("API writes: the operator's Lease", count(|f| f.leases));
    add("API writes: anything else", count(|f| f.writes.but(&TOLD)));
    add("the last status or Event is written", time(|f| f.reported, seconds));
    add("operator: resident memory afterwards", count_as(|f| f.operator.resident, bytes));
    add("operator: most that it ever had", count_as(|f| f.operator.peak, bytes));
    add("sidecar: resident memory afterwards, the larger one", count_as(|f| f.sidecar.resident, bytes));
    add(
        "operator: CPU while nothing happens, of a core",
        Box::new(|all| runs(&each(all, |run| run.idle.operator), percent)),
    );
    add(
        "sidecar: CPU while nothing happens, of a core, the busiest",
        Box::new(|all| runs(&each(all, |run| run.idle.sidecar), percent)),
    );
    rows
}

fn time(of: fn(&Failover) -> Duration, tell: fn(Duration) -> String) -> Cell {
    Box::new(move |all| runs(&each(all, |run| of(&run.failover)), tell))
}

fn count(of: fn(&Failover) -> u64) -> Cell {
    count_as(of, |number| number.to_string())
}

fn count_as(of: fn(&Failover) -> u64, tell: fn(u64) -> String) -> Cell {
    Box::new(move |all| runs(&each(all, |run| of(&run.failover)), tell))
}

fn percent(share: f64) -> String {
    format!("{share:.1} %")
}

fn at(times: &[Duration], share: f64) -> Duration {
    quantile(times, share).unwrap_or_default()
}

fn each<T>(all: &[Run], of: impl Fn(&Run) -> T) -> Vec<T> {
    all.iter().map(of).collect()
}

fn row(columns: &[Column], cell: impl Fn(&Column) -> String) -> String {
    columns.iter().map(cell).collect::<Vec<_>>().join(" | ")
}
