//! The status of a Stream.

use weir_crds::Duration;
use weir_crds::condition::{ACCEPTED, CAPTURED, PLACED, find};
use weir_crds::stream::{Partition, Stream, StreamStatus};
use weir_feed::leader::view::{Capture, Unwritten};
use weir_feed::record::{Phase, Record};
use weir_placement::plan::{Note, Outlook};

use super::advice::Names;
use super::reason::{self, Reason, stream as reasons};
use super::redact::Redactor;
use super::{Finding, Subject, conclude, finding, leading, time};
use crate::cluster::{Declared, ObjectRef};
use crate::document::Problem;

/// A static stream that does not run after so many ms is worth an Event.
const STARTED_BY: u64 = 60_000;

/// Everything that is known of one Stream object.
#[derive(Debug, Clone, Copy)]
pub struct StreamFacts<'a> {
    pub stream: &'a Stream,
    /// What was reported last.
    pub old: &'a StreamStatus,
    /// Where the plan leaves it; `None`: nothing has been planned yet.
    pub outlook: Option<&'a Outlook>,
    /// The record of its media name, whichever Stream it names.
    pub record: Option<&'a Record>,
    /// Why its document cannot be made, if so.
    pub problem: Option<&'a Problem>,
    /// What the record's holder says of it.
    pub capture: Capture,
    /// Why the record's holder refuses its document, if so.
    pub rejected: Option<&'a str>,
    /// The record's holder was told to keep what it has, since the stream cannot be given now.
    pub held: bool,
    /// The record's holder may serve what `StopCapturing` stops.
    pub leased: bool,
    /// The record's holder runs it, or may, has nothing to serve it, and is told to wait.
    pub withheld: bool,
    /// Why what was decided is not written, should it differ from the record.
    pub unwritten: Unwritten,
    /// How long a release may take, in ms.
    pub release: u64,
    /// The shortest `failover.after` that is carried out under the stream's policy, in ms.
    pub shortest_failover: u64,
    /// Takes passwords out of `rejected`.
    pub redactor: Redactor<'a>,
    pub declared: Declared,
    /// Ms since the Unix epoch.
    pub now: u64,
}

/// What is to be reported of a Stream.
pub fn stream_status(facts: &StreamFacts<'_>) -> StreamStatus {
    let facts = &StreamFacts { record: facts.record.filter(|record| is_of(record, facts.stream)), ..*facts };
    let metadata = &facts.stream.metadata;
    let object = ObjectRef {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    };
    let subject = subject(&object, facts.record, facts.declared, metadata.generation, facts.now);
    let mut status = facts.old.clone();
    status.media_name = Some(facts.stream.media_name().to_owned());
    status.observed_generation = metadata.generation;
    set_holder(&mut status, facts.record, facts.now);
    let findings = [(ACCEPTED, accepted(facts)), (PLACED, placed(facts)), (CAPTURED, captured(facts, &status))];
    for (type_, finding) in findings {
        conclude(&mut status.conditions, type_, &finding, &subject);
    }
    status.reason = reason(&status);
    status
}

/// What is to be reported of a Stream that cannot be read; `message` says what is wrong with it. Its record stays as
/// it is, and so does what was reported of it.
pub fn malformed_stream(
    object: &ObjectRef,
    old: &StreamStatus,
    (generation, message): (i64, &str),
    record: Option<&Record>,
    declared: Declared,
    now: u64,
) -> StreamStatus {
    let subject = subject(object, record, declared, Some(generation), now);
    let mut status = old.clone();
    status.observed_generation = Some(generation);
    set_holder(&mut status, record, now);
    let mut set = |type_, finding: Finding| conclude(&mut status.conditions, type_, &finding, &subject);
    let malformed = |message: &str| finding(Some(false), reasons::MALFORMED, message);
    if let Some(record) = record {
        set(ACCEPTED, malformed(&format!("{message}; what is captured goes on as it was")));
        let message = format!("on {}, where it stays as it was until the Stream can be read again", record.streamer);
        set(PLACED, finding(Some(true), reasons::PLACED, message));
    } else {
        set(ACCEPTED, malformed(&format!("{message}; nobody captures it before that is mended")));
        set(PLACED, malformed("it is placed when it can be read"));
        set(CAPTURED, malformed("it is captured when it can be read"));
    }
    status.reason = reason(&status);
    status
}

fn subject<'a>(
    object: &'a ObjectRef,
    record: Option<&'a Record>,
    declared: Declared,
    generation: Option<i64>,
    now: u64,
) -> Subject<'a> {
    let streamer = record.map(|record| record.streamer.as_str());
    let names = Names { namespace: &object.namespace, stream: Some(&object.name), streamer, ..Names::default() };
    Subject { names, declared, generation, now }
}

fn reason(status: &StreamStatus) -> Option<String> {
    leading(&status.conditions, &[ACCEPTED, PLACED, CAPTURED], CAPTURED, reasons::named)
}

