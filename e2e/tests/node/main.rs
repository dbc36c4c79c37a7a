//! What goes on a real node: a kubelet, real containers, Services and DNS. It needs root and what `just test-node`
//! names when it is missing, so a plain run ignores it; who asks for it (`--include-ignored`) and cannot have it fails.

mod certificates;
mod faults;
mod injection;
mod installed;
mod lifecycle;
mod owner_killed;
mod pod;
mod pod_ends;
mod replica;
mod site;
mod tokens;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use weir_e2e::node::{self, Node};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They share one node, and some take a part of it away for a while.
    arguments.test_threads = Some(1);
    let asked_for = (arguments.ignored || arguments.include_ignored) && !arguments.list;
    let run = || libtest_mimic::run(&arguments, trials()).exit_code();
    if !asked_for {
        return run();
    }
    match node::enter(run) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn trials() -> Vec<Trial> {
    let trials = [
        trial("a_node_is_ready_and_helm_reaches_it", a_node_is_ready_and_helm_reaches_it),
        trial("a_restricted_pod_finds_a_service_by_its_name", pod::a_restricted_pod_finds_a_service_by_its_name),
        trial("a_pod_outlives_the_kubelet", pod::a_pod_outlives_the_kubelet),
        trial("nothing_is_left_of_a_node_whose_owner_is_killed", owner_killed::nothing_is_left_of_a_node),
        trial("two_commands_capture_every_stream_once", installed::two_commands_capture_every_stream_once),
        trial("the_notes_say_what_to_type", installed::the_notes_say_what_to_type),
        trial("what_the_operator_writes_is_no_drift", installed::what_the_operator_writes_is_no_drift),
        trial("a_standby_is_ready", installed::a_standby_is_ready),
        trial("a_deleted_pod_comes_back_to_its_streams", faults::a_deleted_pod_comes_back_to_its_streams),
        trial("streams_leave_a_pod_that_is_scaled_away", faults::streams_leave_a_pod_that_is_scaled_away),
        trial("a_killed_streamer_container_captures_again", faults::a_killed_streamer_container_captures_again),
        trial("a_killed_sidecar_container_stops_nothing", faults::a_killed_sidecar_container_stops_nothing),
        trial("a_kubelet_that_is_gone_stops_nothing", faults::a_kubelet_that_is_gone_stops_nothing),
        trial(
            "a_pod_that_nobody_brings_back_is_forgotten_at_once",
            pod_ends::a_pod_that_nobody_brings_back_is_forgotten_at_once,
        ),
        trial("a_pod_that_drains_has_let_go_before_it_ends", pod_ends::a_pod_that_drains_has_let_go_before_it_ends),
        trial("an_upgrade_and_its_rollback_stop_nothing", lifecycle::an_upgrade_and_its_rollback_stop_nothing),
        trial("a_changed_definition_comes_with_an_upgrade", lifecycle::a_changed_definition_comes_with_an_upgrade),
        trial("without_an_operator_streams_go_on", lifecycle::without_an_operator_streams_go_on),
        trial(
            "a_pod_made_anew_without_an_operator_serves_from_its_volume",
            replica::a_pod_made_anew_without_an_operator_serves_from_its_volume,
        ),
        trial(
            "uninstalled_and_installed_again_nothing_moves",
            lifecycle::uninstalled_and_installed_again_nothing_moves,
        ),
        trial("a_pod_gets_its_sidecar_without_an_operator", injection::a_pod_gets_its_sidecar_without_an_operator),
        trial(
            "while_the_webhook_is_away_only_labelled_pods_wait",
            injection::while_the_webhook_is_away_only_labelled_pods_wait,
        ),
        trial(
            "a_pod_with_a_backend_of_its_own_is_refused_with_a_sentence",
            injection::a_pod_with_a_backend_of_its_own_is_refused_with_a_sentence,
        ),
        trial(
            "a_namespace_that_is_not_watched_is_left_alone",
            injection::a_namespace_that_is_not_watched_is_left_alone,
        ),
        trial("a_certificate_is_renewed_under_connections", certificates::a_certificate_is_renewed_under_connections),
        trial(
            "foreign_tokens_are_refused_counted_and_kept_out_of_logs",
            tokens::foreign_tokens_are_refused_counted_and_kept_out_of_logs,
        ),
    ];
    trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect()
}

/// A test that runs on the shared node, in a run time of its own.
fn trial(name: &str, test: impl AsyncFn(&'static Node) -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let node = Node::shared().await.map_err(|error| Failed::from(format!("{error:?}")))?;
            test(node).await.map_err(|error| Failed::from(format!("{error:?}\n{}", node.logs())))
        })
    })
}

async fn a_node_is_ready_and_helm_reaches_it(node: &'static Node) -> Result<()> {
    let nodes = node.kubectl().args(["get", "nodes", "--no-headers"]).output().await?;
    let nodes = String::from_utf8(nodes.stdout)?;
    anyhow::ensure!(nodes.starts_with(node::NAME) && nodes.contains(" Ready "), "{nodes}");
    let releases = node.helm().args(["list", "--all-namespaces", "--output", "json"]).output().await?;
    let told = String::from_utf8_lossy(&releases.stderr);
    anyhow::ensure!(releases.status.success() && releases.stdout.trim_ascii() == b"[]", "{told}");
    Ok(())
}
