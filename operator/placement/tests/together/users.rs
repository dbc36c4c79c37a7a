//! What users declare, and what the leader's status writes add to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_feed::digest::document_hash;
use weir_feed::frames::Partition;
use weir_feed::leader::step::{Document, Want};
use weir_placement::selector::{Operator, Requirement, Selector};
use weir_placement::world::{Stream, Streamer};

use crate::operator;
use crate::world::{Event, STREAMERS, World};

/// Media names.
pub(crate) const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Those that stop when they are cut off, where streamers are supervised.
const STOPPING: [&str; 3] = ["a", "b", "e"];

/// One Stream object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) name: String,
    pub(crate) uid: u64,
    pub(crate) is_static: bool,
    pub(crate) after: u64,
    pub(crate) disabled: bool,
    /// Its Secret is there.
    pub(crate) secret: bool,
    /// Counts edits of the document.
    pub(crate) edit: u64,
    /// Only on streamers of this zone.
    pub(crate) zone: Option<String>,
    pub(crate) partition: Partition,
}

/// Everything declared, by `metadata.name`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) streams: BTreeMap<String, Wish>,
    pub(crate) streamers: BTreeMap<String, Streamer>,
    /// `status.firstReady`.
    pub(crate) ready: BTreeSet<String>,
    /// `failover.after`, by media name.
    pub(crate) after: BTreeMap<String, u64>,
    /// Instances of pods that have ended for good, by the Streamer's name.
    pub(crate) ended: BTreeMap<String, String>,
    /// The list of Streams cannot be had.
    pub(crate) unknown: bool,
}

impl Wish {
    fn text(&self) -> String {
        format!("{{\"name\":\"{}\",\"static\":{},\"edit\":{}}}", self.name, self.is_static, self.edit)
    }

    pub(crate) fn want(&self, object: &str) -> Want {
        let text = self.text();
        let hash = document_hash(&[&text, &format!("{:?}", self.partition)]);
        Want {
            stream: object.into(),
            uid: self.uid.to_string(),
            after: self.after,
            partition: self.partition,
            is_static: self.is_static,
            disabled: self.disabled,
            document: self.secret.then_some(Document { text, hash }),
        }
    }

    pub(crate) fn facts(&self, object: &str) -> Stream {
        let zone =
            |zone: &String| Requirement { key: "zone".into(), operator: Operator::In(BTreeSet::from([zone.clone()])) };
        Stream {
            object: object.into(),
            uid: self.uid.to_string(),
            name: self.name.clone(),
            created: self.uid,
            labels: BTreeMap::new(),
            streamer_selector: Selector(self.zone.iter().map(zone).collect()),
            disabled: self.disabled,
            after: self.after,
            partition: self.partition,
        }
    }
}

impl Wishes {
    /// Objects that want a media name to be captured.
    pub(crate) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a String, &'a Wish)> {
        self.streams.iter().filter(move |(_, wish)| wish.name == name)
    }
}

impl World {
    /// Six streams, on streamers of which two are in zone `x`.
    pub(crate) fn declare(&mut self) {
        for at in 0..STREAMERS {
            let zone = if at < 2 { "x" } else { "y" };
            let labels = BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
            let streamer = Streamer { labels, ..Streamer::default() };
            self.wishes.streamers.insert(format!("s{at}"), streamer);
        }
        // One that never asks by name cannot run a stream that is not listed.
        let asking = self.streamers.iter().all(|streamer| streamer.habits.asks_by_name);
        let dynamic = asking && self.sim.random.chance(70);
        for (at, name) in NAMES.iter().enumerate() {
            self.create(name, (*name).to_owned());
            let wish = self.wishes.streams.get_mut(*name).unwrap();
            wish.is_static = !(dynamic && at >= 4);
            wish.zone = (at == 2 && self.sim.random.chance(50)).then(|| "x".to_owned());
        }
    }

    /// A user applies a new Stream.
    pub(crate) fn create(&mut self, object: &str, name: String) {
        self.uids += 1;
        // The same for every Stream of a name: operators see a change later than the checks do.
        let drawn = [9_000, 20_000, 30_000][self.sim.random.index(3)];
        let after = *self.wishes.after.entry(name.clone()).or_insert(drawn);
        let uid = self.uids;
        let (is_static, disabled, secret) = (true, false, true);
        let partition = self.policy(&name);
        let wish = Wish { name, uid, is_static, after, disabled, secret, edit: 0, zone: None, partition };
        self.wishes.streams.insert(object.to_owned(), wish);
    }

    /// Of every Stream with that media name.
    pub(crate) fn policy(&self, name: &str) -> Partition {
        let stops = self.supervised && STOPPING.contains(&name);
        if stops { Partition::StopCapturing } else { Partition::KeepCapturing }
    }

    /// Every operator sees what is declared now, in order, some time later.
    pub(crate) fn declared(&mut self) {
        let wishes = Arc::new(self.wishes.clone());
        for at in 0..self.operators.len() {
            self.show_wishes(at, &wishes);
        }
        self.truth_changed();
    }

    pub(crate) fn show_wishes(&mut self, at: usize, wishes: &Arc<Wishes>) {
        let lag = self.sim.random.range(5, 300);
        let operator = &mut self.operators[at];
        let blind = self.api.down_until.max(operator.cut_off_until);
        operator.observed_at = operator.observed_at.max(self.sim.now + lag).max(blind + lag);
        let observed = operator::Event::Observed(Arc::clone(wishes));
        let event = Event::Operator(at, operator.process.life, observed);
        self.sim.after(operator.observed_at - self.sim.now, event);
    }
}
