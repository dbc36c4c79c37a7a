//! `weir-operator get`: asks a running operator that has no Kubernetes behind it, and prints what `kubectl get` would.

use std::io::Write;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::{GetArgs, Output};
use crate::text::yaml;

mod columns;
mod duration;
pub(crate) mod table;

pub use columns::Kind;
pub(crate) use duration::human;

/// Asks and prints. What there is goes to `out`, that there is nothing to `err`, as `kubectl` does it.
pub async fn get(args: &GetArgs, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<()> {
    let kind = Kind::find(&args.resource)?;
    let namespace = (!args.all_namespaces).then_some(args.namespace.as_str());
    let items = fetch(&args.server, &kind, namespace).await?;
    let (items, missing) = named(&kind, items, &args.names);
    print(&kind, &items, args, out)?;
    if items.is_empty() && args.names.is_empty() && matches!(args.output, None | Some(Output::Wide)) {
        match namespace {
            Some(namespace) => writeln!(err, "No resources found in {namespace} namespace.")?,
            None => writeln!(err, "No resources found")?,
        }
    }
    if !missing.is_empty() {
        bail!(missing.join("\n"));
    }
    Ok(())
}

async fn fetch(server: &str, kind: &Kind, namespace: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let server = server.trim_end_matches('/');
    let scope = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
    let url = format!("{server}/apis/weir.dev/v1alpha1{scope}/{}", kind.plural);
    let unreachable =
        || format!("no operator answers at {server}: name its --http-listen address with --server or WEIR_OPERATOR");
    let answer = client()?.get(&url).send().await.with_context(unreachable)?;
    let code = answer.status();
    let body: Value = answer
        .json()
        .await
        .with_context(|| format!("{server} answered {code} and no JSON: it is not a weir-operator"))?;
    match body.get("items").and_then(Value::as_array) {
        Some(items) => Ok(items.clone()),
        None => bail!("Error from server: {}", body["message"].as_str().unwrap_or("the answer is no list")),
    }
}

/// An image from scratch has no certificates of the system: `http` needs none, so that is no reason to fail.
fn client() -> reqwest::Result<reqwest::Client> {
    let client = reqwest::Client::builder;
    client().build().or_else(|_| client().tls_certs_only([]).build())
}

/// The items with these names (all, where none is given), and a sentence for each that is not there.
fn named(kind: &Kind, items: Vec<Value>, names: &[String]) -> (Vec<Value>, Vec<String>) {
    if names.is_empty() {
        return (items, Vec::new());
    }
    let name_of = |item: &Value| item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let missing = names.iter().filter(|name| !items.iter().any(|item| name_of(item) == **name));
    let missing = missing.map(|name| format!("Error from server (NotFound): {} \"{name}\" not found", kind.qualified));
    let missing = missing.collect();
    let found = items.into_iter().filter(|item| names.contains(&name_of(item)));
    (found.collect(), missing)
}

fn print(kind: &Kind, items: &[Value], args: &GetArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let list = || match items {
        [item] if args.names.len() == 1 => item.clone(),
        items => json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}),
    };
    match args.output {
        Some(Output::Json) => writeln!(out, "{}", serde_json::to_string_pretty(&list())?)?,
        Some(Output::Yaml) => write!(out, "{}", yaml(&list())?)?,
        None | Some(Output::Wide) => {
            let wide = args.output.is_some();
            let rows = kind.rows(items, args.all_namespaces, wide, Timestamp::now());
            write!(out, "{}", table::text(&rows))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
