//! The columns of a kind: those its definition gives to `kubectl`, evaluated as the API server does.

use anyhow::{Context, bail};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition,
};
use serde_json::Value;
use serde_json_path::JsonPath;

use super::duration::human;

/// A kind and how it is shown.
pub struct Kind {
    /// `streams`
    pub plural: String,
    /// `streams.weir.dev`
    pub qualified: String,
    columns: Vec<Column>,
}

struct Column {
    header: String,
    path: JsonPath,
    /// `date`, `integer` or `string`.
    type_: String,
    /// Shown only with `-o wide`.
    wide: bool,
}

impl Kind {
    /// The kind that a person means: `streams`, `stream`, `wst` or `streams.weir.dev`.
    pub fn find(word: &str) -> anyhow::Result<Self> {
        let word = word.to_lowercase();
        if ["events", "event", "ev"].contains(&word.as_str()) {
            return Self::events();
        }
        let crds = weir_crds::crds();
        let Some(crd) = crds.iter().find(|crd| is_called(crd, &word)) else {
            let known: Vec<&str> = crds.iter().map(|crd| crd.spec.names.plural.as_str()).collect();
            bail!("there is no resource type {word:?}: ask for {} or events", known.join(", "));
        };
        let version = crd.spec.versions.first();
        let columns = version.and_then(|version| version.additional_printer_columns.as_deref());
        let columns = columns.unwrap_or_default().iter().map(column);
        let name = Column::new("Name", ".metadata.name", "string", false)?;
        Ok(Self {
            plural: crd.spec.names.plural.clone(),
            qualified: format!("{}.{}", crd.spec.names.plural, crd.spec.group),
            columns: std::iter::once(Ok(name)).chain(columns).collect::<anyhow::Result<_>>()?,
        })
    }

    fn events() -> anyhow::Result<Self> {
        let columns = [
            ("Last Seen", ".lastTimestamp", "date"),
            ("Type", ".type", "string"),
            ("Reason", ".reason", "string"),
            ("Kind", ".involvedObject.kind", "string"),
            ("Object", ".involvedObject.name", "string"),
            ("Message", ".message", "string"),
        ];
        let columns = columns.map(|(header, path, type_)| Column::new(header, path, type_, false));
        Ok(Self {
            plural: "events".to_owned(),
            qualified: "events".to_owned(),
            columns: columns.into_iter().collect::<anyhow::Result<_>>()?,
        })
    }

    /// The table's cells, headers first. Items stay in their order, which is by namespace and name.
    pub fn rows(&self, items: &[Value], with_namespace: bool, wide: bool, now: Timestamp) -> Vec<Vec<String>> {
        let columns: Vec<&Column> = self.columns.iter().filter(|column| wide || !column.wide).collect();
        let namespace = |text: &str| with_namespace.then(|| text.to_owned()).into_iter();
        let headers = columns.iter().map(|column| column.header.clone());
        let mut rows = vec![namespace("NAMESPACE").chain(headers).collect::<Vec<_>>()];
        for item in items {
            let cells = columns.iter().map(|column| column.cell(item, now));
            let of = item["metadata"]["namespace"].as_str().unwrap_or_default();
            rows.push(namespace(of).chain(cells).collect());
        }
        rows
    }
}

fn is_called(crd: &CustomResourceDefinition, word: &str) -> bool {
    let names = &crd.spec.names;
    let short = names.short_names.iter().flatten().map(String::as_str);
    let mut words = short.chain([names.plural.as_str()]).chain(names.singular.as_deref());
    words.any(|name| name == word) || word == format!("{}.{}", names.plural, crd.spec.group)
}

fn column(definition: &CustomResourceColumnDefinition) -> anyhow::Result<Column> {
    let wide = definition.priority.unwrap_or(0) > 0;
    Column::new(&definition.name, &definition.json_path, &definition.type_, wide)
}

impl Column {
    fn new(header: &str, path: &str, type_: &str, wide: bool) -> anyhow::Result<Self> {
        // Kubernetes' JSONPath leaves the root out; what is used of it is RFC 9535 otherwise.
        let parsed = JsonPath::parse(&format!("${path}"))
            .with_context(|| format!("the column {header} has a path that cannot be read: {path}"))?;
        Ok(Self { header: header.to_uppercase(), path: parsed, type_: type_.to_owned(), wide })
    }

    /// What stands in the column: nothing where the path leads nowhere.
    fn cell(&self, item: &Value, now: Timestamp) -> String {
        let Some(value) = self.path.query(item).first() else { return String::new() };
        match (self.type_.as_str(), value) {
            (_, Value::Null) => String::new(),
            ("date", value) => {
                let time = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
                time.map_or_else(|| "<invalid>".to_owned(), |time| human(now.as_second() - time.as_second()))
            }
            // As kubectl does it, a cell is one line.
            (_, Value::String(text)) => match text.split_once(['\n', '\r', '\u{c}']) {
                Some((line, _)) => format!("{line}..."),
                None => text.clone(),
            },
            (_, value) => value.to_string(),
        }
    }
}
