//! That nothing waits unseen: every reason is brought about, and must then have a condition, an Event, a metric, a
//! sentence that says what happens next and what to type, and a row in docs/waiting.md.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::registry::Registry;
use weir_crds::condition::{Condition, find};
use weir_crds::secret_ref::SecretRef;
use weir_crds::{StreamStatus, StreamerStatus};
use weir_feed::frames::{ApiState, ConfigStatus, Partition};
use weir_feed::leader::step::SliceId;
use weir_feed::leader::view::{Capture, Unwritten};
use weir_feed::periods::Periods;
use weir_feed::record::{Phase, Record, StreamId, StreamerId};
use weir_feed::time::Now;
use weir_placement::plan::{HeldRemoval, Outlook, Plan, plan};
use weir_placement::selector::Selector;
use weir_placement::world::{Known, Namespace, Stream, Streamer, World};

use super::*;
use crate::cluster::{Declared, ObjectRef, Occurrence};
use crate::document::Problem;
use crate::metrics::{Counts, Metrics};
use crate::report::advice::PLACEHOLDERS;
use crate::report::event;
use crate::report::{stream::tests as stream_story, streamer::tests as streamer_story};
use crate::reporter::count;

const PAGE: &str = include_str!("../../../../docs/waiting.md");

fn waiting(reasons: &[Reason]) -> impl Iterator<Item = &Reason> {
    reasons.iter().filter(|reason| reason.waiting().is_some())
}

/// A world in which the planner gives that reason: streamers `s1` and `s2`, and the Stream `bunny`.
fn world(reason: Planned) -> World {
    let mut known = Known::default();
    let mut streamers: BTreeMap<String, Streamer> =
        ["s1", "s2"].map(|name| (name.to_owned(), Streamer::default())).into();
    let mut settled = true;
    let mut s1 = Streamer::default();
    let mut partition = Partition::KeepCapturing;
    match reason {
        Planned::Unschedulable => {
            s1.unschedulable = true;
            streamers.remove("s2");
        }
        Planned::NoDestination => {
            known.record = Some(record());
            s1.drain = true;
            streamers.get_mut("s2").unwrap().unschedulable = true;
        }
        Planned::MayStillRun => known.may_run = [("s1".to_owned(), Some(5_000))].into(),
        Planned::Disputed => known.disputed = Some("s1".into()),
        Planned::HolderLost => (known.record, known.holder_lost) = (Some(record()), Some(5_000)),
        Planned::PolicyPending => {
            (known.record, known.holder_lost) = (Some(record()), Some(5_000));
            partition = Partition::StopCapturing;
        }
        Planned::NotPolling => (known.record, known.not_polling) = (Some(record()), true),
        Planned::ReleaseTimedOut => {
            (known.record, known.called_off) = (Some(record()), Some(5_000));
            s1.drain = true;
        }
        Planned::Waiting => settled = false,
        Planned::LettingGo => known.record = Some(Record { phase: Phase::Releasing, ..record() }),
        Planned::NotReady => s1.not_ready = Some("is silent".into()),
        Planned::SchedulingDisabled => s1.unschedulable = true,
        Planned::Draining => {
            known.record = Some(record());
            s1.drain = true;
        }
        Planned::Drained => s1.drain = true,
        Planned::AtCapacity => s1.capacity = Some(0),
    }
    streamers.insert("s1".into(), s1);
    let stream = Stream {
        object: "bunny".into(),
        uid: "u-1".into(),
        name: "mylive/bunny".into(),
        created: 1,
        labels: BTreeMap::new(),
        streamer_selector: Selector::default(),
        disabled: false,
        after: 30_000,
        partition,
    };
    let namespace = Namespace {
        streams: vec![stream],
        streamers,
        known: [("mylive/bunny".to_owned(), known)].into(),
        ..Namespace::default()
    };
    World {
        settled,
        settles_in: (!settled).then_some(20_000),
        periods: Periods::default(),
        namespaces: [("media".to_owned(), namespace)].into(),
    }
}

fn record() -> Record {
    stream_story::well().record.unwrap()
}

fn planned(reason: Planned) -> (Option<Record>, Plan) {
    let world = world(reason);
    let record = world.namespaces["media"].known["mylive/bunny"].record.clone();
    (record, plan(&world, Now { mono: 1_000_000, wall: stream_story::NOW }))
}

