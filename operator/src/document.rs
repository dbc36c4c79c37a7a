//! A Stream and its Secrets as the document that its streamer gets. Pure.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;
use weir_crds::secret_ref::{self, FillError, Malformed, Part, SecretRef};
use weir_crds::stream::{Partition, Stream};
use weir_feed::digest::document_hash;
use weir_feed::frames;
use weir_feed::leader::step::{Document, Want};

use crate::cluster::{Credentials, ObjectRef};
use crate::report::reason::Reason;
use crate::report::reason::stream as reason;

/// The longest document, in bytes. A Stream may name a large Secret many times over.
pub const MAX_DOCUMENT: usize = 1 << 20;

/// All but RFC 3986's unreserved characters.
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a Stream's document came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub want: Want,
    /// Why there is no document, if there is none.
    pub problem: Option<Problem>,
}

/// Why a document cannot be made: for conditions. Names Secrets and keys, never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub reason: &'static Reason,
    /// What is wrong, in a sentence.
    pub message: String,
    /// The Secret that it is about, if it is one.
    pub secret: Option<SecretRef>,
}

fn problem(reason: &'static Reason, message: String) -> Problem {
    Problem { reason, message, secret: None }
}

fn of_secret(reason: &'static Reason, reference: &SecretRef, message: String) -> Problem {
    Problem { reason, message, secret: Some(reference.clone()) }
}

/// What the leader is to know of a Stream: its policy, and its document with the Secrets' values filled in.
///
/// `${secret:NAME/KEY}` is a value of a Secret of the Stream's namespace in `secrets` (which holds those of type
/// `weir.dev/credentials` only); `$${` is a literal `${`. In a string of `config` the value stands as it is.
/// In an input's URL it is percent-encoded, all but RFC 3986's unreserved characters, because a password with `@` or
/// `/` would otherwise be read as another host or path; only a reference that begins the URL is put in as it is, since
/// it brings the scheme along.
///
/// The document's keys are in a fixed order, so that its text is the same while nothing changes. Fields of `config`
/// that the Stream itself has (`name`, `inputs`, `static`) are refused at apply and left out here.
pub fn want(stream: &Stream, secrets: &BTreeMap<ObjectRef, Credentials>) -> Rendered {
    let partition = partition(stream);
    let vault =
        Vault { namespace: stream.metadata.namespace.as_deref().unwrap_or_default(), secrets, room: MAX_DOCUMENT };
    let (document, problem) = match text(stream, vault).and_then(|text| check(stream).map(|()| text)) {
        Ok(text) => (Some(document(stream, partition, text)), None),
        Err(problem) => (None, Some(problem)),
    };
    let want = Want {
        stream: stream.metadata.name.clone().unwrap_or_default(),
        uid: stream.metadata.uid.clone().unwrap_or_default(),
        after: stream.spec.failover.after.as_ms(),
        partition,
        disabled: stream.spec.disabled,
        is_static: stream.spec.r#static,
        document,
    };
    Rendered { want, problem }
}

/// `failover.partition`, as the feed has it.
pub fn partition(stream: &Stream) -> frames::Partition {
    match stream.spec.failover.partition {
        Partition::KeepCapturing => frames::Partition::KeepCapturing,
        Partition::StopCapturing => frames::Partition::StopCapturing,
    }
}

fn document(stream: &Stream, partition: frames::Partition, text: String) -> Document {
    let is_static = if stream.spec.r#static { "true" } else { "false" };
    Document { hash: document_hash(&[is_static, partition.as_str(), &text]), text }
}

