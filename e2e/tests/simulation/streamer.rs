//! A streamer with the protocol's habits: it polls its sidecar over HTTP, asks by name for what runs and was not listed,
//! keeps on through errors, shows what it runs on its own API, and comes back with its old configuration.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use weir_e2e::streamer::answer::{Answer, Refusal, judge};
use weir_e2e::streamer::configuration::{self, Configuration, Event};
use weir_e2e::streamer::document::Document;
use weir_e2e::streamer::request::Backend;
use weir_sidecar::connect::Connect;

use crate::network::{HostId, Network, STREAMER, STREAMS, address};

/// How long it waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// In what streamers differ.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "habits")]
pub(crate) struct Habits {
    pub(crate) asks_by_name: bool,
    /// Over a restart.
    pub(crate) keeps_configuration: bool,
    pub(crate) has_api: bool,
    /// Its API says what it thinks of our answers.
    pub(crate) tells: bool,
}

/// What can be seen of a streamer from outside, and what survives its process.
pub(crate) struct View {
    pub(crate) habits: Habits,
    /// `None` while it is down.
    configuration: Option<Configuration>,
    saved: (Vec<Document>, BTreeSet<String>),
    boots: u32,
    /// It polls.
    pub(crate) polls: bool,
    /// Its API answers.
    pub(crate) api_up: bool,
    external: Value,
    /// What has started and stopped, and why, since it was last looked at.
    pub(crate) changes: Vec<(String, configuration::Kind, configuration::Reason)>,
}

/// One streamer; clones are the same.
#[derive(Clone)]
pub(crate) struct Streamer(Arc<Mutex<View>>);

/// What a streamer has in one of its lives.
pub(crate) struct Life {
    pub(crate) host: HostId,
    /// Its sidecar, as a process.
    pub(crate) sidecar: HostId,
    pub(crate) name: String,
    pub(crate) streamer: Streamer,
    pub(crate) network: Network,
    pub(crate) random: StdRng,
    /// The longest time between two polls, in ms.
    pub(crate) poll: u64,
    /// Names that viewers ask for.
    pub(crate) viewers: mpsc::UnboundedReceiver<String>,
}

impl Streamer {
    pub(crate) fn new(habits: Habits) -> Self {
        Self(Arc::new(Mutex::new(View {
            habits,
            configuration: None,
            saved: (Vec::new(), BTreeSet::new()),
            boots: 0,
            polls: true,
            api_up: true,
            external: Value::Null,
            changes: Vec::new(),
        })))
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// What it captures.
    pub(crate) fn running(&self) -> impl Iterator<Item = &String> {
        self.configuration.iter().flat_map(|configuration| configuration.running().keys())
    }

    /// Runs it, or would after a restart.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.running().any(|running| running == name)
            || (self.habits.keeps_configuration && self.saved.1.contains(name))
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.configuration.is_some() && self.habits.has_api && self.api_up
    }

    /// Its process has died.
    pub(crate) fn stop(&mut self) {
        self.configuration = None;
    }

    fn boot(&mut self) {
        self.boots += 1;
        self.external = Value::Null;
        if !self.habits.keeps_configuration {
            self.saved = (Vec::new(), BTreeSet::new());
        }
        let habits = configuration::Habits { never_asks_by_name: !self.habits.asks_by_name };
        let (external, running) = self.saved.clone();
        self.configuration = Some(Configuration::new(habits, [], external));
        self.apply(Event::Booted { running });
    }

    fn apply(&mut self, event: Event) -> Vec<Vec<String>> {
        let Some(configuration) = &mut self.configuration else {
            return Vec::new();
        };
        let actions = configuration.step(event);
        if actions.save {
            let external = configuration.external().values().cloned().collect();
            self.saved = (external, configuration.running().keys().cloned().collect());
        }
        self.changes.extend(actions.changes.into_iter().map(|change| (change.stream, change.kind, change.reason)));
        actions.ask
    }
}

