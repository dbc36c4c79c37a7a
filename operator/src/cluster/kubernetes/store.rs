//! What the watches have seen, as lists that are known or not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kube::runtime::watcher::Event;
use weir_crds::stream::Stream;
use weir_crds::streamer::Streamer;
use weir_feed::record::StreamerId;

use super::lean::Entry;
use crate::cluster::{Credentials, Object, ObjectRef, Observed, Pod};
use crate::token::{Hash, Kept};

/// For how long (ms) an empty list is not believed where there was something: it is far more often something before the
/// API server that answers for it than a user who deleted everything while nobody watched.
const DOUBT: u64 = 60_000;

/// One list in one scope, as its watch tells it.
#[derive(Debug)]
pub(super) struct Listing<V> {
    /// `None`: never came, or its kind is not there any more.
    known: Option<BTreeMap<ObjectRef, V>>,
    /// What a list that is still coming has brought so far.
    arriving: BTreeMap<ObjectRef, V>,
    problem: Option<String>,
    /// Since when the lists that come are empty and not believed, monotonic ms.
    doubted: Option<u64>,
}

impl<V> Default for Listing<V> {
    fn default() -> Self {
        Self { known: None, arriving: BTreeMap::new(), problem: None, doubted: None }
    }
}

impl<V> Listing<V> {
    /// What is known.
    pub(super) fn known(&self) -> Option<&BTreeMap<ObjectRef, V>> {
        self.known.as_ref()
    }

    /// Takes an event in; the answer is whether what is known has changed. A new list takes the old one's place whole.
    pub(super) fn take(&mut self, event: Event<(ObjectRef, V)>) -> bool {
        match event {
            Event::Init => {
                self.arriving.clear();
                return false;
            }
            Event::InitApply((reference, value)) => {
                self.arriving.insert(reference, value);
                return false;
            }
            Event::InitDone => {
                self.known = Some(std::mem::take(&mut self.arriving));
                self.problem = None;
            }
            // A list that is not known does not become known by one object.
            Event::Apply((reference, value)) => {
                let known = self.known.as_mut();
                return known.is_some_and(|known| {
                    known.insert(reference, value);
                    true
                });
            }
            Event::Delete((reference, _)) => {
                let known = self.known.as_mut();
                return known.is_some_and(|known| known.remove(&reference).is_some());
            }
        }
        true
    }

    /// Why an event is not to be taken in yet, if so: an empty list is asked for again before all that was there is gone.
    pub(super) fn doubt(&mut self, event: &Event<(ObjectRef, V)>, now: u64) -> Option<String> {
        if !matches!(event, Event::InitDone) {
            return None;
        }
        let known = self.known.as_ref().map_or(0, BTreeMap::len);
        let since = self.doubted.take().unwrap_or(now);
        if known == 0 || !self.arriving.is_empty() || now.saturating_sub(since) >= DOUBT {
            return None;
        }
        self.doubted = Some(since);
        let wait = DOUBT / 1_000;
        Some(format!(
            "the list is empty although {known} were there: it is asked for again, and not believed for {wait} s"
        ))
    }

    /// The watch has failed: the list stays as it was, or (its kind is gone) is not known any more.
    pub(super) fn fail(&mut self, problem: String, forget: bool) {
        self.arriving.clear();
        self.problem = Some(problem);
        if forget {
            self.known = None;
        }
    }
}

/// How many deleted namespaces are remembered (the deletion of their Streams may be heard later), and how many pods that had ended.
const GONE: usize = 1024;

/// The namespaces of one scope: whether each is being deleted.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    listing: Listing<bool>,
    gone: VecDeque<ObjectRef>,
}

impl Namespaces {
    /// As [`Listing::take`].
    pub(super) fn take(&mut self, event: Event<(ObjectRef, bool)>) -> bool {
        let gone: Vec<ObjectRef> = match &event {
            Event::Delete((reference, _)) => vec![reference.clone()],
            Event::InitDone => {
                let known = self.listing.known.iter().flat_map(BTreeMap::keys);
                let missing = known.filter(|name| !self.listing.arriving.contains_key(name));
                missing.cloned().collect()
            }
            _ => vec![],
        };
        let changed = self.listing.take(event);
        self.gone.extend(gone);
        if let Some(known) = &self.listing.known {
            self.gone.retain(|reference| !known.contains_key(reference));
        }
        while self.gone.len() > GONE {
            self.gone.pop_front();
        }
        changed
    }

