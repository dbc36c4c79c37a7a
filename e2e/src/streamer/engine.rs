//! Carries out what the configuration decides: reads at the source registry, the state file, the log.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio_util::sync::CancellationToken;

use super::configuration::{Change, Configuration, Event, Habits, Kind};
use super::poll::Backends;
use super::request::Backend;
use super::saved::{self, Saved};
use super::settings::Settings;
use super::stats::{ExternalStatus, Flows};
use crate::registry::frames::Line;
use crate::registry::{Client, ClientError};

/// A running streamer.
pub struct Streamer {
    pub settings: Settings,
    /// New at each start.
    pub id: String,
    pub(super) http: reqwest::Client,
    pub(super) backends: Backends,
    /// Whether polling stands still.
    pub(super) frozen: watch::Sender<bool>,
    /// Ends the process: the source registry is lost, and a streamer that it does not see must not go on.
    pub lost: CancellationToken,
    state: Mutex<State>,
}

/// What changes while a streamer runs. Whoever holds it sees the configuration and the reads agree.
pub struct State {
    pub configuration: Configuration,
    pub flows: Flows,
    pub external_status: ExternalStatus,
    pub config_external: Option<String>,
    /// Without one every source is there, and nobody sees who reads it.
    registry: Option<Client>,
    told_polled: bool,
}

/// Unix milliseconds.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Streamer {
    /// Boots: what was saved is captured at once, before the first poll.
    pub async fn boot(settings: Settings) -> anyhow::Result<Arc<Self>> {
        let saved = match &settings.state {
            Some(path) => saved::load(path)?,
            None => Saved::default(),
        };
        let own = match &settings.own_streams {
            Some(path) => saved::own_streams(path)?,
            None => saved.own,
        };
        let config_external = settings.backend(|name| std::env::var(name).ok(), saved.config_external);
        let backend = config_external.as_deref().map(Backend::parse).transpose();
        let backend = backend.map_err(anyhow::Error::msg)?;
        let habits = Habits { never_asks_by_name: settings.never_asks_by_name };
        let id = format!("{:032x}", rand::random::<u128>());
        let with_old = !saved.running.is_empty();
        let registry = match &settings.registry {
            Some(addr) => {
                let connected = Client::connect(addr, &settings.hostname, &id, with_old).await;
                Some(connected.with_context(|| format!("the source registry at {addr}"))?)
            }
            None => None,
        };
        let streamer = Arc::new(Self {
            http: super::poll::http_client(&settings)?,
            backends: Backends::new(backend),
            frozen: watch::Sender::new(false),
            lost: CancellationToken::new(),
            state: Mutex::new(State {
                configuration: Configuration::new(habits, own, saved.external),
                flows: Flows::default(),
                external_status: ExternalStatus::default(),
                config_external,
                registry,
                told_polled: false,
            }),
            id,
            settings,
        });
        let booted = Event::Booted { running: saved.running };
        let mut state = streamer.state().await;
        streamer.apply(&mut state, booted).await?;
        drop(state);
        Ok(streamer)
    }

    /// The state, once everything before is carried out.
    pub async fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().await
    }

    /// Takes an event in and carries out what it leads to; returns the names to ask for, when the registry knows all of it.
    pub async fn apply(&self, state: &mut State, event: Event) -> Result<Vec<Vec<String>>, ClientError> {
        let actions = state.configuration.step(event);
        let now = now_ms();
        for change in &actions.changes {
            state.flows.apply(change, now);
            log(change);
        }
        if actions.save {
            self.save(state);
        }
        let carried = state.carry_out(actions.changes).await;
        self.or_lost(carried)?;
        Ok(actions.ask)
    }

    /// Tells the registry, once, that a poll was answered and carried out.
    pub(super) async fn tell_polled(&self, state: &mut State) -> Result<(), ClientError> {
        if state.told_polled {
            return Ok(());
        }
        state.told_polled = true;
        let told = state.tell_polled().await;
        self.or_lost(told)
    }

    /// Sets the backend, as `PUT config` does.
    pub async fn set_config_external(&self, url: Option<String>) -> Result<(), String> {
        let backend = url.as_deref().map(Backend::parse).transpose()?;
        let mut state = self.state().await;
        state.config_external = url;
        state.external_status = ExternalStatus::default();
        self.backends.set(backend);
        self.save(&state);
        Ok(())
    }

    /// Stops or resumes polling; when this returns, no answer of a poll is carried out any more.
    pub async fn freeze(&self, frozen: bool) {
        let _state = self.state().await;
        self.frozen.send_replace(frozen);
    }

    fn save(&self, state: &State) {
        let Some(path) = &self.settings.state else {
            return;
        };
        let config_external = state.config_external.as_deref();
        if let Err(error) = saved::save(path, config_external, &state.configuration) {
            tracing::error!(error = format!("{error:#}"), "the state was not saved");
        }
    }

    fn or_lost<T>(&self, result: Result<T, ClientError>) -> Result<T, ClientError> {
        result.inspect_err(|error| {
            tracing::error!(%error, "lost the source registry");
            self.lost.cancel();
        })
    }
}

impl State {
    async fn carry_out(&mut self, changes: Vec<Change>) -> Result<(), ClientError> {
        let Some(registry) = &mut self.registry else {
            return Ok(());
        };
        let mut reads = false;
        for change in changes {
            let stream = change.stream;
            if change.closes {
                registry.queue(&Line::Close { stream: stream.clone() })?;
                reads = true;
            }
            if let Some(source) = change.opens {
                registry.queue(&Line::Open { stream, source })?;
                reads = true;
            }
        }
        if reads {
            registry.flush().await?;
        }
        Ok(())
    }

    async fn tell_polled(&mut self) -> Result<(), ClientError> {
        let Some(registry) = &mut self.registry else {
            return Ok(());
        };
        registry.queue(&Line::Polled)?;
        registry.flush().await
    }
}

fn log(change: &Change) {
    let (stream, reason) = (&change.stream, change.reason.text());
    match change.kind {
        Kind::Start => tracing::info!(stream, reason, "start"),
        Kind::Stop => tracing::info!(stream, reason, "stop"),
        Kind::Restart => tracing::info!(stream, reason, "restart"),
    }
}
