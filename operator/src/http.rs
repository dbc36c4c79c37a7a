//! The listener for people, probes and Prometheus: health, metrics, and without Kubernetes the objects themselves.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::future::BoxFuture;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

mod redact;

/// What `/apis/weir.dev/v1alpha1` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Streams,
    Streamers,
    Placements,
    /// Not Weir's own in Kubernetes; here they have no other place.
    Events,
}

impl Resource {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "streams" => Some(Self::Streams),
            "streamers" => Some(Self::Streamers),
            "placements" => Some(Self::Placements),
            "events" => Some(Self::Events),
            _ => None,
        }
    }
}

/// Where objects can be had without an API server.
pub trait Objects: Send + Sync + 'static {
    /// Every object of a kind, with its status; a sentence where they cannot be had now.
    fn list(&self, resource: Resource) -> BoxFuture<'_, Result<Vec<Value>, String>>;
}

/// What the operator's loop says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// What is missing, one sentence each: ready when there is nothing.
    pub missing: Vec<String>,
    /// What is wrong and does not keep it from its work, one sentence each.
    pub notes: Vec<String>,
}

/// What the listener shows.
#[derive(Clone)]
pub struct Sources {
    /// For `/metrics`.
    pub registry: Arc<Registry>,
    /// For `/readyz`, one after the other.
    pub standing: Vec<watch::Receiver<Standing>>,
    /// Only without Kubernetes.
    pub objects: Option<Arc<dyn Objects>>,
}

/// Answers until `shutdown` comes.
pub async fn serve(
    listener: TcpListener,
    sources: Sources,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(sources)).with_graceful_shutdown(shutdown).await
}

/// All paths.
pub fn router(sources: Sources) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/apis/weir.dev/v1alpha1/{resource}", get(everywhere))
        .route("/apis/weir.dev/v1alpha1/namespaces/{namespace}/{resource}", get(in_namespace))
        .with_state(sources)
}

async fn ready(State(sources): State<Sources>) -> Response {
    let (mut missing, mut notes) = (vec![], vec![]);
    for standing in &sources.standing {
        let standing = standing.borrow();
        missing.extend(standing.missing.iter().cloned());
        notes.extend(standing.notes.iter().cloned());
    }
    let code = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut lines = if missing.is_empty() { vec!["ok".to_owned()] } else { missing };
    lines.extend(notes.iter().map(|note| format!("note: {note}")));
    (code, lines.join("\n") + "\n").into_response()
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &sources.registry) {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn everywhere(State(sources): State<Sources>, Path(resource): Path<String>) -> Response {
    list(&sources, &resource, None).await
}

async fn in_namespace(State(sources): State<Sources>, Path((namespace, resource)): Path<(String, String)>) -> Response {
    list(&sources, &resource, Some(&namespace)).await
}

/// A Kubernetes List, or a Kubernetes Status that says why there is none.
async fn list(sources: &Sources, resource: &str, namespace: Option<&str>) -> Response {
    let Some(objects) = &sources.objects else {
        let sentence = "this operator works on a Kubernetes cluster: ask its API server, with kubectl";
        return failure(StatusCode::NOT_FOUND, "NotFound", sentence);
    };
    let Some(resource) = Resource::parse(resource) else {
        let sentence = "there is no such resource: ask for streams, streamers, placements or events";
        return failure(StatusCode::NOT_FOUND, "NotFound", sentence);
    };
    match objects.list(resource).await {
        Ok(mut items) => {
            items.retain(|item| namespace.is_none_or(|namespace| item["metadata"]["namespace"] == namespace));
            for item in &mut items {
                redact::object(item);
            }
            axum::Json(json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})).into_response()
        }
        Err(sentence) => failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", &sentence),
    }
}

fn failure(code: StatusCode, reason: &str, message: &str) -> Response {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    (code, axum::Json(status)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;

    impl Objects for Two {
        fn list(&self, resource: Resource) -> BoxFuture<'_, Result<Vec<Value>, String>> {
            let object = |namespace: &str| json!({"metadata": {"namespace": namespace, "name": "a"}, "spec": {"inputs": [{"url": "rtsp://u:canary@h/1"}]}});
            let answer = match resource {
                Resource::Streams => Ok(vec![object("media"), object("other")]),
                _ => Err("not now".to_owned()),
            };
            Box::pin(async move { answer })
        }
    }

    /// Serves, and asks for one path.
    async fn ask(objects: bool, standing: Standing, path: &str) -> (u16, String) {
        let mut registry = Registry::default();
        registry.register("x", "X", prometheus_client::metrics::counter::Counter::<u64>::default());
        let sources = Sources {
            registry: Arc::new(registry),
            standing: vec![watch::channel(Standing::default()).1, watch::channel(standing).1],
            objects: objects.then(|| Arc::new(Two) as Arc<dyn Objects>),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, sources, async {
            let _ = stopped.await;
        }));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        let answer = (answer.status().as_u16(), answer.text().await.unwrap());
        drop(stop);
        server.await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn what_is_missing_stands_in_readyz_line_by_line() {
        let standing = |missing: &[&str], notes: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            Standing { missing: texts(missing), notes: texts(notes) }
        };
        let well = standing(&[], &[]);
        assert_eq!(ask(false, well.clone(), "/readyz").await, (200, "ok\n".to_owned()));
        let missing = standing(&["no streams yet", "no keys"], &["a.yaml is bad"]);
        let text = "no streams yet\nno keys\nnote: a.yaml is bad\n".to_owned();
        assert_eq!(ask(false, missing.clone(), "/readyz").await, (503, text));
        assert_eq!(ask(false, missing, "/healthz").await, (200, "ok".to_owned()));
        assert!(ask(false, well, "/metrics").await.1.contains("x_total 0"));
        let noted = standing(&[], &["a.yaml is bad"]);
        assert_eq!(ask(false, noted, "/readyz").await, (200, "ok\nnote: a.yaml is bad\n".to_owned()));
    }

    #[tokio::test]
    async fn objects_are_lists_without_passwords_and_only_where_there_is_no_cluster() {
        let base = "/apis/weir.dev/v1alpha1";
        let (code, text) = ask(true, Standing::default(), &format!("{base}/streams")).await;
        let list: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &list["kind"], list["items"].as_array().unwrap().len()), (200, &json!("List"), 2));
        assert!(!text.contains("canary"), "{text}");
        let (_, text) = ask(true, Standing::default(), &format!("{base}/namespaces/media/streams")).await;
        assert!(text.contains("media") && !text.contains("other"), "{text}");
        for (objects, path, code, what) in [
            (true, "streamers", 503, "not now"),
            (true, "secrets", 404, "no such resource"),
            (false, "streams", 404, "kubectl"),
        ] {
            let (status, text) = ask(objects, Standing::default(), &format!("{base}/{path}")).await;
            assert_eq!(status, code);
            assert!(text.contains(what) && text.contains("Failure"), "{text}");
        }
    }
}
