//! What a person wants to see of a scenario that failed.

use std::fmt::Write as _;

use serde_json::Value;

use super::Site;
use super::kind::Kind;
use crate::child::last_lines;
use crate::registry::describe;

/// Lines of each log.
const TAIL: usize = 25;
/// Events shown.
const EVENTS: usize = 30;
/// Objects of a kind shown.
const OBJECTS: usize = 40;

/// Everything, as text. It asks again: it must run where the site's objects can still be had.
pub(super) async fn of(site: &Site) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "──── {} (namespace {})", site.name, site.namespace);
    let _ = writeln!(text, "{}", describe(&site.registry.now_reading()));
    for (kind, columns) in [
        (Kind::Stream, &["/status/streamer", "/status/epoch", "/status/reason"][..]),
        (Kind::Streamer, &["/status/summary", "/status/streams", "/status/replicaRevision", "/status/instance"][..]),
        (Kind::Placement, &["/spec/term", "/status/streams", "/status/releasing"][..]),
    ] {
        let _ = writeln!(text, "──── {}", kind.plural());
        match site.list(kind).await {
            Ok(objects) => objects.iter().take(OBJECTS).for_each(|object| row(&mut text, object, columns)),
            Err(error) => drop(writeln!(text, "{error:#}")),
        }
    }
    let _ = writeln!(text, "──── events");
    if let Ok(mut events) = site.list(Kind::Event).await {
        events.sort_by_key(|event| event["eventTime"].as_str().map(str::to_owned));
        for event in events.iter().rev().take(EVENTS).rev() {
            row(&mut text, event, &["/eventTime", "/regarding/kind", "/regarding/name", "/reason", "/note"]);
        }
    }
    for process in site.processes() {
        let state = if process.is_running() { "running" } else { "not running" };
        let _ = writeln!(text, "──── {} ({state})\n{}", process.name(), last_lines(&process.log(), TAIL));
    }
    text
}

fn row(text: &mut String, object: &Value, columns: &[&str]) {
    let _ = write!(text, "{:<28}", object["metadata"]["name"].as_str().unwrap_or_default());
    for column in columns {
        match object.pointer(column) {
            Some(Value::String(value)) => drop(write!(text, " {value:<12}")),
            Some(value) => drop(write!(text, " {:<12}", value.to_string())),
            None => drop(write!(text, " {:<12}", "-")),
        }
    }
    text.push('\n');
}
