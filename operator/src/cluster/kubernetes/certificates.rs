//! Keeps the certificates that Weir makes: the leader renews them in a Secret and gives out what others trust and show;
//! everybody serves from that Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use tokio::sync::watch;

use self::bundles::{Bundle, Bundles};
use self::secrets::Secrets;
use self::webhook::Webhook;
use super::request::Failure;
use super::{Kubernetes, MANAGER, Shared};
use crate::certificates::stored::{Leaf, Stored};
use crate::certificates::{CertificateMetrics, Pair, Purpose, Served, Settings, bring_up_to_date};
use crate::clock;
use crate::http::Standing;

mod bundles;
mod secrets;
mod webhook;

/// Between two looks at what is only asked for, at most and after failures.
const EVERY: Duration = Duration::from_secs(5);
const AFTER_FAILURES: Duration = Duration::from_secs(15);
/// What the watches see together is written together.
const TOGETHER: Duration = Duration::from_millis(300);

/// What is wrong, a sentence each.
type Problems = Vec<String>;

/// The task that does it.
struct Keeper {
    settings: Settings,
    shared: Arc<Shared>,
    secrets: Secrets,
    bundles: Bundles,
    webhook: Option<Webhook>,
    served: Served,
    metrics: CertificateMetrics,
    leads: watch::Receiver<bool>,
    standing: watch::Sender<Standing>,
    /// What is served.
    shown: Option<Leaf>,
}

/// What was given out, at its versions. It is read before what is to be given out, so that an older leader's write, which names
/// these versions, overwrites nothing of a newer one's.
struct Given {
    namespaces: Option<BTreeSet<String>>,
    bundles: Option<BTreeMap<String, Bundle>>,
    pair: Result<Option<Secret>, String>,
    configuration: Option<Result<MutatingWebhookConfiguration, String>>,
}

impl Kubernetes {
    /// Makes certificates and keeps them valid for as long as this value lives; `served` shows the feed's. The answer is
    /// what is missing.
    pub fn keep_certificates(
        &self,
        settings: Settings,
        served: Served,
        metrics: CertificateMetrics,
    ) -> watch::Receiver<Standing> {
        // The namespaces are seen there.
        drop(super::Cluster::observe(self));
        let missing = vec!["CertificateMissing: the feed has no certificate yet; the leader makes one".to_owned()];
        let (standing, stands) = watch::channel(Standing { missing, notes: vec![] });
        let client: &Client = &self.client;
        let own = &self.config.own_namespace;
        let name = settings.webhook_configuration.clone();
        let keeper = Keeper {
            secrets: Secrets::new(client, own, self.limit),
            bundles: Bundles::watching(self),
            webhook: name.map(|name| Webhook::new(client, name, self.limit)),
            shared: Arc::clone(&self.shared),
            leads: self.leads.subscribe(),
            settings,
            served,
            metrics,
            standing,
            shown: None,
        };
        self.spawn(keeper.run());
        stands
    }
}

