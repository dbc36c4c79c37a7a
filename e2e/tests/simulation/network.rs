//! The simulated network: TCP between processes, with delays, blocked ways, resets and machines without power. What a
//! blocked way holds is sent again when it is open, as TCP does; one connection overtakes another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weir_sidecar::connect::Connect;

use crate::random::Random;
use crate::wire::{Seen, Tap};

/// A process, by its place among all.
pub(crate) type HostId = usize;

/// Ports.
pub(crate) const FEED: u16 = 9443;
pub(crate) const STREAMS: u16 = 9980;
pub(crate) const HEALTH: u16 = 9981;
pub(crate) const STREAMER: u16 = 8080;

/// Bytes that may be under way in one direction of a connection.
const WINDOW: usize = 256 << 10;
/// A blocked way that opens carries what it held within so many ms: when TCP tries again.
pub(crate) const AGAIN: u64 = 1_500;
/// The longest that one way takes, in ms.
pub(crate) const HOP: u64 = 900;

/// What goes over a connection.
#[derive(Debug)]
enum Segment {
    Syn,
    SynAck,
    Data(Vec<u8>),
    Fin,
    Rst,
}

/// One end of a connection.
#[derive(Debug)]
struct Side {
    host: HostId,
    /// How long things take to it: its own, or who is woken first in another connection would change this one.
    delays: Random,
    /// What is under way to it, and when it arrives.
    flight: VecDeque<(u64, Segment)>,
    buffer: VecDeque<u8>,
    established: bool,
    /// What came last: an end, or a reset.
    finished: bool,
    reset: bool,
    /// Its process has it.
    open: bool,
    /// It has said that it sends no more.
    shut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    read: Tap,
    written: Tap,
}

#[derive(Debug)]
struct Connection {
    port: u16,
    /// Client and server.
    sides: [Side; 2],
}

#[derive(Debug, Default)]
struct Backlog {
    waiting: VecDeque<u64>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct State {
    now: u64,
    tick: u64,
    random: Random,
    /// Which machine a process is on.
    machines: Vec<usize>,
    /// Processes whose machines have power.
    powered: Vec<bool>,
    backlogs: BTreeMap<(HostId, u16), Backlog>,
    connections: BTreeMap<u64, Connection>,
    made: u64,
    /// From where to where nothing comes through.
    blocked: BTreeSet<(HostId, HostId)>,
    woken: BTreeSet<HostId>,
    seen: Vec<Seen>,
}

/// The whole network; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Network(Arc<Mutex<State>>);

/// The address of a process: loopback, so that nothing has to be encrypted.
pub(crate) fn address(host: HostId, port: u16) -> SocketAddr {
    let last = u8::try_from(host + 1).unwrap();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, last)), port)
}

fn host_of(address: SocketAddr) -> HostId {
    match address.ip() {
        IpAddr::V4(ip) => usize::from(ip.octets()[3]) - 1,
        IpAddr::V6(_) => panic!("{address} is nobody's"),
    }
}

