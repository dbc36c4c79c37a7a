use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::registry::Client;
use crate::registry::frames::Line;

/// Streamers that do what they are told, against a real registry.
struct Sources(Registry);

impl Sources {
    fn new() -> Self {
        Self(Registry::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap())
    }

    async fn boot(&self, streamer: &str, with_old: bool) -> Client {
        Client::connect(self.0.addr(), streamer, &format!("{streamer}-{with_old}"), with_old).await.unwrap()
    }

    fn judge(&self, streams: &[&str], moved: &[&str], lit: Duration, killed: Duration) -> Result<String> {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        judge(&self.0, &set(streams), &set(moved), lit, killed)
    }
}

async fn tell(client: &mut Client, lines: &[Line]) {
    for line in lines {
        client.queue(line).unwrap();
    }
    client.flush().await.unwrap();
}

fn open(stream: &str) -> Line {
    Line::Open { stream: stream.to_owned(), source: String::new() }
}

fn close(stream: &str) -> Line {
    Line::Close { stream: stream.to_owned() }
}

#[tokio::test]
async fn a_failover_and_a_return_are_judged_by_what_the_sources_saw() {
    let sources = Sources::new();
    let (mut one, mut two) = (sources.boot("m1", false).await, sources.boot("m2", false).await);
    tell(&mut one, &[open("a"), Line::Polled]).await;
    tell(&mut two, &[open("b"), open("c"), Line::Polled]).await;
    let lit = sources.0.now();

    let killed = sources.0.now();
    drop(two);
    sources
        .0
        .await_until(|now| if now.len() == 1 { Ok(()) } else { Err(String::new()) }, Duration::from_secs(9))
        .await
        .unwrap();
    tell(&mut one, &[open("b"), open("c")]).await;

    let back = sources.0.now();
    let mut two = sources.boot("m2", true).await;
    tell(&mut two, &[open("b"), open("c")]).await;
    tell(&mut two, &[close("b"), close("c"), Line::Polled]).await;
    let lines = of_return(&sources.0, "m2", back);
    assert!(lines[0].starts_with("it captured 2 of its old streams again for "), "{lines:?}");
    assert!(lines[2].starts_with("no stream moved back"), "{lines:?}");
    let good = sources.judge(&["a", "b", "c"], &["b", "c"], lit, killed).unwrap();
    assert!(
        good.starts_with("2 streams of the killed streamer stood dark for 0.") && good.ends_with("the other 1 never"),
        "{good}"
    );

    // A stream of a streamer that was not killed.
    let error = sources.judge(&["a", "b", "c"], &["c"], lit, killed).unwrap_err().to_string();
    assert!(error.starts_with("nobody read b for a time"), "{error}");
    // And now one is read twice.
    tell(&mut two, &[open("a")]).await;
    let error = sources.judge(&["a", "b", "c"], &["b", "c"], lit, killed).unwrap_err().to_string();
    assert!(error.starts_with("a was read twice, by m1/m1-false and m2/m2-true"), "{error}");
}
