//! The loop that owns the state machine: inputs in, effects out. It decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_feed::frames::Down;
use weir_feed::holder::answer::{Answer, Request};
use weir_feed::holder::journal::Changes;
use weir_feed::holder::lease::Disobeys;
use weir_feed::holder::step::{Effect, Holder, Input};
use weir_feed::holder::watch::Reading;
use weir_feed::time::Now;

use crate::connect::Connect;
use crate::http::{End, Readiness};
use crate::metrics::Metrics;
use crate::replica::Replica;
use crate::streamer::StreamerApi;
use crate::sync::Link;
use crate::waiting::{self, Waiting};

/// Why an operator that listens gives nothing.
const WAITS: &str = "another instance has this Streamer's name: this one gets nothing until that one is gone";

/// What reaches the loop from outside.
#[derive(Debug)]
pub enum Event {
    /// A connection to the feed is being made.
    Connected {
        id: u64,
        link: Link,
    },
    Frame {
        id: u64,
        frame: Down,
    },
    Closed {
        id: u64,
    },
    Asked {
        request: Request,
        host: Option<String>,
        reply: oneshot::Sender<Reply>,
    },
    /// Somebody asks whether the streamer may live.
    LeaseAsked {
        reply: oneshot::Sender<Result<(), Disobeys>>,
    },
    ApiRead(Result<Reading, String>),
    Persisted(Result<(), String>),
}

/// An answer, and how old (ms) what it rests on is.
#[derive(Debug)]
pub struct Reply {
    pub answer: Answer,
    pub age: Option<u64>,
}

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was told to.
    Shutdown,
    /// Another instance has this Streamer's name now.
    Superseded,
}

/// The clocks, read here and nowhere else.
#[derive(Clone)]
pub struct Clock {
    started: Instant,
    wall: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Clock {
    /// The machine's clocks; `mono` counts from here.
    pub fn start() -> Self {
        Self::with_wall(SystemTime::now)
    }

    /// tokio's monotonic clock, and `wall`.
    pub fn with_wall(wall: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { started: Instant::now(), wall: Arc::new(wall) }
    }

    pub fn now(&self) -> Now {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let wall = (self.wall)().duration_since(UNIX_EPOCH);
        Now {
            // From 1: no input comes at the instant 0, which a state machine may take for "never".
            mono: millis(self.started.elapsed()) + 1,
            wall: wall.map(millis).unwrap_or_default(),
        }
    }
}

/// The state machine and what it drives.
pub struct Run<C> {
    pub holder: Holder,
    pub clock: Clock,
    pub events: mpsc::Sender<Event>,
    /// To the replica's writer.
    pub writer: mpsc::Sender<Changes>,
    pub api: Option<StreamerApi<C>>,
    pub metrics: Metrics,
    pub readiness: watch::Sender<Readiness>,
    pub link: Option<(u64, Link)>,
    pub replies: BTreeMap<u64, oneshot::Sender<Reply>>,
    pub lease_replies: BTreeMap<u64, oneshot::Sender<Result<(), Disobeys>>>,
    pub asked: u64,
    pub ticked: Instant,
    /// What was logged of the state before, so that only changes are.
    pub said: Said,
    pub exit: Option<Exit>,
}

/// What the log says of the state, once per change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    connected: bool,
    waits: bool,
    foreign_host: Option<String>,
    replica_error: Option<String>,
    api_error: Option<String>,
    /// Streams that are not served for want of a lease, counted.
    unleased: usize,
}

