//! Statuses and Events.

use super::*;

#[tokio::test]
async fn a_status_is_written_whole_and_only_when_it_differs() {
    let place = Place::new("status").await;
    let streams = place.api::<Stream>();
    streams.create(&PostParams::default(), &stream("bunny")).await.unwrap();
    let operator = place.operator("a");
    let mut observed = operator.observe();
    let bunny = place.object("bunny");
    patient("the Stream is seen", observed.wait_for(|observed| has(observed, &bunny))).await.unwrap();

    let placed = StreamStatus { streamer: Some("s1".into()), epoch: Some(7), ..StreamStatus::default() };
    let write = async |status: &StreamStatus| {
        operator.write_status(&bunny, &Status::Stream(status.clone())).await.unwrap();
        let stream = streams.get("bunny").await.unwrap();
        (stream.status.unwrap_or_default(), stream.metadata.resource_version)
    };
    let (status, version) = write(&placed).await;
    assert_eq!(status, placed);
    assert_eq!(write(&placed).await.1, version, "nothing to write");
    let unplaced = StreamStatus { epoch: Some(8), ..StreamStatus::default() };
    assert_eq!(write(&unplaced).await.0, unplaced, "what is not said any more is gone");

    let by_hand = Patch::Merge(json!({"status": {"streamer": "s9"}}));
    streams.patch_status("bunny", &PatchParams::default(), &by_hand).await.unwrap();
    let is_seen = |observed: &Arc<Observed>| match observed.streams.as_ref().and_then(|all| all.get(&bunny)) {
        Some(Object::Readable(stream)) => {
            stream.status.as_ref().is_some_and(|status| status.streamer.as_deref() == Some("s9"))
        }
        _ => false,
    };
    patient("what was done by hand is seen", observed.wait_for(is_seen)).await.unwrap();
    assert_eq!(write(&unplaced).await.0, unplaced, "set right again");

    let gone = place.object("gone");
    operator.write_status(&gone, &Status::Stream(placed)).await.unwrap();
}

#[tokio::test]
async fn equal_events_are_one_series_and_others_are_not() {
    let place = Place::new("events").await;
    let made = place.api::<Stream>().create(&PostParams::default(), &stream("bunny")).await.unwrap();
    let operator = place.operator("a");
    for streamer in ["s1", "s2", "s2"] {
        let occurrence = Occurrence {
            kind: "Stream",
            object: place.object("bunny"),
            uid: made.metadata.uid.clone().unwrap(),
            warning: false,
            tells: weir_operator::cluster::Tells::State,
            reason: "Placed".into(),
            message: format!("on {streamer}"),
        };
        operator.record_event(&occurrence).await;
    }
    let events = place.api::<Event>().list(&ListParams::default()).await.unwrap();
    let mut told: Vec<_> =
        events.into_iter().map(|event| (event.note.unwrap(), event.series.map_or(1, |series| series.count))).collect();
    told.sort();
    assert_eq!(told, [("on s1".to_owned(), 1), ("on s2".to_owned(), 2)]);
}
