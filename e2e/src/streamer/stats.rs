//! What the streamer's own API says of its streams and of itself: values made from the configuration and `now` (unix ms).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::Refusal;
use super::configuration::{Change, Configuration, Kind, Running};

/// The simulated bitrate of a stream that is read, kbit/s.
const BITRATE_KBIT: u64 = 4000;
/// How many streams the simulated server's processor and memory are good for.
const FULL: usize = 2000;
/// How often a source that is down is tried again, in ms.
const RETRY_MS: u64 = 1000;

/// When frames of a running stream came, unix ms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Flow {
    /// Frames come now.
    flowing: bool,
    /// The last frame, where they no longer come and once did.
    last_frame: Option<u64>,
    /// Since when no source could be read.
    down_since: u64,
}

/// When frames of each running stream came.
#[derive(Debug, Clone, Default)]
pub struct Flows {
    by_stream: BTreeMap<String, Flow>,
}

impl Flows {
    /// Takes in what happened to a stream.
    pub fn apply(&mut self, change: &Change, now: u64) {
        if change.kind == Kind::Stop {
            self.by_stream.remove(&change.stream);
            return;
        }
        let flow = self.by_stream.entry(change.stream.clone()).or_default();
        if flow.flowing {
            flow.last_frame = Some(now);
        }
        flow.flowing = change.opens.is_some();
        flow.down_since = now;
    }
}

/// A stream's place in the list: running, or known and not running.
pub fn stream(
    configuration: &Configuration,
    flows: &Flows,
    name: &str,
    now: u64,
    frames_timeout_ms: u64,
) -> Option<Map<String, Value>> {
    let running = configuration.running().get(name);
    let (document, named_by) = running.map(|r| (&r.document, r.named_by)).or_else(|| configuration.known(name))?;
    let flow = flows.by_stream.get(name).cloned().unwrap_or_default();
    let mut view = Map::new();
    view.insert("name".to_owned(), json!(name));
    view.insert("named_by".to_owned(), json!(named_by));
    view.insert("static".to_owned(), json!(document.is_static()));
    view.insert("inputs".to_owned(), json!(document.inputs()));
    let stats = stream_stats(running, &flow, now, frames_timeout_ms);
    view.insert("stats".to_owned(), stats);
    Some(view)
}

fn stream_stats(running: Option<&Running>, flow: &Flow, now: u64, frames_timeout_ms: u64) -> Value {
    let last_frame = if flow.flowing { Some(now) } else { flow.last_frame };
    let silent = last_frame.map(|last| now.saturating_sub(last));
    // The habit of the field: it turns false only some time after the last frame.
    let alive = flow.flowing || silent.is_some_and(|ms| ms < frames_timeout_ms);
    let pulls = running.is_some_and(|r| r.document.pulled().next().is_some());
    let (status, retries) = match (flow.flowing, pulls) {
        (true, _) => ("running", 0),
        (false, true) => ("error", 1 + now.saturating_sub(flow.down_since) / RETRY_MS),
        (false, false) => ("waiting", 0),
    };
    json!({
        "alive": alive,
        "status": status,
        "bitrate": if flow.flowing { BITRATE_KBIT } else { 0 },
        "last_dts_at": last_frame,
        "ts_delay": silent,
        "retry_count": retries,
        "online_clients": 0,
    })
}

/// How the external configuration fares, as `config_external_status` shows it.
#[derive(Debug, Clone, Default)]
pub enum ExternalStatus {
    /// Nothing was asked yet.
    #[default]
    Unasked,
    Loaded,
    Error(Refusal),
}

