//! What goes over the wire, as it is written and read: the frames of the feed, and what sidecars answer.

use serde_json::Value;
use weir_feed::frames::{Down, Up};

use crate::network::{FEED, HostId, STREAMS};

/// Something that a process has said or read.
#[derive(Debug)]
pub(crate) enum Seen {
    /// An operator says it.
    Sent { conn: u64, operator: HostId, sidecar: HostId, frame: Down },
    /// A sidecar reads it.
    Told { conn: u64, sidecar: HostId, frame: Down },
    /// A sidecar says it.
    Said { sidecar: HostId, frame: Up },
    /// An operator reads it.
    Heard { conn: u64, operator: HostId, sidecar: HostId, frame: Up },
    /// A sidecar answers with these streams.
    Answered { sidecar: HostId, names: Vec<String> },
}

/// Who writes what is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Nothing,
    /// Frames of a leader, as they are written, or as they are read.
    Down {
        read: bool,
    },
    /// Frames of a sidecar.
    Up {
        read: bool,
    },
    Answer,
}

/// Follows one direction of a connection at one of its ends.
#[derive(Debug)]
pub(crate) struct Tap {
    conn: u64,
    client: HostId,
    server: HostId,
    what: What,
    /// Bytes of HTTP/2's preface that are still to come.
    preface: usize,
    bytes: Vec<u8>,
    line: Vec<u8>,
}

impl Tap {
    /// What the `side` (0: the client) of a connection reads, and what it writes.
    pub(crate) fn new(conn: u64, port: u16, (client, server): (HostId, HostId), side: usize) -> (Self, Self) {
        let (read, written) = match (port, side) {
            (FEED, 0) => (What::Down { read: true }, What::Up { read: false }),
            (FEED, _) => (What::Up { read: true }, What::Down { read: false }),
            (STREAMS, 1) => (What::Nothing, What::Answer),
            _ => (What::Nothing, What::Nothing),
        };
        let tap = |what| {
            let preface = if matches!(what, What::Up { .. }) { 24 } else { 0 };
            Self { conn, client, server, what, preface, bytes: Vec::new(), line: Vec::new() }
        };
        (tap(read), tap(written))
    }

    /// The next bytes.
    pub(crate) fn take(&mut self, data: &[u8], seen: &mut Vec<Seen>) {
        match self.what {
            What::Nothing => {}
            What::Answer => self.answer(data, seen),
            What::Up { .. } | What::Down { .. } => self.frames(data, seen),
        }
    }

    /// One answer a connection: streamers ask once on each.
    fn answer(&mut self, data: &[u8], seen: &mut Vec<Seen>) {
        self.bytes.extend_from_slice(data);
        let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return;
        };
        let Ok(body) = serde_json::from_slice::<Value>(&self.bytes[end + 4..]) else {
            return;
        };
        if let Some(streams) = body.get("streams").and_then(Value::as_array) {
            let names = streams.iter().filter_map(|stream| Some(stream.get("name")?.as_str()?.to_owned())).collect();
            seen.push(Seen::Answered { sidecar: self.server, names });
        }
        self.what = What::Nothing;
    }

    /// HTTP/2: lines in DATA frames.
    fn frames(&mut self, data: &[u8], seen: &mut Vec<Seen>) {
        let skipped = self.preface.min(data.len());
        self.preface -= skipped;
        self.bytes.extend_from_slice(&data[skipped..]);
        while let Some((header, rest)) = self.bytes.split_first_chunk::<9>() {
            let [a, b, c, kind, ..] = *header;
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
            let Some(payload) = rest.get(..length) else {
                return;
            };
            if kind == 0 {
                self.line.extend_from_slice(payload);
            }
            self.bytes.drain(..9 + length);
            while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                self.line(&line, seen);
            }
        }
    }

    fn line(&self, line: &[u8], seen: &mut Vec<Seen>) {
        let (conn, sidecar, operator) = (self.conn, self.client, self.server);
        seen.push(match self.what {
            What::Up { read: true } => Seen::Heard { conn, operator, sidecar, frame: parsed(line) },
            What::Up { read: false } => Seen::Said { sidecar, frame: parsed(line) },
            What::Down { read: true } => Seen::Told { conn, sidecar, frame: parsed(line) },
            _ => Seen::Sent { conn, operator, sidecar, frame: parsed(line) },
        });
    }
}

fn parsed<T: serde::de::DeserializeOwned>(line: &[u8]) -> T {
    serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(line)))
}
