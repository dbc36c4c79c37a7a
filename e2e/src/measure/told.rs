//! What the operator's log tells of a failover.

use std::time::SystemTime;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The steps of a failover.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// The sidecar's connection ended.
    pub noticed: SystemTime,
    /// The last plan that moves something away from what is gone.
    pub planned: SystemTime,
    /// The writes of that plan were acknowledged.
    pub written: SystemTime,
}

/// When the operator noticed that `streamer` (`NAMESPACE/NAME`) was lost, and what it did about it.
pub fn told(log: &[(SystemTime, Value)], streamer: &str) -> Result<Told> {
    let ended = |fields: &Value| fields["message"] == "a sidecar's connection ended" && fields["streamer"] == streamer;
    let noticed = log.iter().find(|(_, fields)| ended(fields));
    let planned = |fields: &Value| fields["message"] == "planned" && fields["urgent"].as_u64().is_some_and(|n| n > 0);
    let place = log.iter().rposition(|(_, fields)| planned(fields)).unwrap_or(log.len());
    let mut rest = log.iter().skip(place);
    let planned = rest.next().context("the operator did not log that it planned a failover")?;
    let written = rest.find(|(_, fields)| fields["message"] == "written");
    Ok(Told {
        noticed: noticed.with_context(|| format!("the operator did not log that it lost {streamer}"))?.0,
        planned: planned.0,
        written: written.context("the operator did not log that the failover was written")?.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::operator_log;

    #[test]
    fn the_log_tells_when_it_was_noticed_and_when_the_last_move_was_planned() {
        let log = r#"
{"timestamp":"2026-01-01T00:00:01.000Z","fields":{"message":"a sidecar's connection ended","streamer":"media/s2"}}
{"timestamp":"2026-01-01T00:00:02.000Z","fields":{"message":"a sidecar's connection ended","streamer":"media/s1"}}
{"timestamp":"2026-01-01T00:00:31.000Z","fields":{"message":"planned","changes":9,"urgent":9}}
{"timestamp":"2026-01-01T00:00:32.000Z","fields":{"message":"planned","changes":3,"urgent":3}}
{"timestamp":"2026-01-01T00:00:33.000Z","fields":{"message":"written","changes":12}}
{"timestamp":"2026-01-01T00:00:34.000Z","fields":{"message":"planned","changes":3,"urgent":0}}
"#;
        let log = operator_log::since(log, SystemTime::UNIX_EPOCH);
        let told_of_s1 = told(&log, "media/s1").unwrap();
        let after = |at: SystemTime| at.duration_since(told_of_s1.noticed).unwrap().as_secs();
        assert_eq!((after(told_of_s1.planned), after(told_of_s1.written)), (30, 31));
        assert!(told(&log, "media/s3").is_err_and(|error| error.to_string().contains("media/s3")));
        assert!(told(log.split_last().unwrap().1.split_last().unwrap().1, "media/s1").is_err());
    }
}
