use std::collections::BTreeMap;

use super::*;
use crate::cluster::{Credentials, ObjectRef};
use serde_json::json;
use weir_crds::condition::{Condition, find};
use weir_crds::secret_ref::SecretRef;
use weir_placement::reason::{NO_DESTINATION, UNSCHEDULABLE};

pub(in crate::report) const NOW: u64 = 1_800_000_000_500;

/// A stream that is well in every respect; each test changes what it is about.
pub(in crate::report) struct Story {
    pub(in crate::report) stream: Stream,
    pub(in crate::report) old: StreamStatus,
    pub(in crate::report) outlook: Option<Outlook>,
    pub(in crate::report) record: Option<Record>,
    pub(in crate::report) problem: Option<Problem>,
    pub(in crate::report) capture: Capture,
    pub(in crate::report) rejected: Option<String>,
    pub(in crate::report) held: bool,
    pub(in crate::report) withheld: bool,
    pub(in crate::report) leased: bool,
    pub(in crate::report) unwritten: Unwritten,
    pub(in crate::report) declared: Declared,
    secrets: BTreeMap<ObjectRef, Credentials>,
    pub(in crate::report) now: u64,
}

pub(in crate::report) fn well() -> Story {
    let stream = json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Stream",
        "metadata": {"namespace": "media", "name": "bunny", "uid": "u-1", "generation": 3},
        "spec": {"name": "mylive/bunny", "inputs": [{"url": "fake://a"}]},
    });
    Story {
        stream: serde_json::from_value(stream).unwrap(),
        old: StreamStatus::default(),
        outlook: Some(Outlook::Placed { streamer: "s1".into(), note: None }),
        record: Some(record("s1", NOW - 5_000)),
        problem: None,
        capture: Capture::Running,
        rejected: None,
        held: false,
        withheld: false,
        leased: false,
        unwritten: Unwritten::Postponed,
        declared: Declared::WithKubectl,
        secrets: BTreeMap::new(),
        now: NOW,
    }
}

fn record(streamer: &str, epoch: u64) -> Record {
    Record {
        name: "mylive/bunny".into(),
        stream: "bunny".into(),
        uid: "u-1".into(),
        streamer: streamer.into(),
        epoch,
        phase: Phase::Active,
        to: None,
        previous: None,
        partition: weir_feed::frames::Partition::KeepCapturing,
    }
}

impl Story {
    pub(in crate::report) fn told(&self) -> StreamStatus {
        stream_status(&StreamFacts {
            stream: &self.stream,
            old: &self.old,
            outlook: self.outlook.as_ref(),
            record: self.record.as_ref(),
            problem: self.problem.as_ref(),
            capture: self.capture,
            rejected: self.rejected.as_deref(),
            held: self.held,
            leased: self.leased,
            withheld: self.withheld,
            unwritten: self.unwritten,
            release: 60_000,
            shortest_failover: 9_000,
            redactor: Redactor::new("media", &self.secrets),
            declared: self.declared,
            now: self.now,
        })
    }

    fn condition(&self, type_: &str) -> Condition {
        find(&self.told().conditions, type_).unwrap().clone()
    }

