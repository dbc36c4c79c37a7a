use super::*;
use weir_feed::record::Change;

struct State {
    dir: tempfile::TempDir,
    slices: Slices,
}

fn open(dir: &Path) -> Result<Slices, StateError> {
    let lock = Lock::new(dir, "test", None);
    lock.attempt().unwrap();
    Slices::open(dir, Arc::new(lock))
}

fn state() -> State {
    let dir = tempfile::tempdir().unwrap();
    let slices = open(dir.path()).unwrap();
    State { dir, slices }
}

/// A stream's record, in the slice it belongs to.
fn record(name: &str, epoch: u64) -> (SliceId, Record) {
    let change = Change::Place { stream: name.into(), uid: "u".into(), streamer: "s1".into() };
    let id = SliceId { namespace: "media".into(), index: slice_of(name) };
    (id, Record::apply(name, None, &change, epoch).unwrap())
}

fn version(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Done { version } => *version,
        other => panic!("{other:?}"),
    }
}

fn path(state: &State, id: &SliceId) -> PathBuf {
    state.dir.path().join(format!("placements/{}/{}.json", id.namespace, id.object()))
}

/// A person confirms a removal.
fn annotate(state: &State, id: &SliceId) {
    let mut placement: Placement = serde_json::from_slice(&fs::read(path(state, id)).unwrap()).unwrap();
    placement.metadata.annotations.as_mut().unwrap().insert(CONFIRM_REMOVAL.into(), "true".into());
    fs::write(path(state, id), serde_json::to_vec(&placement).unwrap()).unwrap();
}

#[test]
fn a_slice_is_created_taken_and_filled_and_read_again_after_a_restart() {
    let state = state();
    let (id, record) = record("bunny", 9);
    let created = version(&state.slices.create(&id, 5));
    let taken = version(&state.slices.take(&id, created, 5, 6));
    let written = version(&state.slices.write(&id, taken, 6, vec![record.clone()], Some(1_700_000_000_001)));
    assert!(created < taken && taken < written);

    let dir = state.dir;
    drop(state.slices);
    let slices = open(dir.path()).unwrap();
    let (list, highest) = slices.list().unwrap();
    assert_eq!(highest, written);
    let [slice] = list.as_slice() else { panic!("{list:?}") };
    assert_eq!((slice.version, slice.term, &slice.records), (written, 6, &vec![record]));
    assert_eq!(slice.removal_until, Some(1_700_000_001_000), "whole seconds, never earlier");
    assert_eq!(slices.highest_term().unwrap(), 6);
}

#[test]
fn the_file_is_a_placement_that_a_cluster_takes() {
    let state = state();
    let (id, record) = record("bunny", 9);
    let created = version(&state.slices.create(&id, 5));
    state.slices.write(&id, created, 5, vec![record], None);
    let object: serde_json::Value = serde_json::from_slice(&fs::read(path(&state, &id)).unwrap()).unwrap();
    assert_eq!(object["apiVersion"], "weir.dev/v1alpha1");
    assert!(object["metadata"].get("resourceVersion").is_none(), "a create with one is refused");
    assert_eq!(object["status"]["streams"], 1);
    weir_crds::validate("Placement", &object, None).unwrap();
}

#[test]
fn compare_and_swap_changes_nothing_on_an_old_version_or_an_old_term() {
    let state = state();
    let (id, record) = record("bunny", 9);
    let created = version(&state.slices.create(&id, 5));
    let taken = version(&state.slices.take(&id, created, 5, 6));
    let before = fs::read(path(&state, &id)).unwrap();
    for outcome in [
        state.slices.write(&id, created, 5, vec![record.clone()], None),
        state.slices.write(&id, taken, 5, vec![record.clone()], None),
        state.slices.write(&id, created, 6, vec![record.clone()], None),
        state.slices.take(&id, created, 5, 7),
        state.slices.create(&id, 7),
        state.slices.take(&SliceId { namespace: "media".into(), index: id.index ^ 1 }, 1, 1, 2),
        state.slices.create(&SliceId { namespace: "../up".into(), index: 1 }, 7),
    ] {
        assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    }
    assert_eq!(fs::read(path(&state, &id)).unwrap(), before);
}

