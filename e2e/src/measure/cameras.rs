//! Streams as of cameras: what is measured is measured with these.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use crate::site::{Site, credentials, stream};

/// Requests to the API server at one time.
const AT_ONCE: usize = 8;

/// Applies [`objects`], with their Secret.
pub async fn apply(site: &Site, count: usize) -> Result<BTreeSet<String>> {
    site.apply(&secret()).await?;
    let each = futures::stream::iter(objects(count)).map(|(name, object)| async move {
        site.apply(&object).await?;
        anyhow::Ok(name)
    });
    each.buffer_unordered(AT_ONCE).try_collect().await
}

/// The Secret that the cameras' URLs refer to.
pub fn secret() -> Value {
    credentials("cameras", &[("user", "viewer"), ("password", "correct horse")])
}

/// The Streams `cam-1` to `cam-COUNT`, by name: each with two credentials from [`secret`], a title, an archive; everything else as it is
/// by default.
pub fn objects(count: usize) -> BTreeMap<String, Value> {
    let camera = |number| {
        let name = format!("cam-{number}");
        let url = "rtsp://${secret:cameras/user}:${secret:cameras/password}@";
        let stream = stream(&name)
            .url(&format!("{url}{name}.cameras.example.com/stream1"))
            .config("title", json!(format!("Camera {name}")))
            .config("dvr", json!({"reference": "main", "expiration": 604_800}));
        let mut object = stream.object().clone();
        object["spec"]["failover"] = json!({});
        (name, object)
    };
    (1..=count).map(camera).collect()
}
