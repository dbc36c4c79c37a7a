//! Worlds for unit tests: one namespace, streams and streamers by short names.

use std::collections::{BTreeMap, BTreeSet};

use weir_feed::frames::Partition;
use weir_feed::periods::Periods;
use weir_feed::record::{Change, Phase, Record, StreamId, StreamerId};
use weir_feed::time::Now;

use crate::plan::{Note, Outlook, Plan, StreamerOutlook, plan};
use crate::selector::{Operator, Requirement, Selector};
use crate::world::{Known, Namespace, Stream, Streamer, World};

pub(crate) const NOW: Now = Now { mono: 5_000_000, wall: 1_700_000_000_000 };

/// A settled world with one namespace, `ns`.
#[derive(Debug, Clone)]
pub(crate) struct Scene(pub(crate) World);

/// A Stream object called like its media name.
pub(crate) fn stream(name: &str) -> Stream {
    Stream {
        object: name.into(),
        uid: format!("{name}-uid"),
        name: name.into(),
        created: 1,
        labels: BTreeMap::new(),
        streamer_selector: Selector::default(),
        disabled: false,
        after: 30_000,
        partition: Partition::KeepCapturing,
    }
}

/// A record of [`stream`].
pub(crate) fn record(name: &str, streamer: &str) -> Record {
    Record {
        name: name.into(),
        stream: name.into(),
        uid: format!("{name}-uid"),
        streamer: streamer.into(),
        epoch: 7,
        phase: Phase::Active,
        to: None,
        previous: None,
        partition: Partition::KeepCapturing,
    }
}

/// `key in (value)`.
pub(crate) fn selector(key: &str, value: &str) -> Selector {
    Selector(vec![Requirement { key: key.into(), operator: Operator::In(BTreeSet::from([value.to_owned()])) }])
}

pub(crate) fn labels(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

pub(crate) fn release_to(to: &str) -> Change {
    Change::Release { to: Some(to.into()) }
}

pub(crate) fn move_to(streamer: &str, previous: Option<&str>) -> Change {
    Change::Move { streamer: streamer.into(), previous: previous.map(Into::into) }
}

pub(crate) fn place_on(name: &str, streamer: &str) -> Change {
    Change::Place { stream: name.into(), uid: format!("{name}-uid"), streamer: streamer.into() }
}

impl Scene {
    pub(crate) fn new(streamers: &[&str]) -> Self {
        let streamers = streamers.iter().map(|name| ((*name).to_owned(), Streamer::default())).collect();
        Self(World {
            settled: true,
            settles_in: None,
            periods: Periods::default(),
            namespaces: BTreeMap::from([("ns".to_owned(), Namespace { streamers, ..Namespace::default() })]),
        })
    }

    pub(crate) fn namespace(&mut self) -> &mut Namespace {
        self.0.namespaces.get_mut("ns").unwrap()
    }

    /// A Stream that nobody has.
    pub(crate) fn with_new(mut self, name: &str) -> Self {
        self.namespace().streams.push(stream(name));
        self
    }

    /// A Stream that `streamer` has, and runs.
    pub(crate) fn with_active(self, name: &str, streamer: &str) -> Self {
        let mut scene = self.with_new(name);
        let known = scene.known(name);
        known.record = Some(record(name, streamer));
        known.may_run = BTreeMap::from([(streamer.to_owned(), None)]);
        scene
    }

    /// A Stream that `streamer` is to let go of.
    pub(crate) fn with_releasing(self, name: &str, streamer: &str, to: Option<&str>) -> Self {
        let mut scene = self.with_active(name, streamer);
        let known = scene.known(name);
        let record = known.record.as_mut().unwrap();
        record.phase = Phase::Releasing;
        record.to = to.map(Into::into);
        known.releasing_for = Some(0);
        scene
    }

    /// The holder has let go, and its report says so too.
    pub(crate) fn released(mut self, name: &str) -> Self {
        let known = self.known(name);
        known.released = true;
        known.may_run.clear();
        self
    }

    /// The holder has been lost for so many ms.
    pub(crate) fn lost(mut self, name: &str, ms: u64) -> Self {
        let known = self.known(name);
        known.holder_lost = Some(ms);
        let holder = known.record.as_ref().unwrap().streamer.clone();
        known.may_run.insert(holder, Some(ms));
        self
    }

    pub(crate) fn with(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }

    pub(crate) fn known(&mut self, name: &str) -> &mut Known {
        self.namespace().known.entry(name.into()).or_default()
    }

    pub(crate) fn object(&mut self, object: &str) -> &mut Stream {
        let streams = &mut self.namespace().streams;
        streams.iter_mut().find(|s| s.object == object).unwrap()
    }

    pub(crate) fn streamer(&mut self, name: &str) -> &mut Streamer {
        self.namespace().streamers.get_mut(name).unwrap()
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&self.0, NOW)
    }
}

impl Plan {
    /// The change of a stream of `ns`.
    pub(crate) fn change(&self, name: &str) -> Option<&Change> {
        let mut of_it = self.changes.iter().filter(|p| p.stream.name == name);
        of_it.next().map(|planned| &planned.change)
    }

    pub(crate) fn urgent(&self, name: &str) -> bool {
        self.changes.iter().any(|p| p.stream.name == name && p.urgent)
    }

    pub(crate) fn why(&self, name: &str) -> &str {
        let planned = self.changes.iter().find(|p| p.stream.name == name);
        planned.map_or("", |planned| planned.why.as_str())
    }

    pub(crate) fn outlook(&self, object: &str) -> &Outlook {
        &self.streams[&StreamId { namespace: "ns".into(), name: object.into() }]
    }

    pub(crate) fn note(&self, object: &str) -> &Note {
        match self.outlook(object) {
            Outlook::Pending(note)
            | Outlook::Placed { note: Some(note), .. }
            | Outlook::Releasing { note: Some(note), .. } => note,
            other => panic!("{object} has no note: {other:?}"),
        }
    }

    pub(crate) fn streamer(&self, name: &str) -> &StreamerOutlook {
        &self.streamers[&StreamerId { namespace: "ns".into(), name: name.into() }]
    }
}
