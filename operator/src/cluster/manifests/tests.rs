//! The whole: directories, lock, background and trait, on real files.

use std::fs;

use super::*;
use crate::cluster::Object;
use weir_crds::{StreamStatus, StreamerStatus};

/// Long enough that only a notice or a call can be the cause of anything.
const NEVER: Duration = Duration::from_hours(1);

const STREAM: &str = "apiVersion: weir.dev/v1alpha1\nkind: Stream\nmetadata: {namespace: media, name: one}\nspec: {inputs: [{url: 'rtsp://u:p@h/1'}]}\n";

fn site() -> (tempfile::TempDir, Options) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("manifests")).unwrap();
    fs::write(dir.path().join("manifests/a.yaml"), STREAM).unwrap();
    let mut options = Options::new(&dir.path().join("manifests"), &dir.path().join("state"));
    options.settle = Duration::from_millis(5);
    options.poll = Duration::from_millis(10);
    (dir, options)
}

struct Candidate {
    cluster: Manifests,
    term: watch::Sender<u64>,
    resign: watch::Sender<u64>,
    events: mpsc::Receiver<LeaseEvent>,
}

fn candidate(options: &Options, identity: &str) -> Candidate {
    let feed_advertise = Some(format!("https://{identity}:9443"));
    let options = Options { identity: identity.into(), feed_advertise, ..options.clone() };
    let cluster = Manifests::open(options).unwrap();
    let (term, resign) = (watch::Sender::new(0), watch::Sender::new(0));
    let events = cluster.campaign(term.subscribe(), resign.subscribe());
    Candidate { cluster, term, resign, events }
}

fn object(name: &str) -> ObjectRef {
    ObjectRef { namespace: "media".into(), name: name.into() }
}

async fn leader(options: &Options) -> Candidate {
    let mut candidate = candidate(options, "one");
    assert_eq!(candidate.events.recv().await, Some(LeaseEvent::Held { deadline: u64::MAX / 2, highest_term: 0 }));
    candidate
}

#[tokio::test]
async fn a_standby_waits_and_takes_over_with_the_highest_term() {
    let (_dir, options) = site();
    let mut one = leader(&options).await;
    let mut other = candidate(&options, "other");
    assert_eq!(other.events.recv().await, Some(LeaseEvent::Lost { leader: Some("https://one:9443".into()) }));

    let id = SliceId { namespace: "media".into(), index: 7 };
    let created = one.cluster.create_slice(&id, 41).await;
    assert!(matches!(created, Outcome::Done { .. }), "{created:?}");
    assert!(matches!(other.cluster.create_slice(&id, 99).await, Outcome::Refused { .. }));
    assert!(other.cluster.keys().await.is_err() && other.cluster.list(Resource::Streams).await.is_err());
    let keys = one.cluster.keys().await.unwrap();

    one.resign.send_modify(|times| *times += 1);
    assert_eq!(one.events.recv().await, Some(LeaseEvent::Lost { leader: None }));
    drop(one.events);
    assert_eq!(other.events.recv().await, Some(LeaseEvent::Held { deadline: u64::MAX / 2, highest_term: 41 }));
    assert_eq!(other.cluster.keys().await.unwrap(), keys);
    assert!(matches!(one.cluster.create_slice(&id, 42).await, Outcome::Refused { .. }));
}

#[tokio::test]
async fn the_published_term_outlives_the_slices() {
    let (_dir, options) = site();
    let one = leader(&options).await;
    one.term.send_replace(77);
    let lock = options.state.join("lock");
    while !fs::read_to_string(&lock).unwrap().contains("\"term\":77") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(one);
    let mut other = candidate(&options, "other");
    loop {
        match other.events.recv().await.unwrap() {
            LeaseEvent::Held { highest_term, .. } => break assert_eq!(highest_term, 77),
            LeaseEvent::Lost { .. } | LeaseEvent::WentBack { .. } => {}
        }
    }
}

#[tokio::test]
async fn a_lock_whose_file_was_removed_is_lost_and_taken_again() {
    let (_dir, options) = site();
    let mut one = leader(&options).await;
    fs::remove_file(options.state.join("lock")).unwrap();
    assert_eq!(one.events.recv().await, Some(LeaseEvent::Lost { leader: None }));
    assert!(matches!(one.events.recv().await, Some(LeaseEvent::Held { .. })));
}

