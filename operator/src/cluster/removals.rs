//! Which confirmations of removals are used up. A confirmation is for the removal that is being held: left behind, it
//! would let the next mass delete through, months later.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_feed::leader::step::{Slice, SliceId};

/// What stands on each slice about a removal, as it was read or written last.
#[derive(Debug, Default)]
pub(super) struct Removals(Mutex<BTreeMap<SliceId, Standing>>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Standing {
    /// A deadline stands on it.
    held: bool,
    /// The annotation stands on it.
    confirmed: bool,
}

impl Removals {
    /// Every slice there is.
    pub(super) fn listed(&self, slices: &[Slice]) {
        *self.standings() = slices.iter().map(|slice| (slice.id.clone(), of(slice))).collect();
    }

    /// One slice; `None`: it is not there.
    pub(super) fn read(&self, id: &SliceId, slice: Option<&Slice>) {
        let mut standings = self.standings();
        match slice {
            Some(slice) => standings.insert(id.clone(), of(slice)),
            None => standings.remove(id),
        };
    }

    /// A slice was written, with a deadline or without. The slices of its namespace whose annotation has done its work:
    /// those that have one once no slice holds a removal any more, since a removal takes as many writes as it has slices.
    pub(super) fn written(&self, id: &SliceId, held: bool) -> Vec<SliceId> {
        let mut standings = self.standings();
        standings.entry(id.clone()).or_default().held = held;
        let namespace = || standings.iter().filter(|(other, _)| other.namespace == id.namespace);
        if namespace().any(|(_, standing)| standing.held) {
            return Vec::new();
        }
        namespace().filter(|(_, standing)| standing.confirmed).map(|(id, _)| id.clone()).collect()
    }

    /// The annotation is off.
    pub(super) fn taken_off(&self, id: &SliceId) {
        if let Some(standing) = self.standings().get_mut(id) {
            standing.confirmed = false;
        }
    }

    fn standings(&self) -> MutexGuard<'_, BTreeMap<SliceId, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of(slice: &Slice) -> Standing {
    Standing { held: slice.removal_until.is_some(), confirmed: slice.removal_confirmed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(namespace: &str, index: u8, held: bool, confirmed: bool) -> Slice {
        Slice {
            id: SliceId { namespace: namespace.into(), index },
            version: 1,
            term: 1,
            records: vec![],
            removal_until: held.then_some(5),
            removal_confirmed: confirmed,
        }
    }

    #[test]
    fn a_confirmation_lasts_until_its_removal_is_through_in_every_slice_and_no_longer() {
        let removals = Removals::default();
        let slices = [slice("a", 1, true, true), slice("a", 2, true, false), slice("b", 1, true, true)];
        removals.listed(&slices);
        let [one, two, other] = slices.map(|slice| slice.id);
        assert_eq!(removals.written(&one, false), [], "the second slice's streams are still to go");
        for again in ["", "until it is off"] {
            assert_eq!(removals.written(&two, false), std::slice::from_ref(&one), "{again}");
        }
        removals.taken_off(&one);
        assert_eq!(removals.written(&two, false), []);
        assert_eq!(removals.written(&other, true), [], "its own is held yet");
    }

    #[test]
    fn a_slice_that_is_gone_holds_nothing() {
        let removals = Removals::default();
        let (one, two) = (slice("a", 1, false, true), slice("a", 2, true, false));
        removals.read(&one.id, Some(&one));
        removals.read(&two.id, Some(&two));
        assert_eq!(removals.written(&one.id, false), []);
        removals.read(&two.id, None);
        assert_eq!(removals.written(&one.id, false), std::slice::from_ref(&one.id));
    }
}
