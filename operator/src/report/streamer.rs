//! The status of a Streamer.

use weir_crds::condition::{CONFIG_ACCEPTED, READY, SUPERVISED, SYNCED, find};
use weir_crds::streamer::{Load, Streamer, StreamerStatus};
use weir_feed::frames::{self, ApiState, ConfigStatus};
use weir_feed::leader::view::StreamerView;
use weir_placement::plan::StreamerOutlook;
use weir_placement::reason::NOT_READY;

use super::redact::Redactor;
use super::{Finding, conclude, finding, time};
use crate::text::shortened;

/// What changes all the time is refreshed when it is this old, in ms.
const REFRESH: u64 = 60_000;
/// A replica may be behind for this long (ms) before it is worth a word: it is, for a moment, at every change.
const BEHIND: u64 = 5_000;
/// How many streams a message names.
const NAMED: usize = 10;
/// Bounds of the status' own fields.
const MAX_INSTANCE: usize = 128;
const MAX_VERSION: usize = 64;

/// Everything that is known of one Streamer object.
#[derive(Debug, Clone, Copy)]
pub struct StreamerFacts<'a> {
    pub streamer: &'a Streamer,
    /// What was reported last.
    pub old: &'a StreamerStatus,
    /// What the leader knows of it; `None`: it was not heard, and no record names it.
    pub view: Option<&'a StreamerView>,
    /// Where the plan leaves it.
    pub outlook: Option<&'a StreamerOutlook>,
    /// For how long (ms) its replica has been behind without a break; counts only while it is.
    pub behind_for: u64,
    /// Takes passwords out of what the streamer says.
    pub redactor: Redactor<'a>,
    /// Ms since the Unix epoch.
    pub now: u64,
}

/// What is to be reported of a Streamer.
pub fn streamer_status(facts: &StreamerFacts<'_>) -> StreamerStatus {
    let generation = facts.streamer.metadata.generation;
    let mut status = facts.old.clone();
    status.observed_generation = generation;
    let findings = [
        (READY, ready(facts)),
        (SYNCED, synced(facts)),
        (CONFIG_ACCEPTED, config_accepted(facts)),
        (SUPERVISED, supervised(facts)),
    ];
    for (type_, finding) in findings {
        conclude(&mut status.conditions, type_, finding, generation, facts.now);
    }
    let is_ready = find(&status.conditions, READY).is_some_and(|ready| ready.status == "True");
    status.summary = Some(summary(is_ready, facts.streamer));
    status.roles = Some(facts.streamer.spec.role_list());
    if is_ready {
        status.first_ready.get_or_insert_with(|| time(facts.now));
    }
    if let Some(outlook) = facts.outlook {
        status.streams = Some(outlook.streams);
    }
    if let Some(view) = facts.view.filter(|view| view.reported) {
        let instance = view.instance.as_deref();
        status.instance = instance.map(|text| shortened(text, MAX_INSTANCE).to_owned());
        status.sidecar_version = Some(shortened(&view.program, MAX_VERSION).to_owned());
        refresh(&mut status, facts, view);
    }
    status
}

/// What is to be reported of a Streamer that cannot be read; `message` says what is wrong with it.
pub fn malformed_streamer(old: &StreamerStatus, generation: i64, message: &str, now: u64) -> StreamerStatus {
    let mut status = old.clone();
    status.observed_generation = Some(generation);
    status.summary = Some("NotReady".to_owned());
    let finding = finding(Some(false), "Malformed", message);
    conclude(&mut status.conditions, READY, finding, Some(generation), now);
    status
}

fn summary(is_ready: bool, streamer: &Streamer) -> String {
    let mut summary = if is_ready { "Ready" } else { "NotReady" }.to_owned();
    if streamer.spec.unschedulable {
        summary.push_str(",SchedulingDisabled");
    }
    if streamer.spec.drain {
        summary.push_str(",Draining");
    }
    summary
}

/// Load, revision and last contact change with every second: they are written along with something else, or when they
/// are old.
fn refresh(status: &mut StreamerStatus, facts: &StreamerFacts<'_>, view: &StreamerView) {
    let heard = time(facts.now.saturating_sub(view.silent_for));
    let old = facts.old.last_contact.as_ref();
    let age = old.map(|old| heard.0.duration_since(old.0).as_millis().unsigned_abs());
    let due = age.is_none_or(|age| age > u128::from(REFRESH));
    if !due && status == facts.old {
        return;
    }
    status.last_contact = Some(heard);
    status.replica_revision = Some(view.applied);
    status.load = load(&view.load);
}

fn load(load: &frames::Load) -> Option<Load> {
    let known = load != &frames::Load::default();
    known.then_some(Load { cpu_percent: load.cpu, input_kbit: load.input_kbit, output_kbit: load.output_kbit })
}

fn ready(facts: &StreamerFacts<'_>) -> Finding {
    let Some(view) = facts.view.filter(|view| view.connected && view.reported) else {
        return absent(facts);
    };
    if !view.alive {
        return not_polling(view);
    }
    let told = |reason, message: &str| finding(Some(true), reason, with_closed(message, facts));
    if view.contested {
        return told(
            "InstanceConflict",
            "another instance says that it is this Streamer and waits until this one is gone: give each sidecar a name of its own",
        );
    }
    if let Some(host) = view.foreign_host.as_deref().filter(|host| !is_own(host, facts.streamer)) {
        let message = format!(
            "the streamer calls itself {}, not {}: set spec.hostname, or the streamer's own",
            facts.redactor.redact(shortened(host, 253)),
            facts.streamer.hostname()
        );
        return told("ForeignHost", &message);
    }
    told("Polling", "the streamer asks its sidecar for its streams")
}

