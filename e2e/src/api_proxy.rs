//! A proxy between one operator and the API server, that can do to each request what a network or a sick API server does: hold it,
//! answer it otherwise, never answer it, break its connection, carry it out and keep the answer to itself.
//!
//! Plain HTTP towards the operator, TLS with the cluster's authority towards the API server; the operator's token goes through it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::body::{Body, Bytes};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::site::until;

/// A request of the operator.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    /// Without the query.
    pub path: String,
    pub query: String,
}

impl Asked {
    fn of(method: &Method, uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default().to_owned();
        Self { method: method.clone(), path: uri.path().to_owned(), query }
    }

    /// Whether it asks for the list of a kind (its plural), in whatever namespace.
    pub fn lists(&self, plural: &str) -> bool {
        let of_kind = self.path.rsplit('/').next() == Some(plural);
        self.method == Method::GET && of_kind && !self.watches()
    }

    /// Whether it asks for events as they happen.
    pub fn watches(&self) -> bool {
        self.query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1")
    }

    /// Whether it would change an object of a kind (its plural).
    pub fn writes(&self, plural: &str) -> bool {
        let of_kind = self.path.split('/').any(|part| part == plural);
        of_kind && [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(&self.method)
    }
}

/// What is done about a request.
#[derive(Debug, Clone)]
pub enum Deed {
    /// It goes to the API server, and the answer back.
    Pass,
    /// It is kept until [`ApiProxy::release`], and then carried out even if nobody waits for its answer any more: a write in flight.
    Hold,
    /// The API server never sees it; the operator is answered this.
    Answer { status: StatusCode, headers: HeaderMap, body: Bytes },
    /// It is accepted and never answered.
    Hang,
    /// Its connection is reset.
    Reset,
}

impl Deed {
    /// An answer in JSON with status 200.
    pub fn json(body: &serde_json::Value) -> Self {
        let headers =
            HeaderMap::from_iter([(axum::http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Self::Answer { status: StatusCode::OK, headers, body: body.to_string().into() }
    }

    /// What a Kubernetes API server that has too much to do answers.
    pub fn too_many_requests(retry_after_s: u64) -> Self {
        let body = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 429, "reason": "TooManyRequests",
            "message": "too many requests, please try again later", "details": {"retryAfterSeconds": retry_after_s},
        });
        let mut headers = HeaderMap::new();
        headers.insert(axum::http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(axum::http::header::RETRY_AFTER, retry_after_s.into());
        Self::Answer { status: StatusCode::TOO_MANY_REQUESTS, headers, body: body.to_string().into() }
    }
}

/// What became of a request that was held and then released.
#[derive(Debug, Clone)]
pub struct Landed {
    pub asked: Asked,
    /// The API server's answer.
    pub status: StatusCode,
}

type Rule = Box<dyn Fn(&Asked) -> Deed + Send>;

/// A request that waits for its release.
struct Held {
    asked: Asked,
    go: oneshot::Sender<oneshot::Sender<Landed>>,
}

struct Shared {
    upstream: reqwest::Client,
    /// `https://HOST:PORT` of the API server.
    server: String,
    rule: Mutex<Rule>,
    held: Mutex<Vec<Held>>,
    /// All that was asked, with what was done about it.
    log: Mutex<Vec<(Asked, Deed)>>,
    /// How often connections were cut.
    cuts: watch::Sender<u64>,
}

/// A running proxy; it ends when it is dropped.
pub struct ApiProxy {
    shared: Arc<Shared>,
    addr: SocketAddr,
    _stop: DropGuard,
}

impl std::fmt::Debug for ApiProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiProxy({})", self.addr)
    }
}

impl ApiProxy {
    /// Starts one before the API server of `config`, which lets everything pass. It lives in the caller's run time.
    pub async fn start(config: &kube::Config) -> Result<Self> {
        let upstream = upstream(config)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let shared = Arc::new(Shared {
            upstream,
            server,
            rule: Mutex::new(Box::new(|_| Deed::Pass)),
            held: Mutex::default(),
            log: Mutex::default(),
            cuts: watch::Sender::new(0),
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, Arc::clone(&shared), stop.clone())));
        Ok(Self { shared, addr, _stop: stop.drop_guard() })
    }

    /// Where the operator finds it.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What is done about each request from now on. Those that are under way are not touched.
    pub fn rule(&self, rule: impl Fn(&Asked) -> Deed + Send + 'static) {
        *lock(&self.shared.rule) = Box::new(rule);
    }

    /// Everything passes again.
    pub fn pass(&self) {
        self.rule(|_| Deed::Pass);
    }

    /// Resets every connection there is, watches too: the operator has to ask anew.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many of the requests so far are like that, and what was done about them.
    pub fn count(&self, like: impl Fn(&Asked, &Deed) -> bool) -> usize {
        lock(&self.shared.log).iter().filter(|(asked, deed)| like(asked, deed)).count()
    }

    /// Requests that are held.
    pub fn held(&self) -> Vec<Asked> {
        lock(&self.shared.held).iter().map(|held| held.asked.clone()).collect()
    }

    /// Waits until a request is held.
    pub async fn await_held(&self) -> Result<()> {
        until("a request is held on its way to the API server", async || {
            if self.held().is_empty() {
                bail!("none is");
            }
            Ok(())
        })
        .await
    }