#[tokio::test]
async fn damaged_state_is_refused_at_start_and_keeps_a_standby_from_leading() {
    for (file, text) in [
        ("keys.json", "{}"),
        ("objects.json", "{"),
        ("first-ready.json", "["),
        ("placements/media/placement-7.json", ""),
    ] {
        let (_dir, options) = site();
        let mut one = leader(&options).await;
        let mut other = candidate(&options, "other");
        assert!(matches!(other.events.recv().await, Some(LeaseEvent::Lost { .. })));
        let mut observed = other.cluster.observe();
        fs::create_dir_all(options.state.join("placements/media")).unwrap();
        fs::write(options.state.join(file), text).unwrap();
        let error = Manifests::open(options.clone()).err().unwrap().0;
        assert!(error.contains(file) && error.contains("restore it"), "{error}");

        one.resign.send_modify(|times| *times += 1);
        assert_eq!(one.events.recv().await, Some(LeaseEvent::Lost { leader: None }));
        drop(one);
        let complains = |observed: &Arc<Observed>| observed.problems.iter().any(|problem| problem.contains(file));
        observed.wait_for(complains).await.unwrap();
        assert_eq!(fs::read_to_string(options.state.join(file)).unwrap(), text, "never written over");
    }
}

#[tokio::test]
async fn a_first_start_needs_its_directory_and_a_token_file_that_can_be_understood() {
    let (dir, options) = site();
    fs::write(dir.path().join("tokens"), "what").unwrap();
    let error =
        Manifests::open(Options { token_file: Some(dir.path().join("tokens")), ..options.clone() }).err().unwrap().0;
    assert!(error.contains("line 1"), "{error}");
    fs::remove_dir_all(&options.manifests).unwrap();
    let error = Manifests::open(options).err().unwrap().0;
    assert!(error.contains("--manifests"), "{error}");
}

#[tokio::test]
async fn changes_of_files_are_noticed_without_waiting_for_the_next_look() {
    let (_dir, mut options) = site();
    options.poll = NEVER;
    let cluster = Manifests::open(options.clone()).unwrap();
    let mut observed = cluster.observe();
    let count = |count: usize| {
        move |observed: &Arc<Observed>| observed.streams.as_ref().is_some_and(|streams| streams.len() == count)
    };
    observed.changed().await.unwrap();
    assert!(count(1)(&observed.borrow_and_update()), "what was read at the start is news");
    fs::create_dir(options.manifests.join("sub")).unwrap();
    fs::write(options.manifests.join("sub/b.yaml"), STREAM.replace("name: one", "name: two")).unwrap();
    observed.wait_for(count(2)).await.unwrap();
    fs::remove_file(options.manifests.join("sub/b.yaml")).unwrap();
    observed.wait_for(count(1)).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_goes_and_comes_back_is_followed_again() {
    let (_dir, options) = site();
    let cluster = Manifests::open(options.clone()).unwrap();
    let mut observed = cluster.observe();
    fs::remove_dir_all(&options.manifests).unwrap();
    let unknown = Arc::clone(&*observed.wait_for(|observed| !observed.problems.is_empty()).await.unwrap());
    assert_eq!(unknown.streams.as_ref().map(std::collections::BTreeMap::len), Some(1));
    fs::create_dir(&options.manifests).unwrap();
    fs::write(options.manifests.join("a.yaml"), STREAM).unwrap();
    observed.wait_for(|observed| observed.problems.is_empty()).await.unwrap();
}

#[tokio::test]
async fn statuses_come_back_in_the_objects_and_first_ready_survives() {
    let (_dir, options) = site();
    let one = leader(&options).await;
    let mut observed = one.cluster.observe();
    let streamer = StreamerId { namespace: "media".into(), name: "s1".into() };
    one.cluster.register(&streamer, &About::default(), None).await.unwrap();
    let ready = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::from_second(5).unwrap());
    let status = StreamerStatus { first_ready: Some(ready.clone()), ..StreamerStatus::default() };
    one.cluster.write_status(&object("s1"), &Status::Streamer(status)).await.unwrap();
    let status = StreamStatus { streamer: Some("s1".into()), ..StreamStatus::default() };
    one.cluster.write_status(&object("one"), &Status::Stream(status.clone())).await.unwrap();
    let shown = |observed: &Arc<Observed>| {
        let stream = observed.streams.as_ref().and_then(|streams| streams.get(&object("one")));
        matches!(stream, Some(Object::Readable(stream)) if stream.status.as_ref() == Some(&status))
    };
    observed.wait_for(shown).await.unwrap();
    let list = one.cluster.list(Resource::Streams).await.unwrap();
    assert_eq!((&list[0]["kind"], &list[0]["status"]["streamer"]), (&json!("Stream"), &json!("s1")));

    drop((one, observed));
    let again = leader_again(&options).await;
    let snapshot = Arc::clone(&*again.cluster.observe().borrow());
    let Some(Object::Readable(streamer)) = snapshot.streamers.as_ref().unwrap().get(&object("s1")) else { panic!() };
    assert_eq!(streamer.status.as_ref().unwrap().first_ready, Some(ready));
    assert_eq!(again.cluster.list(Resource::Streamers).await.unwrap().len(), 1);
}

