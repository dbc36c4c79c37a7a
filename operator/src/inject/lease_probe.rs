//! The kubelet kills a streamer that goes on without a lease, within `--period-kill`: by a liveness probe, and by the grace period
//! of a pod that is being deleted, which it probes no more.

use k8s_openapi::api::core::v1::{Container, Probe};
use weir_crds::Duration;

use super::wishes::{self, Wishes};
use super::{Refusal, refuse, sidecar};

const PERIOD: i32 = 3;
const FAILURES: i32 = 4;
const TIMEOUT: i32 = 1;
/// Of a streamer whose probe has failed.
const GRACE: i64 = 3;
/// So long it takes at most until the kubelet knows: a pod that is deleted just before has all of its grace period still.
const NOTICED: i64 = (PERIOD * FAILURES + TIMEOUT) as i64;
/// `terminationGracePeriodSeconds` of a pod that has none.
const KUBERNETES: i64 = 30;

/// Puts it into the streamer's container.
pub(super) fn put(streamer: &mut Container, wishes: &Wishes) -> Result<(), Refusal> {
    if streamer.liveness_probe.is_some() {
        return refuse(format!(
            "{}: the container {} has a liveness probe of its own, and Kubernetes knows one: remove it, or have it ask \
             http://127.0.0.1:{}/lease as well",
            wishes::LEASE_PROBE,
            streamer.name,
            wishes.http_port
        ));
    }
    streamer.liveness_probe = Some(Probe {
        http_get: Some(sidecar::get("/lease", wishes.http_port)),
        period_seconds: Some(PERIOD),
        failure_threshold: Some(FAILURES),
        timeout_seconds: Some(TIMEOUT),
        termination_grace_period_seconds: Some(GRACE),
        ..Probe::default()
    });
    Ok(())
}

/// Whether a pod with this grace period is dead in time, however it is ended.
pub(super) fn check_grace_period(given: Option<i64>, kill: Duration) -> Result<(), Refusal> {
    let most = i64::try_from(kill.as_ms() / 1_000).unwrap_or(i64::MAX) - NOTICED;
    if most < GRACE {
        return refuse(format!(
            "{}: it takes up to {} s until a streamer that goes on without a lease is killed, and the operator's --period-kill is {kill}: \
             make that longer",
            wishes::LEASE_PROBE,
            NOTICED + GRACE
        ));
    }
    let grace = given.unwrap_or(KUBERNETES);
    if grace <= most {
        return Ok(());
    }
    let absent = if given.is_none() { ", Kubernetes' default," } else { "" };
    refuse(format!(
        "{}: a pod that is being deleted is probed no more, so with its grace period of {grace} s{absent} a streamer could capture on \
         for {} s without a lease, and another one captures after {kill}: set the pod's terminationGracePeriodSeconds to {most} or less, \
         or make the operator's --period-kill at least {}s",
        wishes::LEASE_PROBE,
        NOTICED + grace,
        NOTICED + grace
    ))
}