/// Conditions of `bunny` with that reason.
fn stream_conditions(reason: &Reason, declared: Declared) -> Vec<Condition> {
    let mut story = stream_story::well();
    story.declared = declared;
    if let Some(planned_reason) = Planned::ALL.iter().find(|one| of(**one) == *reason) {
        let (record, plan) = planned(*planned_reason);
        story.record = record;
        story.outlook = plan.streams.get(&StreamId { namespace: "media".into(), name: "bunny".into() }).cloned();
        return story.told().conditions;
    }
    let problem = |reason: &Reason| {
        let reason = stream::named(reason.name()).unwrap();
        let secret = SecretRef { name: "cam".into(), key: "password".into() };
        Some(Problem { reason, message: "what is wrong".into(), secret: Some(secret) })
    };
    let elsewhere = Some(Outlook::Placed { streamer: "s2".into(), note: None });
    match reason.name() {
        "Conflict" => {
            (story.outlook, story.record) = (Some(Outlook::Conflict { with: "hare".into() }), None);
        }
        "Malformed" => {
            let object = ObjectRef { namespace: "media".into(), name: "bunny".into() };
            let old = crate::report::malformed_stream(&object, &story.old, (1, "it is bad"), None, declared, story.now);
            return old.conditions;
        }
        "SecretNotFound" | "SecretKeyNotFound" | "InvalidSecretValue" | "InvalidReference" | "InvalidConfig"
        | "DocumentTooLarge" => story.problem = problem(reason),
        "RejectedByStreamer" => story.rejected = Some("no such codec".into()),
        "SliceFull" => (story.outlook, story.record, story.unwritten) = (elsewhere, None, Unwritten::Full),
        "WriteRefused" => (story.outlook, story.unwritten) = (elsewhere, Unwritten::Refused(30_000)),
        "WritePostponed" => story.outlook = elsewhere,
        "Releasing" => {
            story.record = Some(Record { phase: Phase::Releasing, to: Some("s2".into()), ..record() });
            story.outlook = Some(Outlook::Releasing { streamer: "s1".into(), to: Some("s2".into()), note: None });
        }
        "Held" => (story.capture, story.held) = (Capture::NotRunning, true),
        "NoLease" => {
            story.capture = Capture::NotRunning;
            story.stream.spec.failover.partition = weir_crds::Partition::StopCapturing;
        }
        "NotReported" => story.capture = Capture::Unknown,
        "NotRunning" => story.capture = Capture::NotRunning,
        "NotStarting" => {
            story.capture = Capture::NotRunning;
            story.old = story.told();
            story.now += 120_000;
        }
        other => panic!("nothing brings {other} about: add it here"),
    }
    story.told().conditions
}

/// Conditions of `s1` with that reason.
fn streamer_conditions(reason: &Reason, declared: Declared) -> Vec<Condition> {
    let mut story = streamer_story::well();
    story.declared = declared;
    if let Some(planned_reason) = Planned::ALL.iter().find(|one| of(**one) == *reason) {
        let (_, plan) = planned(*planned_reason);
        story.outlook = plan.streamers.get(&StreamerId { namespace: "media".into(), name: "s1".into() }).cloned();
        return story.told().conditions;
    }
    match reason.name() {
        "NeverReported" => story.view = None,
        "Silent" => story.view().connected = false,
        "StreamerDown" => (story.view().alive, story.view().api) = (false, ApiState::Down),
        "NotPolling" => story.view().alive = false,
        "InstanceConflict" => story.view().contested = true,
        "ForeignHost" => story.view().foreign_host = Some("other".into()),
        "Malformed" => {
            let object = streamer_story::object("s1");
            return crate::report::malformed_streamer(&object, &story.old, (1, "it is bad"), declared, 0).conditions;
        }
        "Terminating" => story.going = Some(streamer_story::pod(true, true)),
        "NeverSynced" => story.view().complete = false,
        "Behind" => (story.view().synced, story.behind_for) = (false, 60_000),
        "ReplicaNotWritten" => story.view().replica_error = Some("disk full".into()),
        "StraysHeld" => (story.view().strays, story.view().strays_for) = (40, 600_000),
        "InvalidStreams" => story.view().rejected = [("cam-1".to_owned(), "bad".to_owned())].into(),
        "Refused" => story.view().config = ConfigStatus::Error { message: "bad".into() },
        "NotSupervised" => story.view().supervised = false,
        "BootsWithConfiguration" => story.view().boots_with = Some(3),
        "Withheld" => story.withheld = vec![("cam-1", Some("there is no Secret cam"))],
        other => panic!("nothing brings {other} about: add it here"),
    }
    story.told().conditions
}