    /// Lets what is held go on to the API server, one after the other, and returns the answers.
    pub async fn release(&self) -> Result<Vec<Landed>> {
        let held = std::mem::take(&mut *lock(&self.shared.held));
        let mut landed = Vec::new();
        for Held { asked, go } in held {
            let (told, tells) = oneshot::channel();
            let gone = go.send(told).is_err();
            let answer = tokio::time::timeout(Duration::from_secs(20), tells).await;
            let answer = answer.ok().and_then(Result::ok).filter(|_| !gone);
            landed.push(answer.with_context(|| format!("{} {} was not answered", asked.method, asked.path))?);
        }
        Ok(landed)
    }
}

fn upstream(config: &kube::Config) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    if let Some(roots) = &config.root_cert {
        let roots = roots.iter().map(|der| reqwest::Certificate::from_der(der));
        builder = builder.tls_certs_only(roots.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(builder.build()?)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&shared), stop.clone()))),
            // Too many open files, at worst: others end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// One connection, until either side ends it, or it is cut.
async fn serve(stream: TcpStream, shared: Arc<Shared>, stop: CancellationToken) {
    // Whenever it ends from this side it is a reset, as from a machine that knows nothing of it.
    let _ = stream.set_zero_linger();
    let mut cuts = shared.cuts.subscribe();
    let service = service_fn(|request| answer(Arc::clone(&shared), request));
    tokio::select! {
        _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service) => {}
        _ = cuts.changed() => {}
        () = stop.cancelled() => {}
    }
}

/// The connection breaks.
#[derive(Debug, thiserror::Error)]
#[error("the connection is reset")]
struct Broken;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<reqwest::Body>, Broken> {
    let (head, body) = request.into_parts();
    let asked = Asked::of(&head.method, &head.uri);
    let deed = lock(&shared.rule)(&asked);
    lock(&shared.log).push((asked.clone(), deed.clone()));
    if let Deed::Reset = deed {
        return Err(Broken);
    }
    // Before anything else: what is held has left the operator.
    let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.map_err(|_| Broken)?;
    match deed {
        Deed::Pass => shared.forward(&asked, head.headers, body).await,
        Deed::Hold => hold(shared, asked, head.headers, body).await,
        Deed::Answer { status, headers, body } => {
            let mut response = Response::new(body.into());
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            Ok(response)
        }
        Deed::Hang => std::future::pending().await,
        Deed::Reset => Err(Broken),
    }
}

/// In a task of its own: it is carried out whether or not the operator waits for it.
async fn hold(
    shared: Arc<Shared>,
    asked: Asked,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<reqwest::Body>, Broken> {
    let (go, released) = oneshot::channel();
    lock(&shared.held).push(Held { asked: asked.clone(), go });
    let forwarded = tokio::spawn(async move {
        let told: oneshot::Sender<Landed> = released.await.map_err(|_| Broken)?;
        let response = shared.forward(&asked, headers, body).await?;
        // Who released it may have given up.
        let _ = told.send(Landed { asked, status: response.status() });
        Ok(response)
    });
    forwarded.await.map_err(|_| Broken)?
}

impl Shared {
    async fn forward(
        &self,
        asked: &Asked,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<reqwest::Body>, Broken> {
        for of_this_hop in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            headers.remove(of_this_hop);
        }
        let query = if asked.query.is_empty() { String::new() } else { format!("?{}", asked.query) };
        let url = format!("{}{}{query}", self.server, asked.path);
        let answer = self.upstream.request(asked.method.clone(), url).headers(headers).body(body).send().await;
        let mut response: Response<reqwest::Body> = answer.map_err(|_| Broken)?.into();
        *response.version_mut() = axum::http::Version::HTTP_11;
        for of_that_hop in [CONNECTION, TRANSFER_ENCODING] {
            response.headers_mut().remove(of_that_hop);
        }
        Ok(response)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;

    use super::*;

    /// A proxy before a server that counts what is put there, and a client of the proxy.
    async fn before_a_counter() -> (ApiProxy, reqwest::Client, Arc<Mutex<u32>>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let puts = Arc::new(Mutex::new(0));
        let count = Arc::clone(&puts);
        let put = move || async move { *lock(&count) += 1 };
        let router = Router::new().route("/apis/things/one", get(|| async { "found" }).put(put));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await });
        let proxy = ApiProxy::start(&kube::Config::new(server.parse().unwrap())).await.unwrap();
        (proxy, reqwest::Client::builder().no_proxy().build().unwrap(), puts)
    }

    #[tokio::test]
    async fn what_passes_is_answered_by_the_server_and_what_is_answered_never_reaches_it() {
        let (proxy, client, puts) = before_a_counter().await;
        let url = format!("{}/apis/things/one", proxy.url());
        assert_eq!(client.get(&url).send().await.unwrap().text().await.unwrap(), "found");
        proxy.rule(|asked| if asked.writes("things") { Deed::too_many_requests(1) } else { Deed::Pass });
        let refused = client.put(&url).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_eq!(*lock(&puts), 0);
        proxy.rule(|_| Deed::Reset);
        client.get(&url).send().await.unwrap_err();
        assert_eq!(proxy.count(|_, deed| matches!(deed, Deed::Pass)), 1);
    }

    #[tokio::test]
    async fn what_was_in_flight_lands_although_nobody_waits_for_it_any_more() {
        let (proxy, client, puts) = before_a_counter().await;
        let url = format!("{}/apis/things/one", proxy.url());
        proxy.rule(|_| Deed::Hold);
        client.put(&url).timeout(Duration::from_millis(100)).send().await.unwrap_err();
        assert_eq!((proxy.held().len(), *lock(&puts)), (1, 0));
        let landed = proxy.release().await.unwrap();
        assert_eq!((landed.len(), landed[0].status, *lock(&puts)), (1, StatusCode::OK, 1));
    }
}
