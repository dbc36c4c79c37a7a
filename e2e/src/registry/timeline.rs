//! The whole history of reads: a value that only grows, fed with events in the order of their instants.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// One streamer process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader {
    /// The streamer's name: its hostname.
    pub streamer: String,
    /// Which of its processes: new at each start.
    pub instance: String,
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.streamer, self.instance)
    }
}

impl Serialize for Reader {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Stream name → who reads it.
pub type NowReading = BTreeMap<String, BTreeSet<Reader>>;

/// One read, from when it was opened (included) until it was closed (excluded), since the registry's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interval {
    pub stream: String,
    pub reader: Reader,
    /// The URL that is read, credentials included: a source sees them.
    pub source: String,
    #[serde(rename = "from_us", serialize_with = "micros")]
    pub from: Duration,
    /// `None`: it still reads.
    #[serde(rename = "to_us", serialize_with = "maybe_micros")]
    pub to: Option<Duration>,
}

/// One streamer process's time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    pub reader: Reader,
    /// It came up with a saved configuration.
    pub boot: bool,
    #[serde(rename = "from_us", serialize_with = "micros")]
    pub from: Duration,
    /// When its first poll was answered and carried out.
    #[serde(rename = "polled_us", serialize_with = "maybe_micros")]
    pub polled: Option<Duration>,
    /// When its connection ended.
    #[serde(rename = "to_us", serialize_with = "maybe_micros")]
    pub to: Option<Duration>,
}

/// Instants are microseconds in JSON.
pub(super) fn micros<S: Serializer>(at: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(at.as_micros()).unwrap_or(u64::MAX))
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
pub(super) fn maybe_micros<S: Serializer>(at: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => micros(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// The history. Errors say what a reader did that no reader can do.
#[derive(Debug, Default)]
pub struct Timeline {
    intervals: Vec<Interval>,
    instances: Vec<Instance>,
    /// Who is connected → its place in `instances`, and the open reads' places in `intervals`.
    connected: BTreeMap<Reader, (usize, BTreeMap<String, usize>)>,
    now: NowReading,
    last_change: Duration,
}

impl Timeline {
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    pub fn now_reading(&self) -> &NowReading {
        &self.now
    }

    /// When the last event came.
    pub fn last_change(&self) -> Duration {
        self.last_change
    }

    /// A streamer process connects.
    pub fn hello(&mut self, at: Duration, reader: &Reader, boot: bool) -> Result<(), String> {
        if self.connected.contains_key(reader) {
            return Err(format!("{reader} is connected already"));
        }
        self.last_change = at;
        self.connected.insert(reader.clone(), (self.instances.len(), BTreeMap::new()));
        self.instances.push(Instance { reader: reader.clone(), boot, from: at, polled: None, to: None });
        Ok(())
    }

    /// It starts reading.
    pub fn open(&mut self, at: Duration, reader: &Reader, stream: &str, source: &str) -> Result<(), String> {
        let (_, reads) = connected(&mut self.connected, reader)?;
        if reads.contains_key(stream) {
            return Err(format!("{reader} opens {stream:?}, which it reads already"));
        }
        reads.insert(stream.to_owned(), self.intervals.len());
        self.last_change = at;
        self.intervals.push(Interval {
            stream: stream.to_owned(),
            reader: reader.clone(),
            source: source.to_owned(),
            from: at,
            to: None,
        });
        let readers = self.now.entry(stream.to_owned()).or_default();
        readers.insert(reader.clone());
        Ok(())
    }

    /// It stops reading.
    pub fn close(&mut self, at: Duration, reader: &Reader, stream: &str) -> Result<(), String> {
        let (_, reads) = connected(&mut self.connected, reader)?;
        let Some(index) = reads.remove(stream) else {
            return Err(format!("{reader} closes {stream:?}, which it does not read"));
        };
        self.end(at, reader, stream, index);
        Ok(())
    }

    /// Its first poll was answered and carried out; later ones change nothing.
    pub fn polled(&mut self, at: Duration, reader: &Reader) -> Result<(), String> {
        let (instance, _) = connected(&mut self.connected, reader)?;
        if let Some(instance) = self.instances.get_mut(*instance) {
            instance.polled.get_or_insert(at);
        }
        self.last_change = at;
        Ok(())
    }

    /// Its connection ended, and with it all its reads.
    pub fn gone(&mut self, at: Duration, reader: &Reader) {
        let Some((instance, reads)) = self.connected.remove(reader) else {
            return;
        };
        if let Some(instance) = self.instances.get_mut(instance) {
            instance.to = Some(at);
        }
        self.last_change = at;
        for (stream, index) in reads {
            self.end(at, reader, &stream, index);
        }
    }

    fn end(&mut self, at: Duration, reader: &Reader, stream: &str, index: usize) {
        self.last_change = at;
        if let Some(interval) = self.intervals.get_mut(index) {
            interval.to = Some(at);
        }
        if let Some(readers) = self.now.get_mut(stream) {
            readers.remove(reader);
            if readers.is_empty() {
                self.now.remove(stream);
            }
        }
    }
}

type Connected = BTreeMap<Reader, (usize, BTreeMap<String, usize>)>;

fn connected<'a>(all: &'a mut Connected, reader: &Reader) -> Result<&'a mut (usize, BTreeMap<String, usize>), String> {
    all.get_mut(reader).ok_or_else(|| format!("{reader} is not connected"))
}
