//! Every value does something, and a misspelt one is refused.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use weir_e2e::control_plane::{Program, pinned};

use super::chart::{CHART, HIDING, Helm, every_value, shown};

#[tokio::test]
async fn each_value_of_the_schema_changes_what_is_rendered() -> Result<()> {
    let helm = Helm::get().await?;
    let every = every_value()?;
    let leaves = leaves(&schema()?);
    let given: BTreeSet<String> = leaves.iter().filter(|leaf| every.pointer(leaf).is_some()).cloned().collect();
    ensure!(given == leaves, "every-value.yaml has no {:?}", leaves.difference(&given).collect::<Vec<_>>());

    let shown = shown(&every)?;
    let with_all = helm.text(&shown).await?;
    for leaf in &leaves {
        // What hides is shown by itself: in `shown` it has its default.
        let hides = HIDING.contains(&leaf.as_str());
        let (values, with) = if hides { (&every, helm.text(&every).await?) } else { (&shown, with_all.clone()) };
        let without = helm.text(&taken_away(values, leaf)?).await?;
        ensure!(without != with, "{leaf} changes nothing");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_given_has_a_default_and_a_place_in_the_schema() -> Result<()> {
    let defaults: Value = serde_yaml::from_str(&std::fs::read_to_string(format!("{CHART}/values.yaml"))?)?;
    for leaf in leaves(&schema()?) {
        // Periods and what is free to choose have no defaults of their own.
        let free = leaf.starts_with("/operator/periods/");
        ensure!(free || defaults.pointer(&leaf).is_some(), "values.yaml has no {leaf}");
    }
    // Helm checks its defaults against the schema as well.
    Helm::get().await?.run(&["lint", "--strict", CHART]).await?;
    Ok(())
}

#[tokio::test]
async fn a_misspelt_value_is_refused_wherever_it_stands() -> Result<()> {
    let helm = Helm::get().await?;
    let mut places = BTreeSet::from([String::new()]);
    for leaf in leaves(&schema()?) {
        places.extend(leaf.match_indices('/').skip(1).map(|(end, _)| leaf[..end].to_owned()));
    }
    ensure!(places.len() > 10, "these are not all: {places:?}");
    for place in places {
        let mut values = json!({});
        let mut inner = &mut values;
        for key in place.split('/').skip(1) {
            inner = &mut inner[key];
        }
        inner["misspelt"] = json!(true);
        let refusal = helm.text(&values).await.err().with_context(|| format!("{place}/misspelt was taken"))?;
        ensure!(refusal.to_string().contains("additional properties 'misspelt' not allowed"), "{refusal:#}");
    }
    Ok(())
}

#[tokio::test]
async fn the_readme_has_every_value() -> Result<()> {
    let programs = pinned(&[Program::HelmDocs]).await?;
    let program = programs.first().context("no helm-docs")?;
    let folder = format!("--chart-search-root={CHART}");
    let output = Command::new(program).args([&folder, "--dry-run", "--log-level=error"]).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let written = std::fs::read_to_string(format!("{CHART}/README.md"))?;
    let generated = String::from_utf8(output.stdout)?;
    ensure!(written.trim() == generated.trim(), "charts/weir/README.md is of old: just chart");
    for leaf in leaves(&schema()?) {
        let dotted = leaf.trim_start_matches('/').replace('/', ".");
        // A period is a key of `operator.periods`, a resource one of `resources`.
        let row =
            dotted.strip_suffix(dotted.split_once(".periods.").map_or("", |(_, period)| period)).unwrap_or(&dotted);
        let row = row.trim_end_matches('.');
        ensure!(written.contains(&format!("| {row} ")), "the README has no {row}");
    }
    Ok(())
}

fn schema() -> Result<Value> {
    Ok(serde_json::from_str(&std::fs::read_to_string(format!("{CHART}/values.schema.json"))?)?)
}

/// The pointers of all values that are no objects with fields of their own; `global` is Helm's.
fn leaves(schema: &Value) -> BTreeSet<String> {
    fn collect(schema: &Value, pointer: &str, leaves: &mut BTreeSet<String>) {
        let closed = schema["additionalProperties"] == json!(false) && !pointer.ends_with("/resources");
        if !closed {
            leaves.insert(pointer.to_owned());
            return;
        }
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            collect(property, &format!("{pointer}/{key}"), leaves);
        }
    }
    let mut leaves = BTreeSet::new();
    collect(schema, "", &mut leaves);
    leaves.remove("/global");
    leaves
}

/// `values` without the one at `pointer`: it has its default then.
fn taken_away(values: &Value, pointer: &str) -> Result<Value> {
    let mut values = values.clone();
    let (object, key) = pointer.rsplit_once('/').context("a pointer")?;
    let object = values.pointer_mut(object).and_then(Value::as_object_mut).context("no object")?;
    object.remove(key).with_context(|| format!("no {pointer}"))?;
    Ok(values)
}
