//! One state of everything: two operators, two sidecars with their streamers, the API, the network.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use weir_feed::frames::Partition;
use weir_feed::holder::answer::Answer;

use crate::api::{Api, Stored};
use crate::check::Check;
use crate::clock::{MONO, PHASES, UNIT, offset};
use crate::fault::End;
use crate::fingerprint::Fingerprint;
use crate::network::Network;
use crate::operator::Operator;
use crate::sidecar::Sidecar;
use crate::streamer::{Habits, Streamer};

pub(crate) const NAMESPACE: &str = "media";

/// The one stream.
pub(crate) const NAME: &str = "a";

pub(crate) const DOCUMENT: &str = "{}";

/// `failover.after`: the shortest that is carried out.
pub(crate) const AFTER: u64 = 5 * UNIT;

/// Everything.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// ms since the run began.
    pub(crate) time: u64,
    /// Of the unit: which comes next.
    pub(crate) phase: u8,
    pub(crate) partition: Partition,
    pub(crate) api: Arc<Api>,
    pub(crate) operators: [Arc<Operator>; 2],
    pub(crate) sidecars: [Arc<Sidecar>; 2],
    pub(crate) streamers: [Streamer; 2],
    pub(crate) network: Network,
    /// What is broken now, and when (monotonic ms) that ends.
    pub(crate) ends: Vec<(u64, End)>,
    /// Faults and edits that may still come.
    pub(crate) faults: u8,
    pub(crate) edits: u8,
    /// The initial situation has come about.
    pub(crate) begun: bool,
    pub(crate) check: Check,
    /// The answers to the requests that are being carried out.
    pub(crate) asked_for: Option<Answer>,
    pub(crate) fit: bool,
    /// What has happened, if anybody wants to know.
    pub(crate) trace: Option<Vec<String>>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.fingerprint());
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
    }
}

impl World {
    pub(crate) fn new(partition: Partition, habits: [Habits; 2]) -> Self {
        let api = Api { stored: Stored::new(), copies: vec![], before: None, late: vec![] };
        let sidecar = Arc::new(Sidecar::new());
        let operator = Arc::new(Operator::new());
        Self {
            time: 0,
            phase: 0,
            partition,
            api: Arc::new(api),
            operators: [Arc::clone(&operator), operator],
            sidecars: [Arc::clone(&sidecar), sidecar],
            streamers: habits.map(Streamer::new),
            network: Network::default(),
            ends: vec![],
            faults: 0,
            edits: 0,
            begun: false,
            check: Check::default(),
            asked_for: None,
            fit: false,
            trace: None,
        }
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        let mut fingerprint = Fingerprint::default();
        fingerprint.part(&(self.phase, &self.network, &self.streamers, &self.ends, &self.check));
        fingerprint.part(&(self.faults, self.edits, &self.api.stored, &self.api.copies));
        fingerprint.part(&(&self.api.before, &self.api.late));
        for operator in &self.operators {
            fingerprint.part(&**operator);
        }
        for sidecar in &self.sidecars {
            fingerprint.part(&**sidecar);
        }
        fingerprint.at(self.mono())
    }

    pub(crate) fn mono(&self) -> u64 {
        MONO + self.time
    }

    pub(crate) fn operator(&mut self, at: usize) -> &mut Operator {
        Arc::make_mut(&mut self.operators[at])
    }

    pub(crate) fn sidecar(&mut self, at: usize) -> &mut Sidecar {
        Arc::make_mut(&mut self.sidecars[at])
    }

    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        let time = self.time;
        if let Some(trace) = &mut self.trace {
            trace.push(crate::story::line(time, &line()));
        }
    }

    /// Users declare something else: every operator is shown it at its next look.
    pub(crate) fn declared(&mut self) {
        for at in 0..2 {
            self.operator(at).undeclared = true;
        }
    }

    /// The next phase: what ends by now, what arrives, and one kind of process doing its part.
    pub(crate) fn run_phase(&mut self) {
        let unit = self.time / UNIT;
        self.time = unit * UNIT + offset(u64::from(self.phase));
        self.end_what_is_over();
        self.deliver();
        match self.phase % 3 {
            0 => (0..2).for_each(|at| self.run_operator(at)),
            1 => (0..2).for_each(|at| self.run_sidecar(at)),
            _ => {
                (0..2).for_each(|at| self.show_api(at));
                (0..2).for_each(|at| self.poll(at));
                if self.partition == Partition::StopCapturing {
                    (0..2).for_each(|at| self.supervise(at));
                }
            }
        }
        self.plan_ends();
        self.check_everything();
        self.phase += 1;
        if self.phase == PHASES {
            self.phase = 0;
            self.time = (unit + 1) * UNIT;
        }
    }

    pub(crate) fn run_units(&mut self, units: u64) {
        for _ in 0..units * u64::from(PHASES) {
            self.run_phase();
        }
    }
}
