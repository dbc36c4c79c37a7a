//! The feed's server as a sidecar meets it: over real sockets, with a real HTTP/2 client.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;
use weir_feed::frames::{Down, MAX_LINE, Put, Up};
use weir_feed::grant::Seal;
use weir_feed::record::StreamerId;
use weir_operator::certificates::{Pair, Served};
use weir_operator::cluster::{Identity, TokenError};
use weir_operator::feed::{
    Auth, FeedEvent, FeedMetrics, FeedServer, Identify, Outgoing, PROTOCOLS, Settings, StartError,
};

/// Says whose a token is, as the test wants it.
struct Script {
    answers: Mutex<BTreeMap<String, Result<Identity, TokenError>>>,
    asked: watch::Sender<usize>,
}

impl Script {
    fn new(answers: &[(&str, Result<Identity, TokenError>)]) -> Arc<Self> {
        let answers = answers.iter().cloned();
        Arc::new(Self {
            answers: Mutex::new(answers.map(|(token, answer)| (token.to_owned(), answer)).collect()),
            asked: watch::Sender::new(0),
        })
    }

    fn answer(&self, token: &str, answer: Result<Identity, TokenError>) {
        self.answers.lock().unwrap().insert(token.into(), answer);
    }

    /// Returns when the server has asked so many times in all.
    async fn asked(&self, times: usize) {
        let mut asked = self.asked.subscribe();
        soon(asked.wait_for(|asked| *asked >= times)).await.unwrap();
    }
}

impl Identify for Script {
    async fn identify(&self, token: &str) -> Result<Identity, TokenError> {
        let answer = self.answers.lock().unwrap().get(token).cloned();
        self.asked.send_modify(|asked| *asked += 1);
        answer.unwrap_or_else(|| Err(TokenError::Refused("nobody's token".into())))
    }
}

fn identity(name: &str) -> Identity {
    Identity { streamer: StreamerId { namespace: "media".into(), name: name.into() }, instance: None, expires: None }
}

/// What a test waits for comes at once, or never.
async fn soon<F: Future>(what: F) -> F::Output {
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, what).await.expect("it did not come")
}

struct Feed {
    server: FeedServer,
    events: mpsc::Receiver<FeedEvent>,
    metrics: FeedMetrics,
}

fn listener(address: &str) -> tokio::net::TcpListener {
    let listener = std::net::TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    tokio::net::TcpListener::from_std(listener).unwrap()
}

fn feed(auth: Auth<Script>, settings: Settings, tls: Option<&Served>) -> Feed {
    let (inputs, events) = mpsc::channel(16);
    let listener = listener("127.0.0.1:0");
    let metrics = FeedMetrics::default();
    let tls = tls.map(|served| served.server(PROTOCOLS).unwrap());
    let server = FeedServer::start(listener, tls, auth, inputs, settings, metrics.clone()).unwrap();
    Feed { server, events, metrics }
}

fn insecure() -> Feed {
    feed(Auth::Insecure, Settings::default(), None)
}

impl Feed {
    async fn event(&mut self) -> FeedEvent {
        soon(self.events.recv()).await.expect("the server stopped")
    }

    async fn connected(&mut self) -> (u64, Outgoing) {
        match self.event().await {
            FeedEvent::Connected { conn, outgoing, .. } => (conn, outgoing),
            other => panic!("{other:?}"),
        }
    }

    async fn disconnected(&mut self) -> u64 {
        match self.event().await {
            FeedEvent::Disconnected { conn } => conn,
            other => panic!("{other:?}"),
        }
    }

    /// A connection that has said hello as media/s1.
    async fn sidecar(&mut self) -> (Sidecar, u64, Outgoing) {
        let sidecar = Sidecar::connect(self.server.address(), None).await.unwrap();
        sidecar.say(&hello("s1")).await;
        let (conn, outgoing) = self.connected().await;
        (sidecar, conn, outgoing)
    }
}

/// The other end.
struct Sidecar {
    up: mpsc::Sender<Result<Bytes, std::io::Error>>,
    down: futures::stream::BoxStream<'static, String>,
}

