//! Judging an answer: taken whole or refused whole.
//!
//! The vendor's client library compares the content type as a whole, wants `Access-Control-Allow-Origin: *`, and checks the array item by
//! item: the first invalid stream replaces the answer by an error with its path.

use axum::http::HeaderMap;
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::document::Document;

/// An answer that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub streams: Vec<Document>,
    /// Whether unknown names may be asked for: `X-Config-Server-Dynamic-Streams` is not `false`.
    pub dynamic: bool,
}

/// Why an answer changes nothing; it is what `config_external_status` then shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// `validation_error` is the vendor's word; the others are ours.
    pub reason: &'static str,
    /// The HTTP status, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    pub detail: String,
    /// Where in the answer: names and indexes, such as `["streams", 0, "name"]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Value>,
}

impl Refusal {
    /// A refusal of something that never became an answer.
    pub fn without_answer(reason: &'static str, detail: String) -> Self {
        Self { reason, code: None, error: None, detail, path: Vec::new() }
    }
}

/// An item that is not a stream: where in it, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    pub error: &'static str,
    pub detail: String,
    pub path: Vec<Value>,
}

/// Takes or refuses an answer to `/streams`. `index_base` is the first index in a refusal's path: both 0 and 1 were seen.
pub fn judge(status: u16, headers: &HeaderMap, body: &[u8], index_base: usize) -> Result<Answer, Refusal> {
    let dynamic = judge_head(status, headers)?;
    let streams = streams_of(body, index_base).map_err(|invalid| Refusal {
        reason: "validation_error",
        code: Some(status),
        error: Some(invalid.error),
        detail: invalid.detail,
        path: invalid.path,
    })?;
    Ok(Answer { streams, dynamic })
}

/// Judges status and headers alone; the value is [`Answer::dynamic`].
pub fn judge_head(status: u16, headers: &HeaderMap) -> Result<bool, Refusal> {
    let refusal = |reason, detail: String| Refusal { code: Some(status), ..Refusal::without_answer(reason, detail) };
    if let Some(reason) = failed(status) {
        return Err(refusal(reason, format!("HTTP status {status}")));
    }
    for (header, expected, reason) in
        [(CONTENT_TYPE, "application/json", "content_type"), (ACCESS_CONTROL_ALLOW_ORIGIN, "*", "cors")]
    {
        let got = headers.get(&header);
        if got.is_none_or(|got| got != expected) {
            let detail = format!("{header} must be exactly {expected}, not {got:?}");
            return Err(refusal(reason, detail));
        }
    }
    let dynamic = headers.get("x-config-server-dynamic-streams");
    Ok(dynamic.is_none_or(|value| value != "false"))
}

fn failed(status: u16) -> Option<&'static str> {
    match status {
        200 => None,
        401 | 403 => Some("unauthorized"),
        503 => Some("unavailable"),
        _ => Some("status"),
    }
}

/// The streams of `{"streams": [ … ]}`, each checked; the first invalid one is the error of all.
pub fn streams_of(body: &[u8], index_base: usize) -> Result<Vec<Document>, Invalid> {
    let at = |error, detail: &str, path| Invalid { error, detail: detail.to_owned(), path };
    let body: Value = serde_json::from_slice(body).map_err(|error| at("not_json", &error.to_string(), vec![]))?;
    let Value::Object(mut body) = body else {
        return Err(at("invalid_type", "the answer must be an object", vec![]));
    };
    let Some(Value::Array(items)) = body.remove("streams") else {
        let path = vec![json!("streams")];
        return Err(at("invalid_type", "streams must be an array", path));
    };
    let each = items.into_iter().enumerate().map(|(index, item)| {
        check(item, index_base).map_err(|mut invalid| {
            let before = [json!("streams"), json!(index + index_base)];
            invalid.path.splice(0..0, before);
            invalid
        })
    });
    each.collect()
}

/// What a known field of a stream has to be; a field that is not in [`FIELDS`] may be anything.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Boolean,
    Text,
    Object,
    /// An array of objects that each have a `url`.
    Urls,
}

