//! The operator's own account of what it did: its structured log.

use std::collections::BTreeMap;
use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::Value;

/// The lines of a log (`--log-format json`) since an instant, each with its time.
pub fn since(log: &str, from: SystemTime) -> Vec<(SystemTime, Value)> {
    let entries = log.lines().filter_map(|line| {
        let mut line: Value = serde_json::from_str(line).ok()?;
        let at: Timestamp = line["timestamp"].as_str()?.parse().ok()?;
        Some((at.into(), line["fields"].take()))
    });
    entries.filter(|(at, _)| *at >= from).collect()
}

/// When it first said that a Streamer is not Ready.
pub fn noticed(entries: &[(SystemTime, Value)], streamer: &str) -> Option<SystemTime> {
    let mut told = entries.iter().filter(|(_, fields)| fields["kind"] == "Streamer" && fields["name"] == streamer);
    told.find(|(_, fields)| fields["type"] == "Warning").map(|(at, _)| *at)
}

/// When it planned to move each stream, by media name.
pub fn planned(entries: &[(SystemTime, Value)]) -> BTreeMap<String, SystemTime> {
    let mut planned = BTreeMap::new();
    for (at, fields) in entries.iter().filter(|(_, fields)| fields["message"] == "planned") {
        let is_move = fields["change"].as_str().is_some_and(|change| change.starts_with("Move"));
        // `NAMESPACE/MEDIA/NAME`
        let stream = fields["stream"].as_str().and_then(|stream| stream.split_once('/'));
        if let (true, Some((_, name))) = (is_move, stream) {
            planned.entry(name.to_owned()).or_insert(*at);
        }
    }
    planned
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_log_tells_when_a_streamer_was_missed_and_its_streams_were_planned_anew() {
        let log = r#"
{"timestamp":"2026-01-01T00:00:01.000Z","level":"INFO","fields":{"message":"x","kind":"Streamer","name":"m2","type":"Warning","reason":"Silent"}}
{"timestamp":"2026-01-01T00:00:03.250Z","level":"INFO","fields":{"message":"x","kind":"Streamer","name":"m1","type":"Warning","reason":"Silent"}}
{"timestamp":"2026-01-01T00:00:03.500Z","level":"INFO","fields":{"message":"x","kind":"Streamer","name":"m2","type":"Warning","reason":"Silent"}}
not JSON
{"timestamp":"2026-01-01T00:00:09.000Z","level":"INFO","fields":{"message":"planned","stream":"default/cam/gate","change":"Move { streamer: \"m1\" }"}}
{"timestamp":"2026-01-01T00:00:09.500Z","level":"INFO","fields":{"message":"planned","stream":"default/cam/gate","change":"Move { streamer: \"m3\" }"}}
{"timestamp":"2026-01-01T00:00:09.500Z","level":"INFO","fields":{"message":"planned","stream":"default/new","change":"Place { }"}}
"#;
        let second: Timestamp = "2026-01-01T00:00:02Z".parse().unwrap();
        let second = SystemTime::from(second);
        let entries = since(log, second);
        assert_eq!(noticed(&entries, "m2"), Some(second + Duration::from_millis(1_500)));
        assert_eq!(noticed(&entries, "m9"), None);
        assert_eq!(planned(&entries), BTreeMap::from([("cam/gate".to_owned(), second + Duration::from_secs(7))]));
    }
}