/// Whether the record is this object's rather than that of another Stream with the same media name.
fn is_of(record: &Record, stream: &Stream) -> bool {
    Some(&record.stream) == stream.metadata.name.as_ref()
}

fn set_holder(status: &mut StreamStatus, record: Option<&Record>, now: u64) {
    let Some(record) = record else {
        (status.streamer, status.epoch, status.since) = (None, None, None);
        return;
    };
    if status.streamer.as_ref() != Some(&record.streamer) || status.since.is_none() {
        // An epoch is at least the time of its decision, and more only where clocks were ahead.
        status.since = Some(time(record.epoch.min(now)));
    }
    status.streamer = Some(record.streamer.clone());
    status.epoch = Some(record.epoch);
    status.home.get_or_insert_with(|| record.streamer.clone());
}

fn accepted(facts: &StreamFacts<'_>) -> Finding {
    let name = facts.stream.media_name();
    if let Some(Outlook::Conflict { with }) = facts.outlook {
        let message = format!(
            "Stream {with} has the media name {name} already: nobody captures this one; it takes the name over when that \
             one is deleted"
        );
        return finding(Some(false), reasons::CONFLICT, message);
    }
    if let Some(problem) = facts.problem {
        let message = format!("{}; {}", problem.message, until_mended(facts));
        return of_problem(problem, message);
    }
    if let (Some(message), Some(record)) = (facts.rejected, facts.record) {
        let message = format!(
            "{} refuses its configuration and goes on with the last one that it took, if any, until the Stream is changed: {}",
            record.streamer,
            facts.redactor.redact(message)
        );
        return finding(Some(false), reasons::REJECTED_BY_STREAMER, message);
    }
    let after = facts.stream.spec.failover.after;
    let message = if after.as_ms() < facts.shortest_failover {
        format!(
            "failover.after {after} is carried out as {}: sooner nobody can tell {}",
            Duration::from_ms(facts.shortest_failover),
            match facts.stream.spec.failover.partition {
                Partition::KeepCapturing => "a slow streamer from one that is gone",
                Partition::StopCapturing => "that a streamer that is cut off has stopped",
            }
        )
    } else {
        "it can be placed and captured as it is".to_owned()
    };
    finding(Some(true), reasons::ACCEPTED, message)
}

fn of_problem(problem: &Problem, message: String) -> Finding {
    let secret = problem.secret.as_ref().map(|secret| (secret.name.clone(), secret.key.clone()));
    Finding { secret, ..finding(Some(false), *problem.reason, message) }
}

/// What becomes of a stream whose document cannot be made.
fn until_mended(facts: &StreamFacts<'_>) -> String {
    let Some(record) = facts.record else {
        return "nobody captures it before that is mended".to_owned();
    };
    let streamer = &record.streamer;
    match facts.capture {
        _ if facts.withheld => format!(
            "{streamer} may be running it and cannot be given it, so it is told to wait (503) when it asks for it and \
             keeps what it has, and so do the other streams of the same request, until that is mended"
        ),
        Capture::Running => format!("{streamer} goes on with what it has of it until that is mended"),
        _ => format!("{streamer} is given it as soon as that is mended"),
    }
}

fn of_note(status: bool, note: &Note) -> Finding {
    Finding {
        streamer: note.about.clone(),
        set: note.set.clone(),
        ..finding(Some(status), reason::of(note.reason), note.message.as_str())
    }
}

fn placed(facts: &StreamFacts<'_>) -> Finding {
    let noted = |status, reason: Reason, sentence: String, note: &Option<Note>| match note {
        Some(note) => of_note(status, note),
        None => finding(Some(status), reason, sentence),
    };
    match facts.outlook {
        Some(Outlook::Placed { streamer, .. }) if facts.record.is_none_or(|record| record.streamer != *streamer) => {
            unwritten(facts, streamer)
        }
        Some(Outlook::Placed { streamer, note }) => noted(true, reasons::PLACED, format!("on {streamer}"), note),
        Some(Outlook::Releasing { streamer, to, note }) => {
            noted(facts.record.is_some(), reasons::RELEASING, releasing(facts, streamer, to.as_deref()), note)
        }
        Some(Outlook::Disabled) => finding(Some(false), reasons::DISABLED, "spec.disabled is true: nobody captures it"),
        Some(Outlook::Conflict { with }) => {
            let message = format!("its media name is Stream {with}'s");
            finding(Some(false), reasons::CONFLICT, message)
        }
        Some(Outlook::Pending(note)) => of_note(false, note),
        None => unplanned(facts),
    }
}