const FIELDS: [(&str, Kind); 14] = [
    ("static", Kind::Boolean),
    ("disabled", Kind::Boolean),
    ("title", Kind::Text),
    ("comment", Kind::Text),
    ("template", Kind::Text),
    ("inputs", Kind::Urls),
    ("pushes", Kind::Urls),
    ("dvr", Kind::Object),
    ("transcoder", Kind::Object),
    ("thumbnails", Kind::Object),
    ("on_play", Kind::Object),
    ("on_publish", Kind::Object),
    ("srt_publish", Kind::Object),
    ("labels", Kind::Object),
];

/// Checks one stream; the error's path begins inside it.
pub fn check(item: Value, index_base: usize) -> Result<Document, Invalid> {
    let Value::Object(fields) = item else {
        return Err(wrong("a stream must be an object".to_owned(), vec![]));
    };
    check_name(&fields)?;
    for (field, kind) in FIELDS {
        let Some(value) = fields.get(field) else {
            continue;
        };
        let (right, expected) = match kind {
            Kind::Boolean => (value.is_boolean(), "true or false"),
            Kind::Text => (value.is_string(), "a string"),
            Kind::Object => (value.is_object(), "an object"),
            Kind::Urls => (value.is_array(), "an array"),
        };
        if !right {
            return Err(wrong(format!("{field} must be {expected}"), vec![json!(field)]));
        }
        if matches!(kind, Kind::Urls) {
            check_urls(field, value, index_base)?;
        }
    }
    Ok(Document::new(fields))
}

fn wrong(detail: String, path: Vec<Value>) -> Invalid {
    Invalid { error: "invalid_type", detail, path }
}

fn check_name(fields: &Map<String, Value>) -> Result<(), Invalid> {
    let (error, detail) = match fields.get("name") {
        None => ("missing", "name is missing".to_owned()),
        Some(Value::String(name)) if is_name(name) => return Ok(()),
        Some(Value::String(name)) => ("invalid_name", format!("{name:?} is not a stream name")),
        Some(_) => ("invalid_type", "name must be a string".to_owned()),
    };
    Err(Invalid { error, detail, path: vec![json!("name")] })
}

/// Latin letters, digits, `.`, `-`, `_`, and `/` between segments.
fn is_name(name: &str) -> bool {
    let character = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let segment = |s: &str| !s.is_empty() && s.chars().all(character);
    name.split('/').all(segment)
}