    /// As [`Listing::fail`].
    pub(super) fn fail(&mut self, problem: &str) {
        let consequence = "a removal of many streams in a namespace that is being deleted is held like any other";
        self.listing.fail(format!("{problem}; {consequence}"), false);
    }
}

/// The pods of one scope that have a sidecar.
#[derive(Debug, Default)]
pub(super) struct Pods {
    listing: Listing<Pod>,
    /// Deleted when they had ended, as their kubelet does: that remains true.
    ended: VecDeque<(ObjectRef, Pod)>,
}

impl Pods {
    /// As [`Listing::take`].
    pub(super) fn take(&mut self, event: Event<(ObjectRef, Pod)>) -> bool {
        let gone: Vec<(ObjectRef, Pod)> = match &event {
            Event::Delete(last) => vec![last.clone()],
            Event::InitDone => {
                let known = self.listing.known.iter().flatten();
                let missing = known.filter(|(name, _)| !self.listing.arriving.contains_key(name));
                missing.map(|(name, pod)| (name.clone(), pod.clone())).collect()
            }
            _ => vec![],
        };
        let changed = self.listing.take(event);
        self.ended.extend(gone.into_iter().filter(|(_, pod)| pod.ended));
        while self.ended.len() > GONE {
            self.ended.pop_front();
        }
        changed
    }

    /// As [`Listing::fail`].
    pub(super) fn fail(&mut self, problem: &str) {
        let consequence = "the streams of a pod that ends move after their failover.after, and not before it goes";
        self.listing.fail(format!("{problem}; {consequence}"), false);
    }

    /// Those that have ended, and over them those that there are.
    fn seen(&self) -> Option<impl Iterator<Item = (&ObjectRef, &Pod)>> {
        let known = self.listing.known.as_ref()?;
        Some(self.ended.iter().map(|(name, pod)| (name, pod)).chain(known))
    }
}

/// Everything seen, one listing for each scope.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) streams: Vec<Listing<Entry<Stream>>>,
    pub(super) streamers: Vec<Listing<Entry<Streamer>>>,
    pub(super) secrets: Vec<Listing<Credentials>>,
    /// Streamers' tokens; `None`: a Secret of that type that holds none.
    pub(super) tokens: Vec<Listing<Option<Kept>>>,
    pub(super) namespaces: Vec<Namespaces>,
    pub(super) pods: Vec<Pods>,
    /// The watch of Placements, which keeps no list here.
    pub(super) slices: Vec<Option<String>>,
}

impl Store {
    /// Of so many scopes, nothing known yet.
    pub(super) fn new(scopes: usize) -> Self {
        Self {
            streams: std::iter::repeat_with(Listing::default).take(scopes).collect(),
            streamers: std::iter::repeat_with(Listing::default).take(scopes).collect(),
            secrets: std::iter::repeat_with(Listing::default).take(scopes).collect(),
            tokens: std::iter::repeat_with(Listing::default).take(scopes).collect(),
            namespaces: std::iter::repeat_with(Namespaces::default).take(scopes).collect(),
            pods: std::iter::repeat_with(Pods::default).take(scopes).collect(),
            slices: vec![None; scopes],
        }
    }

    /// What is known now.
    pub(super) fn observed(&self) -> Observed {
        Observed {
            streams: whole(&self.streams, object),
            streamers: whole(&self.streamers, object),
            secrets: whole(&self.secrets, Credentials::clone),
            pods: self.pods(),
            terminating: self.terminating(),
            problems: self.problems(),
        }
    }

    fn pods(&self) -> Option<BTreeMap<ObjectRef, Pod>> {
        let mut pods = BTreeMap::new();
        for scope in &self.pods {
            pods.extend(scope.seen()?.map(|(name, pod)| (name.clone(), pod.clone())));
        }
        Some(pods)
    }