impl Side {
    fn new(host: HostId, delays: Random, read: Tap, written: Tap) -> Self {
        Self {
            host,
            delays,
            flight: VecDeque::new(),
            buffer: VecDeque::new(),
            established: false,
            finished: false,
            reset: false,
            open: true,
            shut: false,
            reader: None,
            writer: None,
            read,
            written,
        }
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn under_way(&self) -> usize {
        let flight =
            self.flight.iter().map(|(_, segment)| if let Segment::Data(data) = segment { data.len() } else { 0 });
        flight.sum::<usize>() + self.buffer.len()
    }
}

impl Network {
    /// A network of processes, each on a machine.
    pub(crate) fn new(machines: Vec<usize>, tick: u64, random: Random) -> Self {
        let powered = vec![true; machines.len()];
        Self(Arc::new(Mutex::new(State {
            now: 0,
            tick,
            random,
            machines,
            powered,
            backlogs: BTreeMap::new(),
            connections: BTreeMap::new(),
            made: 0,
            blocked: BTreeSet::new(),
            woken: BTreeSet::new(),
            seen: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> u64 {
        self.state().now
    }

    /// Time has come; returns the processes to which something has arrived.
    pub(crate) fn advance(&self, now: u64) -> BTreeSet<HostId> {
        let mut state = self.state();
        state.now = now;
        state.deliver();
        std::mem::take(&mut state.woken)
    }

    /// What processes have sent and read since it was last asked for.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state().seen)
    }

    pub(crate) fn listen(&self, host: HostId, port: u16) -> Listener {
        self.state().backlogs.insert((host, port), Backlog::default());
        Listener { network: self.clone(), host, port }
    }

    pub(crate) fn dialer(&self, host: HostId) -> Dialer {
        Dialer { network: self.clone(), host }
    }

    /// Nothing comes through from one to the other.
    pub(crate) fn block(&self, from: HostId, to: HostId) {
        self.state().blocked.insert((from, to));
    }

    /// It comes through again.
    pub(crate) fn unblock(&self, from: HostId, to: HostId) {
        let mut state = self.state();
        if !state.blocked.remove(&(from, to)) {
            return;
        }
        let State { connections, random, now, .. } = &mut *state;
        for connection in connections.values_mut() {
            for side in 0..2 {
                if (connection.sides[1 - side].host, connection.sides[side].host) == (from, to) {
                    let again = *now + random.range(0, AGAIN);
                    connection.sides[side].flight.iter_mut().for_each(|(due, _)| *due = again.max(*due));
                }
            }
        }
    }

    pub(crate) fn is_blocked(&self, from: HostId, to: HostId) -> bool {
        self.state().blocked.contains(&(from, to))
    }

    pub(crate) fn blocked(&self) -> Vec<(HostId, HostId)> {
        self.state().blocked.iter().copied().collect()
    }

    /// A process's machine loses its power: nobody hears of its end. With power, it refuses what nobody on it listens for.
    pub(crate) fn power(&self, host: HostId, on: bool) {
        let mut state = self.state();
        let State { machines, powered, connections, .. } = &mut *state;
        let on_it = |other: HostId| machines[other] == machines[host];
        (0..powered.len()).filter(|other| on_it(*other)).for_each(|other| powered[other] = on);
        if !on {
            let sides = connections.values_mut().flat_map(|connection| &mut connection.sides);
            sides.filter(|side| on_it(side.host)).for_each(|side| side.open = false);
        }
    }

    /// A connection of the feed breaks in the middle; one end may not hear of it.
    pub(crate) fn cut_one(&self) -> Option<u64> {
        let mut state = self.state();
        let feeds: Vec<u64> =
            state.connections.iter().filter(|(_, connection)| connection.port == FEED).map(|(id, _)| *id).collect();
        if feeds.is_empty() {
            return None;
        }
        let id = feeds[state.random.index(feeds.len())];
        let deaf = state.random.index(5);
        for side in (0..2).filter(|side| *side != deaf) {
            state.send(id, side, Segment::Rst);
        }
        Some(id)
    }

    /// Whether a connection is between these two.
    pub(crate) fn is_between(&self, id: u64, client: HostId, server: HostId) -> bool {
        let state = self.state();
        let ends = |connection: &Connection| [connection.sides[0].host, connection.sides[1].host] == [client, server];
        state.connections.get(&id).is_some_and(ends)
    }

    /// Both ends have it, and neither has heard of an end.
    pub(crate) fn stands(&self, id: u64) -> bool {
        let state = self.state();
        let stands = |side: &Side| side.open && side.established && !side.finished && !side.reset;
        state.connections.get(&id).is_some_and(|connection| connection.sides.iter().all(stands))
    }
}

impl State {
    /// Sends to one side of a connection, behind what is under way to it.
    fn send(&mut self, id: u64, side: usize, segment: Segment) {
        let State { connections, machines, now, tick, .. } = self;
        let Some(connection) = connections.get_mut(&id) else {
            return;
        };
        let near = machines[connection.sides[1 - side].host] == machines[connection.sides[side].host];
        let Side { flight, delays, .. } = &mut connection.sides[side];
        let takes = match near {
            true => *tick,
            false if delays.chance(2) => delays.range(50, HOP),
            false => delays.range(1, 3 * *tick).max(*tick),
        };
        let due = flight.back().map_or(*now + takes, |(last, _)| (*now + takes).max(*last));
        flight.push_back((due, segment));
    }

    fn deliver(&mut self) {
        let all: Vec<u64> = self.connections.keys().copied().collect();
        for id in all {
            for side in 0..2 {
                while let Some(segment) = self.arriving(id, side) {
                    self.arrive(id, side, segment);
                }
            }
        }
        self.connections.retain(|_, connection| connection.sides.iter().any(|side| side.open));
    }

    fn arriving(&mut self, id: u64, side: usize) -> Option<Segment> {
        let connection = self.connections.get_mut(&id)?;
        let way = (connection.sides[1 - side].host, connection.sides[side].host);
        if self.blocked.contains(&way) {
            return None;
        }
        let now = self.now;
        connection.sides[side].flight.pop_front_if(|(due, _)| *due <= now).map(|(_, segment)| segment)
    }

    fn arrive(&mut self, id: u64, side: usize, segment: Segment) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let (port, this) = (connection.port, &mut connection.sides[side]);
        let host = this.host;
        if !self.powered[host] {
            return;
        }
        if matches!(segment, Segment::Syn) {
            return self.knock(id, host, port);
        }
        if !this.open {
            if matches!(segment, Segment::Data(_)) {
                self.send(id, 1 - side, Segment::Rst);
            }
            return;
        }
        match segment {
            Segment::SynAck => this.established = true,
            Segment::Data(data) => this.buffer.extend(data),
            Segment::Fin => this.finished = true,
            Segment::Rst => {
                this.reset = true;
                this.buffer.clear();
            }
            Segment::Syn => {}
        }
        this.wake();
        self.woken.insert(host);
    }

    /// The machine takes the connection for its process, if that listens.
    fn knock(&mut self, id: u64, host: HostId, port: u16) {
        let Some(backlog) = self.backlogs.get_mut(&(host, port)) else {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.sides[1].open = false;
            }
            return self.send(id, 0, Segment::Rst);
        };
        backlog.waiting.push_back(id);
        if let Some(waker) = backlog.waker.take() {
            waker.wake();
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.sides[1].established = true;
        }
        self.woken.insert(host);
        self.send(id, 0, Segment::SynAck);
    }

    fn close(&mut self, id: u64, side: usize) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let this = &mut connection.sides[side];
        if !std::mem::replace(&mut this.open, false) {
            return;
        }
        let unread = !this.buffer.is_empty();
        let shut = std::mem::replace(&mut this.shut, true);
        if unread {
            self.send(id, 1 - side, Segment::Rst);
        } else if !shut {
            self.send(id, 1 - side, Segment::Fin);
        }
    }
}

/// Where a process takes connections.
#[derive(Debug)]
pub(crate) struct Listener {
    network: Network,
    host: HostId,
    port: u16,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.network.state();
        let left = state.backlogs.remove(&(self.host, self.port));
        for id in left.into_iter().flat_map(|backlog| backlog.waiting) {
            if let Some(connection) = state.connections.get_mut(&id)
                && std::mem::replace(&mut connection.sides[1].open, false)
            {
                state.send(id, 0, Segment::Rst);
            }
        }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Socket;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Socket, SocketAddr) {
        std::future::poll_fn(|context| {
            let mut state = self.network.state();
            let backlog = state.backlogs.get_mut(&(self.host, self.port)).unwrap();
            let Some(id) = backlog.waiting.pop_front() else {
                backlog.waker = Some(context.waker().clone());
                return Poll::Pending;
            };
            let peer = state.connections.get(&id).map_or(self.host, |connection| connection.sides[0].host);
            Poll::Ready((Socket { network: self.network.clone(), id, side: 1 }, address(peer, 40_000)))
        })
        .await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(address(self.host, self.port))
    }
}

/// How a process makes connections.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    network: Network,
    host: HostId,
}

