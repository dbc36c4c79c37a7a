//! A quorum read now and then. A leader that has nothing to write would hear nothing of a storage that was restored from a
//! copy: a watch that goes on says nothing, and caches before the storage may show what is not there any more.

use super::step::{Effect, Op, Slice};
use super::{Leader, Role};
use crate::time::Now;

impl Leader {
    /// Once a period, reads the slice that was written last: whatever copy the storage goes back to, that is the first to be
    /// missing.
    pub(super) fn look(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let observed = self.observed(now);
        if self.role != Role::Leading || self.looking.is_some() || observed < self.look_at {
            return;
        }
        self.look_at = observed + self.periods.period;
        let quiet = self.slices.iter().filter(|(_, slice)| slice.quiet());
        let newest = quiet.filter_map(|(id, slice)| Some((slice.version?, id))).max();
        if let Some((version, id)) = newest {
            // One look at a time: its leadership's term tells its answer from all others.
            self.looking = Some((self.term, version));
            effects.push(Effect::ReadSlice { op: self.term, id: id.clone() });
        }
    }

    pub(super) fn is_looking(&self, op: Op) -> bool {
        self.looking.is_some_and(|(look, _)| look == op)
    }

    /// What a look has shown; `None`: nothing, and the watch tells of what is deleted.
    pub(super) fn looked(&mut self, slice: Option<&Slice>, effects: &mut Vec<Effect>) {
        let looking = self.looking.take();
        if let (Some((_, known)), Some(slice)) = (looking, slice)
            && slice.version < known
        {
            effects.push(Effect::Exit { why: super::went_back(&slice.id.to_string(), slice.version, known) });
        }
    }
}