    fn terminating(&self) -> BTreeSet<String> {
        let known = self.namespaces.iter().flat_map(|scope| {
            let listed = scope.listing.known.iter().flatten();
            let terminating = listed.filter(|(_, terminating)| **terminating);
            terminating.map(|(reference, _)| reference).chain(&scope.gone)
        });
        known.map(|reference| reference.name.clone()).collect()
    }

    /// The namespaces that are looked after, without those that are being deleted; `None` while a list of them is unknown.
    pub(super) fn living(&self) -> Option<BTreeSet<String>> {
        let mut living = BTreeSet::new();
        for scope in &self.namespaces {
            let listed = scope.listing.known.as_ref()?.iter();
            living
                .extend(listed.filter(|(_, terminating)| !**terminating).map(|(reference, _)| reference.name.clone()));
        }
        Some(living)
    }

    fn problems(&self) -> Vec<String> {
        let streams = self.streams.iter().map(|listing| &listing.problem);
        let streamers = self.streamers.iter().map(|listing| &listing.problem);
        let secrets = self.secrets.iter().map(|listing| &listing.problem);
        let tokens = self.tokens.iter().map(|listing| &listing.problem);
        let namespaces = self.namespaces.iter().map(|scope| &scope.listing.problem);
        let pods = self.pods.iter().map(|scope| &scope.listing.problem);
        let all = streams.chain(streamers).chain(secrets).chain(tokens).chain(namespaces).chain(pods);
        all.chain(&self.slices).flatten().cloned().collect()
    }

    /// The Stream of that name, as it was last seen.
    pub(super) fn stream(&self, object: &ObjectRef) -> Option<&Entry<Stream>> {
        find(&self.streams, object)
    }

    /// The Streamer of that name, as it was last seen.
    pub(super) fn streamer(&self, object: &ObjectRef) -> Option<&Entry<Streamer>> {
        find(&self.streamers, object)
    }

    /// The Streamers that a token with this hash was made for; `None` while that is not known.
    pub(super) fn owners(&self, hash: Hash) -> Option<BTreeSet<StreamerId>> {
        let known = self.tokens.iter().map(|listing| listing.known.as_ref()).collect::<Option<Vec<_>>>()?;
        let kept = known.into_iter().flat_map(BTreeMap::values).flatten();
        Some(kept.filter(|kept| kept.hash == hash).map(|kept| kept.streamer.clone()).collect())
    }

    /// How many objects there are that get a status.
    pub(super) fn reported(&self) -> usize {
        let streams = self.streams.iter().flat_map(|listing| &listing.known);
        let streamers = self.streamers.iter().flat_map(|listing| &listing.known);
        streams.map(BTreeMap::len).sum::<usize>() + streamers.map(BTreeMap::len).sum::<usize>()
    }
}

fn object<K>(entry: &Entry<K>) -> Object<K> {
    match &entry.object {
        Object::Readable(object) => Object::Readable(object.clone()),
        Object::Malformed { uid, generation, message } => {
            Object::Malformed { uid: uid.clone(), generation: *generation, message: message.clone() }
        }
    }
}

fn find<'a, V>(listings: &'a [Listing<V>], object: &ObjectRef) -> Option<&'a V> {
    let mut known = listings.iter().flat_map(|listing| &listing.known);
    known.find_map(|known| known.get(object))
}