/// As [`leader`], where the one before may not have let go yet.
async fn leader_again(options: &Options) -> Candidate {
    let mut candidate = candidate(options, "again");
    while !matches!(candidate.events.recv().await.unwrap(), LeaseEvent::Held { .. }) {}
    candidate
}

#[tokio::test]
async fn a_declared_streamer_wins_over_a_registered_one() {
    let (_dir, options) = site();
    let one = leader(&options).await;
    let streamer = StreamerId { namespace: "media".into(), name: "s1".into() };
    one.cluster.register(&streamer, &About { hostname: "registered".into(), ..About::default() }, None).await.unwrap();
    let hostname =
        |observed: &Observed| match observed.streamers.as_ref().and_then(|streamers| streamers.get(&object("s1"))) {
            Some(Object::Readable(streamer)) => streamer.hostname().to_owned(),
            _ => String::new(),
        };
    let mut observed = one.cluster.observe();
    assert_eq!(hostname(&observed.borrow()), "registered");
    let declared = "apiVersion: weir.dev/v1alpha1\nkind: Streamer\nmetadata: {namespace: media, name: s1}\nspec: {hostname: declared}\n";
    fs::write(options.manifests.join("s.yaml"), declared).unwrap();
    observed.wait_for(|observed| hostname(observed) == "declared").await.unwrap();
    fs::remove_file(options.manifests.join("s.yaml")).unwrap();
    observed.wait_for(|observed| hostname(observed) == "registered").await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_written_down_is_said_until_it_can() {
    let (_dir, options) = site();
    let one = leader(&options).await;
    let mut observed = one.cluster.observe();
    // A directory in the way of the temporary file: also root cannot write there.
    let obstacle = options.state.join(".objects.json.tmp");
    fs::create_dir(&obstacle).unwrap();
    fs::write(options.manifests.join("b.yaml"), STREAM.replace("name: one", "name: two")).unwrap();
    let complains = |observed: &Arc<Observed>| observed.problems.iter().any(|problem| problem.contains("objects.json"));
    let said = Arc::clone(&*observed.wait_for(complains).await.unwrap());
    assert_eq!(said.streams.as_ref().unwrap().len(), 2, "what is declared counts all the same");
    fs::remove_dir(&obstacle).unwrap();
    observed.wait_for(|observed| !complains(observed)).await.unwrap();
    assert!(fs::read_to_string(options.state.join("objects.json")).unwrap().contains("Stream/media/two"));
}

#[tokio::test]
async fn slices_and_events_can_be_asked_for() {
    let (_dir, options) = site();
    let one = leader(&options).await;
    let mut seen = one.cluster.watch_slices();
    let id = SliceId { namespace: "media".into(), index: 7 };
    let Outcome::Done { version } = one.cluster.create_slice(&id, 5).await else { panic!() };
    assert_eq!(one.cluster.list_slices().await.unwrap().1, version);
    let list = one.cluster.list(Resource::Placements).await.unwrap();
    assert_eq!(list[0]["metadata"]["name"], "placement-7");
    fs::remove_file(options.state.join("placements/media/placement-7.json")).unwrap();
    let mut told = seen.recv().await.unwrap();
    // Our own write may be seen before.
    while told.version.is_some() {
        told = seen.recv().await.unwrap();
    }
    assert_eq!(told, SliceSeen { id, version: None, term: None });

    let occurrence = Occurrence {
        kind: "Stream",
        object: object("one"),
        uid: "u".into(),
        warning: true,
        tells: crate::cluster::Tells::State,
        reason: "Conflict".into(),
        message: "two".into(),
    };
    for _ in 0..=EVENTS {
        one.cluster.record_event(&occurrence).await;
    }
    let events = one.cluster.list(Resource::Events).await.unwrap();
    assert_eq!((events.len(), &events[0]["type"]), (EVENTS, &json!("Warning")));
    assert!(matches!(one.cluster.identify("x").await, Err(TokenError::Refused(_))));
}
