//! The objects in one file: YAML or JSON, several documents, and Lists of objects.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// One object of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    /// The file's path relative to the directory.
    pub(super) file: String,
    /// Where in the file: `document 2`, `document 2, item 5`.
    pub(super) place: String,
    pub(super) value: Value,
}

impl Document {
    /// `streams.yaml, document 2`
    pub(super) fn at(&self) -> String {
        format!("{}, {}", self.file, self.place)
    }

    /// A string at a path of fields.
    pub(super) fn text(&self, path: &[&str]) -> Option<&str> {
        path.iter().try_fold(&self.value, |value, key| value.get(key))?.as_str()
    }
}

/// Every object of a file. Empty documents are none.
pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Vec<Document>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("is not UTF-8 from byte {}", error.valid_up_to()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_json = Path::new(file).extension().is_some_and(|extension| extension == "json");
    let values = if is_json { json(text)? } else { yaml(text)? };
    let mut documents = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let place = format!("document {}", index + 1);
        flatten(Document { file: file.to_owned(), place, value }, &mut documents);
    }
    Ok(documents)
}

fn json(text: &str) -> Result<Vec<Value>, String> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    values.collect::<Result<_, _>>().map_err(|error| format!("is not JSON: {error}"))
}

fn yaml(text: &str) -> Result<Vec<Value>, String> {
    let documents = serde_yaml::Deserializer::from_str(text).enumerate().map(|(index, document)| {
        let in_document = |error: &dyn std::fmt::Display| format!("is not YAML in document {}: {error}", index + 1);
        let mut value = serde_yaml::Value::deserialize(document).map_err(|error| in_document(&error))?;
        value.apply_merge().map_err(|error| in_document(&error))?;
        serde_json::to_value(value).map_err(|error| in_document(&error))
    });
    let values: Vec<Value> = documents.collect::<Result<_, _>>()?;
    refuse_other_booleans(text, &values)?;
    Ok(values)
}

/// `kubectl` reads YAML 1.1, for which `yes`, `on`, `n` … without quotes are booleans. They are text here: a manifest that
/// would mean one thing in a cluster and another here is refused.
fn refuse_other_booleans(text: &str, values: &[Value]) -> Result<(), String> {
    // What only one of the two can read is none of this one's business.
    let Ok(other) = serde_saphyr::from_multiple::<Value>(text) else {
        return Ok(());
    };
    let (ours, theirs) =
        (values.iter().filter(|value| !value.is_null()), other.iter().filter(|value| !value.is_null()));
    for (ours, theirs) in ours.zip(theirs) {
        let Some((path, word, meant)) = other_boolean(ours, theirs) else {
            continue;
        };
        return Err(format!(
            "{path} is {word}, which is {meant} for kubectl and text here: write {meant}, or put it in quotes if it is text"
        ));
    }
    Ok(())
}

/// Where one reading has text and the other a boolean: the path, the text and the boolean.
fn other_boolean(ours: &Value, theirs: &Value) -> Option<(String, String, bool)> {
    let within = |key: String, ours: &Value, theirs: &Value| {
        let (path, word, meant) = other_boolean(ours, theirs)?;
        let between = if path.is_empty() || path.starts_with('[') { "" } else { "." };
        Some((format!("{key}{between}{path}"), word, meant))
    };
    match (ours, theirs) {
        (Value::String(word), Value::Bool(meant)) => Some((String::new(), word.clone(), *meant)),
        (Value::Object(ours), Value::Object(theirs)) => {
            ours.iter().find_map(|(key, value)| within(key.clone(), value, theirs.get(key)?))
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            let items = ours.iter().zip(theirs).enumerate();
            items.into_iter().find_map(|(index, (ours, theirs))| within(format!("[{index}]"), ours, theirs))
        }
        _ => None,
    }
}

/// A List stands for its items, as for `kubectl`.
fn flatten(document: Document, documents: &mut Vec<Document>) {
    let is_list = document.text(&["kind"]).is_some_and(|kind| kind.ends_with("List"));
    match document.value.get("items") {
        Some(Value::Array(items)) if is_list => {
            for (index, item) in items.iter().enumerate() {
                let place = format!("{}, item {}", document.place, index + 1);
                flatten(Document { file: document.file.clone(), place, value: item.clone() }, documents);
            }
        }
        _ if document.value.is_null() => {}
        _ => documents.push(document),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(file: &str, text: &str) -> Vec<(String, Value)> {
        let documents = parse(file, text.as_bytes()).unwrap();
        documents.into_iter().map(|document| (document.place, document.value["a"].clone())).collect()
    }

    #[test]
    fn documents_are_counted_as_a_person_counts_them() {
        let text = "# nothing here\n---\na: 1\n---\n---\na: {1: x}\n";
        assert_eq!(
            places("a.yaml", text),
            [("document 1".to_owned(), 1.into()), ("document 3".to_owned(), serde_json::json!({"1": "x"}))]
        );
        assert_eq!(places("a.json", "{\"a\": 1} {\"a\": 2}").len(), 2);
        assert_eq!(places("a.yaml", "").len(), 0);
    }

    #[test]
    fn a_list_stands_for_its_items() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- a: 1\n- kind: StreamList\n  items:\n  - a: 2\n---\na: 3\n";
        let places: Vec<String> = places("a.yaml", text).into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["document 1, item 1", "document 1, item 2, item 1", "document 2"]);
    }

    #[test]
    fn anchors_and_merges_are_filled_in() {
        let text = "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n";
        assert_eq!(parse("a.yaml", text.as_bytes()).unwrap()[0].value["y"], serde_json::json!({"a": 1, "b": 3}));
    }

    #[test]
    fn a_word_that_is_a_boolean_for_kubectl_alone_is_refused_and_in_quotes_it_is_text() {
        for (text, what) in [
            (
                "---\n# nothing\n---\na: 1\n---\nspec:\n  disabled: yes\n",
                "spec.disabled is yes, which is true for kubectl",
            ),
            ("spec: {config: {title: Off}}\n", "spec.config.title is Off, which is false for kubectl"),
            ("inputs:\n- url: a\n- [x, n]\n", "inputs[1][1] is n, which is false for kubectl"),
        ] {
            let error = parse("a.yaml", text.as_bytes()).unwrap_err();
            assert!(error.starts_with(what) && error.contains("in quotes"), "{error}");
        }
        let fine =
            "a: 'yes'\nb: \"no\"\nc: true\nd: |\n  on\ne: yesterday\nf: no.1\ng: !!str on\nh: 0x10\ni: 2026-01-01\n";
        let parsed = parse("a.yaml", fine.as_bytes()).unwrap();
        assert_eq!((&parsed[0].value["a"], &parsed[0].value["c"]), (&"yes".into(), &true.into()));
        assert_eq!(parse("a.json", br#"{"a": "yes"}"#).unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_a_sentence_with_the_place() {
        for (file, text, what) in [
            ("a.yaml", "a: 1\n---\nb: [", "document 2"),
            ("a.yaml", "a: 1\na: 2\n", "duplicate"),
            ("a.yaml", "a:\n\t- b\n", "line 2"),
            ("a.json", "{\"a\": 1", "line 1"),
        ] {
            let error = parse(file, text.as_bytes()).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
        assert!(parse("a.yaml", b"a: \xff").unwrap_err().contains("byte 3"));
    }
}
