//! The definition of Streams is deleted, and with it every Stream there is: that says nothing of what is wanted. Nothing stops, the operator
//! says what is missing; definition and Streams come back, and nobody has noticed.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::DeleteParams;
use weir_e2e::control_plane::apply_crds;
use weir_e2e::site::{Kind, PERIODS, Place, Plan, Site, until};

const DEFINITION: &str = "streams.weir.dev";
/// Longer than anything that an operator waits for before it decides.
const WIPED: Duration = Duration::from_millis(PERIODS.period * 4);

#[tokio::test]
async fn definition_wiped() -> Result<()> {
    let mut site = Site::start("definition_wiped", Plan { place: Place::Own, operators: 2, ..Plan::default() }).await?;
    let names = site.apply_streams(30).await?;
    let captured = site.await_captured_once(&names).await?;
    let leader = site.await_leader().await?;

    let definitions = Api::<CustomResourceDefinition>::all(site.client()?);
    definitions.delete(DEFINITION, &DeleteParams::default()).await?;
    until("the definition is gone", async || {
        ensure!(definitions.get_opt(DEFINITION).await?.is_none(), "it is there");
        Ok(())
    })
    .await?;
    let wiped = site.registry.now();
    until("the operator says what is missing", async || {
        let ready = site.operators[leader].ready().await?;
        ensure!(ready.contains("StreamsUnknown"), "/readyz says {ready}");
        Ok(())
    })
    .await?;
    // An operator that starts now has never seen a Stream.
    site.operators[leader].process.kill9().await?;
    site.operators[leader].process.start()?;
    site.await_leader().await?;
    // The time is what this scenario is about: it is not waited for anything.
    tokio::time::sleep(WIPED.saturating_sub(site.registry.now().saturating_sub(wiped))).await;
    site.ensure_undisturbed(&names, captured)?;

    apply_crds(&site.client()?, &weir_crds::crds_yaml()).await?;
    until("the removal is held", async || {
        let placements = site.list(Kind::Placement).await?;
        let held = placements.iter().filter(|placement| placement["spec"]["removal"]["until"].is_string()).count();
        ensure!(held > 0, "it is not");
        Ok(())
    })
    .await?;
    site.ensure_undisturbed(&names, captured)?;
    site.apply_streams(30).await?;
    until("nothing is held any more", async || {
        for placement in site.list(Kind::Placement).await? {
            ensure!(placement["spec"]["removal"].is_null(), "{} still is", placement["metadata"]["name"]);
        }
        Ok(())
    })
    .await?;
    for name in &names {
        site.await_status(name, "Captured", "True", "Running").await?;
    }
    site.await_captured_once(&names).await?;
    site.ensure_undisturbed(&names, captured)?;
    site.finish().await
}
