//! Texts: names as Kubernetes has them, and what is too long.

/// Whether this is a DNS subdomain (RFC 1123), as Kubernetes names objects: it becomes a component of a path, an object,
/// a line of the log.
pub(crate) fn is_name(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let ends = [label.bytes().next(), label.bytes().next_back()];
        ends.into_iter().all(|end| end.is_some_and(alphanumeric))
            && label.bytes().all(|byte| alphanumeric(byte) || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// An object as YAML that `kubectl` reads as it is meant: for it `yes`, `on`, `n` … without quotes are booleans.
pub(crate) fn yaml(object: &serde_json::Value) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(object)
}

/// The beginning of a text, at most `most` bytes of it, whole characters.
pub(crate) fn shortened(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leads_out_of_its_directory() {
        for name in ["a", "media-1.example.com", "0"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "A", "-a", "a-", "a..b", "a\0", &"a".repeat(254)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn yaml_is_read_as_it_is_meant_by_readers_of_both_versions() {
        let words = [
            "yes",
            "No",
            "on",
            "y",
            "~",
            "",
            "0x10",
            "1e3",
            "1_000",
            "012",
            "2026-01-01",
            "12:30:45",
            "<<",
            "- a",
            "a: b",
            "#",
        ];
        let long = "rtsp://".to_owned() + &"word and word ".repeat(40);
        let object = serde_json::json!({
            "words": words, "keys": {"yes": 1, "1": 2, "": 3}, "long": long, "lines": "a\n  b\n\n# c\n", "empty": [{}, []],
            "numbers": [1_800_000_000_000_000_u64, -1, 0.5, true, null], "odd": "\u{feff}\t\u{1}\u{2028} ",
        });
        let text = yaml(&object).unwrap();
        assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&text).unwrap(), object, "{text}");
        assert_eq!(serde_yaml::from_str::<serde_json::Value>(&text).unwrap(), object, "{text}");
    }

    #[test]
    fn a_text_is_shortened_between_letters() {
        assert_eq!(shortened("größe", 3), "gr");
        assert_eq!(shortened("größe", 99), "größe");
    }
}
