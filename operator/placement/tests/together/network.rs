//! Connections of the feed: each direction in order, late, now and then silent, and cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use weir_feed::frames::{Down, Up};

use crate::operator::{self, Feed};
use crate::sidecar;
use crate::world::{Event, World};

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sidecar: usize,
    pub(crate) sidecar_life: u32,
    pub(crate) operator: usize,
    pub(crate) operator_life: u32,
    up: Pipe<Up>,
    down: Pipe<Down>,
}

/// One direction of it.
#[derive(Debug)]
struct Pipe<T> {
    /// When it arrives, and what; `None` is the end. With the time of the streamer's last request when it was sent.
    parcels: VecDeque<(u64, Option<T>, u64)>,
    last: u64,
}

/// Which direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    Up,
    Down,
}

/// All connections, and which ways between whom are silent.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) connections: BTreeMap<u64, Connection>,
    made: u64,
    /// Sidecar, operator and way, until when.
    pub(crate) silent: BTreeMap<(usize, usize, Way), u64>,
    /// Connections on which an operator has been told of the hello.
    pub(crate) greeted: BTreeSet<u64>,
}

impl<T> Pipe<T> {
    fn new(now: u64) -> Self {
        Self { parcels: VecDeque::new(), last: now }
    }

    fn push(&mut self, at: u64, parcel: Option<T>, asked: u64) -> u64 {
        self.last = self.last.max(at);
        self.parcels.push_back((self.last, parcel, asked));
        self.last
    }

    fn pop(&mut self, now: u64) -> Option<(Option<T>, u64)> {
        self.parcels.pop_front_if(|(at, ..)| *at <= now).map(|(_, parcel, asked)| (parcel, asked))
    }
}

impl World {
    /// Makes a connection; `None` where nobody answers.
    pub(crate) fn connect(&mut self, sidecar: usize, operator: usize) -> Option<u64> {
        let now = self.sim.now;
        let reachable = [Way::Up, Way::Down].iter().all(|way| !self.is_silent(sidecar, operator, *way));
        if !self.operators[operator].process.up || !reachable {
            return None;
        }
        self.network.made += 1;
        let connection = Connection {
            sidecar,
            sidecar_life: self.sidecars[sidecar].process.life,
            operator,
            operator_life: self.operators[operator].process.life,
            up: Pipe::new(now),
            down: Pipe::new(now),
        };
        self.network.connections.insert(self.network.made, connection);
        Some(self.network.made)
    }

    pub(crate) fn is_silent(&self, sidecar: usize, operator: usize, way: Way) -> bool {
        self.network.silent.get(&(sidecar, operator, way)).is_some_and(|until| *until > self.sim.now)
    }

    fn latency(&mut self) -> u64 {
        if self.sim.random.chance(2) { self.sim.random.range(50, 900) } else { self.sim.random.range(1, 20) }
    }

    pub(crate) fn send_up(&mut self, conn: u64, parcel: Option<Up>) {
        let at = self.sim.now + self.latency();
        if let Some(connection) = self.network.connections.get_mut(&conn) {
            let asked = self.check.asked[connection.sidecar];
            let at = connection.up.push(at, parcel, asked);
            self.sim.after(at - self.sim.now, Event::Deliver(conn));
        }
    }

    pub(crate) fn send_down(&mut self, conn: u64, parcel: Option<Down>) {
        let at = self.sim.now + self.latency();
        if let Some(connection) = self.network.connections.get_mut(&conn) {
            let at = connection.down.push(at, parcel, 0);
            self.sim.after(at - self.sim.now, Event::Deliver(conn));
        }
    }

    /// Delivers what has arrived, unless its way is silent: then it comes when that ends.
    pub(crate) fn deliver(&mut self, conn: u64) {
        let now = self.sim.now;
        while let Some(connection) = self.network.connections.get_mut(&conn) {
            let (sidecar, operator) = (connection.sidecar, connection.operator);
            let (sidecar_life, operator_life) = (connection.sidecar_life, connection.operator_life);
            let silent = |way| self.network.silent.get(&(sidecar, operator, way)).is_some_and(|until| *until > now);
            if let Some((parcel, asked)) = (!silent(Way::Up)).then(|| connection.up.pop(now)).flatten() {
                let fed = match parcel {
                    Some(Up::Hello(hello)) => Feed::Hello(conn, hello, asked),
                    Some(frame) => Feed::Frame(conn, frame, asked),
                    None => Feed::Gone(conn),
                };
                let event = Event::Operator(operator, operator_life, operator::Event::Fed(fed));
                self.dispatch(event);
            } else if let Some((parcel, _)) = (!silent(Way::Down)).then(|| connection.down.pop(now)).flatten() {
                let event = Event::Sidecar(sidecar, sidecar_life, sidecar::Event::Fed(conn, parcel));
                self.dispatch(event);
            } else {
                return;
            }
        }
    }

    /// What waited for a silence to end.
    pub(crate) fn deliver_all(&mut self) {
        let all: Vec<u64> = self.network.connections.keys().copied().collect();
        for conn in all {
            self.deliver(conn);
        }
    }

    /// The connection is lost with what was under way; each end hears of it in its own time, or not at all.
    pub(crate) fn cut(&mut self, conn: u64) {
        let Some(lost) = self.network.connections.remove(&conn) else {
            return;
        };
        self.sim.say(|| format!("connection {conn} of s{} to operator {} is cut", lost.sidecar, lost.operator));
        let (soon, late) = (self.sim.random.range(0, 3_000), self.sim.random.range(0, 12_000));
        let gone = operator::Event::Fed(Feed::Gone(conn));
        if self.sim.random.chance(80) {
            self.sim.after(late, Event::Operator(lost.operator, lost.operator_life, gone));
        }
        if self.sim.random.chance(80) {
            let end = sidecar::Event::Fed(conn, None);
            self.sim.after(soon, Event::Sidecar(lost.sidecar, lost.sidecar_life, end));
        }
    }

    /// Cuts all connections of a process that has died.
    pub(crate) fn cut_all(&mut self, of: impl Fn(&Connection) -> bool) {
        let lost: Vec<u64> = self.network.connections.iter().filter(|(_, c)| of(c)).map(|(id, _)| *id).collect();
        for conn in lost {
            self.cut(conn);
        }
    }
}
