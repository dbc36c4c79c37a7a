use std::sync::Arc;

use axum::http::Request as HttpRequest;
use http_body_util::BodyExt;
use tower::ServiceExt;
use weir_feed::holder::answer::{Item, NotYet};

use super::*;

/// What the run loop was asked, and the response it led to.
struct Seen {
    asked: Option<(Request, Option<String>)>,
    response: Response<Body>,
}

/// Sends one request through the router, with a run loop that gives `answer`.
async fn send(key: Option<&str>, request: HttpRequest<Body>, answer: Answer) -> Seen {
    let (events, mut incoming) = mpsc::channel(1);
    let state = ApiState { events, key: key.map(str::to_owned), metrics: Metrics::default() };
    let answering = tokio::spawn(async move {
        let Some(Event::Asked { request, host, reply }) = incoming.recv().await else {
            return None;
        };
        reply.send(Reply { answer, age: Some(1_234) }).unwrap();
        Some((request, host))
    });
    let response = router(state).oneshot(request).await.unwrap();
    Seen { asked: answering.await.unwrap(), response }
}

async fn get(uri: &str) -> Seen {
    let request = HttpRequest::get(uri).body(Body::empty()).unwrap();
    send(None, request, two_streams()).await
}

fn two_streams() -> Answer {
    let item = |name: &str| Item {
        name: name.into(),
        hash: String::new(),
        document: Arc::from(format!("{{\"name\":\"{name}\"}}")),
    };
    Answer::Streams(vec![item("a"), item("b")])
}

fn named(names: &[&str]) -> Request {
    Request::Named(names.iter().map(ToString::to_string).collect())
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The client library compares the whole content type and fails an answer without the other header.
fn assert_headers(response: &Response<Body>) {
    let headers = response.headers();
    assert_eq!(headers.get_all("content-type").iter().count(), 1);
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn an_answer_is_whole_and_says_how_old_it_is() {
    let seen = get("/streams").await;
    assert_eq!(seen.response.status(), 200);
    assert_headers(&seen.response);
    assert_eq!(seen.response.headers()["x-replica-age-ms"], "1234");
    assert_eq!(text(seen.response).await, r#"{"streams":[{"name":"a"},{"name":"b"}]}"#);
}

#[tokio::test]
async fn no_header_asks_for_what_is_not_served() {
    let seen = get("/streams").await;
    let asks = |name: &str| name.starts_with("x-config-server");
    assert!(!seen.response.headers().keys().any(|name| asks(name.as_str())));
}

#[tokio::test]
async fn any_prefix_is_served_and_double_slashes_collapse() {
    for path in [
        "/streams",
        "//streams",
        "/streamer/api/v3/streams",
        "/flussonic/api/v3//streams",
        "/central/streamers/s1.example/streams",
    ] {
        let seen = get(&format!("{path}?host=s1")).await;
        assert_eq!(seen.asked, Some((Request::All, Some("s1".to_owned()))), "{path}");
    }
}

#[tokio::test]
async fn names_are_decoded_first_and_split_after() {
    for (query, names) in [
        ("name=a%2Cb%2Cmylive%2Fbunny", &["a", "b", "mylive/bunny"][..]),
        ("name=a,b", &["a", "b"]),
        ("name=a%2Cb,c", &["a", "b", "c"]),
        ("name=one", &["one"]),
    ] {
        let seen = get(&format!("/streams?{query}")).await;
        assert_eq!(seen.asked, Some((named(names), None)), "{query}");
    }
}

#[tokio::test]
async fn host_has_two_names_and_may_be_missing() {
    for (query, host) in
        [("?host=h%2D1", Some("h-1")), ("?client_host=h", Some("h")), ("?cursor=x&unknown=y", None), ("", None)]
    {
        let seen = get(&format!("/streams{query}")).await;
        assert_eq!(seen.asked, Some((Request::All, host.map(str::to_owned))), "{query}");
    }
}

#[tokio::test]
async fn what_is_not_known_is_503_with_a_reason() {
    let request = HttpRequest::get("/streams").body(Body::empty()).unwrap();
    let seen = send(None, request, Answer::NotYet(NotYet::NeverSynced)).await;
    assert_eq!(seen.response.status(), 503);
    assert_headers(&seen.response);
    let body: serde_json::Value = serde_json::from_str(&text(seen.response).await).unwrap();
    assert_eq!(body["errors"][0]["status"], "503");
    assert!(body["errors"][0]["title"].as_str().unwrap().contains("replica"));
}

#[tokio::test]
async fn every_other_path_and_method_is_an_error_with_the_same_headers() {
    for (method, uri, status) in [
        ("GET", "/", 404),
        ("GET", "/update-streams?name=a", 404),
        ("GET", "/streamsx", 404),
        ("POST", "/streams", 405),
    ] {
        let request = HttpRequest::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        let seen = send(None, request, two_streams()).await;
        assert_eq!(seen.response.status().as_u16(), status, "{method} {uri}");
        assert_eq!(seen.asked, None, "{method} {uri}");
        assert_headers(&seen.response);
    }
}

#[tokio::test]
async fn a_key_must_be_shown_where_one_is_set() {
    for (shown, status) in
        [(Some("Bearer secret"), 200), (Some("Bearer wrong"), 401), (Some("secret"), 401), (None, 401)]
    {
        let mut request = HttpRequest::get("/streams");
        if let Some(shown) = shown {
            request = request.header("authorization", shown);
        }
        let request = request.body(Body::empty()).unwrap();
        let seen = send(Some("secret"), request, two_streams()).await;
        assert_eq!(seen.response.status().as_u16(), status, "{shown:?}");
        assert_headers(&seen.response);
    }
}
