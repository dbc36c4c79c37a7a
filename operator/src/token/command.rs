//! `weir-operator token …`: by the rights of whoever types it, so that the operator needs none for it.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};

use super::{Hash, Kept, PlaceArgs, TokenCommand, file, make, secret, streamer_id};
use crate::cluster::kubernetes::request::{Failure, bounded};
use crate::get::{human, table};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Does it. What is to be piped goes to `out`, what is said about it to `err`.
pub async fn run(command: TokenCommand, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create { streamer, place } => create(&streamer, place, out, err).await,
        TokenCommand::List { place } => {
            let namespace = place.namespace.clone();
            let kept = match &place.token_file {
                Some(path) => file::list(path)?,
                None => list(&secrets(&place).await?.0).await?,
            };
            let kept =
                kept.into_iter().filter(|kept| namespace.as_ref().is_none_or(|ns| *ns == kept.streamer.namespace));
            Ok(write!(out, "{}", table::text(&rows(kept, Timestamp::now())))?)
        }
        TokenCommand::Revoke { ids, place } => revoke(&ids, place, out).await,
    }
}

async fn create(name: &str, place: PlaceArgs, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<()> {
    let token = make();
    let hash = Hash::of(&token);
    let streamer = if let Some(path) = &place.token_file {
        let streamer = streamer_id(place.namespace.as_deref().unwrap_or("default"), name)?;
        file::append(path, hash, &streamer)?;
        streamer
    } else {
        let (api, namespace) = secrets(&place).await?;
        let streamer = streamer_id(&namespace, name)?;
        let made = bounded(LIMIT, api.create(&PostParams::default(), &secret::secret(hash, &streamer))).await;
        made.map_err(|failure| told(&failure)).context("the token's Secret cannot be made")?;
        streamer
    };
    writeln!(out, "{token}")?;
    let id = hash.id();
    writeln!(
        err,
        "This is the token {id} of Streamer {streamer}, shown this once. Put it into the file that weir-sidecar has as --token-file, \
         readable by its user alone; weir-operator token revoke {id} takes it back."
    )?;
    Ok(())
}

async fn revoke(ids: &[String], place: PlaceArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(path) = &place.token_file else {
        let (api, namespace) = secrets(&place).await?;
        let kept = list(&api).await?;
        for id in ids {
            // Only what is a token is deleted, whatever else has such a name.
            if !kept.iter().any(|kept| kept.hash.id() == *id) {
                bail!("there is no token {id} in namespace {namespace}: see weir-operator token list");
            }
            let deleted = bounded(LIMIT, api.delete(&secret::name(id), &DeleteParams::default())).await;
            deleted.map_err(|failure| told(&failure)).with_context(|| format!("token {id} cannot be revoked"))?;
            writeln!(out, "token {id} revoked")?;
        }
        return Ok(());
    };
    for id in ids {
        if file::remove(path, id)? == 0 {
            bail!("there is no token {id} in {}: see weir-operator token list", path.display());
        }
        writeln!(out, "token {id} revoked")?;
    }
    Ok(())
}

/// The Secrets of the namespace that is meant, and its name.
async fn secrets(place: &PlaceArgs) -> anyhow::Result<(Api<Secret>, String)> {
    let client = crate::run::client(place.kubeconfig.as_deref()).await?;
    let namespace = place.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    Ok((Api::namespaced(client, &namespace), namespace))
}

async fn list(api: &Api<Secret>) -> anyhow::Result<Vec<Kept>> {
    let ours = ListParams::default().fields(&format!("type={}", secret::TYPE));
    let listed = bounded(LIMIT, api.list(&ours)).await;
    let listed = listed.map_err(|failure| told(&failure)).context("the tokens' Secrets cannot be listed")?;
    Ok(listed.items.into_iter().filter_map(secret::kept).collect())
}

fn told(failure: &Failure) -> anyhow::Error {
    anyhow::anyhow!("{failure}")
}

fn rows(kept: impl Iterator<Item = Kept>, now: Timestamp) -> Vec<Vec<String>> {
    let header = ["ID", "NAMESPACE", "STREAMER", "AGE"].map(str::to_owned).to_vec();
    let row = |kept: Kept| {
        let age = kept.made.map_or_else(|| "<unknown>".to_owned(), |made| human(now.as_second() - made.as_second()));
        vec![kept.hash.id(), kept.streamer.namespace, kept.streamer.name, age]
    };
    std::iter::once(header).chain(kept.map(row)).collect()
}
