use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::cluster::{Credentials, ObjectRef, Pod};
use serde_json::json;
use weir_crds::condition::Condition;
use weir_placement::plan::Note;
use weir_placement::reason::DRAINING;

const NOW: u64 = 1_800_000_000_000;

pub(in crate::report) struct Story {
    pub(in crate::report) streamer: Streamer,
    pub(in crate::report) old: StreamerStatus,
    pub(in crate::report) view: Option<StreamerView>,
    pub(in crate::report) outlook: Option<StreamerOutlook>,
    pub(in crate::report) settling: bool,
    pub(in crate::report) going: Option<Pod>,
    pub(in crate::report) withheld: Vec<(&'static str, Option<&'static str>)>,
    pub(in crate::report) behind_for: u64,
    pub(in crate::report) declared: Declared,
    secrets: BTreeMap<ObjectRef, Credentials>,
    now: u64,
}

pub(in crate::report) fn well() -> Story {
    let streamer = json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Streamer",
        "metadata": {"namespace": "media", "name": "s1", "uid": "u-1", "generation": 2}, "spec": {},
    });
    let view = StreamerView {
        connected: true,
        reported: true,
        instance: Some("pod-1".into()),
        program: "0.1.0".into(),
        silent_for: 300,
        polled_ago: Some(1_000),
        alive: true,
        supervised: true,
        api: ApiState::Up,
        config: ConfigStatus::Loaded,
        load: frames::Load { cpu: Some(20), input_kbit: Some(4_000), output_kbit: None },
        revision: 7,
        applied: 7,
        synced: true,
        complete: true,
        ..StreamerView::default()
    };
    let outlook = StreamerOutlook { streams: 5, ..StreamerOutlook::default() };
    Story {
        streamer: serde_json::from_value(streamer).unwrap(),
        old: StreamerStatus::default(),
        view: Some(view),
        outlook: Some(outlook),
        settling: false,
        going: None,
        withheld: vec![],
        behind_for: 0,
        declared: Declared::WithKubectl,
        secrets: BTreeMap::new(),
        now: NOW,
    }
}

impl Story {
    pub(in crate::report) fn told(&self) -> StreamerStatus {
        streamer_status(&StreamerFacts {
            streamer: &self.streamer,
            old: &self.old,
            view: self.view.as_ref(),
            outlook: self.outlook.as_ref(),
            settling: self.settling,
            going: self.going.as_ref(),
            withheld: &self.withheld,
            behind_for: self.behind_for,
            redactor: Redactor::new("media", &self.secrets),
            declared: self.declared,
            now: self.now,
        })
    }

    pub(in crate::report) fn view(&mut self) -> &mut StreamerView {
        self.view.as_mut().unwrap()
    }

    fn condition(&self, type_: &str) -> Condition {
        find(&self.told().conditions, type_).unwrap().clone()
    }

    fn says(&self, type_: &str) -> (String, String) {
        let condition = self.condition(type_);
        (condition.status, condition.reason)
    }
}

pub(in crate::report) fn object(name: &str) -> ObjectRef {
    ObjectRef { namespace: "media".into(), name: name.into() }
}

fn is(status: &str, reason: &str) -> (String, String) {
    (status.into(), reason.into())
}

pub(in crate::report) fn pod(returns: bool, drains: bool) -> Pod {
    Pod { uid: "pod-1".into(), going: true, ended: false, returns, drains }
}

#[test]
fn a_streamer_whose_pod_is_being_deleted_says_what_becomes_of_its_streams() {
    for (returns, drains, then) in [
        (true, false, "no new streams; what it still has when it ends waits"),
        (false, false, "no new streams; what it still has when it ends moves at once"),
        (true, true, "those that it has move before it ends"),
    ] {
        let told = Story { going: Some(pod(returns, drains)), ..well() };
        assert_eq!(told.says(READY), is("False", "Terminating"));
        assert!(told.condition(READY).message.contains(then), "{}", told.condition(READY).message);
    }
}

#[test]
fn a_streamer_that_is_well_says_so() {
    let status = well().told();
    assert_eq!(status.summary.as_deref(), Some("Ready"));
    assert_eq!((status.streams, status.replica_revision), (Some(5), Some(7)));
    assert_eq!(status.load.unwrap().cpu_percent, Some(20));
    assert_eq!(status.first_ready, Some(time(NOW)));
    assert_eq!(status.last_contact, Some(time(NOW - 300)));
    assert_eq!(status.instance.as_deref(), Some("pod-1"));
    assert_eq!(status.sidecar_version.as_deref(), Some("0.1.0"));
    assert!(status.conditions.iter().all(|condition| condition.status == "True"));
    assert_eq!(status.conditions.len(), 4);
}