fn text(stream: &Stream, mut vault: Vault<'_>) -> Result<String, Problem> {
    let inputs = stream.spec.inputs.iter().enumerate();
    let inputs: Vec<String> = inputs.map(|(at, input)| url(&input.url, at, &mut vault)).collect::<Result<_, _>>()?;
    let mut config = BTreeMap::new();
    for (key, value) in &stream.spec.config {
        config.insert(key.as_str(), field(key, value, &mut vault)?);
    }
    let layout =
        Layout { name: stream.media_name(), inputs: &inputs, is_static: stream.spec.r#static, config: &config };
    let text = serde_json::to_string(&layout)
        .map_err(|_| problem(&reason::INVALID_CONFIG, "the stream cannot be written as JSON".into()))?;
    if text.len() > MAX_DOCUMENT {
        return Err(too_large());
    }
    Ok(text)
}

/// What no rule of the API server sees: such a Stream is stored, and gets no document.
fn check(stream: &Stream) -> Result<(), Problem> {
    let problems = weir_crds::check_stream(&stream.spec);
    if problems.is_empty() {
        return Ok(());
    }
    let sentences: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Err(problem(&reason::INVALID_CONFIG, sentences.join("; ")))
}

fn url(url: &str, at: usize, vault: &mut Vault<'_>) -> Result<String, Problem> {
    let parts = secret_ref::parse(url).map_err(|malformed| invalid(&format!("inputs[{at}].url"), &malformed))?;
    let mut filled = String::new();
    for (position, part) in parts.iter().enumerate() {
        match part {
            Part::Literal(literal) => filled.push_str(literal),
            Part::Secret(reference) => {
                let value = vault.value(reference)?;
                check_url_value(reference, value, position == 0)?;
                if position == 0 {
                    filled.push_str(value);
                } else {
                    filled.extend(utf8_percent_encode(value, RESERVED));
                }
            }
        }
    }
    Ok(filled)
}

/// A value that would not make a URL: most often a line break that an editor or `echo` left at its end.
fn check_url_value(reference: &SecretRef, value: &str, whole: bool) -> Result<(), Problem> {
    let SecretRef { name, key } = reference;
    let refused = |what: &str| {
        Err(of_secret(&reason::INVALID_SECRET_VALUE, reference, format!("key {key} of Secret {name} {what}")))
    };
    if value.contains(char::is_control) {
        return refused(
            "has a line break or another control character, which no URL can have: write it without (printf, not echo)",
        );
    }
    if whole && value.contains(char::is_whitespace) {
        return refused("begins a URL and has a space in it: write it as %20");
    }
    let scheme = value.split_once("://").map_or("", |(scheme, _)| scheme);
    let sound = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if whole && (scheme.is_empty() || !scheme.chars().all(sound)) {
        return refused("begins a URL and has no scheme: it must begin like rtsp://");
    }
    Ok(())
}

fn field(key: &str, value: &Value, vault: &mut Vault<'_>) -> Result<Value, Problem> {
    let mut failed = None;
    let filled = secret_ref::fill(value, &mut |reference| match vault.value(reference) {
        Ok(value) => Some(value.to_owned()),
        Err(problem) => {
            failed = Some(problem);
            None
        }
    });
    match (filled, failed) {
        (_, Some(problem)) => Err(problem),
        (Ok(filled), None) => Ok(filled.into_inner()),
        (Err(FillError::Malformed(malformed)), None) => Err(invalid(&format!("config.{key}"), &malformed)),
        (Err(FillError::Missing(reference)), None) => Err(not_found(&reference)),
    }
}

fn invalid(place: &str, malformed: &Malformed) -> Problem {
    problem(&reason::INVALID_REFERENCE, format!("{place}: {malformed}"))
}

fn not_found(reference: &SecretRef) -> Problem {
    let SecretRef { name, key } = reference;
    let message = format!(
        "there is no Secret {name} of type weir.dev/credentials, which needs the key {key}, in the Stream's namespace"
    );
    of_secret(&reason::SECRET_NOT_FOUND, reference, message)
}

fn too_large() -> Problem {
    problem(
        &reason::DOCUMENT_TOO_LARGE,
        format!(
            "with its Secrets filled in the stream has more than {} KiB: use smaller values, or fewer references",
            MAX_DOCUMENT >> 10
        ),
    )
}

/// The Secrets of a namespace, and how many bytes of values the document may still take.
struct Vault<'a> {
    namespace: &'a str,
    secrets: &'a BTreeMap<ObjectRef, Credentials>,
    room: usize,
}

impl<'a> Vault<'a> {
    fn value(&mut self, reference: &SecretRef) -> Result<&'a str, Problem> {
        let SecretRef { name, key } = reference;
        let object = ObjectRef { namespace: self.namespace.to_owned(), name: name.clone() };
        let secret = self.secrets.get(&object).ok_or_else(|| not_found(reference))?;
        let value = secret.0.get(key).ok_or_else(|| {
            of_secret(&reason::SECRET_KEY_NOT_FOUND, reference, format!("Secret {name} has no key {key}"))
        })?;
        let value = std::str::from_utf8(value).map_err(|_| {
            of_secret(
                &reason::INVALID_SECRET_VALUE,
                reference,
                format!("key {key} of Secret {name} is not text (UTF-8): a stream takes text only"),
            )
        })?;
        self.room = self.room.checked_sub(value.len()).ok_or_else(too_large)?;
        Ok(value)
    }
}

/// The document's keys in their order: `name` first, as people look for it.
struct Layout<'a> {
    name: &'a str,
    inputs: &'a [String],
    is_static: bool,
    config: &'a BTreeMap<&'a str, Value>,
}

impl Serialize for Layout<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = ["name", "inputs", "static"];
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.name)?;
        let inputs: Vec<_> = self.inputs.iter().map(|url| BTreeMap::from([("url", url)])).collect();
        map.serialize_entry("inputs", &inputs)?;
        map.serialize_entry("static", &self.is_static)?;
        for (key, value) in self.config.iter().filter(|(key, _)| !own.contains(key)) {
            map.serialize_entry(key, &Sorted(value))?;
        }
        map.end()
    }
}

/// JSON with the keys of every object in order: serde_json may keep the order in which they were written.
struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(&Sorted(item)))?;
                list.end()
            }
            Value::Object(fields) => {
                let fields: BTreeMap<_, _> = fields.iter().collect();
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    map.serialize_entry(key, &Sorted(value))?;
                }
                map.end()
            }
            plain => plain.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests;