fn check_urls(field: &str, value: &Value, index_base: usize) -> Result<(), Invalid> {
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        let url = item.get("url");
        if url.and_then(Value::as_str).is_some_and(|u| !u.is_empty()) {
            continue;
        }
        let mut path = vec![json!(field), json!(index + index_base)];
        if item.is_object() {
            path.push(json!("url"));
        }
        let error = if item.is_object() && url.is_none() { "missing" } else { "invalid_type" };
        return Err(Invalid { error, detail: "url must be a string that is not empty".to_owned(), path });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    fn good() -> HeaderMap {
        headers(&[("content-type", "application/json"), ("access-control-allow-origin", "*")])
    }

    fn answer(streams: &Value) -> Result<Answer, Refusal> {
        let body = json!({ "streams": streams }).to_string();
        judge(200, &good(), body.as_bytes(), 0)
    }

    #[test]
    fn a_valid_answer_is_taken_with_fields_that_are_not_known() {
        let taken = answer(&json!([
            {"name": "mylive/bunny", "inputs": [{"url": "rtsp://cam/1", "priority": 2}], "x": [1]},
            {"name": "b", "static": false},
        ]))
        .unwrap();
        assert_eq!(taken.streams[0].name(), "mylive/bunny");
        assert!(taken.streams[0].is_static());
        assert!(!taken.streams[1].is_static());
        assert!(taken.dynamic);
    }

    #[test]
    fn one_invalid_stream_refuses_the_whole_answer_and_says_where() {
        for (bad, error, path) in [
            (json!({}), "missing", json!(["streams", 1, "name"])),
            (json!({"name": 7}), "invalid_type", json!(["streams", 1, "name"])),
            (json!({"name": "a b"}), "invalid_name", json!(["streams", 1, "name"])),
            (json!({"name": "a//b"}), "invalid_name", json!(["streams", 1, "name"])),
            (json!({"name": "/a"}), "invalid_name", json!(["streams", 1, "name"])),
            (json!("a"), "invalid_type", json!(["streams", 1])),
            (
                json!({"name": "a", "inputs": [{"url": "udp://x"}, {}]}),
                "missing",
                json!(["streams", 1, "inputs", 1, "url"]),
            ),
            (json!({"name": "a", "inputs": ["udp://x"]}), "invalid_type", json!(["streams", 1, "inputs", 0])),
            (json!({"name": "a", "inputs": {}}), "invalid_type", json!(["streams", 1, "inputs"])),
            (json!({"name": "a", "static": "yes"}), "invalid_type", json!(["streams", 1, "static"])),
            (json!({"name": "a", "dvr": 1}), "invalid_type", json!(["streams", 1, "dvr"])),
        ] {
            let refusal = answer(&json!([{"name": "ok"}, bad])).unwrap_err();
            assert_eq!(refusal.reason, "validation_error", "{bad}");
            assert_eq!(refusal.error, Some(error), "{bad}");
            assert_eq!(json!(refusal.path), path, "{bad}");
            assert_eq!(refusal.code, Some(200));
        }
    }

    #[test]
    fn indexes_count_from_one_where_the_streamer_does() {
        let body = br#"{"streams":[{"name":"a","inputs":[{}]}]}"#;
        let refusal = judge(200, &good(), body, 1).unwrap_err();
        assert_eq!(json!(refusal.path), json!(["streams", 1, "inputs", 1, "url"]));
    }

    #[test]
    fn a_body_that_is_no_list_of_streams_is_refused() {
        for body in ["", "[]", "{}", r#"{"streams":{}}"#, r#"{"streams":["#] {
            let refusal = judge(200, &good(), body.as_bytes(), 0).unwrap_err();
            assert_eq!(refusal.reason, "validation_error", "{body}");
        }
    }

    #[test]
    fn the_content_type_is_compared_as_a_whole() {
        for wrong in ["application/json; charset=utf-8", "text/plain", "Application/Json"] {
            let mut headers = good();
            headers.insert(CONTENT_TYPE, wrong.parse().unwrap());
            let refusal = judge(200, &headers, br#"{"streams":[]}"#, 0).unwrap_err();
            assert_eq!(refusal.reason, "content_type");
        }
        let without = headers(&[("access-control-allow-origin", "*")]);
        assert!(judge(200, &without, br#"{"streams":[]}"#, 0).is_err());
    }

    #[test]
    fn an_answer_without_cors_is_refused() {
        let without = headers(&[("content-type", "application/json")]);
        let refusal = judge(200, &without, br#"{"streams":[]}"#, 0).unwrap_err();
        assert_eq!(refusal.reason, "cors");
        let mut other = good();
        other.insert(ACCESS_CONTROL_ALLOW_ORIGIN, "http://x".parse().unwrap());
        assert!(judge(200, &other, br#"{"streams":[]}"#, 0).is_err());
    }

    #[test]
    fn only_200_is_an_answer() {
        for (status, reason) in [(503, "unavailable"), (500, "status"), (204, "status"), (401, "unauthorized")] {
            let refusal = judge(status, &good(), br#"{"streams":[]}"#, 0).unwrap_err();
            assert_eq!((refusal.reason, refusal.code), (reason, Some(status)));
        }
    }

    #[test]
    fn a_header_forbids_asking_for_unknown_names() {
        let mut headers = good();
        headers.insert("x-config-server-dynamic-streams", "false".parse().unwrap());
        let taken = judge(200, &headers, br#"{"streams":[]}"#, 0).unwrap();
        assert!(!taken.dynamic);
    }
}
