use axum::Router;
use axum::routing::post;
use rand::SeedableRng;
use tokio::net::TcpListener;

use super::*;
use crate::connect::Tcp;

async fn hinted(url: &str, hint: &str) -> Vec<Target> {
    let url: Url = url.parse().unwrap();
    let addresses = resolve(hint).await.unwrap();
    addresses.into_iter().filter_map(|address| at(&url, address)).collect()
}

#[tokio::test]
async fn a_hint_keeps_the_certificates_name_and_takes_the_leaders_address() {
    let targets = hinted("https://weir-operator.weir.svc:9443/", "10.1.2.3:9444").await;
    let [target] = &targets[..] else {
        panic!("one: {targets:?}");
    };
    assert_eq!(target.url.as_str(), "https://weir-operator.weir.svc:9444/");
    assert_eq!(target.address, "10.1.2.3:9444".parse().unwrap());
}

#[tokio::test]
async fn a_hint_never_leads_plain_http_off_loopback() {
    assert_eq!(hinted("http://127.0.0.1:9443/", "10.1.2.3:9444").await, []);
    let targets = hinted("http://127.0.0.1:9443/", "http://127.0.0.1:9444").await;
    assert_eq!(targets[0].url.as_str(), "http://127.0.0.1:9444/");
}

#[tokio::test]
async fn a_hint_may_be_a_name() {
    for hint in ["https://localhost:9444", "localhost:9444"] {
        let targets = hinted("https://weir-operator.weir.svc:9443/", hint).await;
        assert!(!targets.is_empty(), "{hint}");
        for target in targets {
            assert!(target.address.ip().is_loopback() && target.address.port() == 9444, "{target:?}");
            assert_eq!(target.url.as_str(), "https://weir-operator.weir.svc:9444/");
        }
    }
    resolve("no-such-host.invalid:9444").await.unwrap_err();
}

/// A drain says `released` of every stream at once, before the connection takes the first.
#[tokio::test]
async fn one_steps_frames_never_overflow_the_connection() {
    let (link, mut body, _left) = Link::new();
    for epoch in 0..50_000 {
        assert!(link.send(&Up::Released { name: "mylive/bunny".into(), epoch }), "after {epoch} frames");
    }
    drop(link);
    let mut frames = 0;
    while body.recv().await.is_some() {
        frames += 1;
    }
    assert_eq!(frames, 50_000);
}

/// A feed that answers every connection with `status`.
async fn answering(status: StatusCode) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/feed/v1", post(move || async move { status }));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    format!("http://{address}").parse().unwrap()
}

#[tokio::test]
async fn a_token_that_is_refused_is_told_from_a_feed_that_is_down() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for (status, not_let_in) in [(401, true), (403, true), (503, false), (404, false)] {
        let url = answering(StatusCode::from_u16(status).unwrap()).await;
        // The loop that would take what comes, and keeps the link.
        let (events, mut incoming) = mpsc::channel(10);
        let taking = tokio::spawn(async move {
            let mut links = Vec::new();
            while let Some(event) = incoming.recv().await {
                match event {
                    Event::Connected { link, .. } => links.push(link),
                    Event::Closed { .. } => links.clear(),
                    other => panic!("{other:?}"),
                }
            }
        });
        let settings = FeedSettings { urls: vec![url], ca_file: None, token_file: None };
        let mut feed = Feed::new(settings, Tcp, StdRng::from_os_rng(), events);
        let target = feed.targets().await.pop_front().unwrap();
        let ended = feed.connect(&target).await;
        assert_eq!(matches!(ended, Ended::NotLetIn(_)), not_let_in, "{status}: {ended:?}");
        if let Ended::NotLetIn(why) = ended {
            assert!(why.to_string().contains("--token-file"), "{why}");
        }
        drop(feed);
        taking.await.unwrap();
    }
}

