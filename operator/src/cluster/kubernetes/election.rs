//! The election's decisions, as functions of what was read and when. A Lease is taken by compare-and-swap, and only
//! after it was seen unchanged for as long as it holds, on our own clock: no two machines' clocks are compared.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::core::ObjectMeta;
use weir_feed::leader::went_back;

use super::lean::version_of;

/// `metadata.name` of the Lease.
pub(super) const NAME: &str = "weir-operator";
/// On the Lease: the highest term that a leader is known to have had.
pub(super) const TERM: &str = "weir.dev/term";
/// On the Lease: where its holder's feed is.
pub(super) const FEED: &str = "weir.dev/feed";

/// What is to be done about the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// There is none, and nobody can count on one: post it.
    Create,
    /// It is nobody's any more: write our name into it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Somebody counts on it. Where that one's feed is, if it says.
    Wait { leader: Option<String> },
    /// It is older than it was: the storage went back in time, and whatever this process knows is wrong.
    Leave { why: String },
}

/// The Lease at one version, as we have watched it. Times are ms of our own monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sighting {
    /// `None`: there is no Lease.
    version: Option<String>,
    /// When it was first seen at this version.
    since: u64,
    /// For how long from then its holder may count on it.
    patience: u64,
    feed: Option<String>,
}

/// One who wants the Lease.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    /// `spec.holderIdentity` when it is ours; no two processes have the same.
    us: String,
    /// `Periods::lease`, ms.
    lease: u64,
    sighting: Option<Sighting>,
    /// The highest term that was ever seen on the Lease, for when it is deleted.
    highest_term: u64,
    /// The highest resourceVersion that it was ever seen at. All candidates read it again and again, from a quorum, and its
    /// holder writes it: nothing else shows so soon that the storage was restored from a copy.
    highest_version: u64,
}

impl Candidate {
    pub(super) fn new(us: String, lease: u64) -> Self {
        Self { us, lease, sighting: None, highest_term: 0, highest_version: 0 }
    }

    /// The highest term ever seen on the Lease.
    pub(super) fn highest_term(&self) -> u64 {
        self.highest_term
    }

    /// What is to be done about the Lease as it was just read; `now` is the time after reading it.
    pub(super) fn decide(&mut self, lease: Option<&Lease>, now: u64) -> Step {
        if let Some(version) = lease.and_then(|lease| version_of(&lease.metadata)) {
            if version < self.highest_version {
                return Step::Leave { why: went_back("the Lease", version, self.highest_version) };
            }
            self.highest_version = version;
        }
        self.highest_term = self.highest_term.max(lease.map_or(0, term));
        let holder = lease.and_then(holder);
        if holder == Some(&self.us) {
            // If it is deleted, nobody but ourselves counts on it.
            self.sighting = None;
            return Step::Renew;
        }
        let version = lease.and_then(|lease| lease.metadata.resource_version.clone());
        let sighting = self.sighted(lease, version, now);
        if now >= sighting.since.saturating_add(sighting.patience) {
            return if lease.is_some() { Step::Take } else { Step::Create };
        }
        Step::Wait { leader: sighting.feed.clone() }
    }

    fn sighted(&mut self, lease: Option<&Lease>, version: Option<String>, now: u64) -> &Sighting {
        let old = self.sighting.take();
        let new = match old {
            Some(old) if old.version == version => old,
            // Deleted by hand: who held it still counts on it.
            Some(old) if lease.is_none() => Sighting { version, since: now, ..old },
            _ => Sighting {
                version,
                since: now,
                patience: lease.map_or(0, |lease| self.patience(lease)),
                feed: lease.and_then(feed),
            },
        };
        self.sighting.insert(new)
    }

    /// For how long the holder of a Lease may count on it, ms.
    fn patience(&self, lease: &Lease) -> u64 {
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        match (holder(lease), seconds.and_then(|s| u64::try_from(s).ok())) {
            (None, _) => 0,
            (Some(_), Some(seconds)) if seconds > 0 => seconds * 1_000,
            (Some(_), _) => self.lease,
        }
    }

    /// Until when we may speak after a renewal that was sent at `sent`: less than anybody else waits.
    pub(super) fn deadline(&self, sent: u64) -> u64 {
        sent.saturating_add(self.lease - self.lease / 5)
    }

