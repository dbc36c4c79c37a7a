//! A process: a tokio run time of its own, whose clock goes only when it is let run. One that is frozen is not; thawed,
//! its clock has gone on, and everything that waited is there at once.

use std::future::Future;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::{Builder, Runtime};

use crate::network::Network;

/// ms since the Unix epoch at which a run begins.
const BEGIN: u64 = 1_700_000_000_000;

/// The wall clock of a machine, which can be stepped.
#[derive(Debug, Clone)]
pub(crate) struct Wall {
    network: Network,
    /// In ms.
    step: Arc<AtomicI64>,
}

impl Wall {
    pub(crate) fn new(network: Network) -> Self {
        Self { network, step: Arc::default() }
    }

    pub(crate) fn step(&self, ms: i64) {
        self.step.fetch_add(ms, Ordering::Relaxed);
    }

    /// ms since the Unix epoch.
    pub(crate) fn millis(&self) -> u64 {
        (BEGIN + self.network.now()).saturating_add_signed(self.step.load(Ordering::Relaxed))
    }

    pub(crate) fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.millis())
    }
}

/// One process.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    runtime: Option<Runtime>,
    /// Until when it has run.
    reached: u64,
    pub(crate) frozen: bool,
    /// When it was started last, and how often.
    pub(crate) started: u64,
    pub(crate) lives: u32,
    /// Why it ended, if it has by itself.
    ended: Arc<Mutex<Option<String>>>,
    pub(crate) wall: Wall,
}

impl Host {
    pub(crate) fn new(name: String, wall: Wall) -> Self {
        let ended = Arc::default();
        Self { name, runtime: None, reached: 0, frozen: false, started: 0, lives: 0, ended, wall }
    }

    /// Of this life.
    pub(crate) fn identity(&self) -> String {
        format!("{}, life {}", self.name, self.lives)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.runtime.is_some()
    }

    /// It is up, and not frozen.
    pub(crate) fn runs(&self) -> bool {
        self.is_up() && !self.frozen
    }

    /// Starts the process; `software` says why it ended.
    pub(crate) fn start(&mut self, now: u64, software: impl Future<Output = String> + Send + 'static) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let ended = Arc::default();
        self.ended = Arc::clone(&ended);
        runtime.spawn(async move {
            let why = software.await;
            *ended.lock().unwrap() = Some(why);
        });
        self.runtime = Some(runtime);
        self.frozen = false;
        (self.reached, self.started) = (now, now);
    }

    /// The process is gone, with everything that it had open.
    pub(crate) fn kill(&mut self) {
        self.frozen = false;
        drop(self.runtime.take());
    }

    /// For how long it has not run, in ms.
    pub(crate) fn behind(&self, now: u64) -> u64 {
        now - self.reached
    }

    /// Lets it run until `now`; returns why it has ended, if it has.
    pub(crate) fn run(&mut self, now: u64) -> Option<String> {
        let runtime = self.runtime.as_ref()?;
        let until = Duration::from_millis(now - self.reached);
        runtime.block_on(async { tokio::time::sleep(until).await });
        self.reached = now;
        self.ended.lock().unwrap().take()
    }

    /// It goes on: for all this time its clocks have.
    pub(crate) fn thaw(&mut self, now: u64) {
        if !std::mem::take(&mut self.frozen) {
            return;
        }
        if let Some(runtime) = &self.runtime {
            let missed = Duration::from_millis(now - self.reached);
            runtime.block_on(async { tokio::time::advance(missed).await });
            self.reached = now;
        }
    }
}
