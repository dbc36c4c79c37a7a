//! A namespace with all that is in it is deleted, the operator's rights in it too: nobody asks whether its Streams are meant to go, nothing
//! keeps it from going, and the streams of another namespace notice nothing and fail over as ever.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::DeleteParams;
use weir_e2e::site::{Kind, Place, Plan, Site, until};

#[tokio::test]
async fn namespace_deleted() -> Result<()> {
    let plan = Plan { place: Place::Own, streamers: 2, ..Plan::default() };
    let mut site = Site::prepare("namespace_deleted", &plan).await?;
    let home = site.namespace.clone();
    site.move_to_another_namespace().await?;
    for name in ["t1", "t2"] {
        let entry = site.entry(name).await?;
        site.add_streamer(name, &entry, &[]).await?;
    }
    let doomed = std::mem::replace(&mut site.namespace, home.clone());
    for part in site.operators.iter_mut().map(|operator| &mut operator.process) {
        part.start()?;
    }
    for streamer in &mut site.streamers {
        streamer.start()?;
    }
    for name in ["s1", "s2"] {
        site.await_condition(Kind::Streamer, name, "Ready", "True", "Polling").await?;
    }
    let names = site.apply_streams(20).await?;
    site.namespace.clone_from(&doomed);
    let others = site.apply_named((1..=20).map(|number| format!("doomed-{number}"))).await?;
    let all: BTreeSet<String> = names.union(&others).cloned().collect();
    site.await_captured_once(&all).await?;
    let captured = site.registry.now();

    // Only the controller manager empties a namespace.
    site.cluster()?.start_controller_manager().await?;
    let namespaces = Api::<Namespace>::all(site.client()?);
    let deleted = site.registry.now();
    namespaces.delete(&doomed, &DeleteParams::default()).await?;
    // As the kubelet does with what is in a Pod that goes.
    let pods = Api::<Pod>::namespaced(site.client()?, &doomed);
    for name in ["t1", "t2"] {
        until(&format!("the Pod {name} goes"), async || {
            let pod = pods.get_opt(name).await?;
            ensure!(pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()), "it is there");
            Ok(())
        })
        .await?;
        site.kill_streamer(name).await?;
    }
    until("the namespace is gone", async || {
        let left = namespaces.get_opt(&doomed).await?;
        ensure!(left.is_none(), "it says {:?}", left.and_then(|left| left.status).and_then(|status| status.conditions));
        Ok(())
    })
    .await?;
    let gone = site.registry.now().saturating_sub(deleted);
    site.tell(&format!("the namespace was gone {gone:.1?} after it was deleted"));
    site.namespace = home;
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(&names, captured)?;

    // The operator goes on for the others.
    let lost = site.read_by("s1");
    ensure!(lost.len() == 10, "s1 has {} streams", lost.len());
    let killed = site.registry.now();
    site.kill_streamer("s1").await?;
    site.await_captured_once(&names).await?;
    site.tell_dark("another namespace deleted, streamer killed", &lost, killed);
    site.ensure_undisturbed(names.difference(&lost), captured)?;
    let operator = &site.operators[0];
    ensure!(operator.metric("weir_leader").await? > 0.0, "the operator does not lead");
    ensure!(!operator.process.log().contains("lost their Stream at once"), "the removal was held");
    site.await_condition(Kind::Streamer, "s1", "Ready", "False", "Silent").await?;
    site.finish().await
}
