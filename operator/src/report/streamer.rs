//! The status of a Streamer.

use weir_crds::condition::{CONFIG_ACCEPTED, READY, SUPERVISED, SYNCED, find};
use weir_crds::streamer::{Load, Streamer, StreamerStatus};
use weir_feed::frames::{self, ApiState, ConfigStatus};
use weir_feed::leader::view::StreamerView;
use weir_placement::plan::StreamerOutlook;
use weir_placement::reason::NOT_READY;

use super::advice::Names;
use super::reason::{self, streamer as reasons};
use super::redact::Redactor;
use super::{Finding, Subject, conclude, finding, leading, time};
use crate::cluster::{Declared, ObjectRef, Pod};
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
    /// A new leader waits for the streamers: one that it has not heard yet may be as well as it was.
    pub settling: bool,
    /// Its pod, if that is being deleted.
    pub going: Option<&'a Pod>,
    /// Streams that its streamer may be running and cannot be given: media name, and why where that is known.
    pub withheld: &'a [(&'a str, Option<&'a str>)],
    /// For how long (ms) its replica has been behind without a break; counts only while it is.
    pub behind_for: u64,
    /// Takes passwords out of what the streamer says.
    pub redactor: Redactor<'a>,
    pub declared: Declared,
    /// Ms since the Unix epoch.
    pub now: u64,
}

/// What is to be reported of a Streamer.
pub fn streamer_status(facts: &StreamerFacts<'_>) -> StreamerStatus {
    let metadata = &facts.streamer.metadata;
    let object = ObjectRef {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    };
    let subject = subject(&object, facts.declared, metadata.generation, facts.now);
    let mut status = facts.old.clone();
    status.observed_generation = metadata.generation;
    let known = find(&status.conditions, READY).is_some();
    if !(facts.settling && known && session(facts).is_none()) {
        let findings = [
            (READY, ready(facts)),
            (SYNCED, synced(facts)),
            (CONFIG_ACCEPTED, config_accepted(facts)),
            (SUPERVISED, supervised(facts)),
        ];
        for (type_, finding) in findings {
            conclude(&mut status.conditions, type_, &finding, &subject);
        }
    }
    status.reason = at_a_glance(&status);
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
pub fn malformed_streamer(
    object: &ObjectRef,
    old: &StreamerStatus,
    (generation, message): (i64, &str),
    declared: Declared,
    now: u64,
) -> StreamerStatus {
    let mut status = old.clone();
    status.observed_generation = Some(generation);
    status.summary = Some("NotReady".to_owned());
    let message = format!("{message}; it gets no new streams and keeps those that it has until that is mended");
    let finding = finding(Some(false), reasons::MALFORMED, message);
    conclude(&mut status.conditions, READY, &finding, &subject(object, declared, Some(generation), now));
    status.reason = at_a_glance(&status);
    status
}

fn subject(object: &ObjectRef, declared: Declared, generation: Option<i64>, now: u64) -> Subject<'_> {
    let names = Names { namespace: &object.namespace, streamer: Some(&object.name), ..Names::default() };
    Subject { names, declared, generation, now }
}

fn at_a_glance(status: &StreamerStatus) -> Option<String> {
    // That nobody supervises it is a matter only of streams with StopCapturing, and the rule where there are none.
    let boots =
        find(&status.conditions, SUPERVISED).filter(|one| reasons::BOOTS_WITH_CONFIGURATION == one.reason.as_str());
    let types = [READY, SYNCED, CONFIG_ACCEPTED].into_iter().chain(boots.map(|_| SUPERVISED));
    leading(&status.conditions, &types.collect::<Vec<_>>(), READY, reasons::named)
}

/// What is known of it from itself, now.
fn session<'a>(facts: &StreamerFacts<'a>) -> Option<&'a StreamerView> {
    facts.view.filter(|view| view.connected && view.reported)
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
    // One that has ended and comes back is waited for like any other.
    if let Some(pod) = facts.going.filter(|pod| !(pod.ended && pod.returns)) {
        return terminating(pod);
    }
    let Some(view) = session(facts) else {
        return absent(facts);
    };
    if !view.alive {
        return not_polling(view);
    }
    if view.contested {
        return finding(
            Some(true),
            reasons::INSTANCE_CONFLICT,
            "another instance says that it is this Streamer, and waits until this one is gone",
        );
    }
    if let Some(host) = view.foreign_host.as_deref().filter(|host| !is_own(host, facts.streamer)) {
        let message = format!(
            "the streamer calls itself {}, not {}, and is served all the same until they are",
            facts.redactor.redact(shortened(host, 253)),
            facts.streamer.hostname()
        );
        return finding(Some(true), reasons::FOREIGN_HOST, message);
    }
    let polls = "the streamer asks its sidecar for its streams";
    let closed = facts.outlook.and_then(|outlook| outlook.closed.as_ref());
    match closed.filter(|note| note.reason != NOT_READY) {
        Some(note) => Finding {
            set: note.set.clone(),
            ..finding(Some(true), reason::of(note.reason), format!("{polls}; {}", note.message))
        },
        None => finding(Some(true), reasons::POLLING, polls),
    }
}