/// Runs for ever.
pub(crate) async fn run(mut life: Life) -> String {
    life.streamer.view().boot();
    let listener = life.network.listen(life.host, STREAMER);
    let api = Router::new()
        .route("/streamer/api/v3/config/stats", get(stats))
        .route("/streamer/api/v3/streams", get(streams))
        .with_state(life.streamer.clone());
    tokio::spawn(async move { axum::serve(listener, api).await });
    let first = life.random.random_range(0..life.poll);
    let mut next = tokio::time::Instant::now() + Duration::from_millis(first);
    loop {
        tokio::select! {
            biased;
            Some(name) = life.viewers.recv() => life.viewed(name).await,
            () = tokio::time::sleep_until(next) => {
                life.poll().await;
                let pause = life.random.random_range(life.poll * 2 / 3..=life.poll);
                next = tokio::time::Instant::now() + Duration::from_millis(pause);
            }
        }
    }
}

impl Life {
    fn polls(&self) -> bool {
        self.streamer.view().polls
    }

    async fn poll(&self) {
        if !self.polls() {
            return;
        }
        let parts = match self.ask(None).await {
            Ok(answer) => self.streamer.view().apply(Event::Listed(answer.streams)),
            Err(refusal) => return self.refused(&refusal),
        };
        self.streamer.view().external = json!({"status": "loaded"});
        for asked in parts {
            match self.ask(Some(&asked)).await {
                Ok(answer) => drop(self.streamer.view().apply(Event::Named { asked, answered: answer.streams })),
                Err(refusal) => self.refused(&refusal),
            }
        }
    }

    async fn viewed(&self, name: String) {
        let Some(asked) = self.streamer.view().apply(Event::Requested(name.clone())).pop() else {
            return;
        };
        if !self.polls() || !self.streamer.view().habits.asks_by_name {
            return;
        }
        if let Ok(answer) = self.ask(Some(&asked)).await {
            self.streamer.view().apply(Event::Found { name, answered: answer.streams });
        }
    }

    fn refused(&self, refusal: &Refusal) {
        let mut status = serde_json::to_value(refusal).unwrap();
        status["status"] = "error".into();
        self.streamer.view().external = status;
    }

    async fn ask(&self, names: Option<&[String]>) -> Result<Answer, Refusal> {
        let no_answer = |why: String| Refusal::without_answer("no_answer", why);
        match tokio::time::timeout(TIMEOUT, self.fetch(names)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(no_answer(error.to_string())),
            Err(_) => Err(no_answer("it takes too long".into())),
        }
    }

    /// On a connection of its own.
    async fn fetch(&self, names: Option<&[String]>) -> anyhow::Result<Result<Answer, Refusal>> {
        let sidecar = address(self.sidecar, STREAMS);
        let backend = Backend::parse(&format!("http://{sidecar}")).map_err(anyhow::Error::msg)?;
        let url = backend.streams(&self.name, names).map_err(anyhow::Error::msg)?;
        let stream = self.network.dialer(self.host).connect(sidecar).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let request = Request::get(path).header("host", sidecar.to_string()).body(Body::empty())?;
        let response = sender.send_request(request).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = axum::body::to_bytes(Body::new(response.into_body()), 1 << 20).await?;
        Ok(judge(status, &headers, &body, 0))
    }
}

async fn stats(State(streamer): State<Streamer>) -> Result<Json<Value>, StatusCode> {
    let view = streamer.view();
    if !view.is_readable() {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let mut stats = json!({"id": format!("start-{}", view.boots), "cpu_usage": 7});
    if view.habits.tells && !view.external.is_null() {
        stats["config_external_status"] = view.external.clone();
    }
    Ok(Json(stats))
}

async fn streams(State(streamer): State<Streamer>) -> Result<Json<Value>, StatusCode> {
    let view = streamer.view();
    if !view.is_readable() {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let streams: Vec<Value> = view.running().map(|name| json!({"name": name, "named_by": "external"})).collect();
    Ok(Json(json!({"streams": streams})))
}
