//! Placements: written by compare-and-swap, listed whole, watched.

use super::*;

pub(super) fn record(name: &str, phase: Phase) -> Record {
    Record {
        name: name.into(),
        stream: name.into(),
        uid: "u1".into(),
        streamer: "s1".into(),
        epoch: 1_795_000_000_000,
        phase,
        to: (phase == Phase::Releasing).then(|| "s2".into()),
        previous: None,
        partition: Partition::KeepCapturing,
    }
}

#[tokio::test]
async fn a_slice_is_written_by_compare_and_swap_on_version_and_term() {
    let place = Place::new("slices").await;
    let (operator, id) = (place.operator("a"), place.slice(7));
    assert_eq!(operator.read_slice(&id).await.unwrap(), None);

    let created = done(operator.create_slice(&id, 5).await);
    refused(&operator.create_slice(&id, 6).await);
    let taken = done(operator.take_slice(&id, created, 5, 6).await);
    refused(&operator.take_slice(&id, created, 6, 7).await);
    refused(&operator.take_slice(&id, taken, 5, 7).await);

    let records = [record("a", Phase::Active), record("b", Phase::Releasing)];
    let until = Some(1_795_000_000_123);
    refused(&operator.write_slice(&id, taken, 5, &records, until).await);
    let written = done(operator.write_slice(&id, taken, 6, &records, until).await);
    refused(&operator.write_slice(&id, taken, 6, &records, until).await);
    refused(&operator.write_slice(&place.slice(8), 1, 6, &records, None).await);

    let slice = operator.read_slice(&id).await.unwrap().unwrap();
    assert_eq!((slice.version, slice.term), (written, 6));
    assert_eq!(slice.records, records);
    assert_eq!((slice.removal_until, slice.removal_confirmed), (until, false));
    let placement = place.api::<Placement>().get(&id.object()).await.unwrap();
    let status = placement.status.unwrap();
    assert_eq!((status.streams, status.releasing), (2, 1));

    let confirm = json!({"metadata": {"annotations": {CONFIRM_REMOVAL: "true"}}});
    let confirmed = patched::<Placement>(&place, &id.object(), confirm).await;
    let version = confirmed.metadata.resource_version.unwrap();
    assert!(operator.read_slice(&id).await.unwrap().unwrap().removal_confirmed);
    let emptied = operator.write_slice(&id, version.parse().unwrap(), 6, &[], None).await;
    let emptied = done(emptied);

    let (slices, version) = operator.list_slices().await.unwrap();
    let [slice] = &slices[..] else {
        panic!("{slices:?}");
    };
    // The confirmation was for that removal, and was taken off behind it.
    assert!(version > emptied && slice.version > emptied);
    assert_eq!((slice.removal_until, slice.removal_confirmed), (None, false));
    assert!(slice.records.is_empty());
}

#[tokio::test]
async fn a_list_of_slices_is_whole_however_many_pages_it_has() {
    let place = Place::new("pages").await;
    let other = create_namespace(&place.client, "pages").await.unwrap();
    let mut config = place.config("a");
    config.namespaces.push(other.clone());
    let operator = Kubernetes::new(place.client.clone(), config);
    let mut expected = vec![];
    for namespace in [place.namespace.clone(), other] {
        for index in 0..16 {
            let id = SliceId { namespace: namespace.clone(), index };
            done(operator.create_slice(&id, 5).await);
            expected.push(id);
        }
    }
    expected.sort();
    let listed = |slices: Vec<weir_feed::leader::step::Slice>| {
        let mut ids: Vec<_> = slices.into_iter().map(|slice| slice.id).collect();
        ids.retain(|id| expected.contains(id));
        ids.sort();
        ids
    };
    assert_eq!(listed(operator.list_slices().await.unwrap().0), expected);
    let everywhere = Config { namespaces: vec![], ..place.config("a") };
    let everywhere = Kubernetes::new(place.client.clone(), everywhere);
    assert_eq!(listed(everywhere.list_slices().await.unwrap().0), expected);
}

#[tokio::test]
async fn what_others_do_to_slices_is_seen() {
    let place = Place::new("watched").await;
    let (operator, id) = (place.operator("a"), place.slice(3));
    let before = done(operator.create_slice(&id, 5).await);
    let mut seen = operator.watch_slices();
    let mut next = async || patient("a slice is seen", seen.recv()).await.unwrap();
    let first = next().await;
    assert_eq!((&first.id, first.version, first.term), (&id, Some(before), Some(5)));
    let taken = done(operator.take_slice(&id, before, 5, 6).await);
    let second = next().await;
    assert_eq!((second.version, second.term), (Some(taken), Some(6)));
    let placements = place.api::<Placement>();
    placements.delete(&id.object(), &DeleteParams::default()).await.unwrap();
    let third = next().await;
    assert_eq!((third.id, third.version), (id, None));
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_leaves_a_write_unknown() {
    // A listener that nobody accepts from: connections stand, answers never come.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let client = client_of(kube::Config::new(address.parse().unwrap())).unwrap();
    let place = Place { client, namespace: "media".into() };
    let operator = candidate(&place, "a");
    let outcome = operator.take_slice(&place.slice(0), 1, 1, 2).await;
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    drop(silent);
    let outcome = operator.take_slice(&place.slice(0), 1, 1, 2).await;
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
}
