//! The feed's one request: who asks, and may they.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Proof};
use super::door::Admission;
use super::{Auth, Identify, Shared};
use crate::cluster::{Identity, TokenError};

/// Chunks of lines that wait for the peer's window; frames wait in the queue before it.
const CHUNKS: usize = 4;

/// Answers `POST /feed/v1`: with a stream of frames, or with a sentence.
pub(super) async fn feed<I: Identify>(
    State(shared): State<Arc<Shared<I>>>,
    Extension(admission): Extension<Admission>,
    request: Request,
) -> Response {
    let proof = match prove(&shared, request.headers()).await {
        Ok(proof) => proof,
        Err(error) => return refuse(&shared, &error),
    };
    admission.admit();
    let (chunks, receiver) = mpsc::channel::<Bytes>(CHUNKS);
    let cut = CancellationToken::new();
    let connection = Connection::new(Arc::clone(&shared), proof, chunks, cut.clone());
    shared.tasks.spawn(connection.run(request.into_body()));
    let lines = ReceiverStream::new(receiver).take_until(cut.cancelled_owned()).map(Ok::<_, std::convert::Infallible>);
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// The token and whose it is; `None` where nobody has to show one.
async fn prove<I: Identify>(shared: &Shared<I>, headers: &HeaderMap) -> Result<Option<Proof>, TokenError> {
    let Auth::Tokens(cluster) = &shared.auth else {
        return Ok(None);
    };
    let token = bearer(headers).ok_or_else(|| {
        TokenError::Refused("the request has no token: the sidecar must send Authorization: Bearer TOKEN".into())
    })?;
    let identity = identify(shared, cluster.as_ref(), token).await?;
    Ok(Some(Proof { token: token.to_owned(), identity }))
}

/// Asks the cluster, for as long as that may take.
pub(super) async fn identify<I: Identify>(
    shared: &Shared<I>,
    cluster: &I,
    token: &str,
) -> Result<Identity, TokenError> {
    let asked = tokio::time::timeout(shared.settings.identify_within, cluster.identify(token));
    asked
        .await
        .unwrap_or_else(|_| Err(TokenError::Unavailable("nobody said in time whose token this is: try again".into())))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn refuse<I>(shared: &Shared<I>, error: &TokenError) -> Response {
    let (status, reason) = match error {
        TokenError::Refused(_) => (StatusCode::UNAUTHORIZED, "token"),
        TokenError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    shared.metrics.count_refused(reason);
    tracing::warn!(why = %error, "a sidecar was refused");
    let mut response = (status, error.to_string()).into_response();
    if status == StatusCode::UNAUTHORIZED {
        let challenge = axum::http::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}