#[cfg(debug_assertions)]
#[test]
fn every_rule_here_has_tests_that_fail_without_it() {
    let tests = weir_feed::rule_tests![compare_and_swap_changes_nothing_on_an_old_version_or_an_old_term];
    for rule in [Rule::CompareAndSwapVersion, Rule::CompareAndSwapTerm] {
        weir_feed::rule::prove(rule, &[], tests);
    }
}

#[test]
fn nothing_is_written_without_the_lock() {
    let state = state();
    let (id, _) = record("bunny", 9);
    let created = version(&state.slices.create(&id, 5));
    state.slices.lock.release();
    assert!(matches!(state.slices.take(&id, created, 5, 6), Outcome::Refused { .. }));
    assert_eq!(state.slices.read(&id).unwrap().unwrap().term, 5);
}

#[test]
fn the_list_version_only_grows_and_a_slice_that_went_back_shows() {
    let state = state();
    let (id, first) = record("bunny", 9);
    let created = version(&state.slices.create(&id, 5));
    let copy = fs::read(path(&state, &id)).unwrap();
    let written = version(&state.slices.write(&id, created, 5, vec![first], None));

    let other = SliceId { namespace: "media".into(), index: id.index ^ 1 };
    let last = version(&state.slices.create(&other, 5));
    fs::remove_file(path(&state, &other)).unwrap();
    assert_eq!(state.slices.list().unwrap().1, last, "a removed slice does not take it back");

    fs::write(path(&state, &id), copy).unwrap();
    let (slices, version) = state.slices.list().unwrap();
    assert_eq!((slices[0].version, version), (created, created));
    assert!(created < written);
}

#[test]
fn damaged_state_is_refused_with_the_file_and_what_to_do() {
    let (id, first) = record("bunny", 9);
    let (_, stranger) =
        ["a", "b", "c", "d"].iter().map(|name| record(name, 1)).find(|(other, _)| other.index != id.index).unwrap();
    let placement = |namespace: &str, records: Vec<Record>| {
        let mut placement = Placement::new(&id.object(), PlacementSpec { records, ..PlacementSpec::default() });
        placement.metadata.namespace = Some(namespace.into());
        placement.metadata.annotations = Some([(VERSION.to_owned(), "4".to_owned())].into());
        serde_json::to_string(&placement).unwrap()
    };
    let good = placement("media", vec![first.clone()]);
    let damaged = [
        (String::new(), "is damaged"),
        (good[..good.len() / 2].to_owned(), "is damaged"),
        (good.replace("\"4\"", "\"x\""), "has no version"),
        (placement("other", vec![]), "another Placement"),
        (placement("media", vec![first.clone(), first.clone()]), "two records of bunny"),
        (placement("media", vec![stranger]), "belongs to another slice"),
    ];
    for (text, what) in damaged {
        let state = state();
        fs::create_dir_all(path(&state, &id).parent().unwrap()).unwrap();
        fs::write(path(&state, &id), &good).unwrap();
        drop(open(state.dir.path()).unwrap_or_else(|error| panic!("{error}")));
        fs::write(path(&state, &id), text).unwrap();
        let Err(StateError(sentence)) = open(state.dir.path()) else { panic!("{what}") };
        assert!(
            sentence.contains(&id.object()) && sentence.contains(what) && sentence.contains("restore it"),
            "{sentence}"
        );
        let outcome = state.slices.take(&id, 4, 0, 9);
        assert!(matches!(outcome, Outcome::Unknown { .. }), "never started empty: {outcome:?}");
    }
}