#[tokio::test]
async fn a_leader_that_takes_no_more_frames_ends_the_connection_and_not_the_sidecar() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    // It answers, and says nothing.
    let silent = || async { axum::body::Body::from_stream(futures::stream::pending::<std::io::Result<Vec<u8>>>()) };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/feed/v1", post(silent))).await.unwrap() });
    let (events, mut incoming) = mpsc::channel(10);
    let mut feed = Feed::new(
        FeedSettings { urls: vec![url], ca_file: None, token_file: None },
        Tcp,
        StdRng::from_os_rng(),
        events,
    );
    let target = feed.targets().await.pop_front().unwrap();
    // What the loop does when a frame cannot be sent.
    tokio::spawn(async move {
        let Some(Event::Connected { link, .. }) = incoming.recv().await else { panic!("connected") };
        drop(link);
        incoming.recv().await
    });
    let ended = feed.connect(&target).await;
    assert!(matches!(&ended, Ended::Broken(why) if why.to_string().contains("no more frames")), "{ended:?}");
}

#[test]
fn only_a_round_in_which_nobody_may_be_of_another_mind_soon_can_wait() {
    let refused = || Ended::NotLetIn(NotLetIn(StatusCode::UNAUTHORIZED));
    let standby = |leader: Option<&str>| Ended::Left(Why::NotLeader { leader: leader.map(str::to_owned) });
    let broken = || Ended::Broken(anyhow::anyhow!("refused"));
    for (ends, can_wait) in [
        (vec![refused()], true),
        (vec![Ended::Left(Why::Refused("no".into()))], true),
        (vec![standby(Some("leader:1")), refused()], true),
        // Who leads is not decided yet, or the leader is just gone: one refusal more says nothing.
        (vec![refused(), standby(None)], false),
        (vec![refused(), broken()], false),
        (vec![refused(), Ended::Left(Why::Silent(5_000))], false),
        (vec![broken()], false),
        (vec![], false),
    ] {
        let mut round = Round::default();
        for ended in &ends {
            round.ended(ended);
        }
        assert_eq!(round.can_wait(), can_wait, "{ends:?}");
    }
}

/// Reaches nobody, and tells whom it was to reach.
#[derive(Clone)]
struct Nobody(mpsc::UnboundedSender<SocketAddr>);

impl Connect for Nobody {
    type Stream = tokio::net::TcpStream;

    async fn connect(&self, address: SocketAddr) -> std::io::Result<Self::Stream> {
        let _ = self.0.send(address);
        Err(std::io::ErrorKind::ConnectionRefused.into())
    }
}

/// From outside a cluster: one address that leads to a leader or to a standby, which names one of the cluster's own.
#[tokio::test(start_paused = true)]
async fn an_address_that_a_standby_names_and_nobody_reaches_does_not_hold_up_the_next_try() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (tell, mut reached) = mpsc::unbounded_channel();
    let (events, mut incoming) = mpsc::channel(10);
    let settings =
        FeedSettings { urls: vec!["http://127.0.0.1:9443".parse().unwrap()], ca_file: None, token_file: None };
    tokio::spawn(Feed::new(settings, Nobody(tell), StdRng::seed_from_u64(1), events).run());
    let (outside, inside): (SocketAddr, SocketAddr) =
        ("127.0.0.1:9443".parse().unwrap(), "127.0.0.2:9443".parse().unwrap());
    let begun = Instant::now();
    let (mut link, mut asked) = (None, Vec::new());
    while begun.elapsed() < UNREACHED * 3 {
        match incoming.recv().await.unwrap() {
            Event::Connected { link: new, .. } => link = Some(new),
            Event::Closed { .. } => {
                let address = reached.recv().await.unwrap();
                asked.push((begun.elapsed(), address));
                let link = link.take().unwrap();
                if address == outside {
                    link.leave(Why::NotLeader { leader: Some(inside.to_string()) });
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let named: Vec<Duration> = asked.iter().filter(|(_, address)| *address == inside).map(|(at, _)| *at).collect();
    assert!(named.len() > 1, "it is never asked again: {asked:?}");
    assert!(named.windows(2).all(|pair| pair[1] >= pair[0] + UNREACHED), "{asked:?}");
    let tries = asked.iter().filter(|(_, address)| *address == outside).count();
    assert!(tries > 10, "{asked:?}");
}