#[test]
fn what_moves_all_the_time_is_written_once_a_minute_or_along_with_something_else() {
    let mut story = well();
    story.old = story.told();
    story.now += 50_000;
    story.view().applied = 9;
    story.view().load.cpu = Some(80);
    assert_eq!(story.told(), story.old);
    story.outlook.as_mut().unwrap().streams = 6;
    let with_another = story.told();
    assert_eq!(with_another.replica_revision, Some(9));
    assert_eq!(with_another.last_contact, Some(time(story.now - 300)));
    story.outlook.as_mut().unwrap().streams = 5;
    story.now += 20_000;
    let due = story.told();
    assert_eq!(due.load.unwrap().cpu_percent, Some(80));
    assert_eq!(due.first_ready, Some(time(NOW)));
}

#[test]
fn a_silent_sidecar_is_not_ready_and_nothing_else_is_known() {
    let mut story = well();
    story.old = story.told();
    story.view().connected = false;
    story.view().silent_for = 20_000;
    story.now += 20_000;
    assert_eq!(story.says(READY), is("False", "Silent"));
    assert_eq!(story.says(SYNCED), is("Unknown", "Silent"));
    assert_eq!(story.says(CONFIG_ACCEPTED), is("Unknown", "Silent"));
    assert_eq!(story.told().summary.as_deref(), Some("NotReady"));
    // Under a new leader too, which never heard it.
    story.view = None;
    assert_eq!(story.says(READY), is("False", "Silent"));
    assert_eq!(story.told().instance.as_deref(), Some("pod-1"));
}

#[test]
fn a_streamer_that_a_new_leader_has_not_heard_yet_stays_as_it_was() {
    let mut story = well();
    story.old = story.told();
    (story.view, story.settling) = (None, true);
    assert_eq!(story.says(READY), is("True", "Polling"));
    assert_eq!(story.told().summary.as_deref(), Some("Ready"));
    story.settling = false;
    assert_eq!(story.says(READY), is("False", "Silent"));
    // One that it does not know at all is told as it is.
    (story.old, story.settling) = (StreamerStatus::default(), true);
    assert_eq!(story.says(READY), is("False", "NeverReported"));
}

#[test]
fn what_keeps_a_streamer_waiting_is_named_with_its_cause() {
    let mut story = well();
    story.withheld = vec![("cam-1", Some("there is no Secret cam")), ("cam-2", None)];
    let condition = story.condition(CONFIG_ACCEPTED);
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Withheld"));
    assert!(condition.message.contains("until that is mended: cam-1 (there is no Secret cam), cam-2. "));
    assert_eq!(story.told().reason.as_deref(), Some("Withheld"));
}

#[test]
fn streams_that_nothing_stands_behind_run_on_until_a_time() {
    let mut story = well();
    story.view().strays = 40;
    story.view().strays_for = 600_000;
    assert_eq!(story.says(SYNCED), is("False", "StraysHeld"));
    let until = time(NOW + 600_000).0;
    assert!(story.condition(SYNCED).message.contains(&format!("they run on until {until}")));
}

#[test]
fn a_replica_that_was_never_complete_makes_its_streamer_wait() {
    let mut story = well();
    (story.view().complete, story.view().synced) = (false, false);
    assert_eq!(story.says(SYNCED), is("False", "NeverSynced"));
}

#[test]
fn a_streamer_that_nobody_started_was_never_heard() {
    let mut story = well();
    story.view = None;
    assert_eq!(story.says(READY), is("False", "NeverReported"));
    assert_eq!(story.told().first_ready, None);
    assert_eq!(story.told().last_contact, None);
}

#[test]
fn a_streamer_that_does_not_poll_is_told_apart_by_its_api() {
    let mut story = well();
    story.view().alive = false;
    assert_eq!(story.says(READY), is("False", "NotPolling"));
    assert!(story.condition(READY).message.contains("its own API answers"));
    story.view().api = ApiState::Down;
    assert_eq!(story.says(READY), is("False", "StreamerDown"));
    story.view().api = ApiState::Absent;
    assert!(story.condition(READY).message.contains("any more"));
    story.view().polled_ago = None;
    assert!(story.condition(READY).message.contains("since that was started"));
}

#[test]
fn two_instances_of_one_name() {
    let mut story = well();
    story.view().contested = true;
    assert_eq!(story.says(READY), is("True", "InstanceConflict"));
    story.view().connected = false;
    assert_eq!(story.says(READY), is("False", "InstanceConflict"));
}

#[test]
fn another_host_is_served_and_shown() {
    let mut story = well();
    story.view().foreign_host = Some("media-9".into());
    assert_eq!(story.says(READY), is("True", "ForeignHost"));
    assert!(story.condition(READY).message.starts_with("the streamer calls itself media-9, not s1"));
}

