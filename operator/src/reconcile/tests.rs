use std::sync::atomic::Ordering;

use serde_json::json;
use weir_crds::condition::{SYNCED, find};
use weir_crds::streamer::{Streamer, StreamerStatus};
use weir_feed::frames::{ApiState, ConfigStatus, Load, VERSION};
use weir_feed::record::StreamerId;

use super::*;
use crate::cluster::Status;
use crate::cluster::fake::{Fake, Strings, fake};

/// Quick where the loop paces itself; slow where a busy machine would be taken for a silent sidecar.
const PERIODS: Periods = Periods {
    poll: 10_000,
    ping: 10,
    silence: 60_000,
    alive: 60_000,
    lease: 60_000,
    period: 120_000,
    release: 60_000,
    stream_lease: 300_000,
    kill: 20_000,
};

/// A loop that runs, and everything around it.
struct Stage {
    strings: Strings,
    feed: Option<mpsc::Sender<FeedEvent>>,
    standing: watch::Receiver<Standing>,
    _stop: watch::Sender<bool>,
    run: tokio::task::JoinHandle<Result<(), String>>,
}

fn stage(cluster: Arc<Fake>, strings: Strings) -> Stage {
    let (feed, events) = mpsc::channel(16);
    let (stop, shutdown) = watch::channel(false);
    let (stand, standing) = watch::channel(Standing { missing: vec!["starting".into()], notes: vec![] });
    let sources = Sources { feed: events, shutdown, standing: stand };
    let run = tokio::spawn(Reconciler::run(cluster, PERIODS, Metrics::default(), sources));
    Stage { strings, feed: Some(feed), standing, _stop: stop, run }
}

impl Stage {
    async fn lead(&mut self) {
        let held = LeaseEvent::Held { deadline: u64::MAX / 2, highest_term: 0 };
        self.strings.lease.as_ref().unwrap().send(held).await.unwrap();
    }

    async fn stands(&mut self, how: impl Fn(&Standing) -> bool) {
        self.standing.wait_for(|standing| how(standing)).await.unwrap();
    }

    async fn status(&mut self, how: impl Fn(&StreamerStatus) -> bool) {
        while let Some((_, status)) = self.strings.statuses.recv().await {
            if matches!(&status, Status::Streamer(status) if how(status)) {
                return;
            }
        }
        panic!("no status comes any more");
    }
}

fn is_ready(standing: &Standing) -> bool {
    standing.missing.is_empty()
}

fn misses(standing: &Standing, reason: &str) -> bool {
    standing.missing.iter().any(|missing| missing.starts_with(&format!("{reason}: ")))
}

#[tokio::test]
async fn the_keys_are_asked_for_until_they_are_there() {
    let (cluster, strings) = fake();
    cluster.keyless.store(3, Ordering::SeqCst);
    let mut stage = stage(Arc::clone(&cluster), strings);
    stage.lead().await;
    stage.stands(|standing| misses(standing, "KeysMissing")).await;
    stage.stands(is_ready).await;
    assert_eq!(cluster.keyless.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_source_that_ends_by_itself_ends_the_process_with_its_name() {
    for (end, source) in [
        ((|stage| stage.strings.observed = None) as fn(&mut Stage), "the observation"),
        (|stage| stage.strings.slices = None, "the watch of Placements"),
        (|stage| stage.strings.lease = None, "the campaign"),
        (|stage| stage.feed = None, "the feed's server"),
    ] {
        let (cluster, strings) = fake();
        let mut stage = stage(cluster, strings);
        stage.lead().await;
        stage.stands(is_ready).await;
        end(&mut stage);
        // As the campaign does, which gives the Lease back when nobody listens any more.
        if let Some(lease) = stage.strings.lease.take() {
            tokio::spawn(async move { lease.closed().await });
        }
        let why = stage.run.await.unwrap().unwrap_err();
        assert!(why.starts_with(source) && why.ends_with("ended by itself"), "{why}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_one_object_is_a_note_and_no_lack() {
    let (cluster, strings) = fake();
    let observed = strings.observed.as_ref().unwrap();
    observed.send_modify(|observed| Arc::make_mut(observed).problems = vec!["a.yaml: is bad".into()]);
    let mut stage = stage(cluster, strings);
    stage.lead().await;
    stage.stands(|standing| is_ready(standing) && standing.notes.iter().any(|note| note == "a.yaml: is bad")).await;
    let unknown = |observed: &mut Arc<Observed>| Arc::make_mut(observed).streams = None;
    stage.strings.observed.as_ref().unwrap().send_modify(unknown);
    stage.stands(|standing| misses(standing, "StreamsUnknown")).await;
}

#[tokio::test]
async fn what_no_plan_depends_on_is_reported_all_the_same() {
    let (cluster, strings) = fake();
    let streamer: Streamer = serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Streamer",
        "metadata": {"namespace": "media", "name": "s1", "uid": "u-1", "generation": 1}, "spec": {},
    }))
    .unwrap();
    let object = ObjectRef { namespace: "media".into(), name: "s1".into() };
    let declare = |observed: &mut Arc<Observed>| {
        Arc::make_mut(observed).streamers = Some([(object, Object::Readable(Arc::new(streamer)))].into());
    };
    strings.observed.as_ref().unwrap().send_modify(declare);
    let mut stage = stage(cluster, strings);
    stage.lead().await;
    stage.stands(is_ready).await;

    let Up::Hello(hello) = serde_json::from_value(json!({
        "type": "hello", "version": VERSION, "program": "test", "namespace": "media", "streamer": "s1",
        "instance": "own-id", "synced": false, "held": [], "holds": {}, "stopped": [],
        "runs": null, "polled": null, "api": "absent"
    }))
    .unwrap() else {
        panic!("a hello");
    };
    let streamer = StreamerId { namespace: "media".into(), name: "s1".into() };
    let outgoing = Outgoing::to_nobody();
    let feed = stage.feed.clone().unwrap();
    let connected = FeedEvent::Connected { conn: 1, streamer, verified: false, hello, outgoing };
    feed.send(connected).await.unwrap();
    stage.status(|status| status.instance.as_deref() == Some("own-id")).await;
    let frame = Up::Alive {
        polled: None,
        api: ApiState::Absent,
        config: ConfigStatus::Unknown,
        load: Load::default(),
        foreign_host: None,
        replica_error: Some("disk full".into()),
        lease: None,
    };
    feed.send(FeedEvent::Frame { conn: 1, frame }).await.unwrap();
    let unwritten = |status: &StreamerStatus| {
        find(&status.conditions, SYNCED).is_some_and(|condition| condition.reason == "ReplicaNotWritten")
    };
    stage.status(unwritten).await;
}
