//! The streamer's own API, read from beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Bytes;
use axum::http::{HeaderValue, Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use url::Url;
use weir_feed::frames::{Load, Run};
use weir_feed::holder::watch::{External, Reading};

use crate::connect::Connect;
use crate::request::{Client, Connection};

/// Streams asked for at once.
const PAGE: usize = 1_000;
/// Pages read at most: a cursor that never ends must not hold a reading up for ever.
const MAX_PAGES: usize = 200;
/// For one request.
const TIMEOUT: Duration = Duration::from_secs(2);
/// For a whole reading.
const READING: Duration = Duration::from_secs(10);
/// Where the API begins: today's images, and older ones.
const PREFIXES: [&str; 2] = ["streamer/api/v3", "flussonic/api/v3"];

/// A client of one streamer's API.
#[derive(Clone)]
pub struct StreamerApi<C> {
    client: Client<C>,
    base: Url,
    /// Which of the prefixes answered last.
    prefix: usize,
}

#[derive(Debug, Deserialize)]
struct Stats {
    id: Option<String>,
    cpu_usage: Option<f64>,
    input_kbit: Option<f64>,
    output_kbit: Option<f64>,
    config_external_status: Option<ExternalStatus>,
}

#[derive(Debug, Deserialize)]
struct ExternalStatus {
    status: Option<String>,
    reason: Option<String>,
    code: Option<serde_json::Value>,
    error: Option<serde_json::Value>,
    detail: Option<serde_json::Value>,
    path: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    streams: Vec<Listed>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    named_by: Option<String>,
}

impl<C: Connect> StreamerApi<C> {
    /// A client of the API at `url`; a user and password in it are used, and never shown. `secret` goes before them:
    /// `USER:PASSWORD`, or a token.
    pub fn new(mut url: Url, secret: Option<&str>, connect: C) -> anyhow::Result<Self> {
        let login = match secret {
            Some(secret) => Some(login(secret)?),
            None => (!url.username().is_empty()).then(|| basic(&url)).transpose()?,
        };
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        if cleared.is_err() {
            bail!("--streamer-api: this URL cannot have a host");
        }
        Ok(Self { client: Client { connect, login }, base: url, prefix: 0 })
    }

    /// Reads what the streamer runs, what it thinks of our answers, and its load. The reading is of one start of the
    /// streamer: its `id` is the same before and after.
    pub async fn read(&mut self) -> Result<Reading, String> {
        match tokio::time::timeout(READING, self.read_all()).await {
            Ok(reading) => reading.map_err(|error| format!("{error:#}")),
            Err(_) => Err(format!("no whole answer within {} s", READING.as_secs())),
        }
    }

    async fn read_all(&mut self) -> anyhow::Result<Reading> {
        let mut connection = None;
        let before = self.stats(&mut connection).await?;
        let mut runs = BTreeMap::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let limit = PAGE.to_string();
            let mut query = vec![("select", "name,named_by"), ("limit", &limit)];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let page: Page = self.get(&mut connection, "streams", &query).await?;
            for listed in page.streams {
                let own = listed.named_by.as_deref() == Some("config");
                let run = if own { Run::Own } else { Run::Capture };
                runs.insert(listed.name, run);
            }
            let Some(next) = page.next.filter(|next| !next.is_empty()) else {
                let after = self.stats(&mut connection).await?;
                return finish(&before, after, runs);
            };
            // Half a list would pass for evidence that the other half does not run.
            if cursor.as_ref() == Some(&next) {
                bail!("its list of streams does not go on: the same cursor came twice");
            }
            cursor = Some(next);
        }
        bail!("its list of streams has more than {MAX_PAGES} pages")
    }

    /// The URL of its backend, `config_external`.
    pub async fn config_external(&mut self) -> anyhow::Result<Option<String>> {
        #[derive(Deserialize)]
        struct Config {
            config_external: Option<String>,
        }
        let config: Config = self.get(&mut None, "config", &[]).await?;
        Ok(config.config_external.filter(|url| !url.is_empty()))
    }

    /// Gives it another backend, or none.
    pub async fn set_config_external(&mut self, backend: Option<&str>) -> anyhow::Result<()> {
        let config = serde_json::json!({ "config_external": backend }).to_string();
        self.request(&mut None, &Method::PUT, "config", &[], Some(&config)).await.map(drop)
    }

    /// What it thinks of its backend's answers.
    pub async fn external(&mut self) -> anyhow::Result<External> {
        Ok(external(self.stats(&mut None).await?.config_external_status))
    }

    async fn stats(&mut self, connection: &mut Option<Connection>) -> anyhow::Result<Stats> {
        self.get(connection, "config/stats", &[]).await
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &mut self,
        connection: &mut Option<Connection>,
        operation: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        let body = self.request(connection, &Method::GET, operation, query, None).await?;
        serde_json::from_slice(&body).with_context(|| format!("its answer to {operation}"))
    }

    /// An operation, under the prefix that it has.
    async fn request(
        &mut self,
        connection: &mut Option<Connection>,
        method: &Method,
        operation: &str,
        query: &[(&str, &str)],
        json: Option<&str>,
    ) -> anyhow::Result<Bytes> {
        for _ in PREFIXES {
            let prefix = PREFIXES.get(self.prefix).copied().unwrap_or_default();
            let mut url = self.base.clone();
            let path = format!("{}/{prefix}/{operation}", url.path().trim_end_matches('/'));
            url.set_path(&path);
            if !query.is_empty() {
                url.query_pairs_mut().extend_pairs(query);
            }
            let asked = self.client.ask(connection, method.clone(), &url, json.map(str::to_owned));
            let answered = tokio::time::timeout(TIMEOUT, asked).await;
            let answered = answered.with_context(|| format!("no answer within {} s", TIMEOUT.as_secs()));
            let (status, body) = answered.flatten().context("asking the streamer's API")?;
            match status {
                StatusCode::NOT_FOUND => self.prefix = (self.prefix + 1) % PREFIXES.len(),
                status if status.is_success() => return Ok(body),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    bail!("it refuses the user and password that it is shown ({status})")
                }
                status => bail!("it answers {method} {operation} with {status}"),
            }
        }
        bail!("it has no {operation} under {} or {}", PREFIXES[0], PREFIXES[1])
    }
}

