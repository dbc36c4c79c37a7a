//! Statuses that wait to be written: the newest of each object, those that matter first, then the longest waiting. One
//! that the API refuses waits longer and longer, and holds up no other. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// After the first failure a status is written again in so many ms; then after twice the time, up to the longest.
const FIRST: u64 = 1_000;
const LONGEST: u64 = 15_000;

/// The newest `V` for each `K`, with what is being written and what failed.
#[derive(Debug)]
pub(super) struct Backlog<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    /// Those that wait, by the time at which they may go (monotonic ms); first those that matter.
    order: [BTreeSet<(u64, K)>; 2],
    /// How many failed at their last attempt.
    failing: usize,
}

#[derive(Debug)]
struct Entry<V> {
    waiting: Option<V>,
    /// Its place in `order`.
    class: usize,
    /// Where it stands in the order; not while it is being written: a newer one must not overtake it.
    due: Option<u64>,
    /// Since its last success: the pause before the next attempt; 0 while nothing failed.
    pause: u64,
}

impl<K: Ord + Clone, V> Backlog<K, V> {
    pub(super) fn new() -> Self {
        Self { entries: BTreeMap::new(), order: [BTreeSet::new(), BTreeSet::new()], failing: 0 }
    }

    /// Something newer, in place of what waits; what matters goes before everything else.
    pub(super) fn push(&mut self, key: K, value: V, matters: bool, now: u64) {
        let idle = !self.entries.contains_key(&key);
        let class = usize::from(!matters);
        let entry = self.entries.entry(key.clone()).or_insert(Entry { waiting: None, class, due: None, pause: 0 });
        entry.waiting = Some(value);
        let was = std::mem::replace(&mut entry.class, class);
        // What failed may fail again, but it is another one now.
        let due = match entry.due {
            Some(due) => due.min(now + FIRST),
            None if idle => now,
            None => return,
        };
        if let Some(before) = entry.due.replace(due) {
            self.order[was].remove(&(before, key.clone()));
        }
        self.order[class].insert((due, key));
    }

    /// In how many ms the next one may go; `None`: nothing waits.
    pub(super) fn due_in(&self, now: u64) -> Option<u64> {
        let next = self.order.iter().filter_map(|class| class.first()).map(|(due, _)| *due).min();
        next.map(|due| due.saturating_sub(now))
    }

    /// Takes the next one that may go. Its end must be told.
    pub(super) fn pop(&mut self, now: u64) -> Option<(K, V)> {
        let ready = |class: &&mut BTreeSet<(u64, K)>| class.first().is_some_and(|(due, _)| *due <= now);
        let (_, key) = self.order.iter_mut().find(ready)?.pop_first()?;
        let entry = self.entries.get_mut(&key)?;
        entry.due = None;
        let value = entry.waiting.take()?;
        Some((key, value))
    }

    /// It was written.
    pub(super) fn done(&mut self, key: &K, now: u64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if std::mem::take(&mut entry.pause) > 0 {
            self.failing -= 1;
        }
        if entry.waiting.is_some() {
            entry.due = Some(now);
            self.order[entry.class].insert((now, key.clone()));
        } else {
            self.entries.remove(key);
        }
    }

    /// It was not written. The answer is how many fail now, the first time that this one does.
    pub(super) fn failed(&mut self, key: &K, value: V, now: u64) -> Option<usize> {
        let entry = self.entries.get_mut(key)?;
        let first = entry.pause == 0;
        entry.pause = (entry.pause * 2).clamp(FIRST, LONGEST);
        entry.waiting.get_or_insert(value);
        let due = now + entry.pause;
        entry.due = Some(due);
        self.order[entry.class].insert((due, key.clone()));
        self.failing += usize::from(first);
        first.then_some(self.failing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_fails_holds_up_no_other_and_waits_longer_and_longer() {
        let mut backlog = Backlog::new();
        backlog.push("bad", 1, false, 0);
        backlog.push("good", 1, false, 0);
        assert_eq!(backlog.pop(0), Some(("bad", 1)));
        assert_eq!(backlog.failed(&"bad", 1, 0), Some(1), "said once");
        assert_eq!(backlog.pop(0), Some(("good", 1)));
        backlog.done(&"good", 0);
        let (mut now, mut tries) = (0, vec![]);
        while tries.len() < 6 {
            now += backlog.due_in(now).unwrap();
            tries.push(now);
            assert_eq!(backlog.pop(now), Some(("bad", 1)));
            assert_eq!(backlog.failed(&"bad", 1, now), None);
        }
        assert_eq!(tries, [1_000, 3_000, 7_000, 15_000, 30_000, 45_000]);
        // Another status of it is tried soon, and its success forgets the failures.
        backlog.push("bad", 2, false, now);
        assert_eq!(backlog.due_in(now), Some(1_000));
        assert_eq!(backlog.pop(now + 999), None);
        assert_eq!(backlog.pop(now + 1_000), Some(("bad", 2)));
        backlog.done(&"bad", now);
        assert_eq!(backlog.due_in(now), None);
        backlog.push("bad", 3, false, now);
        assert_eq!(backlog.pop(now), Some(("bad", 3)));
        assert_eq!(backlog.failed(&"bad", 3, now), Some(1));
    }

    #[test]
    fn the_newest_replaces_what_waits_and_never_overtakes_what_is_being_written() {
        let mut backlog = Backlog::new();
        backlog.push("a", 1, false, 0);
        backlog.push("b", 1, false, 1);
        backlog.push("a", 2, false, 2);
        assert_eq!(backlog.pop(2), Some(("a", 2)), "it does not lose its turn");
        backlog.push("a", 3, false, 3);
        assert_eq!(backlog.pop(3), Some(("b", 1)));
        assert_eq!(backlog.pop(3), None);
        backlog.done(&"a", 4);
        assert_eq!(backlog.pop(4), Some(("a", 3)));
        backlog.push("a", 5, false, 4);
        assert_eq!(backlog.failed(&"a", 3, 4), Some(1));
        assert_eq!(backlog.pop(1_004), Some(("a", 5)), "not the old one");
    }

    #[test]
    fn what_matters_goes_before_a_mass_that_came_earlier() {
        let mut backlog = Backlog::new();
        backlog.push("moved", 1, false, 0);
        backlog.push("turns", 1, false, 0);
        backlog.push("held", 1, true, 5);
        backlog.push("turns", 2, true, 6);
        let order: Vec<_> = std::iter::from_fn(|| backlog.pop(9)).collect();
        assert_eq!(order, [("turns", 2), ("held", 1), ("moved", 1)]);
        // One that fails holds up nobody, however much it matters.
        backlog.failed(&"held", 1, 9);
        backlog.done(&"moved", 9);
        backlog.push("moved", 2, false, 9);
        assert_eq!((backlog.due_in(9), backlog.pop(9)), (Some(0), Some(("moved", 2))));
    }
}