#[test]
fn a_crash_in_the_middle_of_a_write_leaves_the_old_slice() {
    let state = state();
    let (id, _) = record("bunny", 9);
    let created = version(&state.slices.create(&id, 5));
    let temporary = path(&state, &id).with_file_name(format!(".{}.json.tmp", id.object()));
    fs::write(&temporary, "{\"apiVersion\"").unwrap();
    let (list, highest) = state.slices.list().unwrap();
    assert_eq!((list.len(), highest), (1, created));
    state.slices.clear_temporaries().unwrap();
    assert!(!temporary.exists());
    version(&state.slices.take(&id, created, 5, 6));
}

#[test]
fn what_others_do_to_the_files_is_seen_and_our_own_writes_are_not() {
    let state = state();
    let (id, record) = record("bunny", 9);
    let created = version(&state.slices.create(&id, 5));
    let written = version(&state.slices.write(&id, created, 5, vec![record], None));
    assert_eq!(state.slices.changes().unwrap(), []);

    annotate(&state, &id);
    let seen = state.slices.changes().unwrap();
    let [SliceSeen { version: Some(edited), term: Some(5), .. }] = seen.as_slice() else { panic!("{seen:?}") };
    assert!(*edited > written, "an edit is a version of its own");
    assert!(state.slices.read(&id).unwrap().unwrap().removal_confirmed);
    assert!(matches!(state.slices.take(&id, written, 5, 6), Outcome::Refused { .. }));
    assert_eq!(state.slices.changes().unwrap(), []);

    fs::remove_file(path(&state, &id)).unwrap();
    assert_eq!(state.slices.changes().unwrap(), [SliceSeen { id, version: None, term: None }]);
    assert_eq!(state.slices.changes().unwrap(), []);
}

#[test]
fn an_edit_that_nobody_has_read_yet_is_not_written_over() {
    let state = state();
    let (id, record) = record("bunny", 9);
    let created = version(&state.slices.create(&id, 5));
    annotate(&state, &id);
    assert!(matches!(state.slices.write(&id, created, 5, vec![record.clone()], None), Outcome::Refused { .. }));
    let read = state.slices.read(&id).unwrap().unwrap();
    assert!(read.removal_confirmed);
    version(&state.slices.write(&id, read.version, 5, vec![record], None));
}

#[test]
fn a_confirmation_is_taken_off_when_its_removal_is_through_and_that_is_seen() {
    let state = state();
    let (id, record) = record("bunny", 9);
    let other = SliceId { namespace: "media".into(), index: id.index ^ 1 };
    let held = Some(1_700_000_000_000);
    let mut versions = [&id, &other].map(|id| {
        let created = version(&state.slices.create(id, 5));
        version(&state.slices.write(id, created, 5, vec![], held))
    });
    annotate(&state, &id);
    let seen = state.slices.changes().unwrap();
    let [SliceSeen { version: Some(confirmed), .. }] = seen.as_slice() else { panic!("{seen:?}") };
    versions[0] = version(&state.slices.write(&id, *confirmed, 5, vec![record.clone()], None));
    assert!(state.slices.read(&id).unwrap().unwrap().removal_confirmed, "the other slice is still held");

    versions[1] = version(&state.slices.write(&other, versions[1], 5, vec![], None));
    assert!(matches!(state.slices.write(&id, versions[0], 5, vec![], None), Outcome::Refused { .. }), "it was edited");
    let seen = state.slices.changes().unwrap();
    let [SliceSeen { id: of, version: Some(edited), .. }] = seen.as_slice() else { panic!("{seen:?}") };
    assert!(*of == id && *edited > versions[0]);
    let slice = state.slices.read(&id).unwrap().unwrap();
    assert_eq!((slice.removal_confirmed, slice.records), (false, vec![record]));
    version(&state.slices.write(&id, *edited, 5, vec![], None));
    assert_eq!(state.slices.changes().unwrap(), []);
}