impl Connect for Dialer {
    type Stream = Socket;

    async fn connect(&self, address: SocketAddr) -> io::Result<Socket> {
        let socket = {
            let mut state = self.network.state();
            state.made += 1;
            let (id, port, to) = (state.made, address.port(), host_of(address));
            let taps = |side| Tap::new(id, port, (self.host, to), side);
            let [client, server] = [(self.host, taps(0)), (to, taps(1))].map(|(host, (read, written))| {
                let delays = Random::from(state.random.fork());
                Side::new(host, delays, read, written)
            });
            state.connections.insert(id, Connection { port, sides: [client, server] });
            state.send(id, 1, Segment::Syn);
            Socket { network: self.network.clone(), id, side: 0 }
        };
        std::future::poll_fn(|context| -> Poll<io::Result<()>> {
            let mut state = socket.network.state();
            let Some(connection) = state.connections.get_mut(&socket.id) else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            };
            let this = &mut connection.sides[0];
            if this.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
            }
            if this.established {
                return Poll::Ready(Ok(()));
            }
            this.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await?;
        Ok(socket)
    }
}

/// One process's end of a connection.
#[derive(Debug)]
pub(crate) struct Socket {
    network: Network,
    id: u64,
    side: usize,
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.network.state();
        let State { connections, seen, .. } = &mut *state;
        let Some(connection) = connections.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let [client, server] = &mut connection.sides;
        let (this, other) = if self.side == 0 { (client, server) } else { (server, client) };
        if !this.buffer.is_empty() {
            let count = buffer.remaining().min(this.buffer.len());
            let data: Vec<u8> = this.buffer.drain(..count).collect();
            this.read.take(&data, seen);
            buffer.put_slice(&data);
            other.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(()));
        }
        if this.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if this.finished {
            return Poll::Ready(Ok(()));
        }
        this.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.network.state();
        let State { connections, seen, .. } = &mut *state;
        let Some(connection) = connections.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let room = WINDOW.saturating_sub(connection.sides[1 - self.side].under_way());
        let this = &mut connection.sides[self.side];
        if this.reset || this.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if room == 0 {
            this.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let data = &data[..data.len().min(room)];
        this.written.take(data, seen);
        state.send(self.id, 1 - self.side, Segment::Data(data.to_vec()));
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.network.state();
        let this = state.connections.get_mut(&self.id).map(|connection| &mut connection.sides[self.side]);
        if this.is_some_and(|this| this.open && !std::mem::replace(&mut this.shut, true)) {
            state.send(self.id, 1 - self.side, Segment::Fin);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.network.state().close(self.id, self.side);
    }
}
