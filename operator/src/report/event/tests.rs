use super::*;
use weir_feed::frames::Partition;
use weir_feed::record::Phase;

fn planned(change: Change) -> Planned {
    Planned {
        stream: StreamId { namespace: "media".into(), name: "mylive/bunny".into() },
        change,
        urgent: false,
        why: "moved from s1 (silent for 31 s) to s2".into(),
    }
}

fn before() -> Record {
    Record {
        name: "mylive/bunny".into(),
        stream: "bunny".into(),
        uid: "u-1".into(),
        streamer: "s1".into(),
        epoch: 1,
        phase: Phase::Active,
        to: None,
        previous: None,
        partition: Partition::KeepCapturing,
    }
}

fn object() -> ObjectRef {
    ObjectRef { namespace: "media".into(), name: "bunny".into() }
}

fn condition(type_: &str, status: &str, reason: &str) -> Condition {
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: reason.into(),
        message: format!("{reason}, in a sentence"),
        last_transition_time: time(0),
        observed_generation: None,
    }
}

fn reasons(occurrences: &[Occurrence]) -> Vec<(bool, &str)> {
    let told = occurrences.iter();
    told.map(|one| (one.warning, one.reason.as_str())).collect()
}

#[test]
fn a_failover_is_a_warning_on_the_stream_with_the_plans_sentence() {
    let change = Change::Move { streamer: "s2".into(), previous: Some("s1".into()) };
    let told = of_change(&planned(change), Some(&before())).unwrap();
    assert_eq!((told.kind, &told.object, told.uid.as_str()), ("Stream", &object(), "u-1"));
    assert_eq!((told.warning, told.reason.as_str()), (true, "FailedOver"));
    assert_eq!(told.message, "moved from s1 (silent for 31 s) to s2");
}

#[test]
fn other_changes_are_told_apart() {
    let told = |change| of_change(&planned(change), Some(&before())).map(|told| (told.warning, told.reason));
    let moved = Change::Move { streamer: "s2".into(), previous: None };
    assert_eq!(told(moved), Some((false, "Moved".into())));
    let to = Some("s2".into());
    assert_eq!(told(Change::Release { to }), Some((false, "Moving".into())));
    assert_eq!(told(Change::Release { to: None }), Some((false, "LettingGo".into())));
    assert_eq!(told(Change::Keep), Some((true, "Kept".into())));
    assert_eq!(told(Change::Clear), None);
    let place = Change::Place { stream: "bunny".into(), uid: "u-2".into(), streamer: "s1".into() };
    let placed = of_change(&planned(place), None).unwrap();
    assert_eq!((placed.uid.as_str(), placed.reason.as_str()), ("u-2", "Placed"));
    assert_eq!(of_change(&planned(Change::Keep), None), None);
}

#[test]
fn a_streams_conditions_are_told_when_they_turn_and_not_again() {
    let status = |conditions| StreamStatus { conditions, ..StreamStatus::default() };
    let well = status(vec![condition(ACCEPTED, "True", "Accepted"), condition(PLACED, "True", "Placed")]);
    let told = |old: &StreamStatus, new: &StreamStatus| of_stream(&object(), "u-1", old, new);
    assert_eq!(told(&StreamStatus::default(), &well), []);
    let conflict = status(vec![condition(ACCEPTED, "False", "Conflict"), condition(PLACED, "False", "Conflict")]);
    let once = told(&well, &conflict);
    assert_eq!(reasons(&once), [(true, "Conflict")]);
    assert_eq!(once[0].message, "Conflict, in a sentence");
    assert_eq!(told(&conflict, &conflict), []);
    assert_eq!(reasons(&told(&conflict, &well)), [(false, "Accepted")]);
    let stuck = status(vec![condition(ACCEPTED, "True", "Accepted"), condition(PLACED, "True", "NoDestination")]);
    assert_eq!(reasons(&told(&well, &stuck)), [(true, "NoDestination")]);
    let waits = status(vec![condition(PLACED, "False", "Waiting")]);
    assert_eq!(told(&well, &waits), []);
}

