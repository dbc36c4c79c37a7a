//! Wording a request to the backend.

use reqwest::Url;

/// The bytes of a part's percent-encoded `name` value: "about 1 kB".
pub const PART: usize = 1000;

/// The path that a base URL without one is given.
const DEFAULT_PREFIX: &str = "/streamer/api/v3";

/// The one backend, from `config_external`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Without userinfo.
    base: String,
    /// The base URL's userinfo: sent as `Authorization: Bearer`.
    pub bearer: Option<String>,
}

impl Backend {
    /// Takes a base URL such as `http://KEY@backend:9980/prefix`. Errors do not repeat it, since it may hold a key.
    pub fn parse(base: &str) -> Result<Self, String> {
        let url = Url::parse(base).map_err(|error| format!("config_external: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("config_external must be an http or https URL".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("config_external must have neither query nor fragment".to_owned());
        }
        let (scheme, rest) = base.split_once("://").ok_or("config_external must have a host")?;
        let (authority, path) = match rest.find('/') {
            // The path stands as it was written: a trailing slash makes `//streams`.
            Some(slash) => rest.split_at(slash),
            None => (rest, DEFAULT_PREFIX),
        };
        let (bearer, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo.to_owned()), host),
            None => (None, authority),
        };
        Ok(Self { base: format!("{scheme}://{host}{path}"), bearer })
    }

    /// `…/streams?host=H`, with `&name=a%2Cb` for some of them.
    pub fn streams(&self, host: &str, names: Option<&[String]>) -> Result<Url, String> {
        let mut url =
            Url::parse(&format!("{}/streams", self.base)).map_err(|error| format!("config_external: {error}"))?;
        url.query_pairs_mut().append_pair("host", host);
        if let Some(names) = names {
            // Joined first, then percent-encoded as a whole.
            url.query_pairs_mut().append_pair("name", &names.join(","));
        }
        Ok(url)
    }
}

/// Cuts names into parts of at most `limit` encoded bytes; a longer name is a part of its own.
pub fn parts(names: impl IntoIterator<Item = String>, limit: usize) -> Vec<Vec<String>> {
    let mut parts: Vec<Vec<String>> = Vec::new();
    let mut length = 0;
    for name in names {
        let encoded = encoded_length(&name);
        match parts.last_mut() {
            Some(part) if length + encoded_length(",") + encoded <= limit => {
                length += encoded_length(",") + encoded;
                part.push(name);
            }
            _ => {
                length = encoded;
                parts.push(vec![name]);
            }
        }
    }
    parts
}

fn encoded_length(text: &str) -> usize {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte);
    text.bytes().map(|b| if plain(b) { 1 } else { 3 }).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(base: &str, names: Option<&[String]>) -> String {
        let backend = Backend::parse(base).unwrap();
        backend.streams("s 1", names).unwrap().to_string()
    }

    #[test]
    fn an_empty_path_gets_the_default_prefix() {
        let expected = "http://b:9980/streamer/api/v3/streams?host=s+1";
        assert_eq!(asked("http://b:9980", None), expected);
    }

    #[test]
    fn a_path_is_kept_and_a_trailing_slash_makes_two() {
        assert_eq!(asked("http://b/x/y", None), "http://b/x/y/streams?host=s+1");
        assert_eq!(asked("http://b/x/", None), "http://b/x//streams?host=s+1");
        assert_eq!(asked("http://b/", None), "http://b//streams?host=s+1");
    }

    #[test]
    fn names_are_joined_and_then_encoded_as_a_whole_behind_the_host() {
        let names = ["a", "b", "mylive/bunny"].map(str::to_owned);
        assert_eq!(asked("http://b/x", Some(&names)), "http://b/x/streams?host=s+1&name=a%2Cb%2Cmylive%2Fbunny");
    }

    #[test]
    fn userinfo_becomes_a_bearer_key_and_leaves_the_url() {
        let backend = Backend::parse("http://KEY@b:1/x").unwrap();
        assert_eq!(backend.bearer.as_deref(), Some("KEY"));
        let url = backend.streams("s1", None).unwrap();
        assert_eq!(url.as_str(), "http://b:1/x/streams?host=s1");
    }

    #[test]
    fn a_wrong_base_is_refused_without_repeating_it() {
        for base in ["", "b:9980", "ftp://secret@b/", "http://secret@b/?x=1", "http://secret@"] {
            let error = Backend::parse(base).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parts_are_the_whole_list_in_order_and_about_a_kilobyte(
            names in prop::collection::vec("[a-z0-9/._-]{1,80}", 0..100),
            limit in 100..1500_usize,
        ) {
            let cut = parts(names.clone(), limit);
            prop_assert_eq!(cut.concat(), names);
            let backend = Backend::parse("http://b/x").unwrap();
            let bare = backend.streams("h", Some(&[])).unwrap().as_str().len();
            let length = |part: &[String]| backend.streams("h", Some(part)).unwrap().as_str().len() - bare;
            for (part, next) in cut.iter().zip(cut.iter().skip(1).map(Some).chain([None])) {
                prop_assert!(!part.is_empty());
                prop_assert!(part.len() == 1 || length(part) <= limit);
                if let Some(next) = next {
                    let mut more = part.clone();
                    more.push(next[0].clone());
                    prop_assert!(length(&more) > limit);
                }
            }
        }
    }
}
