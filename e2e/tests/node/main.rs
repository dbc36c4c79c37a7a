//! What goes on a real node: a kubelet, real containers, Services and DNS. It needs root and what `just test-node`
//! names when it is missing, so a plain run ignores it; who asks for it (`--include-ignored`) and cannot have it fails. With
//! `WEIR_E2E_KUBECONFIG` that is an existing cluster, whose nodes are not ours: what needs one is left out by name.

mod authority;
mod certificates;
mod changed_chart;
mod containers;
mod faults;
mod injection;
mod installed;
mod lease_probe;
mod lifecycle;
mod machine;
mod outside;
mod owner_killed;
mod pod;
mod pod_ends;
mod registration;
mod replica;
mod site;
mod systemd_machine;
mod to_cluster;
mod tokens;
mod units;
mod vendor_operator;
mod webhook;
mod without_webhook;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use weir_e2e::cluster::{self, Cluster};
use weir_e2e::node::{self, Node};

use crate::site::Site;
use crate::units::Units;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share one cluster, and some take a part of it away for a while.
    arguments.test_threads = Some(1);
    let asked_for = (arguments.ignored || arguments.include_ignored) && !arguments.list;
    let run = || libtest_mimic::run(&arguments, trials()).exit_code();
    if !asked_for {
        return run();
    }
    let ended = if cluster::is_existing() { in_existing(run) } else { node::enter(run) };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A trial named after its test.
macro_rules! trials {
    ($kind:ident: $($module:ident::$test:ident,)*) => {
        vec![$($kind(stringify!($test), $module::$test)),*]
    };
}

fn trials() -> Vec<Trial> {
    let on_our_node = trials![on_node:
        pod::a_node_is_ready_and_helm_reaches_it,
        pod::a_restricted_pod_finds_a_service_by_its_name,
        pod::a_pod_outlives_the_kubelet,
        owner_killed::nothing_is_left_of_a_node_whose_owner_is_killed,
    ];
    let anywhere = trials![on_site:
        installed::two_commands_capture_every_stream_once,
        installed::the_notes_say_what_to_type,
        installed::what_the_operator_writes_is_no_drift,
        installed::a_standby_is_ready,
        faults::a_deleted_pod_comes_back_to_its_streams,
        faults::streams_leave_a_pod_that_is_scaled_away,
        pod_ends::a_pod_that_nobody_brings_back_is_forgotten_at_once,
        pod_ends::a_pod_that_drains_has_let_go_before_it_ends,
        lifecycle::a_changed_definition_comes_with_an_upgrade,
        lifecycle::uninstalled_and_installed_again_nothing_moves,
        injection::a_pod_gets_its_sidecar_without_an_operator,
        injection::while_the_webhook_is_away_only_labelled_pods_wait,
        injection::a_pod_with_a_backend_of_its_own_is_refused_with_a_sentence,
        injection::a_namespace_that_is_not_watched_is_left_alone,
        tokens::foreign_tokens_are_refused_counted_and_kept_out_of_logs,
        tokens::the_token_of_another_pod_is_refused_counted_and_kept_out_of_logs,
        without_webhook::the_example_without_the_webhook_captures_where_there_is_none,
        webhook::the_webhooks_certificate_is_renewed_while_pods_are_made,
    ];
    let beside_its_processes = trials![on_site:
        faults::a_killed_streamer_container_captures_again,
        faults::a_killed_sidecar_container_stops_nothing,
        faults::a_kubelet_that_is_gone_stops_nothing,
        lifecycle::without_an_operator_streams_go_on,
        replica::a_pod_made_anew_without_an_operator_serves_from_its_volume,
        outside::a_streamer_outside_the_cluster_finds_each_leader,
        machine::streams_of_a_machine_that_dies_are_captured_elsewhere,
        authority::an_authority_is_replaced_under_mounted_bundles,
        certificates::a_certificate_is_renewed_under_connections,
        tokens::an_expired_token_is_refused_counted_and_kept_out_of_logs,
        lease_probe::a_streamer_frozen_past_its_lease_is_killed_by_its_kubelet,
        registration::a_pods_streamer_says_where_it_is_and_what_it_is_for,
        to_cluster::a_site_moves_into_the_cluster_by_the_documented_lines,
        vendor_operator::a_streamer_of_the_vendors_operator_captures_a_stream,
        webhook::a_thousand_pods_cost_the_webhook_what_it_asks_for,
    ];
    let without_kubernetes = trials![on_units:
        units::units_run_with_all_their_hardening,
        units::a_streamer_unit_that_hangs_past_its_lease_is_killed,
        units::restarted_units_stop_no_stream,
        units::a_unit_shows_a_renewed_certificate_without_a_restart,
        units::stopped_units_have_ended_well,
    ];
    let with_another_tag = trials![on_site:
        lifecycle::an_upgrade_and_its_rollback_stop_nothing,
    ];
    let ours = !cluster::is_existing();
    let all = [
        (on_our_node, ours, "the cluster's nodes are not ours"),
        (anywhere, true, ""),
        (with_another_tag, cluster::can_tag(), "without WEIR_E2E_REGISTRY no image has another tag"),
        (beside_its_processes, ours, "the cluster's nodes are not ours"),
        (without_kubernetes, ours, "systemd is booted beside a node of ours"),
    ];
    let mut trials = Vec::new();
    for (group, possible, why) in all {
        if possible {
            trials.extend(group.into_iter().map(|trial| trial.with_ignored_flag(true)));
            continue;
        }
        for trial in group {
            eprintln!("left out, since {why}: {}", trial.name());
        }
    }
    trials
}

/// A test of the node itself.
fn on_node(name: &str, test: impl AsyncFn(&'static Node) -> Result<()> + Send + 'static) -> Trial {
    on_cluster(name, async move |cluster| test(cluster.node()?).await)
}

/// A test of what is installed.
fn on_site(name: &str, test: impl AsyncFn(&'static Site) -> Result<()> + Send + 'static) -> Trial {
    on_cluster(name, async move |_| test(Site::shared().await?).await)
}

/// A test of what runs without Kubernetes, beside the node.
fn on_units(name: &str, test: impl AsyncFn(&'static Units) -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let tested = async {
            let units = Units::shared().await?;
            let tested = test(units).await;
            units.with_journal(tested).await
        };
        tokio::runtime::Runtime::new()?.block_on(tested).map_err(|error| Failed::from(format!("{error:?}")))
    })
}

/// A test that runs in the shared cluster, in a run time of its own.
fn on_cluster(name: &str, test: impl AsyncFn(&'static Cluster) -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let cluster = Cluster::shared().await.map_err(|error| Failed::from(format!("{error:?}")))?;
            match test(cluster).await {
                Ok(()) => Ok(()),
                Err(error) => Err(Failed::from(format!("{error:?}\n{}", cluster.logs().await))),
            }
        })
    })
}

/// Leaves an existing cluster as it was.
fn in_existing(run: impl FnOnce() -> ExitCode) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    // What is wrong with it is said once, not by every test.
    let cluster = runtime.block_on(Cluster::shared())?;
    let code = run();
    runtime.block_on(site::remove(cluster))?;
    Ok(code)
}
