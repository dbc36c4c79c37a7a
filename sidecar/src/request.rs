//! Requests over HTTP/1.1 to somebody near, over one connection as long as that stands.

use anyhow::Context;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::connect::{self, Connect, Io};

/// The longest answer that is read, in bytes: a thousand streams take a few hundred thousand.
const MAX_ANSWER: usize = 64 << 20;

/// Who asks, and with what login.
#[derive(Clone)]
pub(crate) struct Client<C> {
    pub(crate) connect: C,
    /// `Authorization`, if one is wanted.
    pub(crate) login: Option<HeaderValue>,
}

/// A connection, while requests follow each other.
pub(crate) struct Connection {
    sender: SendRequest<Body>,
    _driver: AbortOnDropHandle<Result<(), hyper::Error>>,
}

impl<C: Connect> Client<C> {
    /// One request, over the connection of the one before where that still stands. `json` is the body, if there is one.
    pub(crate) async fn ask(
        &self,
        connection: &mut Option<Connection>,
        method: Method,
        url: &Url,
        json: Option<String>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let target = &url[url::Position::BeforePath..];
        let mut request = Request::builder().method(method).uri(target).header(header::HOST, authority(url));
        if let Some(login) = &self.login {
            request = request.header(header::AUTHORIZATION, login);
        }
        if json.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(json.map_or_else(Body::empty, Body::from))?;
        let standing = match connection.take() {
            Some(mut standing) => standing.sender.ready().await.ok().map(|()| standing),
            None => None,
        };
        let mut standing = match standing {
            Some(standing) => standing,
            None => self.open(url).await?,
        };
        let response = standing.sender.send_request(request).await?;
        let status = response.status();
        let body =
            axum::body::to_bytes(Body::new(response.into_body()), MAX_ANSWER).await.context("reading its answer")?;
        *connection = Some(standing);
        Ok((status, body))
    }

    async fn open(&self, url: &Url) -> anyhow::Result<Connection> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        let addresses = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await?;
        let mut opened = Err(anyhow::anyhow!("{host} has no address"));
        for address in addresses {
            opened = connect::open(&self.connect, url, address, || connect::tls(None, b"http/1.1")).await;
            if opened.is_ok() {
                break;
            }
        }
        let stream: Box<dyn Io> = opened?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Connection { sender, _driver: AbortOnDropHandle::new(tokio::spawn(connection)) })
    }
}

/// `HOST:PORT`, without the scheme's own port.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