impl Sidecar {
    async fn connect(address: SocketAddr, token: Option<&str>) -> Result<Self, reqwest::Response> {
        let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy();
        Self::post(client, format!("http://{address}/feed/v1"), token).await
    }

    /// The sidecar's end, or what was answered instead of a feed.
    async fn post(client: reqwest::ClientBuilder, url: String, token: Option<&str>) -> Result<Self, reqwest::Response> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (up, body) = mpsc::channel(4);
        let body = reqwest::Body::wrap_stream(ReceiverStream::new(body));
        let mut request = client.build().unwrap().post(url).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = soon(request.send()).await.unwrap();
        if !response.status().is_success() {
            return Err(response);
        }
        let bytes = response.bytes_stream().map_err(std::io::Error::other);
        let lines = FramedRead::new(StreamReader::new(bytes), LinesCodec::new());
        // A connection that was reset has no more lines, whatever the reason.
        let down = lines.take_while(|line| std::future::ready(line.is_ok())).filter_map(|line| async { line.ok() });
        Ok(Self { up, down: down.boxed() })
    }

    async fn say(&self, frame: &Value) {
        self.say_bytes(format!("{frame}\n")).await;
    }

    async fn say_bytes(&self, bytes: impl Into<Bytes>) {
        soon(self.up.send(Ok(bytes.into()))).await.unwrap();
    }

    /// The next frame; `None` at the end.
    async fn hear(&mut self) -> Option<Down> {
        let line = soon(self.down.next()).await?;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// Why it was refused; nothing may come after that.
    async fn refusal(&mut self) -> String {
        let Some(Down::Refused { message }) = self.hear().await else {
            panic!("not refused");
        };
        assert_eq!(self.hear().await, None);
        message
    }
}

fn hello(streamer: &str) -> Value {
    json!({
        "type": "hello", "version": 1, "program": "test", "namespace": "media", "streamer": streamer,
        "instance": "own-id", "synced": false, "held": [], "holds": {}, "stopped": [],
        "runs": null, "polled": null, "api": "absent",
    })
}

fn put(at: usize, document: String) -> Down {
    Down::Put(Put {
        name: format!("cam-{at}"),
        epoch: 1,
        grant: Seal("k:0".into()),
        is_static: true,
        partition: weir_feed::frames::Partition::KeepCapturing,
        hash: String::new(),
        document,
    })
}

#[tokio::test]
async fn frames_travel_both_ways_in_order_and_close_comes_after_them() {
    let mut feed = insecure();
    let (mut sidecar, conn, outgoing) = feed.sidecar().await;
    assert_eq!(feed.metrics.connected(), 1);
    sidecar.say(&json!({"type": "applied", "revision": 7})).await;
    // Two frames in one piece, and one in two.
    sidecar.say_bytes("{\"type\":\"goodbye\"}\n\n{\"type\":\"appl").await;
    sidecar.say_bytes("ied\",\"revision\":8}\n").await;
    for expected in [Up::Applied { revision: 7 }, Up::Goodbye {}, Up::Applied { revision: 8 }] {
        let FeedEvent::Frame { conn: from, frame } = feed.event().await else {
            panic!("no frame");
        };
        assert_eq!((from, frame), (conn, expected));
    }
    let frames: Vec<_> = (0..1000).map(|at| put(at, "x".repeat(at))).collect();
    for frame in &frames {
        assert!(outgoing.send(frame.clone()));
    }
    outgoing.close();
    outgoing.send(Down::Wait {});
    for frame in &frames {
        assert_eq!(sidecar.hear().await.as_ref(), Some(frame));
    }
    assert_eq!(sidecar.hear().await, None);
    assert_eq!(feed.disconnected().await, conn);
    assert!(!outgoing.send(Down::Wait {}));
    assert_eq!(feed.metrics.connected(), 0);
}

