//! Every period of the system, as one value, with the inequalities that keep a stream captured once.

use serde::{Deserialize, Serialize};

use crate::rule::{Rule, lacks};

/// All periods, in milliseconds. Set on the operator, sent to each sidecar in the welcome: one that is newer than the
/// sidecar is read over there. Tests shrink it as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Periods {
    /// The longest time between two polls of a streamer (`config_external` is asked every 2–3 s).
    pub poll: u64,
    /// Between two pings of the leader, and two `alive` of a sidecar.
    pub ping: u64,
    /// A sidecar leaves a connection that has been silent for this long.
    pub silence: u64,
    /// A streamer is alive when it asked anything within this time: three polls.
    pub alive: u64,
    /// How long a leader's Lease holds without being renewed.
    pub lease: u64,
    /// How long a new leader waits at most for expected Streamers, and a newcomer for a name that another instance holds.
    pub period: u64,
    /// A release that takes longer is called off, and tried again after the same time.
    pub release: u64,
    /// How long a stream with `StopCapturing` is served after the last of its streamer's requests that a leader has heard of.
    #[serde(default = "default_stream_lease")]
    pub stream_lease: u64,
    /// From the end of that lease until whoever supervises a streamer has killed one that does not let go.
    #[serde(default = "default_kill")]
    pub kill: u64,
}

/// What an operator means that does not say: longer than a leader's Lease and the next one's wait, so that a change of
/// leaders stops nothing.
fn default_stream_lease() -> u64 {
    35_000
}

fn default_kill() -> u64 {
    20_000
}

impl Default for Periods {
    fn default() -> Self {
        Self {
            poll: 3_000,
            ping: 1_000,
            silence: 5_000,
            alive: 9_000,
            lease: 15_000,
            period: 15_000,
            release: 30_000,
            stream_lease: default_stream_lease(),
            kill: default_kill(),
        }
    }
}

/// Why a set of periods is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("periods: {0}")]
pub struct PeriodsError(String);

impl Periods {
    /// Checks the inequalities that the rules rest on; the error names the one that fails.
    pub fn check(&self) -> Result<(), PeriodsError> {
        let rules = [
            (self.ping > 0, "ping must be more than 0"),
            (
                self.ping * 3 <= self.silence,
                "silence must be at least three pings, or one late ping drops a connection",
            ),
            (
                self.silence + self.ping < self.period,
                "period must be more than silence + ping, or a sidecar is called gone while it still listens to a frozen leader",
            ),
            (self.poll > 0 && self.alive >= self.poll * 3, "alive must be at least three polls"),
            (
                self.lease >= self.ping * 3,
                "lease must be at least three pings, or a leader loses it between two renewals",
            ),
            (
                self.release >= self.poll * 3 + self.ping,
                "release must be at least three polls + ping, the time a streamer needs to let go",
            ),
            (
                self.stream_lease >= self.lease + self.period + self.poll + self.ping,
                "stream_lease must be at least lease + period + poll + ping, or a change of leaders stops streams",
            ),
            (
                self.stream_lease >= self.alive,
                "stream_lease must be at least alive, or a stream moves from a streamer that only missed a poll",
            ),
            (self.kill >= self.poll, "kill must be at least a poll, or a streamer that lets go in time is killed"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Err(PeriodsError((*why).to_owned())),
            None => Ok(()),
        }
    }

    /// How long a new leader waits before it declares anybody gone or places anything new: silence + 1 s.
    pub fn wait(&self) -> u64 {
        self.silence + self.ping
    }

    /// How long a sidecar that has a replica answers 503 after its start when no mark comes: 10 s.
    pub fn first_mark(&self) -> u64 {
        self.silence * 2
    }

    /// **Lease**: how long a streamer must have been lost to capture nothing any more that it held under a lease: the lease, a poll
    /// for it to let go, and the time to kill one that does not.
    pub fn lease_over(&self) -> u64 {
        let less = if lacks(Rule::LeaseOver) { self.ping } else { 0 };
        self.stream_lease + self.poll + self.kill - less
    }

    /// The shortest `failover.after` that is carried out: silence + poll + ping.
    pub fn shortest_failover(&self) -> u64 {
        self.silence + self.poll + self.ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_periods_hold_their_own_inequalities() {
        Periods::default().check().unwrap();
    }

    #[test]
    fn a_welcome_of_a_newer_operator_is_understood() {
        let welcome = crate::frames::Down::Welcome {
            version: crate::frames::VERSION,
            term: 10,
            seal: crate::grant::Seal("k:10".into()),
            periods: Periods::default(),
        };
        let mut newer = serde_json::to_value(&welcome).unwrap();
        newer["periods"]["drain"] = 60_000.into();
        newer["cluster"] = "north".into();
        assert_eq!(serde_json::from_value::<crate::frames::Down>(newer).unwrap(), welcome);
    }

    #[test]
    fn a_period_that_silence_outlasts_is_refused_with_its_reason() {
        let error = Periods { period: 5_000, ..Periods::default() }.check().unwrap_err();
        assert!(error.to_string().contains("period must be more than silence + ping"), "{error}");
    }
}