/// Decided, and the record still says otherwise.
fn unwritten(facts: &StreamFacts<'_>, streamer: &str) -> Finding {
    let (reason, then) = match facts.unwritten {
        Unwritten::Full => {
            (reasons::SLICE_FULL, "its Placement is full: it waits until others of it are deleted".to_owned())
        }
        Unwritten::Refused(left) => {
            let at = time(facts.now.saturating_add(left)).0;
            (
                reasons::WRITE_REFUSED,
                format!("the API server refuses to write its Placement: it is tried again at {at}"),
            )
        }
        Unwritten::Postponed => (reasons::WRITE_POSTPONED, "it is written in its turn, within seconds".to_owned()),
    };
    finding(Some(facts.record.is_some()), reason, format!("decided for {streamer}, and not written: {then}"))
}

fn releasing(facts: &StreamFacts<'_>, streamer: &str, to: Option<&str>) -> String {
    let Some(to) = to else {
        return format!("{streamer} is letting go of it");
    };
    let begun =
        facts.record.filter(|record| record.phase == Phase::Releasing).map(|record| record.epoch.min(facts.now));
    let until = begun.map_or_else(String::new, |begun| {
        format!("; it stays if that has not happened by {}", time(begun.saturating_add(facts.release)).0)
    });
    format!("goes from {streamer} to {to} as soon as {streamer} has let go of it{until}")
}

fn unplanned(facts: &StreamFacts<'_>) -> Finding {
    match facts.record {
        Some(record) => match (record.phase, &record.to) {
            (Phase::Active, _) => finding(Some(true), reasons::PLACED, format!("on {}", record.streamer)),
            (Phase::Releasing, to) => {
                finding(Some(true), reasons::RELEASING, releasing(facts, &record.streamer, to.as_deref()))
            }
        },
        None => {
            finding(Some(false), reasons::WAITING, "a new leader hears the streamers out before it places anything")
        }
    }
}

fn captured(facts: &StreamFacts<'_>, status: &StreamStatus) -> Finding {
    let Some(record) = facts.record else {
        let (reason, message) = match facts.outlook {
            Some(Outlook::Disabled) => (reasons::DISABLED, "spec.disabled is true"),
            Some(Outlook::Conflict { .. }) => (reasons::CONFLICT, "its media name is another Stream's"),
            _ => (reasons::NOT_PLACED, "no streamer has it yet: see the condition Placed"),
        };
        return finding(Some(false), reason, message);
    };
    let streamer = &record.streamer;
    match facts.capture {
        Capture::Running => finding(Some(true), reasons::RUNNING, format!("{streamer} captures it")),
        Capture::Unknown => finding(
            None,
            reasons::NOT_REPORTED,
            format!(
                "{streamer} does not tell what it runs, and is heard again when its sidecar is connected and has a \
                 --streamer-api to ask"
            ),
        ),
        Capture::NotRunning => not_running(facts, record, status),
    }
}

fn not_running(facts: &StreamFacts<'_>, record: &Record, status: &StreamStatus) -> Finding {
    let streamer = &record.streamer;
    if let Some(problem) = facts.problem {
        return of_problem(problem, format!("{}; {}", problem.message, until_mended(facts)));
    }
    let (reason, message) = if facts.rejected.is_some() {
        (reasons::REJECTED_BY_STREAMER, format!("{streamer} refuses its configuration: see the condition Accepted"))
    } else if record.phase == Phase::Releasing {
        (reasons::RELEASING, format!("{streamer} has let go of it: it is captured again where it goes"))
    } else if facts.held {
        let message = format!(
            "{streamer} is not given it yet, because another streamer may still be capturing it: it gets it when that one \
             has let go or is gone"
        );
        (reasons::HELD, message)
    } else if facts.stream.spec.failover.partition == Partition::StopCapturing && !facts.leased {
        let message = format!(
            "{streamer} has no lease, without which a stream with StopCapturing is not served: a new leader gives one when \
             every Streamer was heard or is surely stopped"
        );
        (reasons::NO_LEASE, message)
    } else if !facts.stream.spec.r#static {
        (reasons::ON_DEMAND, format!("{streamer} runs it when somebody asks for it"))
    } else if waited(facts, status) >= STARTED_BY {
        let message =
            format!("{streamer} has had it for more than a minute and does not run it, which nothing ends by itself");
        (reasons::NOT_STARTING, message)
    } else {
        (reasons::NOT_RUNNING, format!("{streamer} does not run it yet: it does after its next poll"))
    };
    finding(Some(false), reason, message)
}

/// For how many ms its holder has had it, and not run it.
fn waited(facts: &StreamFacts<'_>, status: &StreamStatus) -> u64 {
    let held = status.since.as_ref().map(|since| since.0);
    let stopped = find(&facts.old.conditions, CAPTURED).filter(|captured| captured.status == "False");
    let Some(stopped) = stopped.map(|captured| captured.last_transition_time.0) else { return 0 };
    let since = held.map_or(stopped, |held| held.max(stopped));
    let waited = time(facts.now).0.duration_since(since).as_millis();
    u64::try_from(waited).unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests;