#[test]
fn a_host_that_is_the_streamer_s_own_is_not_foreign_whatever_its_sidecar_was_told() {
    let mut story = well();
    story.streamer.spec.hostname = Some("media-1.example.com".into());
    for host in ["media-1.example.com", "Media-1.example.com", "s1"] {
        story.view().foreign_host = Some(host.into());
        assert_eq!(story.says(READY), is("True", "Polling"), "{host}");
    }
    story.view().foreign_host = Some("media-1".into());
    assert_eq!(story.says(READY), is("True", "ForeignHost"));
}

#[test]
fn roles_show_as_kubectl_get_nodes_shows_them() {
    let mut story = well();
    assert_eq!(story.told().roles.as_deref(), Some("<none>"));
    story.streamer.spec.roles = vec!["ingest".into(), "transcode".into()];
    assert_eq!(story.told().roles.as_deref(), Some("ingest,transcode"));
}

#[test]
fn cordon_and_drain_show_as_kubectl_get_nodes_shows_them() {
    let mut story = well();
    story.streamer.spec.unschedulable = true;
    assert_eq!(story.told().summary.as_deref(), Some("Ready,SchedulingDisabled"));
    story.streamer.spec.drain = true;
    story.outlook.as_mut().unwrap().closed = Some(Note::new(DRAINING, "s1 is being drained, 5 to go"));
    assert_eq!(story.told().summary.as_deref(), Some("Ready,SchedulingDisabled,Draining"));
    let ready = story.condition(READY);
    assert_eq!(ready.reason, "Draining");
    assert!(ready.message.contains("; s1 is being drained, 5 to go. To end the drain: kubectl "), "{}", ready.message);
}

#[test]
fn a_replica_that_is_behind_for_a_moment_is_not_worth_a_word() {
    let mut story = well();
    story.old = story.told();
    story.view().synced = false;
    story.behind_for = 1_000;
    assert_eq!(story.says(SYNCED), is("True", "Synced"));
    story.behind_for = 5_000;
    assert_eq!(story.says(SYNCED), is("False", "Behind"));
    story.old = story.told();
    story.behind_for = 0;
    assert_eq!(story.says(SYNCED), is("False", "Behind"));
    story.view().synced = true;
    assert_eq!(story.says(SYNCED), is("True", "Synced"));
    story.view().replica_error = Some("disk full".into());
    assert_eq!(story.says(SYNCED), is("False", "ReplicaNotWritten"));
    assert!(story.condition(SYNCED).message.contains("until it can: disk full. To mend it: "));
}

#[test]
fn refused_streams_are_named() {
    let mut story = well();
    let refused = (0..12).map(|at| (format!("cam-{at:02}"), "hunter2".to_owned()));
    story.view().rejected = refused.collect();
    let condition = story.condition(CONFIG_ACCEPTED);
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "InvalidStreams"));
    assert!(condition.message.contains("cam-00, cam-01"), "{}", condition.message);
    assert!(condition.message.contains("cam-09 and 2 more"), "{}", condition.message);
    assert!(!condition.message.contains("hunter2"));
}

#[test]
fn what_the_streamer_thinks_of_its_configuration() {
    let mut story = well();
    story.view().config = ConfigStatus::Unknown;
    assert_eq!(story.says(CONFIG_ACCEPTED), is("Unknown", "NotTold"));
    let object = ObjectRef { namespace: "media".into(), name: "cam".into() };
    let canary = Credentials(BTreeMap::from([("p".into(), b"hunter2".to_vec())]));
    story.secrets.insert(object, canary);
    story.view().config = ConfigStatus::Error { message: "no CORS header, hunter2".into() };
    assert_eq!(story.says(CONFIG_ACCEPTED), is("False", "Refused"));
    assert!(story.condition(CONFIG_ACCEPTED).message.contains("no CORS header, …."));
}

#[test]
fn a_status_fits_its_schema_whatever_a_sidecar_says() {
    let mut story = well();
    story.view().instance = Some("é".repeat(500));
    story.view().program = "v".repeat(500);
    story.view().foreign_host = Some("h".repeat(5_000));
    story.view().held = BTreeSet::from(["x".into()]);
    let status = story.told();
    assert!(status.instance.unwrap().len() <= 128);
    assert!(status.sidecar_version.unwrap().len() <= 64);
    assert!(status.conditions.iter().all(|condition| condition.message.len() <= 1024));
}

#[test]
fn a_streamer_that_cannot_be_read_is_not_ready() {
    let mut story = well();
    story.old = story.told();
    let told = malformed_streamer(
        &object("s1"),
        &story.old,
        (3, "spec.capacity is a text"),
        Declared::WithKubectl,
        NOW + 5_000,
    );
    assert_eq!(told.summary.as_deref(), Some("NotReady"));
    assert_eq!(find(&told.conditions, READY).unwrap().reason, "Malformed");
    assert_eq!(told.first_ready, story.old.first_ready);
}
