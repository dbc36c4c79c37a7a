//! What may go wrong, what users may do meanwhile, and how it ends.

use std::sync::Arc;

use crate::api::{self, Stored};
use crate::clock::UNIT;
use crate::network::Cut;
use crate::sidecar;
use crate::world::World;

/// What was not said how long it lasts lasts so many units.
const BACK: u64 = 4;

/// What goes wrong; `u64`: for so many units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    CrashOperator(usize, u64),
    FreezeOperator(usize, u64),
    /// It does not reach the API.
    CutOff(usize, u64),
    /// Its next write of a slice.
    Write(usize, api::Fate),
    CrashSidecar(usize, u64),
    /// With its database.
    LoseSidecar(usize, u64),
    FreezeSidecar(usize, u64),
    /// Its next write of the replica.
    Persist(usize, sidecar::Fate),
    CrashStreamer(usize, u64),
    /// Streamer and sidecar, and nobody says so.
    CrashNode(usize, u64),
    /// The same, and the database is gone.
    LoseNode(usize, u64),
    /// The streamer's API does not answer.
    Mute(usize, u64),
    /// The streamer does not poll, and captures on.
    Stall(usize, u64),
    /// A sidecar and one operator, or both.
    Partition(usize, Option<usize>, Way, u64),
    /// The API's storage, from a copy.
    Restore(Copy, Versions),
    /// Somebody deletes the Lease, and this operator is the first to see it.
    DeleteLease(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    Up,
    Down,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Copy {
    /// One that was taken while the initial situation came about.
    Old(usize),
    /// One from before the last change of a record.
    Last,
}

/// What becomes of resourceVersions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Versions {
    /// They go back, and nobody starts the operators anew.
    Back,
    /// They go back, and the operators are started anew.
    BackAndRestart,
    /// They go on above all that were ever seen.
    Bumped,
}

/// How something ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum End {
    StartOperator(usize),
    ThawOperator(usize),
    Reached(usize),
    StartSidecar(usize),
    ThawSidecar(usize),
    BootStreamer(usize),
    Answers(usize),
    Polls(usize),
    Heal(usize),
}

/// What a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Edit {
    Delete,
    /// Deleted and made again, before anybody looks.
    Remake,
    Create,
    Disable,
    Enable,
    Drain(usize),
}

impl World {
    /// Whether a fault can strike now.
    pub(crate) fn can(&self, fault: Fault) -> bool {
        match fault {
            Fault::CrashOperator(at, _) | Fault::FreezeOperator(at, _) => self.operators[at].runs(),
            Fault::CutOff(at, _) => self.operators[at].up && !self.operators[at].cut_off,
            // One write at a time is late: else even what fences it may be lost for as long as the explorer likes.
            Fault::Write(at, _) => {
                self.operators[at].runs() && self.operators[at].next_write.is_none() && self.api.late.is_empty()
            }
            Fault::CrashSidecar(at, _) | Fault::LoseSidecar(at, _) | Fault::FreezeSidecar(at, _) => {
                self.sidecars[at].runs()
            }
            Fault::Persist(at, _) => self.sidecars[at].runs() && self.sidecars[at].next_write.is_none(),
            Fault::CrashStreamer(at, _) => self.streamers[at].up,
            Fault::CrashNode(at, _) | Fault::LoseNode(at, _) => self.streamers[at].up && self.sidecars[at].up,
            Fault::Stall(at, _) => self.streamers[at].up && !self.streamers[at].stalled,
            Fault::Mute(at, _) => self.streamers[at].habits.has_api && !self.streamers[at].mute,
            Fault::Partition(at, ..) => self.network.cut[at] == [Cut::default(); 2],
            // One that is younger than the last renewal of the Lease could not be told from what it replaces.
            Fault::Restore(copy, _) => {
                self.copy_of(copy).is_some_and(|copy| copy.lease.version < self.api.stored.lease.version)
            }
            Fault::DeleteLease(by) => self.operators[by].runs() && self.operators[1 - by].runs(),
        }
    }

    fn copy_of(&self, copy: Copy) -> Option<&Arc<Stored>> {
        match copy {
            Copy::Old(at) => self.api.copies.get(at),
            Copy::Last => self.api.before.as_ref(),
        }
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        self.faults -= 1;
        self.say(|| format!("FAULT: {}", crate::story::fault(fault)));
        match fault {
            Fault::CrashOperator(at, units) => {
                self.crash_operator(at);
                self.ends_in(units, End::StartOperator(at));
            }
            Fault::FreezeOperator(at, units) => {
                self.operator(at).frozen = true;
                self.ends_in(units, End::ThawOperator(at));
            }
            Fault::CutOff(at, units) => {
                self.operator(at).cut_off = true;
                self.ends_in(units, End::Reached(at));
            }
            Fault::Write(at, fate) => self.operator(at).next_write = Some(fate),
            Fault::CrashSidecar(at, units) => {
                self.crash_sidecar(at, true);
                self.ends_in(units, End::StartSidecar(at));
            }
            Fault::LoseSidecar(at, units) => {
                self.crash_sidecar(at, true);
                self.wipe(at);
                self.ends_in(units, End::StartSidecar(at));
            }
            Fault::FreezeSidecar(at, units) => {
                self.sidecar(at).frozen = true;
                self.ends_in(units, End::ThawSidecar(at));
            }
            Fault::Persist(at, fate) => self.sidecar(at).next_write = Some(fate),
            Fault::CrashStreamer(at, units) => {
                self.crash_streamer(at);
                self.ends_in(units, End::BootStreamer(at));
            }
            Fault::CrashNode(at, units) => self.crash_node(at, units),
            Fault::LoseNode(at, units) => {
                self.crash_node(at, units);
                self.wipe(at);
            }
            Fault::Mute(at, units) => {
                self.streamers[at].mute = true;
                self.ends_in(units, End::Answers(at));
            }
            Fault::Stall(at, units) => {
                self.streamers[at].stalled = true;
                self.ends_in(units, End::Polls(at));
            }
            Fault::Partition(at, operator, way, units) => {
                let cut = Cut { up: way != Way::Down, down: way != Way::Up };
                for one in (0..2).filter(|one| operator.is_none_or(|operator| operator == *one)) {
                    self.network.cut[at][one] = cut;
                }
                self.ends_in(units, End::Heal(at));
            }
            Fault::Restore(copy, versions) => {
                if let Some(copy) = self.copy_of(copy).cloned() {
                    self.restore_from(&copy, versions);
                }
            }
            Fault::DeleteLease(by) => self.delete_lease(by),
        }
    }

