//! `${secret:NAME/KEY}` in the strings of a Stream: a value from a Secret of its namespace. `$${` is a literal `${`.

use crate::schema::{matches, rule};
use kube::core::Rule;
use serde_json::Value;
use std::fmt;

/// A Secret's name: a DNS subdomain.
const NAME: &str = "[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?";
/// A key of a Secret.
const KEY: &str = "[A-Za-z0-9._-]{1,253}";

/// One value of one Secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretRef {
    /// The Secret's `metadata.name`.
    pub name: String,
    /// The key in its `data`.
    pub key: String,
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.key)
    }
}

/// A stretch of a string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text that stands for itself.
    Literal(String),
    /// The place of a Secret's value.
    Secret(SecretRef),
}

/// A reference that cannot be read. It does not repeat the text around it, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'${{' at character {at} begins no reference: write ${{secret:NAME/KEY}}, or $${{ for a literal ${{")]
pub struct Malformed {
    /// Where the `$` stands, in characters from 1.
    pub at: usize,
}

/// Splits `text` into literal text (with `$${` already become `${`) and references.
pub fn parse(text: &str) -> Result<Vec<Part>, Malformed> {
    let (mut parts, mut literal, mut rest) = (vec![], String::new(), text);
    while let Some(dollar) = rest.find('$') {
        let (before, from) = rest.split_at(dollar);
        literal.push_str(before);
        if let Some(tail) = from.strip_prefix("$${") {
            literal.push_str("${");
            rest = tail;
        } else if let Some(tail) = from.strip_prefix("${") {
            let at = || text[..text.len() - from.len()].chars().count() + 1;
            let (reference, tail) = tail.split_once('}').ok_or_else(|| Malformed { at: at() })?;
            let reference = reference_of(reference).ok_or_else(|| Malformed { at: at() })?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Secret(reference));
            rest = tail;
        } else {
            literal.push('$');
            rest = &from[1..];
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// `secret:NAME/KEY` as a reference, if that is what it is.
fn reference_of(text: &str) -> Option<SecretRef> {
    let (name, key) = text.strip_prefix("secret:")?.split_once('/')?;
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let name_ok = (1..=253).contains(&name.len())
        && name.chars().all(|c| alphanumeric(c) || ".-".contains(c))
        && name.starts_with(alphanumeric)
        && name.ends_with(alphanumeric);
    let key_ok = (1..=253).contains(&key.len()) && key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    (name_ok && key_ok).then(|| SecretRef { name: name.to_owned(), key: key.to_owned() })
}

/// The same, for the API server: a CEL rule about the string `subject`.
pub(crate) fn rule_for(subject: &str) -> Rule {
    // A `$` before `{` begins a reference; one before another `$` is text, and two before `{` are an escape.
    let pattern = format!(r"^([^$]|[$]+([^${{]|$)|[$][$]+[{{]|[$][{{]secret:{NAME}/{KEY}[}}])*$");
    rule(matches(subject, &pattern), "'${' must begin a reference: write ${secret:NAME/KEY}, or $${ for a literal ${")
}

/// Something with Secrets' values in it: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Filled<T>(T);

impl<T> Filled<T> {
    /// The value, passwords included.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Filled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filled(…)")
    }
}

/// Why a value could not be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// A string holds something that is no reference.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A reference leads nowhere.
    #[error("there is no value for ${{secret:{0}}}: make a Secret of type weir.dev/credentials with that name and key")]
    Missing(SecretRef),
}

/// `text` with every reference replaced by what `secret` has for it; values are not searched for references again.
pub fn fill_text(
    text: &str,
    secret: &mut dyn FnMut(&SecretRef) -> Option<String>,
) -> Result<Filled<String>, FillError> {
    let mut filled = String::with_capacity(text.len());
    for part in parse(text)? {
        let text = match part {
            Part::Literal(literal) => literal,
            Part::Secret(reference) => secret(&reference).ok_or(FillError::Missing(reference))?,
        };
        filled.push_str(&text);
    }
    Ok(Filled(filled))
}

/// The same for every string within `value` (not for the keys of objects).
pub fn fill(value: &Value, secret: &mut dyn FnMut(&SecretRef) -> Option<String>) -> Result<Filled<Value>, FillError> {
    Ok(Filled(match value {
        Value::String(text) => Value::String(fill_text(text, secret)?.0),
        Value::Array(items) => items.iter().map(|item| Ok(fill(item, secret)?.0)).collect::<Result<_, FillError>>()?,
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, item)| Ok((key.clone(), fill(item, secret)?.0)))
                .collect::<Result<_, FillError>>()?,
        ),
        other => other.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn secret(name: &str, key: &str) -> Part {
        Part::Secret(SecretRef { name: name.into(), key: key.into() })
    }

    fn literal(text: &str) -> Part {
        Part::Literal(text.into())
    }

    #[test]
    fn references_and_escapes_are_told_apart() {
        assert_eq!(
            parse("rtsp://admin:${secret:cam-1/password}@10.0.0.1/live").unwrap(),
            [literal("rtsp://admin:"), secret("cam-1", "password"), literal("@10.0.0.1/live")]
        );
        assert_eq!(parse("${secret:cam/url}").unwrap(), [secret("cam", "url")]);
        assert_eq!(parse("$${secret:cam/url}").unwrap(), [literal("${secret:cam/url}")]);
        assert_eq!(parse("$$${x}$$$ 5$").unwrap(), [literal("$${x}$$$ 5$")]);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn what_is_no_reference_is_refused_without_being_repeated() {
        for text in [
            "${",
            "${}",
            "${secret:}",
            "${secret:a}",
            "${secret:/k}",
            "${secret:a/}",
            "${secret:A/k}",
            "${secret:a/k/k}",
            "${env:A}",
            "${secret:-a/k}",
            "${secret:a/k",
            "${Secret:a/k}",
        ] {
            let error = parse(&format!("äb{text}hunter2")).unwrap_err();
            assert_eq!(error, Malformed { at: 3 }, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn every_string_is_filled_and_nothing_shows_it() {
        let value = json!({"a": ["${secret:cam/p}", 1], "b": {"c": "$${secret:cam/p}"}});
        let filled = fill(&value, &mut |_| Some("hunter2 ${secret:x/y}".into())).unwrap();
        assert_eq!(format!("{filled:?}"), "Filled(…)");
        assert_eq!(filled.into_inner(), json!({"a": ["hunter2 ${secret:x/y}", 1], "b": {"c": "${secret:cam/p}"}}));
        let missing = fill(&value, &mut |_| None).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "there is no value for ${secret:cam/p}: make a Secret of type weir.dev/credentials with that name and key"
        );
    }

    proptest! {
        /// The API server decides with a regular expression what the operator then reads with a parser.
        #[test]
        fn parser_and_rule_agree(text in r"([$]|[{]|[}]|[$][{]secret:|a|/|é|-|[$][{]secret:a/k[}]){0,12}") {
            let pattern = rule_for("self").rule;
            let pattern = pattern.strip_prefix("self.matches(r'").unwrap().strip_suffix("')").unwrap();
            let schema = jsonschema::options()
                .with_pattern_options(jsonschema::PatternOptions::regex())
                .build(&json!({"pattern": pattern})).unwrap();
            prop_assert_eq!(schema.is_valid(&json!(text)), parse(&text).is_ok());
        }
    }
}
