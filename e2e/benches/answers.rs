//! The README's table of answers: how long a real sidecar takes to answer its streamer, over loopback.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use weir_e2e::measure::cameras;
use weir_e2e::measure::machine;
use weir_e2e::measure::numbers::{bytes, millis, quantile};
use weir_e2e::measure::usage::Usage;
use weir_e2e::site::{Plan, Site, Streamer};
use weir_feed::periods::Periods;

/// A streamer cuts what it asks by name into parts of about so many bytes.
const PART: usize = 1_000;
/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_mins(5);
/// Requests that are not counted: connection and caches are not what is measured.
const WARM_UP: usize = 10;

/// Measures a sidecar's answers and prints a table in Markdown.
#[derive(Parser)]
struct Args {
    /// Streams on the streamer
    #[arg(long, default_value_t = 2_000)]
    streams: usize,
    /// Requests of each kind, one after the other
    #[arg(long, default_value_t = 500)]
    requests: usize,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

struct Answers {
    asked: String,
    streams: usize,
    body: u64,
    times: Vec<Duration>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let load = machine::load();
    let one = Plan { periods: Periods::default(), streamers: 1, ..Plan::default() };
    let site = Site::start("bench-answers", one).await?;
    let names = cameras::apply(&site, args.streams).await?;
    site.registry.await_each_once(&names, PATIENCE).await?;
    let streamer = site.streamer("s1")?;
    let base = format!("http://{}/streamer/api/v3/streams?host=s1", streamer.answers);
    let plain = ask(&base, "all streams: `/streams`", args.requests).await?;
    ensure!(plain.streams == names.len(), "the sidecar answers {} of {} streams", plain.streams, names.len());
    let part = part(names.iter().map(String::as_str));
    let by_name = ask(&format!("{base}&name={part}"), "a part of about 1 kB: `/streams?name=`", args.requests).await?;
    ensure!(by_name.streams == part.split("%2C").count(), "the sidecar answers {} of a part", by_name.streams);
    print(&[plain, by_name], &args, streamer, load)?;
    site.finish().await
}

/// Names as a streamer asks for them: joined by commas, encoded as a whole, about [`PART`] bytes.
fn part<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut part = String::new();
    for name in names {
        let separator = if part.is_empty() { "" } else { "%2C" };
        if part.len() + separator.len() + name.len() > PART {
            break;
        }
        let _ = write!(part, "{separator}{name}");
    }
    part
}

async fn ask(url: &str, asked: &str, requests: usize) -> Result<Answers> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut answers = Answers { asked: asked.to_owned(), streams: 0, body: 0, times: Vec::new() };
    for number in 0..requests + WARM_UP {
        let begun = Instant::now();
        let body = client.get(url).send().await?.error_for_status()?.bytes().await?;
        let took = begun.elapsed();
        if number >= WARM_UP {
            answers.times.push(took);
        } else {
            let value: serde_json::Value = serde_json::from_slice(&body)?;
            answers.streams = value["streams"].as_array().context("an answer without streams")?.len();
            answers.body = body.len() as u64;
        }
    }
    Ok(answers)
}

fn print(all: &[Answers], args: &Args, streamer: &Streamer, load: Option<f64>) -> Result<()> {
    let told = load.map_or("unknown".to_owned(), |load| format!("{load:.1}"));
    let sidecar = Usage::of(streamer.sidecar.child()?.pid())?;
    println!(
        "`cargo bench -p weir-e2e`{} on {} (load average {told} before): {} requests, one after the other over loopback, to \
         the sidecar of a streamer with {} streams, which polls it meanwhile; the sidecar has {} of resident memory, {} at \
         most.\n",
        if cfg!(debug_assertions) { ", **a debug build**," } else { "" },
        machine::describe(),
        args.requests,
        args.streams,
        bytes(sidecar.resident),
        bytes(sidecar.peak),
    );
    println!(
        "| A streamer asks its sidecar for | streams | body | median | 99 % | longest |\n|---|---|---|---|---|---|"
    );
    for Answers { asked, streams, body, times } in all {
        let at = |share| quantile(times, share).map_or("–".to_owned(), millis);
        println!("| {asked} | {streams} | {} | {} | {} | {} |", bytes(*body), at(0.5), at(0.99), at(1.0));
    }
    Ok(())
}