    /// The Lease in our name. `old` is the one it replaces, at its version.
    pub(super) fn claim(&self, old: Option<&Lease>, claim: &Claim<'_>) -> Lease {
        let mut lease = self.base(old, claim);
        let before = old.and_then(|old| old.spec.clone()).unwrap_or_default();
        let is_ours = old.and_then(holder) == Some(&self.us);
        let transitions = before.lease_transitions.unwrap_or_default();
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.us.clone()),
            lease_duration_seconds: Some(i32::try_from(self.lease.div_ceil(1_000)).unwrap_or(i32::MAX)),
            acquire_time: before.acquire_time.filter(|_| is_ours).or(Some(MicroTime(claim.now))),
            renew_time: Some(MicroTime(claim.now)),
            lease_transitions: Some(transitions.saturating_add(i32::from(!is_ours))),
            ..LeaseSpec::default()
        });
        if let Some(feed) = claim.feed {
            let annotations = lease.metadata.annotations.get_or_insert_default();
            annotations.insert(FEED.into(), feed.into());
        }
        lease
    }

    /// The Lease given back: nobody holds it.
    pub(super) fn release(&self, old: &Lease, claim: &Claim<'_>) -> Lease {
        let mut lease = self.base(Some(old), claim);
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.renew_time = Some(MicroTime(claim.now));
        lease
    }

    /// The Lease without a feed, and with the highest term: ours, what stands there, or what ever stood there. It keeps
    /// the old one's uid and version, so that it replaces that one only.
    fn base(&self, old: Option<&Lease>, claim: &Claim<'_>) -> Lease {
        let mut lease = old.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                namespace: Some(claim.namespace.into()),
                name: Some(NAME.into()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        lease.metadata.managed_fields = None;
        let highest = claim.term.max(self.highest_term).max(term(&lease));
        let annotations: &mut BTreeMap<_, _> = lease.metadata.annotations.get_or_insert_default();
        annotations.insert(TERM.into(), highest.to_string());
        annotations.remove(FEED);
        lease
    }
}

/// What a holder writes into the Lease.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    pub(super) namespace: &'a str,
    pub(super) term: u64,
    pub(super) feed: Option<&'a str>,
    pub(super) now: Timestamp,
}

/// Who holds it.
fn holder(lease: &Lease) -> Option<&String> {
    let holder = lease.spec.as_ref()?.holder_identity.as_ref()?;
    Some(holder).filter(|holder| !holder.is_empty())
}

/// Its term, 0 where there is none or something else.
fn term(lease: &Lease) -> u64 {
    let annotations = lease.metadata.annotations.as_ref();
    let term = annotations.and_then(|annotations| annotations.get(TERM));
    term.and_then(|term| term.parse().ok()).unwrap_or_default()
}

