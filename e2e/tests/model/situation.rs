//! Initial situations, each brought about by the same code that is checked afterwards.

use std::sync::Arc;

use weir_feed::frames::Partition;

use crate::clock::PHASES;
use crate::fault::End;
use crate::network::Cut;
use crate::streamer::Habits;
use crate::world::World;

/// How a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Situation {
    /// Nothing was ever started.
    FirstStart,
    /// s0 has the stream, operator 0 leads, and all is well.
    Quiet,
    /// s0 is cut off and captures on, the stream has moved to s1; it can be reached again after so many units.
    CutOff(u64),
    /// s0 is cut off, and about to be gone; it can be reached again after so many units.
    Lost(u64),
    /// Like `CutOff`; and now s1 is cut off, for so many units, and s0 can be reached again.
    CutOffInTurn(u64),
    /// The stream was moved from s0 to s1 in order, which is now cut off for so many units.
    MovedAndCutOff(u64),
    /// Operator 0 is frozen and thaws after so many units, operator 1 leads.
    Frozen(u64),
    /// s0's node is down, the stream has moved to s1; it comes back after so many units.
    Down(u64),
    /// The stream was moved from s0 to s1 in order.
    Moved,
    /// A release from s0, which is drained, was called off when its `released` was under way, which arrives after so many
    /// units. s0 captures again, and does not poll for longer than that.
    CalledOff(u64),
}

/// Copies of the API that exist in every situation but the first: from when the stream was wanted and not placed yet, and when
/// it was on s0 under an earlier leader.
pub(crate) const NOT_PLACED: usize = 0;
pub(crate) const PLACED: usize = 1;

/// So many units of rest make everything that happened before just old.
const QUIET: u8 = 24;

impl Situation {
    pub(crate) fn world(self, partition: Partition, habits: [Habits; 2]) -> World {
        let mut world = World::new(partition, habits);
        world.stored().wishes.stream = Some(1);
        if self == Self::FirstStart {
            for at in 0..2 {
                world.start_operator(at);
                world.start_sidecar(at);
                world.boot_streamer(at);
            }
            world.begun = true;
            return world;
        }
        world.stored().wishes.stream = None;
        world.start_operator(1);
        for at in 0..2 {
            world.start_sidecar(at);
            world.boot_streamer(at);
        }
        world.rest();
        world.stored().wishes.stream = Some(1);
        world.declared();
        world.copy();
        world.start_operator(0);
        world.rest();
        world.copy();
        world.crash_operator(1);
        world.run_units(6);
        world.start_operator(1);
        world.rest();
        match self {
            Self::FirstStart | Self::Quiet => {}
            Self::CutOff(units) => {
                world.network.cut[0] = [Cut { up: true, down: true }; 2];
                world.run_units(15);
                world.ends_in(units, End::Heal(0));
            }
            Self::Lost(units) => {
                world.network.cut[0] = [Cut { up: true, down: true }; 2];
                world.run_units(4);
                world.ends_in(units, End::Heal(0));
            }
            Self::CutOffInTurn(units) => {
                world.network.cut[0] = [Cut { up: true, down: true }; 2];
                world.run_units(15);
                world.network.cut = [[Cut::default(); 2], [Cut { up: true, down: true }; 2]];
                world.ends_in(units, End::Heal(1));
            }
            Self::Frozen(units) => {
                world.operator(0).frozen = true;
                world.run_units(12);
                world.ends_in(units, End::ThawOperator(0));
            }
            Self::Down(units) => {
                world.crash_streamer(0);
                world.crash_sidecar(0, false);
                world.run_units(15);
                world.ends_in(units, End::StartSidecar(0));
                world.ends_in(units, End::BootStreamer(0));
            }
            Self::CalledOff(units) => {
                world.streamers[0].stalled = true;
                world.stored().wishes.drained = Some(0);
                world.declared();
                world.run_units(3);
                world.streamers[0].stalled = false;
                world.network.cut[0] = [Cut { up: true, down: false }; 2];
                world.run_units(3);
                world.streamers[0].stalled = true;
                world.ends_in(units, End::Heal(0));
                world.ends_in(units + 2, End::Polls(0));
            }
            Self::Moved | Self::MovedAndCutOff(_) => {
                world.stored().wishes.drained = Some(0);
                world.declared();
                world.rest();
                world.stored().wishes.drained = None;
                world.declared();
                world.rest();
            }
        }
        if let Self::MovedAndCutOff(units) = self {
            world.network.cut[1] = [Cut { up: true, down: true }; 2];
            world.ends_in(units, End::Heal(1));
        }
        world.begun = true;
        world
    }
}

impl World {
    fn copy(&mut self) {
        let stored = Arc::new(self.api.stored.clone());
        Arc::make_mut(&mut self.api).copies.push(stored);
    }

    /// Goes on until all has been at rest for a while.
    fn rest(&mut self) {
        let mut rested = 0;
        for _ in 0..80 * u64::from(PHASES) {
            self.run_phase();
            rested = if self.unrest().is_none() { rested + 1 } else { 0 };
            if rested >= QUIET * PHASES && self.phase == 0 {
                return;
            }
        }
        let why = self.check.failure.clone().or_else(|| self.unrest());
        panic!("the initial situation never comes about: {why:?}");
    }
}