/// The condition that has the reason, of all that were brought about.
fn shown(conditions: &[Condition], reason: &Reason) -> Condition {
    let found = conditions.iter().find(|condition| condition.reason == reason.name());
    found.unwrap_or_else(|| panic!("{} has no condition: {conditions:?}", reason.name())).clone()
}

/// A sentence has what happens next, and behind it what to type, as its owner would.
fn says_what_is_next(reason: &Reason, with_kubectl: &str, in_manifests: &str) {
    let name = reason.name();
    let waits = reason.waiting().unwrap();
    let next = [
        "until",
        "before",
        "as soon as",
        " when ",
        " at ",
        " after ",
        "then",
        "while",
        " by ",
        "in its turn",
        "unless",
        "goes on",
        "gets",
    ];
    assert!(next.iter().any(|word| with_kubectl.contains(word)), "{name} does not say what happens: {with_kubectl}");
    assert!(!waits.advice.is_empty(), "{name} does not say what to type");
    let told = waits.advice.iter().any(|advice| with_kubectl.to_lowercase().contains(&format!("{}: ", advice.to)));
    assert!(told, "{name} does not say what to type: {with_kubectl}");
    for placeholder in ["-n NS", "STREAMER", "placement-X", " NAME"] {
        assert!(!with_kubectl.contains(placeholder), "{name} has no real names in it: {with_kubectl}");
    }
    assert!(!in_manifests.contains("kubectl"), "{name} says kubectl where there is none: {in_manifests}");
}

fn becomes_an_event(reason: &Reason, status: &str, told: &[Occurrence], told_again: &[Occurrence]) {
    let name = reason.name();
    let found = told.iter().filter(|one| one.reason == name).count();
    match reason.waiting().unwrap().event {
        Event::Warning | Event::Normal => assert_eq!(found, 1, "{name} becomes one Event: {told:?}"),
        Event::UnlessTrue(why) => {
            assert!(!why.is_empty() && found == usize::from(status != "True"), "{name}: {told:?}");
        }
        Event::Quiet(why) => assert!(!why.is_empty() && found == 0, "{name} becomes no Event: {told:?}"),
    }
    assert_eq!(told_again, [], "{name} is told once");
}

fn is_counted(metric: &str, reason: &Reason, counts: &Counts) {
    let mut registry = Registry::default();
    let metrics = Metrics::registered(&mut registry);
    let none = Counts::new();
    let of = |name: &str| if name == metric { counts } else { &none };
    metrics.waiting(of("weir_streams_waiting"), of("weir_streamers_waiting"), of("weir_placements_waiting"));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = format!("{metric}{{namespace=\"media\",reason=\"{}\"}} 1\n", reason.name());
    assert!(text.contains(&line), "{line} in\n{text}");
}

#[test]
fn every_reason_of_a_stream_has_a_condition_an_event_a_metric_and_says_what_is_next() {
    let object = ObjectRef { namespace: "media".into(), name: "bunny".into() };
    for reason in waiting(stream::ALL) {
        let conditions = stream_conditions(reason, Declared::WithKubectl);
        let condition = shown(&conditions, reason);
        let in_manifests = shown(&stream_conditions(reason, Declared::InManifests), reason);
        says_what_is_next(reason, &condition.message, &in_manifests.message);
        let status = StreamStatus { conditions, ..StreamStatus::default() };
        let told = event::of_stream(&object, "u-1", &StreamStatus::default(), &status);
        becomes_an_event(reason, &condition.status, &told, &event::of_stream(&object, "u-1", &status, &status));
        let mut counts = Counts::new();
        count(&mut counts, &object, &status.conditions, stream::named);
        is_counted("weir_streams_waiting", reason, &counts);
    }
}

