//! Asking the backend: the plain list every few seconds, running streams that were not listed by name, unknown names when a viewer wants them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use rand::Rng;

use super::answer::{Answer, Refusal, judge, judge_head};
use super::configuration::Event;
use super::engine::Streamer;
use super::request::Backend;
use super::settings::Settings;
use super::stats::ExternalStatus;
use crate::registry::ClientError;

/// The backend, and what it last listed.
pub(super) struct Backends {
    backend: Mutex<Option<Backend>>,
    listed: Mutex<Option<(Bytes, Answer)>>,
}

impl Backends {
    pub(super) fn new(backend: Option<Backend>) -> Self {
        Self { backend: Mutex::new(backend), listed: Mutex::default() }
    }

    pub(super) fn set(&self, backend: Option<Backend>) {
        *lock(&self.backend) = backend;
        *lock(&self.listed) = None;
    }

    fn get(&self) -> Option<Backend> {
        lock(&self.backend).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The client for the backend, with the protocol's time-out.
pub(super) fn http_client(settings: &Settings) -> anyhow::Result<reqwest::Client> {
    let client = || {
        reqwest::Client::builder()
            .timeout(Duration::from_millis(settings.timeout_ms))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
    };
    // An image from scratch has no certificates of the system, and a backend with `http` needs none.
    Ok(client().build().or_else(|_| client().tls_certs_only([]).build())?)
}

/// What came of a viewer's request for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requested {
    AlreadyRunning,
    Started,
    /// The backend left it out.
    NotFound,
    /// The backend forbids asking for unknown names, or there is none.
    NotAsked,
    Refused(Refusal),
}

impl Streamer {
    /// Polls for ever; ends when the source registry is lost.
    pub async fn poll(self: Arc<Self>) {
        let mut frozen = self.frozen.subscribe();
        while !self.lost.is_cancelled() {
            if frozen.wait_for(|frozen| !frozen).await.is_err() {
                return;
            }
            if let Some(answer) = self.fetch_unless_frozen(None).await
                && self.cycle(answer).await.is_err()
            {
                return;
            }
            tokio::time::sleep(self.pause()).await;
        }
    }

    fn pause(&self) -> Duration {
        let (min, max) = (self.settings.poll_min_ms, self.settings.poll_max_ms);
        Duration::from_millis(rand::rng().random_range(min..=max.max(min)))
    }

    /// One poll: the list, then each part by name; a part that fails changes nothing for its names.
    async fn cycle(&self, listed: Result<Answer, Refusal>) -> Result<(), ClientError> {
        // Any 200 is an answered poll, one that was refused for what it holds included.
        let answered = match &listed {
            Ok(_) => true,
            Err(refusal) => refusal.code == Some(StatusCode::OK.as_u16()),
        };
        let (parts, mut status) = match listed {
            Ok(answer) => {
                let Some(parts) = self.apply_polled(Event::Listed(answer.streams)).await? else {
                    return Ok(());
                };
                (parts, ExternalStatus::Loaded)
            }
            Err(refusal) => (Vec::new(), ExternalStatus::Error(refusal)),
        };
        for asked in parts {
            match self.fetch_unless_frozen(Some(&asked)).await {
                None => return Ok(()),
                Some(Ok(answer)) => {
                    let named = Event::Named { asked, answered: answer.streams };
                    if self.apply_polled(named).await?.is_none() {
                        return Ok(());
                    }
                }
                Some(Err(refusal)) => status = ExternalStatus::Error(refusal),
            }
        }
        self.finish(status, answered).await
    }

    async fn finish(&self, status: ExternalStatus, answered: bool) -> Result<(), ClientError> {
        if let ExternalStatus::Error(refusal) = &status {
            let (reason, code, detail) = (refusal.reason, refusal.code, &refusal.detail);
            tracing::warn!(reason, code, detail, "an answer changes nothing");
        }
        let mut state = self.state().await;
        state.external_status = status;
        if answered {
            self.tell_polled(&mut state).await?;
        }
        Ok(())
    }

    /// Carries an answer out, unless polling was frozen meanwhile.
    async fn apply_polled(&self, event: Event) -> Result<Option<Vec<Vec<String>>>, ClientError> {
        let mut state = self.state().await;
        if *self.frozen.borrow() {
            return Ok(None);
        }
        self.apply(&mut state, event).await.map(Some)
    }

    /// Only the asking is given up when polling is frozen: an answer is carried out whole or not at all.
    async fn fetch_unless_frozen(&self, names: Option<&[String]>) -> Option<Result<Answer, Refusal>> {
        let mut frozen = self.frozen.subscribe();
        let stopped = async { drop(frozen.wait_for(|frozen| *frozen).await) };
        tokio::select! {
            () = stopped => None,
            answer = self.fetch(names) => answer,
        }
    }

    /// A viewer asks for a name: what is not known is asked for, and started if it is given.
    pub async fn request(&self, name: &str) -> Result<Requested, ClientError> {
        let mut state = self.state().await;
        if state.configuration.running().contains_key(name) {
            return Ok(Requested::AlreadyRunning);
        }
        let asks = self.apply(&mut state, Event::Requested(name.to_owned()));
        let Some(asked) = asks.await?.pop() else {
            return Ok(Requested::Started);
        };
        drop(state);
        if !self.may_ask() {
            return Ok(Requested::NotAsked);
        }
        let answered = match self.fetch(Some(&asked)).await {
            None => return Ok(Requested::NotAsked),
            Some(Err(refusal)) => return Ok(Requested::Refused(refusal)),
            Some(Ok(answer)) => answer.streams,
        };
        let mut state = self.state().await;
        let found = Event::Found { name: name.to_owned(), answered };
        self.apply(&mut state, found).await?;
        let runs = state.configuration.running().contains_key(name);
        Ok(if runs { Requested::Started } else { Requested::NotFound })
    }

    fn may_ask(&self) -> bool {
        let listed = lock(&self.backends.listed);
        let dynamic = listed.as_ref().is_none_or(|(_, answer)| answer.dynamic);
        dynamic && !self.settings.never_asks_by_name
    }

    /// Asks the backend; `None` without one.
    async fn fetch(&self, names: Option<&[String]>) -> Option<Result<Answer, Refusal>> {
        let backend = self.backends.get()?;
        Some(self.fetch_from(&backend, names).await)
    }

    async fn fetch_from(&self, backend: &Backend, names: Option<&[String]>) -> Result<Answer, Refusal> {
        let url = backend
            .streams(&self.settings.hostname, names)
            .map_err(|error| Refusal::without_answer("config_external", error))?;
        let mut request = self.http.get(url);
        if let Some(key) = &backend.bearer {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|error| no_answer(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.map_err(|error| no_answer(&error))?;
        let dynamic = judge_head(status, &headers)?;
        let index_base = usize::from(self.settings.path_index_base);
        if names.is_some() {
            return judge(status, &headers, &body, index_base);
        }
        let mut listed = lock(&self.backends.listed);
        // A list that is byte for byte the last one is not read again.
        let answer = match listed.take() {
            Some((last, answer)) if last == body => Answer { dynamic, ..answer },
            last => judge(status, &headers, &body, index_base).inspect_err(|_| *listed = last)?,
        };
        *listed = Some((body, answer.clone()));
        Ok(answer)
    }
}

fn no_answer(error: &reqwest::Error) -> Refusal {
    let reason = if error.is_timeout() {
        "timeout"
    } else if error.is_connect() {
        "unreachable"
    } else {
        "connection"
    };
    // Without the error's own text: it repeats the URL.
    Refusal::without_answer(reason, "the backend did not answer".to_owned())
}