impl ExternalStatus {
    fn json(&self) -> Option<Value> {
        #[derive(Serialize)]
        struct Error<'a> {
            status: &'a str,
            r#while: &'a str,
            #[serde(flatten)]
            refusal: &'a Refusal,
        }
        match self {
            Self::Unasked => None,
            Self::Loaded => Some(json!({ "status": "loaded" })),
            Self::Error(refusal) => Some(json!(Error { status: "error", r#while: "refresh", refusal })),
        }
    }
}

/// `config/stats`. `external` is `None` for a version that does not have `config_external_status`.
pub fn server(configuration: &Configuration, id: &str, external: Option<&ExternalStatus>, now: u64) -> Value {
    let running = configuration.running();
    let online = running.values().filter(|r| r.source.is_some()).count();
    let usage = (running.len() * 100 / FULL).min(100);
    let input = BITRATE_KBIT * u64::try_from(online).unwrap_or(u64::MAX);
    let mut stats = json!({
        "id": id,
        "now": now,
        "server_version": concat!(env!("CARGO_PKG_VERSION"), "-sim"),
        "streamer_status": "running",
        "text_alerts": [],
        "cpu_usage": usage,
        "memory_usage": usage,
        "scheduler_load": usage,
        "input_kbit": input,
        "output_kbit": 0,
        "total_streams": total(configuration),
        "online_streams": online,
        "partitions": [],
        "transcoder_devices": [],
    });
    if let (Some(fields), Some(external)) = (stats.as_object_mut(), external) {
        if matches!(external, ExternalStatus::Error(_)) {
            fields.insert("streamer_status".to_owned(), json!("config_external_error"));
        }
        if let Some(external) = external.json() {
            fields.insert("config_external_status".to_owned(), external);
        }
    }
    stats
}

fn total(configuration: &Configuration) -> usize {
    names(configuration, None).count()
}

/// Every name that is known or runs, behind `after`, in order.
pub fn names<'a>(configuration: &'a Configuration, after: Option<&'a str>) -> impl Iterator<Item = &'a str> {
    let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
    let running = configuration.running().range::<str, _>(range);
    let external = configuration.external().range::<str, _>(range);
    let own = configuration.own().range::<str, _>(range);
    let names: BTreeSet<&str> = running
        .map(|(name, _)| name.as_str())
        .chain(external.map(|(name, _)| name.as_str()))
        .chain(own.map(|(name, _)| name.as_str()))
        .collect();
    names.into_iter()
}

#[cfg(test)]
mod tests {
    use super::super::answer::check;
    use super::super::configuration::Event;
    use super::*;

    /// A streamer that runs `a`, and takes in what happens at an instant.
    struct Streamer(Configuration, Flows);

    impl Streamer {
        fn with(inputs: &Value, now: u64) -> Self {
            let document = json!({"name": "a", "inputs": inputs});
            let mut streamer = Self(Configuration::default(), Flows::default());
            streamer.step(Event::Listed(vec![check(document, 0).unwrap()]), now);
            streamer
        }

        fn step(&mut self, event: Event, now: u64) {
            for change in self.0.step(event).changes {
                self.1.apply(&change, now);
            }
        }

        fn stats(&self, now: u64) -> Value {
            stream(&self.0, &self.1, "a", now, 12_000).unwrap()["stats"].clone()
        }
    }

    #[test]
    fn a_stream_that_is_read_is_alive() {
        let streamer = Streamer::with(&json!([{"url": "udp://cam:1"}]), 1000);
        let stats = streamer.stats(5000);
        assert_eq!(stats["alive"], true);
        assert_eq!(stats["status"], "running");
        assert_eq!(stats["ts_delay"], 0);
        assert_eq!(stats["last_dts_at"], 5000);
    }

    #[test]
    fn a_source_that_is_down_shows_at_once_in_ts_delay_and_later_in_alive() {
        let mut streamer = Streamer::with(&json!([{"url": "udp://cam:1"}]), 1000);
        streamer.step(Event::SourceDown("udp://cam:1".to_owned()), 5000);
        let soon = streamer.stats(7000);
        assert_eq!((&soon["alive"], &soon["status"]), (&json!(true), &json!("error")));
        assert_eq!((&soon["ts_delay"], &soon["last_dts_at"]), (&json!(2000), &json!(5000)));
        assert_eq!(soon["retry_count"], 3);
        let later = streamer.stats(17_000);
        assert_eq!((&later["alive"], &later["retry_count"]), (&json!(false), &json!(13)));
        streamer.step(Event::SourceUp("udp://cam:1".to_owned()), 18_000);
        assert_eq!(streamer.stats(18_000)["alive"], true);
    }

    #[test]
    fn a_published_stream_waits() {
        let streamer = Streamer::with(&json!([{"url": "publish://"}]), 1000);
        let stats = streamer.stats(2000);
        assert_eq!((&stats["alive"], &stats["status"]), (&json!(false), &json!("waiting")));
        assert_eq!(stats["ts_delay"], Value::Null);
    }

    #[test]
    fn a_refused_answer_is_shown_with_its_path() {
        let refusal = Refusal {
            reason: "validation_error",
            code: Some(200),
            error: Some("missing"),
            detail: "name is missing".to_owned(),
            path: vec![json!("streams"), json!(0), json!("name")],
        };
        let error = ExternalStatus::Error(refusal);
        let shown = server(&Configuration::default(), "id", Some(&error), 1);
        assert_eq!(shown["streamer_status"], "config_external_error");
        let status = &shown["config_external_status"];
        assert_eq!((&status["status"], &status["while"]), (&json!("error"), &json!("refresh")));
        assert_eq!(status["path"], json!(["streams", 0, "name"]));
        let old = server(&Configuration::default(), "id", None, 1);
        assert!(old.get("config_external_status").is_none());
    }
}