impl<C: Connect> Run<C> {
    /// Runs until it is told to shut down, or superseded.
    pub async fn run(mut self, mut incoming: mpsc::Receiver<Event>, shutdown: CancellationToken) -> Exit {
        self.readiness.send_modify(|readiness| readiness.ready = true);
        // The streamer is read before a leader can be there to be told of it.
        self.tick();
        loop {
            let ping = self.holder.periods().ping;
            let tick = Duration::from_millis((ping / 5).clamp(20, 200));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    self.step(Input::Shutdown);
                    return Exit::Shutdown;
                }
                event = incoming.recv() => match event {
                    Some(event) => self.take(event),
                    None => return Exit::Shutdown,
                },
                () = tokio::time::sleep(tick) => {}
            }
            if self.ticked.elapsed() >= tick {
                self.tick();
            }
            if let Some(exit) = self.exit {
                return exit;
            }
        }
    }

    fn tick(&mut self) {
        self.ticked = Instant::now();
        self.step(Input::Tick);
        self.metrics.show(&self.holder, self.clock.now());
        self.say();
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Connected { id, link } => {
                self.metrics.connections.inc();
                self.link = Some((id, link));
                self.step(Input::Connected);
            }
            Event::Frame { id, frame } if self.is_current(id) => self.step(Input::Frame(frame)),
            Event::Closed { id } if self.is_current(id) => {
                self.link = None;
                self.step(Input::Disconnected);
            }
            Event::Frame { .. } | Event::Closed { .. } => {}
            Event::Asked { request, host, reply } => {
                self.asked += 1;
                let number = self.asked;
                self.replies.insert(number, reply);
                self.step(Input::Asked { number, request, host });
                if self.holder.watch().foreign_host.is_some() {
                    self.metrics.foreign_hosts.inc();
                }
            }
            Event::LeaseAsked { reply } => {
                self.asked += 1;
                let number = self.asked;
                self.lease_replies.insert(number, reply);
                self.step(Input::LeaseAsked { number });
            }
            Event::ApiRead(result) => {
                if result.is_err() {
                    self.metrics.api_errors.inc();
                }
                self.said_api(result.as_ref().err());
                self.step(Input::ApiRead(result));
            }
            Event::Persisted(result) => {
                if result.is_err() {
                    self.metrics.persist_errors.inc();
                }
                self.step(Input::Persisted(result));
            }
        }
    }

    fn is_current(&self, id: u64) -> bool {
        self.link.as_ref().is_some_and(|(current, _)| *current == id)
    }

    fn step(&mut self, input: Input) {
        let effects = self.holder.step(input, self.clock.now());
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send(frame) => {
                let taken = self.link.as_ref().is_none_or(|(_, link)| link.send(&frame));
                if !taken {
                    // Why, the feed logs with the address.
                    self.link = None;
                    self.step(Input::Disconnected);
                }
            }
            Effect::Drop(why) => {
                if let Some((_, link)) = self.link.take() {
                    link.leave(why);
                }
            }
            Effect::ReadApi => self.read_api(),
            Effect::Persist(changes) => {
                if self.writer.try_send(changes).is_err() {
                    self.step(Input::Persisted(Err("its writer has ended".to_owned())));
                }
            }
            Effect::Answer { number, answer } => {
                let age = self.holder.age(self.clock.now());
                if let Some(reply) = self.replies.remove(&number) {
                    // The streamer may have hung up.
                    let _ = reply.send(Reply { answer, age });
                }
            }
            Effect::AnswerLease { number, answer } => {
                if answer.is_err() {
                    self.metrics.lease_refusals.inc();
                }
                if let Some(reply) = self.lease_replies.remove(&number) {
                    let _ = reply.send(answer);
                }
            }
            Effect::Exit => self.exit = Some(Exit::Superseded),
        }
    }

    fn read_api(&mut self) {
        let Some(mut api) = self.api.clone() else {
            return;
        };
        let events = self.events.clone();
        tokio::spawn(async move {
            // One that dies has ended too: otherwise none would ever be begun again.
            let reading = tokio::spawn(async move { api.read().await });
            let result = reading.await.unwrap_or_else(|_| Err("the reading of it came to no end".to_owned()));
            // A closed loop needs no reading.
            let _ = events.send(Event::ApiRead(result)).await;
        });
    }

    /// Logs what has changed in the state, and shows it in `/readyz`.
    fn say(&mut self) {
        let holder = &self.holder;
        let connected = holder.is_connected();
        if connected != self.said.connected {
            self.said.connected = connected;
            let revision = holder.meta().revision;
            let term = holder.meta().highest_term;
            if connected {
                tracing::info!(term, revision, "an operator listens");
            } else {
                tracing::warn!(term, revision, "no operator listens: the replica serves");
            }
        }
        let waits = holder.waits();
        if waits && !self.said.waits {
            tracing::warn!(
                "{WAITS}: give each sidecar a name of its own, unless that one is gone and this is to take its place"
            );
        }
        self.said.waits = waits;
        let foreign = &holder.watch().foreign_host;
        if *foreign != self.said.foreign_host {
            self.said.foreign_host.clone_from(foreign);
            if let Some(host) = foreign {
                tracing::warn!(%host, "the streamer sends another host than its Streamer's hostname: set --streamer-hostname, or the streamer's own");
            }
        }
        let error = holder.replica_error().map(str::to_owned);
        if error != self.said.replica_error {
            if let Some(error) = &error {
                tracing::error!(%error, "the replica cannot be written: memory serves");
            } else {
                tracing::info!("the replica is written again");
            }
            self.said.replica_error = error;
        }
        self.say_lease();
        self.show_notes();
    }

    fn say_lease(&mut self) {
        let unleased = self.holder.unleased(self.clock.now());
        if unleased == self.said.unleased {
            return;
        }
        if unleased > 0 {
            let streams = unleased;
            tracing::warn!(streams, "no leader has answered for too long: streams with StopCapturing are not served");
        } else {
            tracing::info!("streams with StopCapturing are served again");
        }
        self.said.unleased = unleased;
    }

    fn said_api(&mut self, error: Option<&String>) {
        if self.said.api_error.as_ref() == error {
            return;
        }
        if let Some(error) = error {
            tracing::warn!(%error, "the streamer's own API cannot be read");
        } else {
            tracing::info!("the streamer's own API answers");
        }
        self.said.api_error = error.cloned();
    }

    /// `/readyz`, and whether the streamer may end.
    fn show_notes(&self) {
        let reasons = waiting::reasons(&self.holder, self.clock.now());
        self.metrics.wait(&reasons);
        let note = |reason: &Waiting| match (reason, &self.said.replica_error) {
            (Waiting::ReplicaNotWritten, Some(error)) => format!("{} ({error})", reason.line()),
            _ => reason.line(),
        };
        let notes: Vec<String> = reasons.iter().map(note).collect();
        let end = match self.holder.obeys(self.clock.now()) {
            _ if self.holder.has_let_go() => End::Drained,
            Ok(()) => End::Waits,
            Err(why) => End::Overdue(why.to_string()),
        };
        self.readiness.send_if_modified(|readiness| {
            let changed = readiness.notes != notes || readiness.end != end;
            (readiness.notes, readiness.end) = (notes, end);
            changed
        });
    }
}

/// Writes the replica, one transaction after the other, until the loop has ended. It waits for the disk.
pub async fn write_replica(mut replica: Replica, mut changes: mpsc::Receiver<Changes>, events: mpsc::Sender<Event>) {
    while let Some(changes) = changes.recv().await {
        let result = replica.write(&changes).map_err(|error| error.to_string());
        if events.send(Event::Persisted(result)).await.is_err() {
            return;
        }
    }
}
