//! What a reader and the registry say to each other: one JSON object per line.

use serde::{Deserialize, Serialize};

/// The longest line that is read, in bytes.
pub const MAX_LINE: usize = 64 * 1024;

/// A line from a streamer process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Line {
    /// The first line: who reads. `boot` says that it has come up with a saved configuration and captures from that before its first poll.
    Hello {
        streamer: String,
        instance: String,
        #[serde(default)]
        boot: bool,
    },
    /// It starts reading the source of a stream.
    Open { stream: String, source: String },
    /// It stops reading it.
    Close { stream: String },
    /// Its first poll was answered and carried out: from now on an old configuration is no excuse.
    Polled,
}

/// A line to a streamer process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// So many lines of this connection stand in the timeline.
    Ack(u64),
    /// A line was wrong; the connection is closed, and with it every read.
    Refused(String),
}