/// Whether a host is the Streamer's: by its hostname, or by its name, which its sidecar takes for the hostname where it
/// is told none. Hosts are the same in capitals.
fn is_own(host: &str, streamer: &Streamer) -> bool {
    let name = streamer.metadata.name.as_deref().unwrap_or_default();
    host.eq_ignore_ascii_case(streamer.hostname()) || host.eq_ignore_ascii_case(name)
}

/// No session: never, or not now.
fn absent(facts: &StreamerFacts<'_>) -> Finding {
    if facts.view.is_some_and(|view| view.contested) {
        return finding(
            Some(false),
            "InstanceConflict",
            "another instance says that it is this Streamer and waits to take the place of the one that is silent",
        );
    }
    if facts.old.last_contact.is_none() && !facts.view.is_some_and(|view| view.reported) {
        return finding(
            Some(false),
            "NeverReported",
            "its sidecar was never heard: start one beside the streamer with --streamer and this name",
        );
    }
    finding(
        Some(false),
        "Silent",
        "its sidecar is not connected: look whether the server is up and reaches the operator",
    )
}

fn not_polling(view: &StreamerView) -> Finding {
    let (reason, why) = match (view.api, view.polled_ago) {
        (ApiState::Down, _) => ("StreamerDown", "and its own API does not answer: look whether it runs"),
        (ApiState::Up, _) => ("NotPolling", "but its own API answers: set its config_external to its sidecar"),
        (ApiState::Absent, None) => {
            ("NotPolling", "since that was started: look whether it runs and its config_external is its sidecar")
        }
        (ApiState::Absent, Some(_)) => ("NotPolling", "any more: look whether it runs"),
    };
    let message = format!("the streamer does not ask its sidecar for its streams {why}");
    finding(Some(false), reason, message)
}

/// Why it gets no new streams stands behind, if it is not that it is not ready.
fn with_closed(message: &str, facts: &StreamerFacts<'_>) -> String {
    let closed = facts.outlook.and_then(|outlook| outlook.closed.as_ref());
    match closed.filter(|note| note.reason != NOT_READY) {
        Some(note) => format!("{message}; {}", note.message),
        None => message.to_owned(),
    }
}

fn synced(facts: &StreamerFacts<'_>) -> Finding {
    let Some(view) = facts.view.filter(|view| view.connected && view.reported) else {
        return unheard();
    };
    if let Some(error) = &view.replica_error {
        let message = format!(
            "its sidecar cannot write its replica and answers from memory, which a restart loses: {}",
            facts.redactor.redact(error)
        );
        return finding(Some(false), "ReplicaNotWritten", message);
    }
    if view.synced {
        return finding(Some(true), "Synced", "its replica has everything");
    }
    let was = find(&facts.old.conditions, SYNCED).is_some_and(|old| old.status == "True");
    if was && facts.behind_for < BEHIND {
        return finding(Some(true), "Synced", "its replica has everything");
    }
    let message = "its replica does not have everything yet; it serves what it has";
    finding(Some(false), "Behind", message)
}

fn config_accepted(facts: &StreamerFacts<'_>) -> Finding {
    let Some(view) = facts.view.filter(|view| view.connected && view.reported) else {
        return unheard();
    };
    if !view.rejected.is_empty() {
        let named: Vec<&str> = view.rejected.keys().take(NAMED).map(String::as_str).collect();
        let more = match view.rejected.len().saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "the streamer refuses {}{more}: served as it last took them, if ever; the other streams are not held up",
            named.join(", ")
        );
        return finding(Some(false), "InvalidStreams", message);
    }
    match &view.config {
        ConfigStatus::Loaded => finding(Some(true), "Loaded", "the streamer took what it fetched last"),
        ConfigStatus::Error { message } => {
            let message = format!("the streamer refuses what it fetched: {}", facts.redactor.redact(message));
            finding(Some(false), "Refused", message)
        }
        ConfigStatus::Unknown => finding(
            None,
            "NotTold",
            "the streamer does not tell: its version has no config_external_status, or its sidecar no --streamer-api",
        ),
    }
}

/// What streams with `StopCapturing` rest on.
fn supervised(facts: &StreamerFacts<'_>) -> Finding {
    let Some(view) = facts.view.filter(|view| view.connected && view.reported) else {
        return unheard();
    };
    if !view.supervised {
        let message = "nobody asks its sidecar's GET /lease, so nobody would kill a streamer that goes on capturing when \
                       it is cut off: streams with failover.partition StopCapturing are not placed here; have the \
                       streamer's liveness check ask it, or leave it if there are none";
        return finding(Some(false), "NotSupervised", message);
    }
    if let Some(streams) = view.boots_with.filter(|streams| *streams > 0) {
        let message = format!(
            "the streamer captured {streams} streams when it had started and not asked yet: a stream with StopCapturing \
             may have moved by then; have it boot with an empty configuration"
        );
        return finding(Some(false), "BootsWithConfiguration", message);
    }
    finding(Some(true), "Supervised", "its streamer is killed when it captures what it has no lease for")
}

fn unheard() -> Finding {
    let message = "its sidecar is not connected: see the condition Ready";
    finding(None, "Silent", message)
}

#[cfg(test)]
mod tests;
