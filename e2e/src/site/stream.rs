//! Stream objects, as a user writes them.

use serde_json::{Map, Value, json};

use super::FAILOVER_AFTER;

/// A Stream that is being written.
#[derive(Debug, Clone)]
pub struct StreamObject(Value);

/// A Stream named `name` that reads `rtsp://camera/NAME`.
pub fn stream(name: &str) -> StreamObject {
    let object = json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "Stream",
        "metadata": {"name": name},
        "spec": {
            "inputs": [{"url": url(name)}],
            "failover": {"after": FAILOVER_AFTER},
        },
    });
    StreamObject(object)
}

/// What a [`stream`] reads, unless told otherwise.
pub fn url(name: &str) -> String {
    format!("rtsp://camera/{name}")
}

impl StreamObject {
    /// `spec.name`.
    #[must_use]
    pub fn media_name(mut self, name: &str) -> Self {
        self.0["spec"]["name"] = name.into();
        self
    }

    /// The only input's URL.
    #[must_use]
    pub fn url(mut self, url: &str) -> Self {
        self.0["spec"]["inputs"] = json!([{"url": url}]);
        self
    }

    /// `spec.failover.after`.
    #[must_use]
    pub fn failover_after(mut self, after: &str) -> Self {
        self.0["spec"]["failover"]["after"] = after.into();
        self
    }

    /// A field of `spec.config`.
    #[must_use]
    pub fn config(mut self, field: &str, value: Value) -> Self {
        let spec = self.0["spec"].as_object_mut();
        let config = spec.map(|spec| spec.entry("config").or_insert(Map::new().into()));
        if let Some(Value::Object(config)) = config {
            config.insert(field.to_owned(), value);
        }
        self
    }

    /// `spec.failover.partition: StopCapturing`.
    #[must_use]
    pub fn stop_capturing(mut self) -> Self {
        self.0["spec"]["failover"]["partition"] = "StopCapturing".into();
        self
    }

    /// `spec.disabled`.
    #[must_use]
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.0["spec"]["disabled"] = disabled.into();
        self
    }

    /// The object.
    pub fn object(&self) -> &Value {
        &self.0
    }
}

/// A Secret of the type that Streams may name.
pub fn credentials(name: &str, data: &[(&str, &str)]) -> Value {
    secret(name, "weir.dev/credentials", data)
}

/// A Secret.
pub fn secret(name: &str, type_: &str, data: &[(&str, &str)]) -> Value {
    let data: Map<String, Value> = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "type": type_, "metadata": {"name": name}, "stringData": data})
}