    fn restore_from(&mut self, copy: &Stored, versions: Versions) {
        if copy.wishes != self.api.stored.wishes {
            self.truth_changed();
        }
        self.restore(copy, versions == Versions::Bumped);
        match versions {
            Versions::BackAndRestart => self.restart_operators(),
            Versions::Back | Versions::Bumped => {}
        }
    }

    pub(crate) fn restart_operators(&mut self) {
        for at in 0..2 {
            if self.operators[at].up {
                self.crash_operator(at);
                self.start_operator(at);
            }
        }
    }

    fn delete_lease(&mut self, by: usize) {
        let mono = self.mono();
        let stored = self.stored();
        stored.version += 1;
        stored.lease = api::Lease { version: stored.version, ..api::Lease::default() };
        self.operator(by).campaign.look_at(mono);
        self.operator(1 - by).campaign.look_at(mono + UNIT / 2);
    }

    fn crash_node(&mut self, at: usize, units: u64) {
        self.crash_streamer(at);
        self.crash_sidecar(at, false);
        self.ends_in(units, End::BootStreamer(at));
        self.ends_in(units, End::StartSidecar(at));
    }

    pub(crate) fn edit(&mut self, edit: Edit) {
        self.edits -= 1;
        self.say(|| format!("USER: {}", crate::story::edit(edit)));
        let wishes = &mut self.stored().wishes;
        match edit {
            Edit::Delete => wishes.stream = None,
            Edit::Remake | Edit::Create => wishes.stream = Some(wishes.stream.unwrap_or(1) + 1),
            Edit::Disable => wishes.disabled = true,
            Edit::Enable => wishes.disabled = false,
            Edit::Drain(at) => wishes.drained = Some(at),
        }
        self.truth_changed();
        self.declared();
    }

    /// Whether a user would.
    pub(crate) fn would(&self, edit: Edit) -> bool {
        let wishes = self.api.stored.wishes;
        match edit {
            Edit::Delete | Edit::Remake => wishes.stream.is_some(),
            Edit::Create => wishes.stream.is_none(),
            Edit::Disable => !wishes.disabled,
            Edit::Enable => wishes.disabled,
            Edit::Drain(at) => wishes.drained != Some(at),
        }
    }

    pub(crate) fn ends_in(&mut self, units: u64, end: End) {
        self.ends.push((self.mono() + units * UNIT, end));
        self.ends.sort_unstable();
    }

    /// Processes that ended or froze as a consequence come back too.
    pub(crate) fn plan_ends(&mut self) {
        for at in 0..2 {
            let down = [
                (!self.operators[at].up, End::StartOperator(at), BACK),
                (self.operators[at].frozen, End::ThawOperator(at), 2 * BACK),
                (!self.sidecars[at].up, End::StartSidecar(at), BACK),
                (!self.streamers[at].up, End::BootStreamer(at), BACK),
            ];
            for (is_down, end, units) in down {
                if is_down && self.begun && !self.ends.iter().any(|(_, planned)| *planned == end) {
                    self.ends_in(units, end);
                }
            }
        }
    }

    pub(crate) fn end_what_is_over(&mut self) {
        let mono = self.mono();
        while self.ends.first().is_some_and(|(due, _)| *due <= mono) {
            let (_, end) = self.ends.remove(0);
            self.end(end);
        }
    }

    fn end(&mut self, end: End) {
        match end {
            End::StartOperator(at) if !self.operators[at].up => self.start_operator(at),
            End::ThawOperator(at) if self.operators[at].frozen => {
                self.say(|| format!("operator {at} thaws"));
                self.operator(at).frozen = false;
            }
            End::Reached(at) => {
                self.say(|| format!("operator {at} reaches the API again"));
                self.operator(at).cut_off = false;
            }
            End::StartSidecar(at) if !self.sidecars[at].up => self.start_sidecar(at),
            End::ThawSidecar(at) if self.sidecars[at].frozen => {
                self.say(|| format!("sidecar s{at} thaws"));
                self.sidecar(at).frozen = false;
            }
            End::BootStreamer(at) if !self.streamers[at].up => self.boot_streamer(at),
            End::Answers(at) => {
                self.say(|| format!("the API of streamer s{at} answers again"));
                self.streamers[at].mute = false;
            }
            End::Polls(at) => {
                self.say(|| format!("streamer s{at} polls again"));
                self.streamers[at].stalled = false;
            }
            End::Heal(at) => {
                self.say(|| format!("s{at} is connected again"));
                self.network.cut[at] = [Cut::default(); 2];
            }
            _ => {}
        }
    }
}