    fn says(&self, type_: &str) -> (String, String) {
        let condition = self.condition(type_);
        (condition.status, condition.reason)
    }
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

#[test]
fn a_stream_that_is_well_says_so() {
    let status = well().told();
    assert_eq!(status.media_name.as_deref(), Some("mylive/bunny"));
    assert_eq!(status.streamer.as_deref(), Some("s1"));
    assert_eq!(status.home.as_deref(), Some("s1"));
    assert_eq!(status.epoch, Some(NOW - 5_000));
    assert_eq!(status.since, Some(time(NOW - 5_000)));
    assert_eq!(status.reason.as_deref(), Some("Running"));
    assert_eq!(status.observed_generation, Some(3));
    let told: Vec<_> = status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect();
    assert_eq!(told, [(ACCEPTED, "True"), (PLACED, "True"), (CAPTURED, "True")]);
    assert!(status.conditions.iter().all(|c| c.observed_generation == Some(3)));
}

#[test]
fn nothing_changes_while_nothing_happens() {
    let mut story = well();
    story.old = story.told();
    story.now += 3_600_000;
    assert_eq!(story.told(), story.old);
    // As it comes back from the API server.
    story.old = serde_json::from_value(serde_json::to_value(&story.old).unwrap()).unwrap();
    assert_eq!(story.told(), story.old);
}

#[test]
fn after_a_failover_home_stays_and_since_is_the_new_holders() {
    let mut story = well();
    story.old = story.told();
    story.now += 60_000;
    story.record = Some(record("s2", story.now - 2_000));
    let status = story.told();
    assert_eq!((status.streamer.as_deref(), status.home.as_deref()), (Some("s2"), Some("s1")));
    assert_eq!(status.since, Some(time(story.now - 2_000)));
    // A later epoch of the same holder (a release called off) does not make it newer there.
    story.old = status;
    story.now += 60_000;
    story.record = Some(record("s2", story.now));
    let status = story.told();
    assert_eq!(status.epoch, Some(story.now));
    assert_eq!(status.since, story.old.since);
    // An epoch from a clock that was ahead is no time in the future.
    story.record = Some(record("s3", story.now + 999_999));
    assert_eq!(story.told().since, Some(time(story.now)));
}

#[test]
fn the_time_of_transition_is_that_of_the_status() {
    let mut story = well();
    story.capture = Capture::NotRunning;
    story.old = story.told();
    story.now += 10_000;
    story.held = true;
    let held = story.condition(CAPTURED);
    assert_eq!((held.reason.as_str(), held.last_transition_time), ("Held", time(NOW)));
    story.capture = Capture::Running;
    assert_eq!(story.condition(CAPTURED).last_transition_time, time(story.now));
}

#[test]
fn two_streams_with_one_media_name() {
    let mut story = well();
    story.outlook = Some(Outlook::Conflict { with: "hare".into() });
    // The record is the other's.
    story.record.as_mut().unwrap().stream = "hare".into();
    for type_ in [ACCEPTED, PLACED, CAPTURED] {
        assert_eq!(story.says(type_), is("False", "Conflict"), "{type_}");
    }
    assert!(story.condition(ACCEPTED).message.starts_with("Stream hare has the media name mylive/bunny already"));
    assert_eq!(story.told().streamer, None);
}

#[test]
fn a_missing_secret_is_named_and_who_captures_goes_on() {
    let mut story = well();
    story.problem = Some(Problem {
        reason: &reasons::SECRET_NOT_FOUND,
        message: "there is no Secret cam".into(),
        secret: Some(SecretRef { name: "cam".into(), key: "password".into() }),
    });
    assert_eq!(story.says(ACCEPTED), is("False", "SecretNotFound"));
    assert_eq!(story.says(PLACED), is("True", "Placed"));
    assert_eq!(story.says(CAPTURED), is("True", "Running"));
    assert_eq!(story.told().reason.as_deref(), Some("SecretNotFound"));
    let message = story.condition(ACCEPTED).message;
    assert!(message.contains("s1 goes on with what it has of it until that is mended"), "{message}");
    assert!(message.ends_with("create secret generic cam --type weir.dev/credentials --from-literal password=VALUE"));
    story.capture = Capture::NotRunning;
    assert_eq!(story.says(CAPTURED), is("False", "SecretNotFound"));
    story.withheld = true;
    let message = story.condition(ACCEPTED).message;
    assert!(message.contains("told to wait (503)") && message.contains("the other streams of the same request"));
}

#[test]
fn a_refused_document_shows_on_the_stream_without_its_passwords() {
    let mut story = well();
    let secret = ObjectRef { namespace: "media".into(), name: "cam".into() };
    let credentials = Credentials(BTreeMap::from([("p".into(), b"hunter2".to_vec())]));
    story.secrets.insert(secret, credentials);
    story.rejected = Some("bad passphrase hunter2 in rtsp://admin:literal@10.0.0.1/".into());
    let accepted = story.condition(ACCEPTED);
    assert_eq!((accepted.status.as_str(), accepted.reason.as_str()), ("False", "RejectedByStreamer"));
    assert!(accepted.message.contains("bad passphrase … in rtsp://…@10.0.0.1/. To mend it: "), "{}", accepted.message);
    assert_eq!(story.says(CAPTURED), is("True", "Running"));
    story.capture = Capture::NotRunning;
    assert_eq!(story.says(CAPTURED), is("False", "RejectedByStreamer"));
}

#[test]
fn a_message_of_any_length_fits() {
    let mut story = well();
    story.rejected = Some("é".repeat(100_000));
    assert!(story.condition(ACCEPTED).message.len() <= 1024);
}

#[test]
fn a_failover_that_is_carried_out_later_than_asked_for_says_so() {
    let mut story = well();
    assert_eq!(story.condition(ACCEPTED).message, "it can be placed and captured as it is");
    story.stream.spec.failover.after = Duration::from_ms(1_000);
    assert_eq!(story.says(ACCEPTED), is("True", "Accepted"));
    assert!(story.condition(ACCEPTED).message.starts_with("failover.after 1s is carried out as 9s: "));
    story.stream.spec.failover.after = Duration::from_ms(9_000);
    assert_eq!(story.condition(ACCEPTED).message, "it can be placed and captured as it is");
}

#[test]
fn the_plans_notes_are_passed_on_with_what_to_type() {
    let note = |reason| Note::new(reason, "why, and what happens").about("s2").set("unschedulable", "false");
    let mut story = well();
    story.outlook = Some(Outlook::Placed { streamer: "s1".into(), note: Some(note(NO_DESTINATION)) });
    assert_eq!(story.says(PLACED), is("True", "NoDestination"));
    assert_eq!(
        story.condition(PLACED).message,
        "why, and what happens. To let that one take it: kubectl -n media patch wsr s2 --type merge -p \
         '{\"spec\":{\"unschedulable\":false}}'; to compare the streamers: kubectl -n media get wsr"
    );
    story.outlook = Some(Outlook::Pending(note(UNSCHEDULABLE)));
    story.record = None;
    assert_eq!(story.says(PLACED), is("False", "Unschedulable"));
    assert_eq!(story.says(CAPTURED), is("False", "NotPlaced"));
    assert_eq!(story.told().reason.as_deref(), Some("Unschedulable"));
    assert_eq!(story.told().epoch, None);
}

#[test]
fn what_was_decided_and_not_written_says_why_and_when() {
    let mut story = well();
    story.outlook = Some(Outlook::Placed { streamer: "s2".into(), note: None });
    assert_eq!(story.says(PLACED), is("True", "WritePostponed"));
    story.unwritten = Unwritten::Refused(30_000);
    assert_eq!(story.says(PLACED), is("True", "WriteRefused"));
    let at = time(NOW + 30_000).0;
    assert!(story.condition(PLACED).message.contains(&format!("it is tried again at {at}")));
    story.record = None;
    story.unwritten = Unwritten::Full;
    assert_eq!(story.says(PLACED), is("False", "SliceFull"));
}

#[test]
fn a_stream_that_its_streamer_does_not_start_is_told_after_a_minute() {
    let mut story = well();
    story.capture = Capture::NotRunning;
    for (after, reason) in [(0, "NotRunning"), (30_000, "NotRunning"), (65_000, "NotStarting"), (90_000, "NotStarting")]
    {
        story.now = NOW + after;
        let status = story.told();
        assert_eq!(find(&status.conditions, CAPTURED).unwrap().reason, reason, "after {after} ms");
        story.old = status;
    }
    // Elsewhere it has as long again.
    story.record = Some(record("s2", story.now));
    story.outlook = Some(Outlook::Placed { streamer: "s2".into(), note: None });
    assert_eq!(story.says(CAPTURED), is("False", "NotRunning"));
}

#[test]
fn a_stream_on_its_way_says_from_where_to_where() {
    let mut story = well();
    let releasing = story.record.as_mut().unwrap();
    releasing.phase = Phase::Releasing;
    releasing.to = Some("s2".into());
    story.outlook = Some(Outlook::Releasing { streamer: "s1".into(), to: Some("s2".into()), note: None });
    assert_eq!(
        story.condition(PLACED).message,
        format!(
            "goes from s1 to s2 as soon as s1 has let go of it; it stays if that has not happened by {}. To look: kubectl -n \
         media describe wsr s1",
            time(NOW + 55_000).0
        )
    );
    assert_eq!(story.says(CAPTURED), is("True", "Running"));
    story.capture = Capture::NotRunning;
    assert_eq!(story.says(CAPTURED), is("False", "Releasing"));
}

#[test]
fn a_disabled_stream_is_captured_nowhere() {
    let mut story = well();
    story.outlook = Some(Outlook::Disabled);
    story.record = None;
    assert_eq!(story.says(ACCEPTED), is("True", "Accepted"));
    assert_eq!(story.says(PLACED), is("False", "Disabled"));
    assert_eq!(story.says(CAPTURED), is("False", "Disabled"));
}

#[test]
fn what_the_holder_does_not_tell_is_unknown() {
    let mut story = well();
    story.capture = Capture::Unknown;
    assert_eq!(story.says(CAPTURED), is("Unknown", "NotReported"));
    story.capture = Capture::NotRunning;
    assert_eq!(story.says(CAPTURED), is("False", "NotRunning"));
    story.stream.spec.r#static = false;
    assert_eq!(story.says(CAPTURED), is("False", "OnDemand"));
}

#[test]
fn before_the_first_plan_the_record_speaks() {
    let mut story = well();
    story.outlook = None;
    assert_eq!(story.says(PLACED), is("True", "Placed"));
    story.record = None;
    assert_eq!(story.says(PLACED), is("False", "Waiting"));
}

fn malformed(old: &StreamStatus, record: Option<&Record>, now: u64) -> StreamStatus {
    let object = ObjectRef { namespace: "media".into(), name: "bunny".into() };
    malformed_stream(&object, old, (4, "spec.inputs is missing"), record, Declared::WithKubectl, now)
}

#[test]
fn a_stream_that_cannot_be_read_keeps_its_record_and_says_why() {
    let mut story = well();
    story.old = story.told();
    let told = malformed(&story.old, story.record.as_ref(), NOW);
    assert_eq!(told.reason.as_deref(), Some("Malformed"));
    assert_eq!(told.streamer.as_deref(), Some("s1"));
    assert_eq!(find(&told.conditions, PLACED).unwrap().status, "True");
    assert_eq!(find(&told.conditions, CAPTURED).unwrap().status, "True");
    assert_eq!(malformed(&told, story.record.as_ref(), NOW + 9_000), told);
    let told = malformed(&StreamStatus::default(), None, NOW);
    assert_eq!(find(&told.conditions, CAPTURED).unwrap().reason, "Malformed");
}
