//! One stream's configuration as it stands on the wire.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// A stream's document that was found valid (see [`super::answer::check`]). Clones share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    fields: Arc<Map<String, Value>>,
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fields.serialize(serializer)
    }
}

impl Document {
    pub(super) fn new(fields: Map<String, Value>) -> Self {
        Self { fields: Arc::new(fields) }
    }

    pub fn name(&self) -> &str {
        let name = self.fields.get("name").and_then(Value::as_str);
        name.unwrap_or_default()
    }

    /// Whether it starts without being asked for; `true` where the field is missing.
    pub fn is_static(&self) -> bool {
        let field = self.fields.get("static").and_then(Value::as_bool);
        field.unwrap_or(true)
    }

    /// The `inputs` as they stand; empty where the field is missing.
    pub fn inputs(&self) -> &[Value] {
        let inputs = self.fields.get("inputs").and_then(Value::as_array);
        inputs.map_or(&[], Vec::as_slice)
    }

    /// The inputs that a streamer pulls from: all but `publish://`, which waits to be sent to.
    pub fn pulled(&self) -> impl Iterator<Item = &str> {
        let urls = self.inputs().iter();
        let urls = urls.filter_map(|input| input.get("url").and_then(Value::as_str));
        urls.filter(|url| !url.starts_with("publish://"))
    }
}

/// Scheme, host and port of an input's URL: what is down when a source is down. The whole URL where it has no such parts.
pub fn origin(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let host = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_neither_credentials_nor_path() {
        for (url, expected) in [
            ("rtsp://user:p@ss@cam-1:554/live?x=1", "rtsp://cam-1:554"),
            ("udp://239.0.0.1:1234", "udp://239.0.0.1:1234"),
            ("file:///vod/a.mp4", "file://"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(origin(url), expected);
        }
    }
}