/// Its pod is being deleted: what becomes of its streams.
fn terminating(pod: &Pod) -> Finding {
    let first = if pod.drains { "those that it has move before it ends, as far as others can take them; " } else { "" };
    let then = if pod.returns {
        "what it still has when it ends waits for the pod of its name for as long as failover.after"
    } else {
        "what it still has when it ends moves at once: no pod of its name comes back"
    };
    let message = format!("its pod is being deleted: it gets no new streams; {first}{then}");
    finding(Some(false), reasons::TERMINATING, message)
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
            reasons::INSTANCE_CONFLICT,
            "another instance says that it is this Streamer and waits to take the place of the one that is silent",
        );
    }
    if facts.old.last_contact.is_none() && !facts.view.is_some_and(|view| view.reported) {
        return finding(
            Some(false),
            reasons::NEVER_REPORTED,
            "its sidecar was never heard: it gets streams when it has connected",
        );
    }
    finding(
        Some(false),
        reasons::SILENT,
        "its sidecar is not connected: its streams move, each after its failover.after, unless it comes back; look whether \
         the server is up and reaches the operator",
    )
}

fn not_polling(view: &StreamerView) -> Finding {
    let (reason, why) = match (view.api, view.polled_ago) {
        (ApiState::Down, _) => (reasons::STREAMER_DOWN, "and its own API does not answer"),
        (ApiState::Up, _) => (reasons::NOT_POLLING, "but its own API answers"),
        (ApiState::Absent, None) => (reasons::NOT_POLLING, "since that was started"),
        (ApiState::Absent, Some(_)) => (reasons::NOT_POLLING, "any more"),
    };
    let then = match view.api {
        ApiState::Up => "what that API shows as captured stays here, everything else moves after its failover.after",
        _ => "its streams move, each after its failover.after, unless it comes back",
    };
    let message = format!("the streamer does not ask its sidecar for its streams {why}: {then}");
    finding(Some(false), reason, message)
}

fn synced(facts: &StreamerFacts<'_>) -> Finding {
    let Some(view) = session(facts) else {
        return unheard();
    };
    if let Some(error) = &view.replica_error {
        let message = format!(
            "its sidecar cannot write its replica and answers from memory, which a restart loses, until it can: {}",
            facts.redactor.redact(error)
        );
        return finding(Some(false), reasons::REPLICA_NOT_WRITTEN, message);
    }
    if !view.complete {
        let message = "its replica is being filled for the first time: until then its streamer is told to wait (503) and \
                       keeps what it runs";
        return finding(Some(false), reasons::NEVER_SYNCED, message);
    }
    if view.strays > 0 {
        let until = time(facts.now.saturating_add(view.strays_for)).0;
        let message = format!(
            "{} streams that it serves have neither a record nor a Stream, as after a lost API: they run on until {until}, \
             and are stopped then unless their Streams are there again",
            view.strays
        );
        return finding(Some(false), reasons::STRAYS_HELD, message);
    }
    let was = find(&facts.old.conditions, SYNCED).is_some_and(|old| old.status == "True");
    if view.synced || (was && facts.behind_for < BEHIND) {
        return finding(Some(true), reasons::SYNCED, "its replica has everything");
    }
    let message = "its replica does not have everything yet; it serves what it has, and catches up";
    finding(Some(false), reasons::BEHIND, message)
}

fn config_accepted(facts: &StreamerFacts<'_>) -> Finding {
    let Some(view) = session(facts) else {
        return unheard();
    };
    if !facts.withheld.is_empty() {
        let message = format!(
            "the streamer runs, or may run, what it cannot be given now, and is told to wait (503) when it asks for it: it \
             keeps what it has, and so do the other streams of the same request, until that is mended: {}",
            listed(facts.withheld.iter().map(|(name, why)| match why {
                Some(why) => format!("{name} ({why})"),
                None => (*name).to_owned(),
            }))
        );
        return finding(Some(false), reasons::WITHHELD, message);
    }
    if !view.rejected.is_empty() {
        let message = format!(
            "the streamer refuses {}: served as it last took them, if ever, until those Streams are changed; the other \
             streams are not held up",
            listed(view.rejected.keys().cloned())
        );
        return finding(Some(false), reasons::INVALID_STREAMS, message);
    }
    match &view.config {
        ConfigStatus::Loaded => finding(Some(true), reasons::LOADED, "the streamer took what it fetched last"),
        ConfigStatus::Error { message } => {
            let message = format!(
                "the streamer refuses what it fetched and goes on with what it had: it takes nothing new until that is \
                 mended: {}",
                facts.redactor.redact(message)
            );
            finding(Some(false), reasons::REFUSED, message)
        }
        ConfigStatus::Unknown => finding(
            None,
            reasons::NOT_TOLD,
            "the streamer does not tell: its version has no config_external_status, or its sidecar no --streamer-api",
        ),
    }
}

/// The first of several, and how many more there are.
fn listed(all: impl ExactSizeIterator<Item = String>) -> String {
    let more = match all.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    all.take(NAMED).collect::<Vec<_>>().join(", ") + &more
}

/// What streams with `StopCapturing` rest on.
fn supervised(facts: &StreamerFacts<'_>) -> Finding {
    let Some(view) = session(facts) else {
        return unheard();
    };
    if !view.supervised {
        let message = "nobody asks its sidecar's GET /lease, so nobody would kill a streamer that goes on capturing when \
                       it is cut off: streams with failover.partition StopCapturing are not placed here until somebody does";
        return finding(Some(false), reasons::NOT_SUPERVISED, message);
    }
    if let Some(streams) = view.boots_with.filter(|streams| *streams > 0) {
        let message = format!(
            "the streamer captured {streams} streams when it had started and was not answered yet, and by then a stream with \
             StopCapturing may have moved: such streams are not placed here until it has started with none"
        );
        return finding(Some(false), reasons::BOOTS_WITH_CONFIGURATION, message);
    }
    finding(Some(true), reasons::SUPERVISED, "its streamer is killed when it captures what it has no lease for")
}

fn unheard() -> Finding {
    let message = "its sidecar is not connected: see the condition Ready";
    finding(None, reasons::SILENT, message)
}

#[cfg(test)]
pub(super) mod tests;
