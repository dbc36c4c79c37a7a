//! Events that wait to be recorded: what lasts goes before what is over, and what is wrong before what is not. A failover
//! of thousands is news of thousands of changes, behind which nobody would hear of the one stream that is held. Pure.

use std::collections::VecDeque;

use crate::cluster::{Occurrence, Tells};

/// Warnings of what lasts, the rest of what lasts, warnings of changes, other changes.
const CLASSES: usize = 4;

/// Events by class, each in the order in which they came.
#[derive(Debug)]
pub(super) struct News {
    classes: [VecDeque<Occurrence>; CLASSES],
    /// So many may wait.
    room: usize,
}

impl News {
    pub(super) fn new(room: usize) -> Self {
        Self { classes: Default::default(), room }
    }

    /// One more. The answer is whether one had to be dropped: the last of the least class.
    pub(super) fn push(&mut self, occurrence: Occurrence) -> bool {
        self.classes[class(&occurrence)].push_back(occurrence);
        let full = self.len() > self.room;
        if full && let Some(least) = self.classes.iter_mut().rev().find(|class| !class.is_empty()) {
            least.pop_back();
        }
        full
    }

    pub(super) fn pop(&mut self) -> Option<Occurrence> {
        self.classes.iter_mut().find_map(VecDeque::pop_front)
    }

    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }
}

fn class(occurrence: &Occurrence) -> usize {
    match (occurrence.tells, occurrence.warning) {
        (Tells::State, true) => 0,
        (Tells::State, false) => 1,
        (Tells::Change, true) => 2,
        (Tells::Change, false) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ObjectRef;

    fn occurrence(tells: Tells, warning: bool, name: &str) -> Occurrence {
        Occurrence {
            kind: "Stream",
            object: ObjectRef { namespace: "media".into(), name: name.into() },
            uid: String::new(),
            warning,
            tells,
            reason: "Reason".into(),
            message: String::new(),
        }
    }

    fn names(news: &mut News) -> Vec<String> {
        std::iter::from_fn(|| news.pop()).map(|one| one.object.name).collect()
    }

    #[test]
    fn what_is_held_is_heard_before_a_mass_of_moves_that_came_earlier() {
        let mut news = News::new(10);
        for (tells, warning, name) in [
            (Tells::Change, false, "moved"),
            (Tells::Change, true, "failed-over-1"),
            (Tells::Change, true, "failed-over-2"),
            (Tells::State, false, "ready"),
            (Tells::State, true, "held"),
        ] {
            assert!(!news.push(occurrence(tells, warning, name)));
        }
        assert_eq!(names(&mut news), ["held", "ready", "failed-over-1", "failed-over-2", "moved"]);
    }

    #[test]
    fn where_there_is_no_room_the_least_is_dropped_and_not_the_newest() {
        let mut news = News::new(2);
        assert!(!news.push(occurrence(Tells::Change, false, "moved-1")));
        assert!(!news.push(occurrence(Tells::Change, false, "moved-2")));
        assert!(news.push(occurrence(Tells::State, true, "held")));
        assert!(news.push(occurrence(Tells::Change, false, "moved-3")));
        assert_eq!(names(&mut news), ["held", "moved-1"]);
    }
}
