//! Streams as of cameras: what is measured is measured with these.

use std::collections::BTreeSet;

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use crate::site::{Site, credentials, stream};

/// Requests to the API server at one time.
const AT_ONCE: usize = 8;

/// Applies `cam-1` to `cam-COUNT`: each with two credentials from a Secret, a title, an archive; everything else as it is by default.
pub async fn apply(site: &Site, count: usize) -> Result<BTreeSet<String>> {
    site.apply(&credentials("cameras", &[("user", "viewer"), ("password", "correct horse")])).await?;
    let names: BTreeSet<String> = (1..=count).map(|number| format!("cam-{number}")).collect();
    let each = futures::stream::iter(&names).map(|name| async move {
        let url = "rtsp://${secret:cameras/user}:${secret:cameras/password}@";
        let stream = stream(name)
            .url(&format!("{url}{name}.cameras.example.com/stream1"))
            .config("title", json!(format!("Camera {name}")))
            .config("dvr", json!({"reference": "main", "expiration": 604_800}));
        let mut object = stream.object().clone();
        object["spec"]["failover"] = json!({});
        site.apply(&object).await
    });
    each.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(names)
}
