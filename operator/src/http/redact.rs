//! Takes out of an object's spec what looks like a password, for people who look at it.

use serde_json::Value;

const HIDDEN: &str = "***";
/// Stands for a reference to a Secret while a URL is taken apart; no URL that the schema takes has it.
const REFERENCE: char = '\u{1}';
/// A field or a parameter with one of these in its name is a secret.
const TELLING: &[&str] = &["pass", "secret", "token", "key", "auth", "signature"];

/// Redacts the spec of an object: passwords in URLs, and fields whose name says that they are secret.
pub(super) fn object(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec") {
        value(spec);
    }
}

fn value(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(redacted) = url(text) {
                *text = redacted;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(self::value),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if is_telling(name) && !text.contains("${secret:") => HIDDEN.clone_into(text),
                    field => self::value(field),
                }
            }
        }
        _ => {}
    }
}

fn is_telling(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TELLING.iter().any(|telling| name.contains(telling))
}

/// A URL without its password and without the values of telling parameters; `None` for what is none. References to
/// Secrets stay: they say where a password is, not what it is.
fn url(text: &str) -> Option<String> {
    let (mut plain, mut references, mut rest) = (String::new(), Vec::new(), text);
    while let Some((before, (reference, after))) =
        rest.split_once("${secret:").and_then(|(before, from)| Some((before, from.split_once('}')?)))
    {
        plain.push_str(before);
        plain.push(REFERENCE);
        references.push(reference);
        rest = after;
    }
    plain.push_str(rest);
    let mut references = references.into_iter();
    let redacted = url_without_references(&plain)?;
    // A reference within something hidden is hidden with it: the rest keeps its order only if none is.
    let kept = redacted.matches(REFERENCE).count() == references.len();
    let pieces = redacted.split(REFERENCE).enumerate().map(|(index, piece)| match index {
        0 => piece.to_owned(),
        _ if kept => format!("${{secret:{}}}{piece}", references.next().unwrap_or_default()),
        _ => format!("{HIDDEN}{piece}"),
    });
    Some(pieces.collect())
}

fn url_without_references(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let (before, query) = rest.split_once('?').map_or((rest, None), |(before, query)| (before, Some(query)));
    // People write passwords with a '?' in them: then that is no query.
    let (before, query) = match query {
        Some(query) if !before.contains('@') && before.contains(':') && query.contains('@') && !is_port(before) => {
            (rest, None)
        }
        query => (before, query),
    };
    let before = match before.rsplit_once('@') {
        Some((user, host)) if !is_port(user) => match user.split_once(':') {
            Some((user, password)) => format!("{user}:{}@{host}", hidden(password)),
            None => without_userinfo(before),
        },
        _ => without_userinfo(before),
    };
    let query = query.map(|query| query.split('&').map(parameter).collect::<Vec<_>>().join("&"));
    Some(match query {
        Some(query) => format!("{scheme}://{before}?{query}"),
        None => format!("{scheme}://{before}"),
    })
}

/// A token may stand for both user and password. An `@` behind the first slash belongs to the path.
fn without_userinfo(before: &str) -> String {
    let (authority, path) = before.split_at(before.find('/').unwrap_or(before.len()));
    match authority.rsplit_once('@') {
        Some((userinfo, host)) => format!("{}@{host}{path}", hidden(userinfo)),
        None => before.to_owned(),
    }
}

/// A secret, unless it is a reference to one.
fn hidden(secret: &str) -> &str {
    if secret.chars().eq([REFERENCE]) { secret } else { HIDDEN }
}

/// Whether what follows the first colon is a port and a path, so that an `@` behind it belongs to the path.
fn is_port(text: &str) -> bool {
    let Some((_, behind)) = text.split_once(':') else { return false };
    let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
    digits > 0 && behind.as_bytes().get(digits) == Some(&b'/')
}

fn parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, value)) if is_telling(name) => format!("{name}={}", hidden(value)),
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn passwords_go_and_what_helps_to_find_a_fault_stays() {
        for (given, shown) in [
            ("rtsp://user:canary@h:554/1", "rtsp://user:***@h:554/1"),
            ("rtsp://user:can:ary@h", "rtsp://user:***@h"),
            ("rtsp://user:can/ary@h/1", "rtsp://user:***@h/1"),
            ("rtsp://user:can@ary@h/1", "rtsp://user:***@h/1"),
            ("rtsp://user:can?ary@h/1", "rtsp://user:***@h/1"),
            ("srt://h:9000?mode=caller&passphrase=canary", "srt://h:9000?mode=caller&passphrase=***"),
            ("https://h:8080/@user/feed.m3u8?v=1", "https://h:8080/@user/feed.m3u8?v=1"),
            ("rtsp://${secret:cam/user}@h", "rtsp://${secret:cam/user}@h"),
            ("rtsp://canary@h:554/1", "rtsp://***@h:554/1"),
            ("rtsp://canary@h/@user/1", "rtsp://***@h/@user/1"),
            ("rtsp://canary@h:554/@user/1", "rtsp://***@h:554/@user/1"),
            ("https://h/@user/feed.m3u8", "https://h/@user/feed.m3u8"),
            (
                "rtsp://${secret:cam/user}:${secret:cam/password}@h",
                "rtsp://${secret:cam/user}:${secret:cam/password}@h",
            ),
            ("rtsp://${secret:cam/user}:x${secret:cam/password}@h", "rtsp://***:***@h"),
            ("srt://h?passphrase=${secret:cam/password}", "srt://h?passphrase=${secret:cam/password}"),
            ("udp://239.0.0.1:1234", "udp://239.0.0.1:1234"),
        ] {
            assert_eq!(url(given).as_deref(), Some(shown));
        }
        assert_eq!(url("a title: 5@6"), None);
    }

    #[test]
    fn the_whole_spec_is_looked_through_and_references_stay() {
        let mut stream = json!({
            "metadata": {"name": "token"},
            "spec": {"inputs": [{"url": "rtsp://u:canary@h"}], "config": {"title": "x", "srt_publish": {"passphrase": "canary", "port": 1}, "password": "${secret:a/b}"}},
        });
        object(&mut stream);
        assert!(!stream.to_string().contains("canary"), "{stream}");
        assert_eq!(
            stream["spec"]["config"],
            json!({"title": "x", "srt_publish": {"passphrase": "***", "port": 1}, "password": "${secret:a/b}"})
        );
        assert_eq!(stream["metadata"]["name"], "token");
    }
}