#[test]
fn a_streamer_comes_and_goes() {
    let status = |conditions| StreamerStatus { conditions, ..StreamerStatus::default() };
    let well = status(vec![
        condition(READY, "True", "Polling"),
        condition(SYNCED, "True", "Synced"),
        condition(CONFIG_ACCEPTED, "True", "Loaded"),
    ]);
    let silent = status(vec![
        condition(READY, "False", "Silent"),
        condition(SYNCED, "Unknown", "Silent"),
        condition(CONFIG_ACCEPTED, "Unknown", "Silent"),
    ]);
    let told = |old: &StreamerStatus, new: &StreamerStatus| of_streamer(&object(), "u-1", old, new);
    let first = told(&StreamerStatus::default(), &well);
    assert_eq!(reasons(&first), [(false, "Ready")]);
    assert_eq!(first[0].kind, "Streamer");
    assert_eq!(reasons(&told(&well, &silent)), [(true, "Silent")]);
    assert_eq!(reasons(&told(&silent, &well)), [(false, "Ready")]);
    let refusing = status(vec![condition(CONFIG_ACCEPTED, "False", "InvalidStreams")]);
    assert_eq!(reasons(&told(&well, &refusing)), [(true, "InvalidStreams")]);
    assert_eq!(reasons(&told(&refusing, &well))[1..], [(false, "Loaded")]);
    let foreign = status(vec![condition(READY, "True", "ForeignHost")]);
    assert_eq!(reasons(&told(&well, &foreign)), [(true, "ForeignHost")]);
    assert_eq!(reasons(&told(&foreign, &status(vec![condition(READY, "True", "Polling")]))), [(false, "Ready")]);
    let never = status(vec![condition(READY, "False", "NeverReported")]);
    assert_eq!(reasons(&told(&StreamerStatus::default(), &never)), [(false, "NeverReported")]);
    let behind = status(vec![condition(SYNCED, "False", "Behind")]);
    assert_eq!(told(&well, &behind), []);
}

#[test]
fn a_held_removal_says_until_when_and_how_to_confirm() {
    let slice = SliceId { namespace: "media".into(), index: 7 };
    let held = HeldRemoval { orphans: 40, records: 100, until: 1_800_000_000_000 };
    let told = of_held_removal(&slice, &held, Declared::WithKubectl);
    assert_eq!((told.kind, told.object.name.as_str()), ("Placement", "placement-7"));
    assert_eq!(
        told.message,
        "40 of 100 streams of the namespace lost their Stream at once: they run on until 2027-01-15T08:00:00Z, and are \
         stopped then. To keep them: apply their Streams again, from wherever they are kept; to let them go at once: kubectl \
         -n media annotate placements.weir.dev placement-7 weir.dev/confirm-removal=true"
    );
    let told = of_held_removal(&slice, &held, Declared::InManifests);
    assert!(told.message.ends_with("in placements/media/placement-7.json of the state directory"), "{}", told.message);
}

#[test]
fn a_correction_names_the_stream_and_who_proves_it() {
    let stream = StreamId { namespace: "media".into(), name: "mylive/bunny".into() };
    let told = of_correction(&stream, "bunny", "u-1", "s2");
    assert_eq!((told.kind, &told.object, told.uid.as_str()), ("Stream", &object(), "u-1"));
    assert_eq!((told.warning, told.reason.as_str()), (true, "Corrected"));
    assert!(told.message.starts_with("the record of mylive/bunny was older than what s2 proves"), "{}", told.message);
}

#[test]
fn a_failover_of_many_is_one_event_on_the_streamer_with_where_they_went() {
    let streamer = ObjectRef { namespace: "media".into(), name: "s1".into() };
    let to = [("s2".to_owned(), 7), ("s3".to_owned(), 5)].into();
    let told = of_failover(&streamer, "u-9", &to);
    assert_eq!((told.kind, &told.object, told.reason.as_str()), ("Streamer", &streamer, "FailedOver"));
    assert_eq!(told.message, "12 streams moved away from s1, which is gone: 7 to s2, 5 to s3");
    let many = (0..100).map(|at| (format!("s{at:03}"), 1)).collect();
    let told = of_failover(&streamer, "u-9", &many);
    assert!(told.message.ends_with("1 to s009, the others to 90 more"), "{}", told.message);
}
