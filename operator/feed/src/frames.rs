//! The frames of the feed: newline-delimited JSON, both ways, over one long-lived HTTP/2 `POST /feed/v1`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::grant::Seal;
use crate::periods::Periods;

/// The protocol's newest version, in hello and welcome. Within one version fields and types of frames may be added, which the
/// other end passes over; everything else (a new value of a field too) is another version.
pub const VERSION: u32 = 1;

/// The oldest version that both ends still speak: they take the newest that both know. Sidecars change only when their pods
/// do, so a version is spoken for a year at least after the release that brought the next one.
pub const OLDEST: u32 = 1;

/// The version to speak with who speaks from `oldest` to `newest`, if there is one.
pub fn common_version(oldest: u32, newest: u32) -> Option<u32> {
    let common = newest.min(VERSION);
    (common >= oldest.max(OLDEST)).then_some(common)
}

/// The longest line that either end accepts, in bytes.
pub const MAX_LINE: usize = 16 << 20;

/// What a streamer does with a stream that it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Run {
    /// It reads the stream's source.
    Capture,
    /// It pulls the stream from another streamer.
    Restream,
    /// Its own configuration file has it; no answer of ours stops it.
    Own,
}

/// What becomes of a stream on a streamer that is cut off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Partition {
    /// It goes on: both sides may capture, until the cut is healed.
    #[default]
    KeepCapturing,
    /// It stops when the lease that pings carry has run out, and only then does the stream move.
    StopCapturing,
}

impl Partition {
    /// As a Stream's `failover.partition` and a replica have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Partition::KeepCapturing => "KeepCapturing",
            Partition::StopCapturing => "StopCapturing",
        }
    }

    /// For how long (ms) a streamer must have been lost to be gone as far as one stream goes: `after` (the stream's own
    /// `failover.after`, at least the shortest that is carried out), and under `StopCapturing` the end of what it may be
    /// running. `held` is under which policy the record says that it is held; `None`: there is no record.
    ///
    /// `u64::MAX`: never. Who has not heard of `StopCapturing` goes on capturing, however long it is lost.
    pub fn gone_after(self, held: Option<Partition>, after: u64, periods: &Periods) -> u64 {
        let after = after.max(periods.shortest_failover());
        match (self, held) {
            (Partition::KeepCapturing, _) => after,
            (Partition::StopCapturing, Some(Partition::KeepCapturing)) => u64::MAX,
            (Partition::StopCapturing, _) => after.max(periods.lease_over()),
        }
    }
}

/// One stream that a sidecar holds, or has held: the row's key, and the grant that proves it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Media name.
    pub name: String,
    pub epoch: u64,
    pub grant: Seal,
    /// [`crate::digest::document_hash`] of what is held; empty for what is held no more (`stopped`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
    /// Of what is held no more: the epoch of the delete, which the grant does not prove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<u64>,
}

/// Whether the streamer's own API answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ApiState {
    /// No `--streamer-api` was given.
    #[default]
    Absent,
    /// It answers.
    Up,
    /// It refuses connections, times out or answers with errors.
    Down,
}

/// What a sidecar says on connecting.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The newest version of the protocol that the sidecar speaks. A hello is read alike in all of them.
    pub version: u32,
    /// The oldest; without it, it speaks no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u32>,
    /// Version of the sidecar's program, for people.
    pub program: String,
    /// Namespace of the Streamer.
    pub namespace: String,
    /// `metadata.name` of the Streamer.
    pub streamer: String,
    /// The pod's uid, or an id kept in the data directory.
    pub instance: String,
    /// The highest term ever listened to, with the seal its leader gave for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<(u64, Seal)>,
    /// False until the replica was complete once: the sidecar answers 503.
    pub synced: bool,
    /// The rows held: what is served.
    pub held: Vec<Held>,
    /// Holds kept, by media name, with their epoch.
    pub holds: BTreeMap<String, u64>,
    /// Epochs that this sidecar has stopped serving and will not serve again, with the grant where one is kept.
    pub stopped: Vec<Held>,
    /// What the streamer runs; `None` until it is known.
    pub runs: Option<BTreeMap<String, Run>>,
    /// Milliseconds since the streamer's last request, if there was one since the sidecar started.
    pub polled: Option<u64>,
    pub api: ApiState,
    /// What the sidecar was told of its Streamer: used when the Streamer is registered.
    #[serde(default)]
    pub about: About,
}

/// What a sidecar may say of its Streamer at registration; in Kubernetes the Pod is believed instead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct About {
    /// The streamer's hostname, as it sends it in `host`.
    pub hostname: String,
    pub addresses: Vec<String>,
}

/// What the streamer says of itself, for people and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Load {
    /// Percent.
    pub cpu: Option<u32>,
    /// kbit/s.
    pub input_kbit: Option<u64>,
    /// kbit/s.
    pub output_kbit: Option<u64>,
}

/// What the streamer thinks of our answers (`config_external_status`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum ConfigStatus {
    /// The streamer's version or a missing API does not tell.
    #[default]
    Unknown,
    Loaded,
    Error {
        message: String,
    },
}

/// How a sidecar stands with the lease under which streams with [`Partition::StopCapturing`] are served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReport {
    /// When the streamer last asked, by the sidecar's own monotonic clock in ms: a lease counts from here, so that
    /// neither a late ping nor a streamer that is gone lengthens it. `None`: not since the sidecar started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// The lease has not run out since it was first given.
    pub runs: bool,
    /// Milliseconds since anybody asked `GET /lease`: whoever would kill the streamer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u64>,
    /// How many streams the streamer captured after its last start before it was answered anything: it does not boot
    /// with an empty configuration. `None`: no start was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boots_with: Option<u64>,
}