#[tokio::test]
async fn a_sidecar_that_goes_is_told_and_the_next_connection_has_another_number() {
    let mut feed = insecure();
    let (sidecar, first, _outgoing) = feed.sidecar().await;
    drop(sidecar);
    assert_eq!(feed.disconnected().await, first);
    let (_sidecar, second, _outgoing) = feed.sidecar().await;
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_connection_ends_with_the_last_handle_to_it() {
    let mut feed = insecure();
    let (mut sidecar, conn, outgoing) = feed.sidecar().await;
    drop(outgoing);
    assert_eq!(sidecar.hear().await, None);
    assert_eq!(feed.disconnected().await, conn);
}

#[tokio::test]
async fn another_pods_token_is_refused_with_a_sentence_and_counted() {
    let script = Script::new(&[("token-of-s2", Ok(identity("s2")))]);
    let mut feed = feed(Auth::Tokens(script), Settings::default(), None);
    let mut sidecar = Sidecar::connect(feed.server.address(), Some("token-of-s2")).await.unwrap();
    sidecar.say(&hello("s1")).await;
    assert_eq!(
        sidecar.refusal().await,
        "a sidecar may only be the Streamer that its token is for: the token is media/s2's, the hello says media/s1"
    );
    assert_eq!(feed.metrics.refused("identity"), 1);
    assert!(feed.events.try_recv().is_err());
}

#[tokio::test]
async fn a_pods_uid_stands_in_the_hello() {
    let pod = Identity { instance: Some("pod-uid".into()), ..identity("s1") };
    let mut feed = feed(Auth::Tokens(Script::new(&[("t", Ok(pod))])), Settings::default(), None);
    let sidecar = Sidecar::connect(feed.server.address(), Some("t")).await.unwrap();
    sidecar.say(&hello("s1")).await;
    let FeedEvent::Connected { streamer, verified, hello, .. } = feed.event().await else {
        panic!("not connected");
    };
    assert_eq!((streamer.to_string().as_str(), verified), ("media/s1", true));
    assert_eq!(hello.instance, "pod-uid");
}

#[tokio::test]
async fn bad_tokens_are_401_and_an_api_that_cannot_be_asked_is_503() {
    let unavailable = TokenError::Unavailable("the API server does not answer".into());
    let script = Script::new(&[("unlucky", Err(unavailable))]);
    let feed = feed(Auth::Tokens(script), Settings::default(), None);
    for (token, status, sentence) in [
        (None, 401, "the request has no token"),
        (Some("c4nary"), 401, "nobody's token"),
        (Some("unlucky"), 503, "the API server does not answer"),
    ] {
        let answer = Sidecar::connect(feed.server.address(), token).await.err().unwrap();
        assert_eq!(answer.status().as_u16(), status);
        let text = soon(answer.text()).await.unwrap();
        assert!(text.starts_with(sentence) && !text.contains("c4nary"), "{text}");
    }
    assert_eq!((feed.metrics.refused("token"), feed.metrics.refused("unavailable")), (2, 1));
}

#[tokio::test]
async fn what_is_no_frame_is_refused_before_the_hello_and_after_it() {
    let mut feed = insecure();
    let (mut sidecar, conn, _outgoing) = feed.sidecar().await;
    sidecar.say_bytes("{\"type\":\"applied\"}\n").await;
    assert!(sidecar.refusal().await.starts_with("a line is no frame of the feed: missing field `revision`"));
    assert_eq!(feed.disconnected().await, conn);
    let mut sidecar = Sidecar::connect(feed.server.address(), None).await.unwrap();
    sidecar.say_bytes("GET / HTTP/1.1\n").await;
    assert!(sidecar.refusal().await.starts_with("a line is no frame"));
    let mut sidecar = Sidecar::connect(feed.server.address(), None).await.unwrap();
    sidecar.say(&json!({"type": "hello", "version": 2})).await;
    assert!(sidecar.refusal().await.contains("the sidecar version 2"));
    assert_eq!((feed.metrics.refused("malformed"), feed.metrics.refused("version")), (2, 1));
}

#[tokio::test]
async fn a_line_without_end_is_refused() {
    let mut feed = insecure();
    let (mut sidecar, conn, _outgoing) = feed.sidecar().await;
    let up = sidecar.up.clone();
    let flood = tokio::spawn(async move {
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        for _ in 0..=MAX_LINE >> 20 {
            if up.send(Ok(piece.clone())).await.is_err() {
                break;
            }
        }
    });
    assert!(sidecar.refusal().await.contains("at most 16 MiB"));
    assert_eq!(feed.disconnected().await, conn);
    flood.abort();
}

#[tokio::test]
async fn who_says_no_hello_is_let_go() {
    let settings = Settings { hello_within: Duration::from_millis(300), ..Settings::default() };
    let feed = feed(Auth::Insecure, settings, None);
    let mut sidecar = Sidecar::connect(feed.server.address(), None).await.unwrap();
    assert!(sidecar.refusal().await.starts_with("no hello came in time"));
    assert_eq!(feed.metrics.refused("no_hello"), 1);
}

#[tokio::test]
async fn a_connection_without_a_token_holds_its_place_for_a_moment_only() {
    let settings = Settings { hello_within: Duration::from_millis(300), connections: 1, ..Settings::default() };
    let mut feed = feed(Auth::Insecure, settings, None);
    let address = feed.server.address();
    let mut idle = tokio::net::TcpStream::connect(address).await.unwrap();
    // The place may be taken by the time this one comes, or not yet; either way it ends.
    let mut other = tokio::net::TcpStream::connect(address).await.unwrap();
    for stream in [&mut idle, &mut other] {
        let mut rest = Vec::new();
        let _ = soon(stream.read_to_end(&mut rest)).await;
    }
    // An admitted one stays beyond that time, and with the only place taken there is none for another.
    let (sidecar, _, _outgoing) = feed.sidecar().await;
    let mut other = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut rest = Vec::new();
    let _ = soon(other.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"");
    sidecar.say(&json!({"type": "goodbye"})).await;
    assert!(matches!(feed.event().await, FeedEvent::Frame { .. }));
}

#[tokio::test]
async fn an_expired_token_ends_its_connection() {
    let expired = Identity { expires: Some(weir_operator::clock::now().wall + 200), ..identity("s1") };
    let mut feed = feed(Auth::Tokens(Script::new(&[("t", Ok(expired))])), Settings::default(), None);
    let mut sidecar = Sidecar::connect(feed.server.address(), Some("t")).await.unwrap();
    sidecar.say(&hello("s1")).await;
    let (conn, _outgoing) = feed.connected().await;
    assert_eq!(sidecar.hear().await, None);
    assert_eq!(feed.disconnected().await, conn);
    assert_eq!(feed.metrics.closed("expired"), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_later_ends_its_connection_and_an_api_that_is_down_does_not() {
    let script = Script::new(&[("t", Ok(identity("s1")))]);
    let settings = Settings { identify_again: Duration::from_millis(20), ..Settings::default() };
    let mut feed = feed(Auth::Tokens(Arc::clone(&script)), settings, None);
    let mut sidecar = Sidecar::connect(feed.server.address(), Some("t")).await.unwrap();
    sidecar.say(&hello("s1")).await;
    let (conn, outgoing) = feed.connected().await;
    script.answer("t", Err(TokenError::Unavailable("the API server is down".into())));
    let asked = *script.asked.borrow();
    script.asked(asked + 3).await;
    assert!(outgoing.send(Down::Wait {}));
    assert_eq!(sidecar.hear().await, Some(Down::Wait {}));
    script.answer("t", Err(TokenError::Refused("the pod is gone".into())));
    assert_eq!(sidecar.hear().await, None);
    assert_eq!(feed.disconnected().await, conn);
    assert_eq!(feed.metrics.closed("token"), 1);
}

#[tokio::test]
async fn a_revoked_token_of_a_streamer_ends_its_connection_without_waiting_for_the_next_review() {
    let script = Script::new(&[("weir_t", Ok(identity("s1")))]);
    let mut feed = feed(Auth::Tokens(Arc::clone(&script)), Settings::default(), None);
    let mut sidecar = Sidecar::connect(feed.server.address(), Some("weir_t")).await.unwrap();
    sidecar.say(&hello("s1")).await;
    let (conn, _outgoing) = feed.connected().await;
    script.answer("weir_t", Err(TokenError::Refused("it was revoked".into())));
    assert_eq!(sidecar.hear().await, None);
    assert_eq!(feed.disconnected().await, conn);
    assert_eq!(feed.metrics.closed("token"), 1);
}

#[tokio::test]
async fn a_sidecar_that_does_not_keep_up_is_let_go() {
    let settings = Settings { queue: 8, ..Settings::default() };
    let mut feed = feed(Auth::Insecure, settings, None);
    let (_sidecar, conn, outgoing) = feed.sidecar().await;
    // It reads nothing: windows and buffers fill, then the queue.
    let document = "x".repeat(1 << 20);
    soon(async {
        while outgoing.send(put(0, document.clone())) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(feed.disconnected().await, conn);
    assert_eq!(feed.metrics.closed("slow"), 1);
}

#[tokio::test]
async fn a_leader_that_steps_down_says_nothing_more_and_takes_new_connections() {
    let mut feed = insecure();
    let (mut one, conn, outgoing) = feed.sidecar().await;
    // What is queued was decided by a leader that is none any more.
    assert!(outgoing.send(Down::Wait {}));
    outgoing.abort();
    assert_eq!(one.hear().await, None);
    assert_eq!(feed.disconnected().await, conn);
    assert_eq!(feed.metrics.closed("slow"), 0);
    let (mut again, _, outgoing) = feed.sidecar().await;
    assert!(outgoing.send(Down::Wait {}));
    assert_eq!(again.hear().await, Some(Down::Wait {}));
}

#[tokio::test]
async fn a_server_that_stops_ends_everything() {
    let mut feed = insecure();
    let (mut sidecar, conn, _outgoing) = feed.sidecar().await;
    let address = feed.server.address();
    soon(feed.server.stop()).await;
    assert_eq!(sidecar.hear().await, None);
    assert!(matches!(feed.events.recv().await, Some(FeedEvent::Disconnected { conn: of }) if of == conn));
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn without_anybody_to_listen_connections_end() {
    let mut feed = insecure();
    let (mut sidecar, _, _outgoing) = feed.sidecar().await;
    drop(feed.events);
    sidecar.say(&json!({"type": "goodbye"})).await;
    assert_eq!(sidecar.hear().await, None);
}

/// A certificate, shown; and a client's that trusts nothing else.
fn show(served: &Served) -> reqwest::ClientBuilder {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    served.show(&Pair::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap());
    let root = reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([root]).no_proxy()
}

#[tokio::test]
async fn the_feed_speaks_tls_and_another_certificate_ends_no_connection() {
    let served = Served::default();
    let client = show(&served);
    let script = Script::new(&[("t", Ok(identity("s1")))]);
    let mut feed = feed(Auth::Tokens(script), Settings::default(), Some(&served));
    let url = format!("https://localhost:{}/feed/v1", feed.server.address().port());
    let mut sidecar = Sidecar::post(client, url.clone(), Some("t")).await.unwrap();
    sidecar.say(&hello("s1")).await;
    let (_, outgoing) = feed.connected().await;
    let next = show(&served);
    let second = Sidecar::post(next, url, Some("t")).await.unwrap();
    second.say(&hello("s1")).await;
    feed.connected().await;
    assert!(outgoing.send(Down::Wait {}));
    assert_eq!(sidecar.hear().await, Some(Down::Wait {}));
}

#[tokio::test]
async fn a_server_that_would_show_passwords_does_not_start() {
    let start = |auth: Auth<Script>, tls: bool| {
        let listener = listener("0.0.0.0:0");
        let (inputs, _events) = mpsc::channel(1);
        let tls = tls.then(|| Served::default().server(PROTOCOLS).unwrap());
        FeedServer::start(listener, tls, auth, inputs, Settings::default(), FeedMetrics::default()).err()
    };
    let tokens = || Auth::Tokens(Script::new(&[]));
    assert!(matches!(start(tokens(), false), Some(StartError::PlainBeyondLoopback(_))));
    assert!(matches!(start(Auth::Insecure, true), Some(StartError::InsecureBeyondLoopback(_))));
    assert!(start(tokens(), true).is_none());
}