fn feed(lease: &Lease) -> Option<String> {
    lease.metadata.annotations.as_ref()?.get(FEED).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: u64 = 2_500;

    fn candidate(us: &str) -> Candidate {
        Candidate::new(us.into(), LEASE)
    }

    fn claim(term: u64) -> Claim<'static> {
        Claim { namespace: "weir-system", term, feed: Some("https://a:9443"), now: Timestamp::UNIX_EPOCH }
    }

    /// The Lease as `us` writes it, at a version.
    fn held(us: &str, version: &str) -> Lease {
        let mut lease = candidate(us).claim(None, &claim(7));
        lease.metadata.resource_version = Some(version.into());
        lease
    }

    #[test]
    fn a_lease_older_than_it_was_tells_of_a_restored_storage_to_everybody_who_reads_it() {
        for us in ["a", "b"] {
            let mut candidate = candidate(us);
            candidate.decide(Some(&held("a", "17")), 0);
            assert!(!matches!(candidate.decide(None, 10), Step::Leave { .. }), "deleted is not older");
            let Step::Leave { why } = candidate.decide(Some(&held("a", "16")), 20) else { panic!("{us} goes on") };
            assert!(why.contains("resourceVersion 16, but 17") && why.contains("restored"), "{why}");
            assert!(!matches!(candidate.decide(Some(&held("a", "17")), 30), Step::Leave { .. }), "as it was");
        }
    }

    fn waits(leader: Option<&str>) -> Step {
        Step::Wait { leader: leader.map(Into::into) }
    }

    #[test]
    fn a_first_start_posts_the_lease_at_once() {
        assert_eq!(candidate("b").decide(None, 1_000), Step::Create);
    }

    #[test]
    fn another_s_lease_is_taken_only_after_it_stood_still_for_as_long_as_it_holds() {
        let mut b = candidate("b");
        let a = waits(Some("https://a:9443"));
        assert_eq!(b.decide(Some(&held("a", "1")), 10_000), a);
        assert_eq!(b.decide(Some(&held("a", "1")), 12_999), a);
        // Renewed: from here again, and in whole seconds, rounded up.
        assert_eq!(b.decide(Some(&held("a", "2")), 13_000), a);
        assert_eq!(b.decide(Some(&held("a", "2")), 15_999), a);
        assert_eq!(b.decide(Some(&held("a", "2")), 16_000), Step::Take);
    }

    #[test]
    fn a_lease_given_back_is_taken_at_once_and_remembers_its_term() {
        let mut released = candidate("a").release(&held("a", "1"), &claim(9));
        released.metadata.resource_version = Some("2".into());
        let mut b = candidate("b");
        assert_eq!(b.decide(Some(&released), 10_000), Step::Take);
        assert_eq!(b.highest_term(), 9);
        assert_eq!(feed(&released), None);
    }

    #[test]
    fn a_lease_deleted_by_hand_is_still_counted_on_by_its_holder() {
        let mut b = candidate("b");
        b.decide(Some(&held("a", "1")), 10_000);
        assert_eq!(b.decide(None, 20_000), waits(Some("https://a:9443")));
        assert_eq!(b.decide(None, 22_999), waits(Some("https://a:9443")));
        assert_eq!(b.decide(None, 23_000), Step::Create);
        assert_eq!(b.highest_term(), 7, "terms outlive the Lease");
    }

    #[test]
    fn its_holder_posts_a_deleted_lease_again_at_once() {
        let mut a = candidate("a");
        assert_eq!(a.decide(Some(&held("a", "1")), 10_000), Step::Renew);
        assert_eq!(a.decide(None, 10_500), Step::Create);
        let again = a.claim(None, &claim(3));
        assert_eq!(term(&again), 7, "not below what was seen");
    }

    #[test]
    fn a_holder_steps_down_before_anybody_takes_the_lease() {
        // The worst case: the renewal is carried out, and read by the other, the moment it is sent.
        for lease in [1, 10, 999, 1_500, 15_000] {
            let (a, mut b) = (Candidate::new("a".into(), lease), Candidate::new("b".into(), lease));
            let sent = 50_000;
            let mut written = a.claim(None, &claim(1));
            written.metadata.resource_version = Some("1".into());
            let deadline = a.deadline(sent);
            let mut now = sent;
            while b.decide(Some(&written), now) != Step::Take {
                now += 1;
            }
            assert!(deadline <= now, "{lease}: until {deadline}, taken at {now}");
        }
    }

    #[test]
    fn a_claim_counts_transitions_and_keeps_the_time_of_acquiring() {
        let mut first = held("a", "1");
        first.metadata.uid = Some("u1".into());
        let later = Claim { now: Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(5), ..claim(8) };
        let renewed = candidate("a").claim(Some(&first), &later);
        let spec = renewed.spec.clone().unwrap();
        assert_eq!(spec.acquire_time, first.spec.clone().unwrap().acquire_time);
        assert_ne!(spec.renew_time, spec.acquire_time);
        assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(1), Some(3)));
        assert_eq!(term(&renewed), 8);
        let taken = candidate("b").claim(Some(&renewed), &later).spec.unwrap();
        assert_eq!((taken.lease_transitions, taken.acquire_time), (Some(2), spec.renew_time));
        assert_eq!(renewed.metadata.resource_version.as_deref(), Some("1"));
        assert_eq!(renewed.metadata.uid.as_deref(), Some("u1"), "or a deleted one would be made again by a renewal");
    }

    #[test]
    fn a_lease_that_says_nonsense_is_waited_for_as_if_it_were_ours() {
        let mut nonsense = held("a", "1");
        nonsense.spec.as_mut().unwrap().lease_duration_seconds = Some(-5);
        nonsense.metadata.annotations = Some(BTreeMap::from([(TERM.into(), "high".into())]));
        let mut b = candidate("b");
        assert_eq!(b.decide(Some(&nonsense), 10_000), waits(None));
        assert_eq!(b.decide(Some(&nonsense), 12_500), Step::Take);
        assert_eq!(b.highest_term(), 0);
    }
}