#[test]
fn every_reason_of_a_streamer_has_a_condition_an_event_a_metric_and_says_what_is_next() {
    let object = streamer_story::object("s1");
    for reason in waiting(streamer::ALL) {
        let conditions = streamer_conditions(reason, Declared::WithKubectl);
        let condition = shown(&conditions, reason);
        let in_manifests = shown(&streamer_conditions(reason, Declared::InManifests), reason);
        says_what_is_next(reason, &condition.message, &in_manifests.message);
        let status = StreamerStatus { conditions, ..StreamerStatus::default() };
        let told = event::of_streamer(&object, "u-1", &StreamerStatus::default(), &status);
        becomes_an_event(reason, &condition.status, &told, &event::of_streamer(&object, "u-1", &status, &status));
        let mut counts = Counts::new();
        count(&mut counts, &object, &status.conditions, streamer::named);
        is_counted("weir_streamers_waiting", reason, &counts);
    }
}

#[test]
fn every_reason_of_a_placement_has_an_event_and_says_what_is_next() {
    for reason in waiting(placement::ALL) {
        assert_eq!(*reason, placement::REMOVAL_HELD, "nothing brings it about: add it here");
        let slice = SliceId { namespace: "media".into(), index: 7 };
        let held = HeldRemoval { orphans: 40, records: 100, until: stream_story::NOW };
        let told = |declared| event::of_held_removal(&slice, &held, declared);
        assert_eq!(*reason, told(Declared::WithKubectl).reason.as_str());
        says_what_is_next(reason, &told(Declared::WithKubectl).message, &told(Declared::InManifests).message);
        let counts = [(("media".to_owned(), reason.name()), 1)].into();
        is_counted("weir_placements_waiting", reason, &counts);
    }
}

#[test]
fn the_planner_knows_no_reason_that_it_does_not_give() {
    for reason in Planned::ALL {
        let (_, plan) = planned(*reason);
        let of_streams = plan.streams.values().filter_map(|outlook| match outlook {
            Outlook::Placed { note, .. } | Outlook::Releasing { note, .. } => note.as_ref(),
            Outlook::Pending(note) => Some(note),
            Outlook::Disabled | Outlook::Conflict { .. } => None,
        });
        let of_streamers = plan.streamers.values().filter_map(|outlook| outlook.closed.as_ref());
        let given: BTreeSet<_> = of_streams.chain(of_streamers).map(|note| note.reason).collect();
        assert!(given.contains(reason), "{reason:?}: {given:?}");
        assert_eq!(of(*reason), reason.name());
    }
}

#[test]
fn a_condition_that_is_well_waits_for_nothing() {
    let told = stream_story::well().told();
    for type_ in ["Accepted", "Placed", "Captured"] {
        let reason = stream::named(&find(&told.conditions, type_).unwrap().reason).unwrap();
        assert!(reason.waiting().is_none(), "{type_}: {reason:?}");
    }
}

/// One table of docs/waiting.md.
fn table(reasons: &[Reason]) -> String {
    let rows = waiting(reasons).map(|reason| {
        let waits = reason.waiting().unwrap();
        let advice: Vec<String> = waits.advice.iter().map(in_page).collect();
        [&format!("| `{}`", reason.name()), waits.means, waits.then, &advice.join("<br>")].join(" | ") + " |\n"
    });
    let head = "| reason | what it means | what happens by itself | what to type |\n|---|---|---|---|\n";
    head.to_owned() + &rows.collect::<String>()
}

fn in_page(advice: &Advice) -> String {
    let command = advice.command(&PLACEHOLDERS, Declared::WithKubectl).unwrap();
    let code = if command.starts_with("kubectl -n") { "`" } else { "" };
    format!("{}: {code}{command}{code}", advice.to)
}

#[test]
fn the_page_has_every_reason_and_no_other() {
    let all = [stream::ALL, streamer::ALL, placement::ALL, operator::ALL];
    let tables: Vec<String> = all.into_iter().map(table).collect();
    let missing: Vec<&str> = tables.iter().map(String::as_str).filter(|table| !PAGE.contains(table)).collect();
    assert!(missing.is_empty(), "docs/waiting.md is to have these tables:\n\n{}", missing.join("\n"));
    for table in &tables {
        let behind = PAGE.split(table).nth(1).unwrap_or_default();
        assert!(!behind.starts_with('|'), "docs/waiting.md has a row that no reason stands behind, after\n{table}");
    }
}