/// The lists of all scopes as one; unknown while one of them is.
fn whole<V, W>(listings: &[Listing<V>], value: fn(&V) -> W) -> Option<BTreeMap<ObjectRef, W>> {
    let mut whole = BTreeMap::new();
    for listing in listings {
        let known = listing.known.as_ref()?;
        whole.extend(known.iter().map(|(name, v)| (name.clone(), value(v))));
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str) -> (ObjectRef, Credentials) {
        let reference = ObjectRef { namespace: "media".into(), name: name.into() };
        (reference, Credentials(BTreeMap::new()))
    }

    fn names(store: &Store) -> Option<Vec<String>> {
        let secrets = store.observed().secrets?;
        Some(secrets.into_keys().map(|key| key.name).collect())
    }

    #[test]
    fn a_list_is_unknown_until_it_has_come_whole_and_a_new_one_takes_its_place_whole() {
        let mut store = Store::new(1);
        for event in [Event::Init, Event::InitApply(secret("a"))] {
            assert!(!store.secrets[0].take(event));
        }
        assert_eq!(names(&store), None);
        assert!(store.secrets[0].take(Event::InitDone));
        assert!(store.secrets[0].take(Event::Apply(secret("b"))));
        assert_eq!(names(&store).unwrap(), ["a", "b"]);
        store.secrets[0].take(Event::Init);
        store.secrets[0].take(Event::InitApply(secret("b")));
        assert_eq!(names(&store).unwrap(), ["a", "b"], "half a list is no list");
        store.secrets[0].take(Event::InitDone);
        assert_eq!(names(&store).unwrap(), ["b"]);
        store.secrets[0].take(Event::Delete(secret("b")));
        assert_eq!(names(&store).unwrap(), [""; 0]);
    }

    #[test]
    fn a_watch_that_fails_keeps_its_list_and_says_so_until_it_is_back() {
        let mut store = Store::new(1);
        store.secrets[0].take(Event::InitApply(secret("a")));
        store.secrets[0].take(Event::InitDone);
        store.secrets[0].fail("no route".into(), false);
        assert_eq!(names(&store).unwrap(), ["a"]);
        assert_eq!(store.observed().problems, ["no route"]);
        store.secrets[0].fail("no such kind".into(), true);
        assert_eq!(names(&store), None);
        store.secrets[0].take(Event::InitDone);
        assert_eq!(names(&store).unwrap(), [""; 0]);
        assert_eq!(store.observed().problems, [""; 0]);
    }

    #[test]
    fn an_empty_list_is_not_believed_before_it_has_come_for_a_minute() {
        let mut store = Store::new(1);
        let listing = &mut store.secrets[0];
        assert_eq!(listing.doubt(&Event::InitDone, 0), None, "nothing was there");
        listing.take(Event::InitApply(secret("a")));
        assert_eq!(listing.doubt(&Event::InitDone, 0), None, "something comes");
        listing.take(Event::InitDone);
        for (at, doubted) in [(5_000, true), (64_999, true), (65_000, false), (66_000, true)] {
            listing.take(Event::Init);
            assert_eq!(listing.doubt(&Event::InitDone, at).is_some(), doubted, "at {at}");
        }
        assert_eq!(listing.doubt(&Event::Delete(secret("a")), 66_000), None, "a deletion that was seen is one");
        listing.take(Event::InitApply(secret("a")));
        assert_eq!(listing.doubt(&Event::InitDone, 70_000), None);
        listing.take(Event::InitDone);
        listing.take(Event::Init);
        let why = listing.doubt(&Event::InitDone, 130_000).unwrap();
        assert!(why.contains("empty although 1 were there"), "{why}");
    }

    #[test]
    fn what_is_known_of_one_namespace_does_not_stand_for_all() {
        let mut store = Store::new(2);
        store.secrets[0].take(Event::InitDone);
        assert_eq!(names(&store), None);
        store.secrets[1].take(Event::InitDone);
        assert_eq!(names(&store).unwrap(), [""; 0]);
    }

    #[test]
    fn a_deleted_namespace_counts_as_terminating_until_it_is_there_again() {
        let namespace = |name: &str, terminating| {
            let reference = ObjectRef { namespace: String::new(), name: name.into() };
            (reference, terminating)
        };
        let mut store = Store::new(1);
        let scope = &mut store.namespaces[0];
        scope.take(Event::InitApply(namespace("media", false)));
        scope.take(Event::InitDone);
        scope.take(Event::Apply(namespace("media", true)));
        scope.take(Event::Delete(namespace("media", true)));
        assert!(store.observed().terminating.contains("media"));
        let scope = &mut store.namespaces[0];
        scope.take(Event::Apply(namespace("media", false)));
        assert!(!store.observed().terminating.contains("media"));
        let scope = &mut store.namespaces[0];
        scope.take(Event::Init);
        scope.take(Event::InitDone);
        assert!(store.observed().terminating.contains("media"), "gone unheard");
    }
}
