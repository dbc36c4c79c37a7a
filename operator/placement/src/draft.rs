//! One namespace's plan in the making: what is decided so far, and how full each streamer is with it.

use std::collections::BTreeMap;

use weir_feed::record::{Change, Record, StreamId, StreamerId};
use weir_feed::time::Now;

use crate::plan::{HeldRemoval, Note, Outlook, Plan, Planned, StreamerOutlook};
use crate::world::{Namespace, Streamer, World};

/// A streamer and how full it is, with what the draft has changed so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat<'a> {
    pub(crate) streamer: &'a Streamer,
    /// Records that name it as holder.
    pub(crate) holds: u32,
    /// Records on their way to it.
    pub(crate) reserved: u32,
    /// Places freed by this plan: free in the next one, since the write that frees them may fail.
    vacating: u32,
}

impl Seat<'_> {
    /// What it will have when the plan is carried out.
    pub(crate) fn used(&self) -> u32 {
        self.holds.saturating_add(self.reserved)
    }

    /// Whether one more stream finds room.
    pub(crate) fn has_room(&self) -> bool {
        self.streamer.capacity.is_none_or(|capacity| self.used().saturating_add(self.vacating) < capacity)
    }
}

/// Decisions about one namespace. Nothing of another one can be reached from here.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) world: &'a World,
    pub(crate) now: Now,
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a Namespace,
    pub(crate) seats: BTreeMap<&'a str, Seat<'a>>,
    pub(crate) held: Option<HeldRemoval>,
    changes: BTreeMap<&'a str, Planned>,
    outlooks: BTreeMap<&'a str, Outlook>,
    streamers: BTreeMap<&'a str, Option<Note>>,
    wants_room: bool,
    wake_in: Option<u64>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(world: &'a World, now: Now, name: &'a str, namespace: &'a Namespace) -> Self {
        let empty = |streamer| Seat { streamer, holds: 0, reserved: 0, vacating: 0 };
        let mut draft = Self {
            world,
            now,
            name,
            namespace,
            seats: namespace.streamers.iter().map(|(name, streamer)| (name.as_str(), empty(streamer))).collect(),
            held: None,
            changes: BTreeMap::new(),
            outlooks: BTreeMap::new(),
            streamers: BTreeMap::new(),
            wants_room: false,
            wake_in: None,
        };
        for record in namespace.known.values().filter_map(|k| k.record.as_ref()) {
            draft.sit(record);
        }
        draft
    }

    /// Plans a change of the stream `name`, whose record is `old`: its only one, and its places with it.
    pub(crate) fn change(&mut self, name: &'a str, old: Option<&Record>, change: Change, urgent: bool, why: String) {
        debug_assert!(!self.changed(name), "two changes of {name}");
        if let Some(old) = old {
            self.vacate(old);
        }
        if let Some(new) = Record::apply(name, old, &change, 0) {
            self.sit(&new);
            if let Some(old) = old {
                self.stay(old, &new);
            }
        }
        let stream = StreamId { namespace: self.name.to_owned(), name: name.to_owned() };
        self.changes.insert(name, Planned { stream, change, urgent, why });
    }

    pub(crate) fn changed(&self, name: &str) -> bool {
        self.changes.contains_key(name)
    }

    /// Says where the Stream object `object` stands.
    pub(crate) fn tell(&mut self, object: &'a str, outlook: Outlook) {
        self.outlooks.insert(object, outlook);
    }

    pub(crate) fn told(&self, object: &str) -> bool {
        self.outlooks.contains_key(object)
    }

    /// Says why a streamer gets no new streams.
    pub(crate) fn close(&mut self, streamer: &'a str, closed: Option<Note>) {
        self.streamers.insert(streamer, closed);
    }

    /// Asks for another plan in `ms` at the latest.
    pub(crate) fn wake_in(&mut self, ms: u64) {
        let ms = ms.max(1);
        self.wake_in = Some(self.wake_in.map_or(ms, |earlier| earlier.min(ms)));
    }

    /// Somebody found no room: there is some in the next plan, if this one frees any.
    pub(crate) fn want_room(&mut self) {
        self.wants_room = true;
    }

    /// Puts the namespace into the plan of all of them.
    pub(crate) fn finish(mut self, plan: &mut Plan) {
        if self.wants_room && self.seats.values().any(|seat| seat.vacating > 0) {
            self.wake_in(1);
        }
        let namespace = || self.name.to_owned();
        plan.changes.extend(self.changes.into_values());
        for (object, outlook) in self.outlooks {
            let id = StreamId { namespace: namespace(), name: object.to_owned() };
            plan.streams.insert(id, outlook);
        }
        for (streamer, closed) in self.streamers {
            let id = StreamerId { namespace: namespace(), name: streamer.to_owned() };
            let seat = self.seats.get(streamer);
            let outlook = StreamerOutlook {
                streams: seat.map_or(0, |seat| seat.holds),
                reserved: seat.map_or(0, |seat| seat.reserved),
                closed,
            };
            plan.streamers.insert(id, outlook);
        }
        if let Some(held) = self.held {
            plan.held_removals.insert(namespace(), held);
        }
        plan.wake_in = plan.wake_in.into_iter().chain(self.wake_in).min();
    }

    fn sit(&mut self, record: &Record) {
        if let Some(seat) = self.seats.get_mut(record.streamer.as_str()) {
            seat.holds += 1;
        }
        if let Some(seat) = record.to.as_deref().and_then(|to| self.seats.get_mut(to)) {
            seat.reserved += 1;
        }
    }

    fn vacate(&mut self, record: &Record) {
        if let Some(seat) = self.seats.get_mut(record.streamer.as_str()) {
            seat.holds -= 1;
            seat.vacating += 1;
        }
        if let Some(seat) = record.to.as_deref().and_then(|to| self.seats.get_mut(to)) {
            seat.reserved -= 1;
            seat.vacating += 1;
        }
    }

    /// Takes back the vacancies of places that the record has before and after.
    fn stay(&mut self, old: &Record, new: &Record) {
        let mut before: Vec<&str> = places(old).collect();
        for place in places(new) {
            if let Some(at) = before.iter().position(|had| *had == place) {
                before.swap_remove(at);
                if let Some(seat) = self.seats.get_mut(place) {
                    seat.vacating -= 1;
                }
            }
        }
    }
}

/// The streamers at which a record takes a place.
fn places(record: &Record) -> impl Iterator<Item = &str> {
    [Some(record.streamer.as_str()), record.to.as_deref()].into_iter().flatten()
}
