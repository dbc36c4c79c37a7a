//! One sidecar between a leader and a streamer, over real connections.

mod common;

use common::{Conn, Leader, Sidecar, periods, put};
use tempfile::TempDir;
use weir_feed::frames::{ApiState, Down, Up};
use weir_feed::holder::rows::Edit;
use weir_sidecar::run::Exit;

fn url(leader: &Leader) -> String {
    format!("http://{}", leader.address)
}

/// A leader and a sidecar that is synced with `names`.
async fn synced(data: &TempDir, names: &[&str], more: &[&str]) -> (Leader, Conn, Sidecar) {
    let mut leader = Leader::start().await;
    let sidecar = Sidecar::start(data.path(), &url(&leader), more).await;
    let mut conn = leader.next().await;
    conn.welcome(10).await;
    for name in names {
        conn.edit(put(name, 5)).await;
    }
    conn.mark().await;
    (leader, conn, sidecar)
}

fn is_released(up: &Up) -> Option<(String, u64)> {
    match up {
        Up::Released { name, epoch } => Some((name.clone(), *epoch)),
        _ => None,
    }
}

#[tokio::test]
async fn a_stream_comes_is_served_goes_and_is_released() {
    let data = TempDir::new().unwrap();
    let mut leader = Leader::start().await;
    let sidecar = Sidecar::start(data.path(), &url(&leader), &[]).await;
    let mut conn = leader.next().await;
    assert_eq!(sidecar.ask("").await.0, 503);
    let hello = conn.welcome(10).await;
    assert_eq!((hello.synced, hello.held.len(), hello.api), (false, 0, ApiState::Absent));
    assert_eq!(hello.about.hostname, "s1");

    conn.edit(put("mylive/bunny", 5)).await;
    assert_eq!(sidecar.ask("").await.0, 503, "before the mark");
    conn.mark().await;
    let (status, body) = sidecar.ask("").await;
    assert_eq!(status, 200);
    assert_eq!(body, r#"{"streams":[{"name":"mylive/bunny","inputs":[{"url":"fake://5"}]}]}"#);
    assert_eq!(sidecar.ask("?name=mylive%2Fbunny&host=s1").await, (200, body));

    conn.edit(Edit::Delete { name: "mylive/bunny".into(), epoch: 7 }).await;
    conn.mark().await;
    let gone = r#"{"streams":[]}"#;
    assert_eq!(sidecar.ask("").await, (200, gone.to_owned()));
    assert_eq!(sidecar.ask("?name=mylive/bunny").await, (200, gone.to_owned()));
    assert_eq!(sidecar.ask("").await.0, 200);
    assert_eq!(conn.until(is_released).await, ("mylive/bunny".to_owned(), 7));

    assert_eq!(sidecar.health("/readyz").await.0, 200);
    let metrics = sidecar.health("/metrics").await.1;
    assert!(metrics.contains("weir_sidecar_synced 1"), "{metrics}");
    assert!(metrics.contains(r#"weir_sidecar_answers_total{asked="named",code="200"} 2"#), "{metrics}");
    let stopping = tokio::spawn(sidecar.stop());
    conn.until(|up| (*up == Up::Goodbye {}).then_some(())).await;
    assert_eq!(stopping.await.unwrap(), Exit::Shutdown);
}

#[tokio::test]
async fn it_serves_from_its_replica_when_it_starts_alone() {
    let data = TempDir::new().unwrap();
    let (leader, conn, sidecar) = synced(&data, &["a", "b"], &[]).await;
    sidecar.kill().await;
    leader.server.abort();
    drop(conn);

    let begun = std::time::Instant::now();
    let alone = Sidecar::start(data.path(), "http://127.0.0.1:1", &[]).await;
    let (status, body) = alone.ask("").await;
    assert_eq!(status, 503, "a leader may know better: {body}");
    let body = alone.ask_until("", |status, _| status == 200).await;
    assert!(body.contains(r#""a""#) && body.contains(r#""b""#), "{body}");
    assert!(begun.elapsed().as_millis() >= u128::from(periods().first_mark()));
    assert_eq!(alone.health("/readyz").await.0, 200, "the pod's readiness is the streamer's");
    alone.stop().await;
}

#[tokio::test]
async fn a_hello_after_a_restart_says_what_is_held_under_which_term() {
    let data = TempDir::new().unwrap();
    let (_, _, sidecar) = synced(&data, &["a"], &[]).await;
    sidecar.kill().await;
    let mut leader = Leader::start().await;
    let sidecar = Sidecar::start(data.path(), &url(&leader), &[]).await;
    let hello = leader.next().await.welcome(11).await;
    assert!(hello.synced);
    assert_eq!(hello.term.map(|(term, seal)| (term, seal.0)), Some((10, "k:10".to_owned())));
    assert_eq!((hello.held[0].name.as_str(), hello.held[0].epoch), ("a", 5));
    assert_eq!(hello.held[0].grant.0, "a:5");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_silent_leader_is_left_for_another_address() {
    let data = TempDir::new().unwrap();
    let (mut frozen, mut other) = (Leader::start().await, Leader::start().await);
    let feed = format!("{},{}", url(&frozen), url(&other));
    let sidecar = Sidecar::start(data.path(), &feed, &[]).await;
    let mut conn = frozen.next().await;
    conn.welcome(10).await;
    conn.edit(put("late", 5)).await;
    // Not a word more, and no mark.
    let mut next = other.next().await;
    next.welcome(10).await;
    next.edit(put("a", 5)).await;
    next.mark().await;
    let body = sidecar.ask("").await.1;
    assert!(body.contains(r#""a""#) && !body.contains("late"), "{body}");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_standby_says_who_leads() {
    let data = TempDir::new().unwrap();
    let (mut standby, mut leader) = (Leader::start().await, Leader::start().await);
    let sidecar = Sidecar::start(data.path(), &url(&standby), &[]).await;
    let hint = Some(leader.address.to_string());
    standby.next().await.send(Down::NotLeader { leader: hint }).await;
    leader.next().await.welcome(10).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_lower_term_is_left_even_after_a_restart() {
    let data = TempDir::new().unwrap();
    let (_, _, sidecar) = synced(&data, &[], &[]).await;
    sidecar.kill().await;
    let mut leader = Leader::start().await;
    let sidecar = Sidecar::start(data.path(), &url(&leader), &[]).await;
    let mut conn = leader.next().await;
    conn.welcome(9).await;
    assert!(conn.next().await.is_none(), "it hangs up");
    leader.next().await.welcome(10).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_superseded_sidecar_ends() {
    let data = TempDir::new().unwrap();
    let (_leader, conn, sidecar) = synced(&data, &[], &[]).await;
    conn.send(Down::Superseded {}).await;
    assert_eq!(sidecar.ended().await, Exit::Superseded);
}

#[tokio::test]
async fn a_token_is_read_again_for_each_connection() {
    let data = TempDir::new().unwrap();
    let token = data.path().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let file = token.to_str().unwrap();
    let (mut leader, conn, sidecar) = synced(&data, &[], &["--token-file", file]).await;
    assert_eq!(conn.authorization.as_deref(), Some("Bearer first"));
    std::fs::write(&token, "second\n").unwrap();
    drop(conn);
    let conn = leader.next().await;
    assert_eq!(conn.authorization.as_deref(), Some("Bearer second"));
    sidecar.stop().await;
}

#[tokio::test]
async fn two_thousand_streams_are_answered_the_same_byte_for_byte() {
    let data = TempDir::new().unwrap();
    let names: Vec<String> = (0..2_000).map(|number| format!("live/{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (_leader, _conn, sidecar) = synced(&data, &names, &[]).await;
    let (_, first) = sidecar.ask("").await;
    assert_eq!(first.matches("\"name\"").count(), 2_000);
    let (_, second) = sidecar.ask("").await;
    assert_eq!(first, second, "byte for byte");
    sidecar.stop().await;
}