/// What is known when the list is whole, if `before` and `after` are of one start.
fn finish(before: &Stats, after: Stats, runs: BTreeMap<String, Run>) -> anyhow::Result<Reading> {
    let (Some(id), true) = (after.id, before.id.is_some()) else {
        bail!("config/stats has no id: which start of the streamer this is cannot be told");
    };
    if before.id.as_ref() != Some(&id) {
        bail!("the streamer was started anew while it was read");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float becomes the nearest integer, never below 0"
    )]
    let whole = |value: f64| value.round().max(0.0) as u64;
    let load = Load {
        cpu: after.cpu_usage.map(|cpu| u32::try_from(whole(cpu)).unwrap_or(u32::MAX)),
        input_kbit: after.input_kbit.map(whole),
        output_kbit: after.output_kbit.map(whole),
    };
    Ok(Reading { id, runs, external: external(after.config_external_status), load })
}

/// The user and password in a URL.
fn basic(url: &Url) -> anyhow::Result<HeaderValue> {
    let (user, password) = (percent_decode(url.username()), percent_decode(url.password().unwrap_or_default()));
    login(&format!("{user}:{password}"))
}

/// `Authorization` for a user and password with a colon between them, or for a token.
fn login(secret: &str) -> anyhow::Result<HeaderValue> {
    let basic = secret.contains(':');
    let login = if basic { format!("Basic {}", STANDARD.encode(secret)) } else { format!("Bearer {secret}") };
    let mut value = HeaderValue::try_from(login).context("the login of the streamer's API")?;
    value.set_sensitive(true);
    Ok(value)
}

fn external(status: Option<ExternalStatus>) -> External {
    let Some(status) = status else {
        return External::Untold;
    };
    match status.status.as_deref() {
        Some("loaded") => External::Loaded,
        Some("error") => {
            let text = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            let path = status.path.as_ref();
            let code = status.code.as_ref().and_then(serde_json::Value::as_u64);
            let invalid = |text: Option<&str>| text == Some("validation_error");
            let named = path.and_then(|path| path.as_array()?.first()?.as_str()) == Some("streams");
            let error = status.error.as_ref().and_then(serde_json::Value::as_str);
            let about_streams = named || invalid(status.reason.as_deref()) || invalid(error);
            let at = path.map(|path| format!("at {path}"));
            let parts = [status.reason, status.error.map(text), status.detail.map(text), at];
            let message = parts.into_iter().flatten().collect::<Vec<_>>().join(": ");
            if !about_streams {
                return External::NotFetched { message, ours: code == Some(503) };
            }
            External::Error { message, index: path.and_then(index) }
        }
        _ => External::Untold,
    }
}

/// The stream's place in `["streams", 3, …]`.
fn index(path: &serde_json::Value) -> Option<usize> {
    let path = path.as_array()?;
    if path.first()?.as_str() != Some("streams") {
        return None;
    }
    let place = path.get(1)?;
    let number = place.as_u64().or_else(|| place.as_str()?.parse().ok())?;
    usize::try_from(number).ok()
}

fn percent_decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_stream_by_its_place() {
        let status = serde_json::from_value(serde_json::json!({
            "status": "error", "error": "validation_error", "path": ["streams", 3, "inputs"],
        }));
        let External::Error { message, index } = external(status.unwrap()) else {
            panic!("an error");
        };
        assert_eq!(index, Some(3));
        assert!(message.contains("validation_error"), "{message}");
    }

    #[test]
    fn an_answer_that_was_never_fetched_is_no_documents_fault() {
        let status = |code: u16, reason: &str| {
            serde_json::from_value(serde_json::json!({"status": "error", "reason": reason, "code": code}))
        };
        let unavailable = external(status(503, "unavailable").unwrap());
        assert!(matches!(unavailable, External::NotFetched { ours: true, .. }), "{unavailable:?}");
        let refused = external(status(401, "unauthorized").unwrap());
        assert!(matches!(refused, External::NotFetched { ours: false, .. }), "{refused:?}");
    }

    #[test]
    fn a_version_that_does_not_tell_is_unknown_not_fine() {
        assert_eq!(external(None), External::Untold);
    }
}
