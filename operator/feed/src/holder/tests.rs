//! The sidecar's rules, each under its name, as stories of one sidecar.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::document_hash;
use crate::frames::{ApiState, Down, Held, Load, Partition, Put, Run, Up};
use crate::grant::Seal;
use crate::holder::answer::{Answer, NotYet, Request};
use crate::holder::link::Why;
use crate::holder::rows::{Edit, Outcome, Rows};
use crate::holder::step::{Effect, Holder, Input, Settings, Stored};
use crate::holder::watch::{External, Reading};
use crate::periods::Periods;
use crate::time::Now;

pub(crate) mod answer;
mod at_stake;
pub(crate) mod boot;
pub(crate) mod evidence;
mod invariants;
mod judgement;
pub(crate) mod lease;
pub(crate) mod link;
mod scale;

/// A lease that has just been renewed.
const MAY_SPEAK: u64 = 15_000;

/// A sidecar, with a disk and a leader that a test plays.
pub(crate) struct Rig {
    pub(crate) holder: Holder,
    pub(crate) now: u64,
    /// What the leader believes the replica to be.
    pub(crate) mirror: Rows,
    /// What the disk does with the next writes; `None`: it does not come back.
    pub(crate) disk: Option<Result<(), String>>,
    pub(crate) sent: Vec<Up>,
    pub(crate) dropped: Vec<Why>,
    pub(crate) writes: usize,
    pub(crate) exits: usize,
    revision: u64,
}

impl Rig {
    pub(crate) fn new(api: bool) -> Self {
        Self::restarted(api, Stored::default())
    }

    pub(crate) fn restarted(api: bool, stored: Stored) -> Self {
        let settings = Settings { streamer: "s1".into(), api, ..Settings::default() };
        let mut rig = Self {
            mirror: stored.rows.clone(),
            holder: Holder::new(settings, stored, Now { mono: 1, wall: 1 }),
            now: 1,
            disk: Some(Ok(())),
            sent: Vec::new(),
            dropped: Vec::new(),
            writes: 0,
            exits: 0,
            revision: 0,
        };
        rig.holder.settings.about.hostname = "s1.example".into();
        rig
    }

    /// One that is synced with nothing, under term 10.
    pub(crate) fn synced(api: bool) -> Self {
        let mut rig = Self::new(api);
        rig.welcome(10);
        rig.mark();
        rig.sent.clear();
        rig
    }

    pub(crate) fn clock(&self) -> Now {
        Now { mono: self.now, wall: self.now }
    }

    pub(crate) fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut rest = Vec::new();
        let clock = self.clock();
        let mut effects: Vec<Effect> = self.holder.step(input, clock);
        while !effects.is_empty() {
            let mut more = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Send(up) => self.sent.push(up),
                    Effect::Drop(why) => self.dropped.push(why),
                    Effect::Exit => self.exits += 1,
                    Effect::Persist(_) => {
                        self.writes += 1;
                        if let Some(result) = self.disk.clone() {
                            more.extend(self.holder.step(Input::Persisted(result), clock));
                        }
                    }
                    other => rest.push(other),
                }
            }
            effects = more;
        }
        rest
    }

    pub(crate) fn hear(&mut self, frame: Down) {
        self.step(Input::Frame(frame));
    }

    pub(crate) fn tick_to(&mut self, now: u64) -> Vec<Effect> {
        self.now = now;
        self.step(Input::Tick)
    }

    pub(crate) fn welcome(&mut self, term: u64) {
        self.step(Input::Connected);
        self.hear(Down::Welcome {
            version: crate::frames::VERSION,
            term,
            seal: Seal(format!("term:{term}")),
            periods: Periods::default(),
        });
    }

    pub(crate) fn put(&mut self, name: &str, epoch: u64, text: &str) {
        let put = put(name, epoch, text);
        self.mirror.apply(Edit::Put(put.clone()), &mut Outcome::default());
        self.hear(Down::Put(put));
    }

    pub(crate) fn delete(&mut self, name: &str, epoch: u64) {
        let name = name.to_owned();
        let edit = Edit::Delete { name: name.clone(), epoch };
        self.mirror.apply(edit, &mut Outcome::default());
        self.hear(Down::Delete { name, epoch });
    }

    pub(crate) fn hold(&mut self, name: &str, epoch: u64) {
        let name = name.to_owned();
        let edit = Edit::Hold { name: name.clone(), epoch };
        self.mirror.apply(edit, &mut Outcome::default());
        self.hear(Down::Hold { name, epoch });
    }

    pub(crate) fn mark(&mut self) {
        self.revision += 1;
        let mark = Down::Mark { revision: self.revision, count: self.mirror.count(), digest: self.mirror.digest() };
        self.hear(mark);
    }

    pub(crate) fn ask(&mut self, names: &[&str]) -> Answer {
        let request = if names.is_empty() {
            Request::All
        } else {
            Request::Named(names.iter().map(ToString::to_string).collect())
        };
        let asked = Input::Asked { number: 1, request, host: None };
        match self.step(asked).pop() {
            Some(Effect::Answer { answer, .. }) => answer,
            other => panic!("no answer: {other:?}"),
        }
    }

    /// A plain poll, one poll later, while the leader pings; the names it got.
    pub(crate) fn poll(&mut self) -> Vec<String> {
        self.now += 1_000;
        self.ping();
        names(&self.ask(&[]))
    }

    pub(crate) fn read(&mut self, id: &str, runs: &[&str]) {
        self.read_with(id, runs, External::Untold);
    }

    /// The streamer's API is read, begun now.
    pub(crate) fn read_with(&mut self, id: &str, runs: &[&str], external: External) {
        let begun = self.tick_to(self.now + 3_000);
        assert_eq!(begun, [Effect::ReadApi]);
        let reading = Reading {
            id: id.into(),
            runs: runs.iter().map(|name| ((*name).to_owned(), Run::Capture)).collect(),
            external,
            load: Load::default(),
        };
        self.step(Input::ApiRead(Ok(reading)));
        self.ping();
    }

    /// The leader says that it is there.
    pub(crate) fn ping(&mut self) {
        self.hear(Down::Ping { term: self.holder.meta.highest_term, may_speak: MAY_SPEAK, lease: None });
    }

    pub(crate) fn released(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.sent)
            .into_iter()
            .filter_map(|up| match up {
                Up::Released { name, epoch } => Some((name, epoch)),
                _ => None,
            })
            .collect()
    }

    fn stored(&self) -> Stored {
        Stored { rows: self.holder.rows.clone(), meta: self.holder.meta.clone() }
    }
}

pub(crate) fn put(name: &str, epoch: u64, text: &str) -> Put {
    let document = format!("{{\"name\":\"{name}\",\"title\":\"{text}\"}}");
    Put {
        name: name.into(),
        epoch,
        grant: Seal(format!("{name}:{epoch}")),
        is_static: true,
        partition: Partition::KeepCapturing,
        hash: document_hash(&[&document]),
        document,
    }
}

pub(crate) fn names(answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Streams(items) => items.iter().map(|item| item.name.clone()).collect(),
        Answer::NotYet(reason) => panic!("503: {reason}"),
    }
}