/// Frames from the sidecar to the leader.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Up {
    Hello(Box<Hello>),
    /// Every `ping`: the sidecar lives, and this is how its streamer is.
    #[serde(rename_all = "camelCase")]
    Alive {
        /// Milliseconds since the streamer's last request.
        polled: Option<u64>,
        api: ApiState,
        config: ConfigStatus,
        load: Load,
        /// `host` values that are not the Streamer's hostname, if the streamer sent one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        foreign_host: Option<String>,
        /// Why the replica cannot be written (full or read-only disk), if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replica_error: Option<String>,
        /// `None`: a sidecar that knows no leases, and so serves nothing under one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<LeaseReport>,
    },
    /// What the streamer runs changed, or became known: `set` over what was, `gone` out of it.
    Runs {
        set: BTreeMap<String, Run>,
        gone: Vec<String>,
    },
    /// The batch that ended with this mark is in the replica.
    Applied {
        revision: u64,
    },
    /// The streamer was seen to have let go of `name`, which the leader had deleted under `epoch`.
    Released {
        name: String,
        epoch: u64,
    },
    /// The streamer refuses this document; it is served as last accepted (`None`: accepted again).
    Rejected {
        name: String,
        hash: String,
        message: Option<String>,
    },
    /// The session ends in order.
    Goodbye {},
    /// Of a newer program: passed over.
    #[serde(other)]
    Unknown,
}

/// Frames from the leader to the sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Down {
    /// The hello is accepted; `version` is the one to speak.
    #[serde(rename_all = "camelCase")]
    Welcome { version: u32, term: u64, seal: Seal, periods: Periods },
    /// Every `ping`.
    #[serde(rename_all = "camelCase")]
    Ping {
        term: u64,
        /// Milliseconds for which this leader may still speak.
        may_speak: u64,
        /// [`LeaseReport::at`] of the last `alive` that was heard: streams with [`Partition::StopCapturing`] may be
        /// served until [`Periods::stream_lease`] after it. `None`: no lease is given now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<u64>,
    },
    /// The streamer captures this stream.
    Put(Put),
    /// Not on this streamer: stop serving it, unless it is held under a higher epoch. `Released` answers it.
    Delete { name: String, epoch: u64 },
    /// Yours or maybe yours, and cannot be given now: keep what is served; where nothing is, answer 503.
    Hold { name: String, epoch: u64 },
    /// Everything since the last mark becomes visible at once.
    Mark {
        revision: u64,
        /// Rows and holds, counted.
        count: u64,
        /// [`crate::digest::SetDigest`] over them.
        digest: String,
    },
    /// Ask another address; this one if known.
    NotLeader { leader: Option<String> },
    /// Another instance has this Streamer's name now: stop.
    Superseded {},
    /// Another instance holds this Streamer's name: stay connected, nothing comes until it is gone.
    Wait {},
    /// The hello is refused, for good.
    Refused { message: String },
    /// Of a newer program: passed over.
    #[serde(other)]
    Unknown,
}

/// One stream's row.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Put {
    pub name: String,
    pub epoch: u64,
    pub grant: Seal,
    /// Listed by plain `/streams`, not only when asked for by name.
    #[serde(rename = "static")]
    pub is_static: bool,
    pub partition: Partition,
    /// [`crate::digest::document_hash`] of static, partition and document.
    pub hash: String,
    /// The stream as the streamer gets it: one JSON object, byte for byte. Holds credentials.
    pub document: String,
}

impl std::fmt::Debug for Put {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Put({} epoch {} hash {})", self.name, self.epoch, self.hash)
    }
}

/// What goes into the digest for one name of a replica: its row, its hold, or both.
pub fn digest_entry(set: &mut crate::digest::SetDigest, name: &str, row: Option<(u64, &str)>, hold: Option<u64>) {
    if let Some((epoch, hash)) = row {
        set.toggle(&["row", name, &epoch.to_string(), hash]);
    }
    if let Some(epoch) = hold {
        set.toggle(&["hold", name, &epoch.to_string()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ends_speak_the_newest_version_that_both_know() {
        assert_eq!(common_version(OLDEST, VERSION), Some(VERSION));
        assert_eq!(common_version(OLDEST, VERSION + 3), Some(VERSION), "a newer one that still speaks ours");
        assert_eq!(common_version(OLDEST, OLDEST), Some(OLDEST), "the oldest");
        assert_eq!(common_version(VERSION + 1, VERSION + 3), None, "one that does not any more");
        assert_eq!(common_version(0, OLDEST - 1), None, "one that is too old");
    }

    #[test]
    fn a_frame_of_a_newer_program_is_passed_over_and_a_broken_one_is_not() {
        let read = serde_json::from_str::<Down>;
        assert_eq!(read(r#"{"type":"weather","sun":{"type":"ping"}}"#).unwrap(), Down::Unknown);
        read(r#"{"type":"ping","term":"high"}"#).unwrap_err();
        let newer = r#"{"type":"applied","revision":7,"took":{"ms":3}}"#;
        assert_eq!(serde_json::from_str::<Up>(newer).unwrap(), Up::Applied { revision: 7 });
        assert_eq!(serde_json::from_str::<Up>(r#"{"type":"weather","sun":[1]}"#).unwrap(), Up::Unknown);
    }
}
