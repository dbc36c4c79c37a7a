//! Other programs' messages, before people see them: a streamer that refuses a document may quote a password from it.

use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::utf8_percent_encode;

use crate::cluster::{Credentials, ObjectRef};
use crate::document::RESERVED;

/// What stands in the place of what is taken out.
const GAP: &str = "…";

/// A value below this many characters is taken out only where it stands alone: it would tear words apart.
const SHORT: usize = 4;

/// Takes the values of a namespace's Secrets, and whatever may be a password in a URL, out of a text.
#[derive(Debug, Clone, Copy)]
pub struct Redactor<'a> {
    namespace: &'a str,
    secrets: &'a BTreeMap<ObjectRef, Credentials>,
}

impl<'a> Redactor<'a> {
    /// Of the Secrets of one namespace among `secrets`.
    pub fn new(namespace: &'a str, secrets: &'a BTreeMap<ObjectRef, Credentials>) -> Self {
        Self { namespace, secrets }
    }

    /// `text` on one line, without values of Secrets, and without userinfo and query of any URL.
    pub fn redact(&self, text: &str) -> String {
        let forms = self.forms();
        let text = strip(text.to_owned(), &forms);
        let words: Vec<String> = text.split_whitespace().map(redact_urls).collect();
        strip(words.join(" "), &forms)
    }

    /// How the values may be written, the longest first: one may be a part of another.
    fn forms(&self) -> Vec<String> {
        let secrets = self.secrets.iter();
        let mine = secrets.filter(|(object, _)| object.namespace == self.namespace);
        let values = mine.flat_map(|(_, secret)| secret.0.values());
        let texts = values.filter_map(|value| std::str::from_utf8(value).ok());
        let mut forms: BTreeSet<String> = BTreeSet::new();
        for value in texts.flat_map(|value| [value, value.trim()]) {
            let encoded = utf8_percent_encode(value, RESERVED).to_string();
            let json = serde_json::to_string(value).unwrap_or_default();
            let inside = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
            let json = inside.unwrap_or_default().to_owned();
            // The same with '/' as some programs escape it, and with small hexadecimal digits.
            let slashes = json.replace('/', "\\/");
            let small = encoded.to_lowercase();
            forms.extend([value.to_owned(), encoded, json, slashes, small]);
        }
        forms.remove("");
        let mut forms: Vec<_> = forms.into_iter().collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms
    }
}

fn strip(text: String, forms: &[String]) -> String {
    forms.iter().fold(text, |text, form| {
        if form.chars().count() >= SHORT { text.replace(form, GAP) } else { replace_alone(&text, form) }
    })
}

fn replace_alone(text: &str, value: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(value) {
        let (before, tail) = rest.split_at(at);
        let after = tail.get(value.len()..).unwrap_or_default();
        out.push_str(before);
        let joined = out.chars().next_back().is_some_and(char::is_alphanumeric)
            || after.chars().next().is_some_and(char::is_alphanumeric);
        out.push_str(if joined { value } else { GAP });
        rest = after;
    }
    out + rest
}

/// One word: behind every `://` nothing up to its last `@`, and nothing behind a `?`.
fn redact_urls(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    // The last: a password may hold an '@', and a '://' too.
    let (userinfo, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("…@", rest),
        None => ("", rest),
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, _)) => (rest, "?…"),
        None => (rest, ""),
    };
    format!("{scheme}://{userinfo}{}{query}", redact_urls(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets(values: &[&str]) -> BTreeMap<ObjectRef, Credentials> {
        let values = values.iter().enumerate();
        let data = values.map(|(at, value)| (format!("k{at}"), value.as_bytes().to_vec()));
        let object = ObjectRef { namespace: "media".into(), name: "cam".into() };
        BTreeMap::from([(object, Credentials(data.collect()))])
    }

    #[test]
    fn a_value_is_taken_out_however_it_is_written() {
        let secrets = secrets(&["hun/ter \"2\"", "abc", "hun/ter"]);
        let redactor = Redactor::new("media", &secrets);
        let told = r#"bad: hun/ter "2" hun%2Fter%20%222%22 hun\/ter \"2\" hun%2fter%20%222%22 abc=abc cabcage"#;
        assert_eq!(redactor.redact(told), "bad: … … … … …=… cabcage");
    }

    #[test]
    fn urls_keep_neither_userinfo_nor_query() {
        let none = BTreeMap::new();
        let redactor = Redactor::new("media", &none);
        assert_eq!(
            redactor.redact("cannot read \"rtsp://u:p@ss@10.0.0.1/live?key=1\" or udp://239.0.0.1:1234, sorry"),
            "cannot read \"rtsp://…@10.0.0.1/live?… or udp://239.0.0.1:1234, sorry"
        );
        assert_eq!(redactor.redact("a://b://c:d@e"), "a://…@e");
        assert_eq!(redactor.redact("a://h,b://u?x"), "a://h,b://u?…");
    }

    #[test]
    fn another_namespaces_values_do_not_tear_this_ones_words_apart() {
        let secrets = secrets(&["stream"]);
        assert_eq!(Redactor::new("other", &secrets).redact("a stream"), "a stream");
    }

    proptest! {
        #[test]
        fn a_canary_does_not_survive(
            before in "[a-z:/@? ]{0,12}", value in "[ -~]{4,12}", after in "[a-z:/@? ]{0,12}"
        ) {
            prop_assume!(!value.trim().is_empty() && value.trim().chars().count() >= SHORT);
            let secrets = secrets(&[&value]);
            let told = Redactor::new("media", &secrets).redact(&format!("{before}{value}{after}"));
            prop_assert!(!told.contains(value.trim()), "{told}");
        }
    }
}