impl Keeper {
    async fn run(mut self) {
        let usual = EVERY.min(Duration::from_secs(self.settings.lifetimes.certificate()) / 20);
        let mut pause = usual;
        loop {
            let leads = *self.leads.borrow_and_update();
            let problems = if leads { self.lead().await } else { self.follow().await };
            pause = if problems.is_empty() { usual } else { (pause * 2).min(AFTER_FAILURES.max(usual)) };
            self.stand(problems);
            tokio::select! {
                biased;
                changed = self.leads.changed() => if changed.is_err() { return },
                () = self.shared.published.notified(), if leads => tokio::time::sleep(TOGETHER).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn given(&self) -> Given {
        let namespaces = self.shared.store().living();
        Given {
            namespaces,
            bundles: self.bundles.seen(),
            pair: if self.settings.webhook.is_empty() { Ok(None) } else { self.secrets.pair().await },
            configuration: match &self.webhook {
                Some(webhook) => Some(webhook.read().await),
                None => None,
            },
        }
    }

    /// Shows what the leader has stored.
    async fn follow(&mut self) -> Problems {
        match self.secrets.read().await {
            Ok(None) => vec![],
            Ok(Some((stored, _))) => self.show(&stored),
            Err(problem) => vec![problem],
        }
    }

    /// Renews what is due, shows it and gives it out.
    async fn lead(&mut self) -> Problems {
        let given = self.given().await;
        let now = clock::now().wall / 1_000;
        let (old, version) = match self.secrets.read().await {
            Ok(Some((stored, version))) => (stored, Some(version)),
            Ok(None) => (Stored::default(), None),
            Err(problem) => return vec![problem],
        };
        let new = match bring_up_to_date(old.clone(), &self.settings, now) {
            Ok(new) => new,
            Err(error) => return vec![format!("a certificate cannot be made: {error}")],
        };
        let (new, version) = if new == old {
            (new, version)
        } else {
            match self.secrets.write(&new, version.as_deref()).await {
                Ok(version) => {
                    told(&old, &new);
                    (new, Some(version))
                }
                Err(problem) => return vec![problem],
            }
        };
        let mut problems = self.show(&new);
        let is_known = given.namespaces.is_some() && given.bundles.is_some();
        problems.extend(self.give_out(&new, given).await);
        let unpublished = new.authorities.iter().any(|authority| authority.published.is_none());
        if is_known && problems.is_empty() && unpublished {
            let published = new.published(clock::now().wall / 1_000);
            problems.extend(self.secrets.write(&published, version.as_deref()).await.err());
        }
        problems
    }

    /// Writes what others trust and show.
    async fn give_out(&self, stored: &Stored, given: Given) -> Problems {
        let bundle = stored.bundle();
        let mut problems = match (&given.namespaces, &given.bundles) {
            (Some(namespaces), Some(bundles)) => self.bundles.write(&bundle, namespaces, bundles).await,
            _ => self.bundles.unseen(),
        };
        if let Some(leaf) = &stored.webhook {
            let given = match given.pair {
                Ok(old) => self.secrets.write_pair(leaf, old).await,
                Err(problem) => Err(problem),
            };
            problems.extend(given.err());
        }
        if let (Some(webhook), Some(configuration)) = (&self.webhook, given.configuration) {
            let trusted = match configuration {
                Ok(configuration) => webhook.trust(configuration, &bundle).await,
                Err(problem) => Err(problem),
            };
            problems.extend(trusted.err());
        }
        problems
    }

    fn show(&mut self, stored: &Stored) -> Problems {
        if let Some(newest) = stored.authorities.last() {
            self.metrics.authority(valid(newest.made, newest.expires));
        }
        if let Some(webhook) = &stored.webhook {
            self.metrics.serves(Purpose::Webhook, valid(webhook.made, webhook.expires));
        }
        let Some(leaf) = stored.feed.as_ref().filter(|leaf| self.shown.as_ref() != Some(*leaf)) else {
            return vec![];
        };
        match Pair::from_pem(leaf.certificate.as_bytes(), leaf.key.0.as_bytes()) {
            Ok(pair) => {
                self.served.show(&pair);
                self.metrics.serves(Purpose::Feed, pair.valid());
                self.shown = Some(leaf.clone());
                tracing::info!(made = leaf.made, expires = leaf.expires, "the feed shows a new certificate");
                vec![]
            }
            Err(error) => vec![format!("{}: {error}", self.secrets.place())],
        }
    }

    fn stand(&self, problems: Problems) {
        self.metrics.troubled(Purpose::Feed, !problems.is_empty());
        let missing = match &self.shown {
            Some(_) => vec![],
            None if problems.is_empty() => {
                vec!["CertificateMissing: the feed has no certificate yet; the leader makes one".to_owned()]
            }
            None => vec!["CertificateMissing: the feed has no certificate; a note says why".to_owned()],
        };
        let newest = Standing { missing, notes: problems };
        self.standing.send_if_modified(|standing| {
            for note in newest.notes.iter().filter(|note| !standing.notes.contains(note)) {
                tracing::warn!("certificates: {note}; tried again");
            }
            std::mem::replace(standing, newest.clone()) != newest
        });
    }
}

/// What was made, for the log.
fn told(old: &Stored, new: &Stored) {
    let known: BTreeSet<u64> = old.authorities.iter().map(|authority| authority.id).collect();
    for authority in new.authorities.iter().filter(|authority| !known.contains(&authority.id)) {
        tracing::info!(authority = authority.id, expires = authority.expires, "an authority for certificates was made");
    }
    for purpose in [Purpose::Feed, Purpose::Webhook] {
        if let Some(leaf) = new.leaf(purpose).filter(|leaf| old.leaf(purpose) != Some(*leaf)) {
            let (certificate, authority) = (purpose.name(), leaf.authority);
            tracing::info!(certificate, authority, expires = leaf.expires, "a certificate was made");
        }
    }
}

/// Of what is made here.
fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned())])
}

/// What went wrong with something of the API server's.
fn at(what: &str, done: &str, failure: &Failure) -> String {
    format!("{what} cannot be {done}: {failure}")
}

/// A lock that nobody leaves poisoned anything in.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since the Unix epoch.
fn valid(made: u64, expires: u64) -> Range<i64> {
    let seconds = |of: u64| i64::try_from(of).unwrap_or(i64::MAX);
    seconds(made)..seconds(expires)
}
