//! The status of a Stream.

use weir_crds::Duration;
use weir_crds::condition::{ACCEPTED, CAPTURED, PLACED, leading_reason};
use weir_crds::stream::{Partition, Stream, StreamStatus};
use weir_feed::leader::view::Capture;
use weir_feed::record::{Phase, Record};
use weir_placement::plan::{Note, Outlook};

use super::redact::Redactor;
use super::{Finding, conclude, finding, time};
use crate::document::Problem;

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
    /// The shortest `failover.after` that is carried out under the stream's policy, in ms.
    pub shortest_failover: u64,
    /// Takes passwords out of `rejected`.
    pub redactor: Redactor<'a>,
    /// Ms since the Unix epoch.
    pub now: u64,
}

/// What is to be reported of a Stream.
pub fn stream_status(facts: &StreamFacts<'_>) -> StreamStatus {
    let facts = &StreamFacts { record: facts.record.filter(|record| is_of(record, facts.stream)), ..*facts };
    let generation = facts.stream.metadata.generation;
    let mut status = facts.old.clone();
    status.media_name = Some(facts.stream.media_name().to_owned());
    status.observed_generation = generation;
    set_holder(&mut status, facts.record, facts.now);
    let findings = [(ACCEPTED, accepted(facts)), (PLACED, placed(facts)), (CAPTURED, captured(facts))];
    for (type_, finding) in findings {
        conclude(&mut status.conditions, type_, finding, generation, facts.now);
    }
    status.reason = reason(&status);
    status
}

/// What is to be reported of a Stream that cannot be read; `message` says what is wrong with it. Its record stays as
/// it is, and so does what was reported of it.
pub fn malformed_stream(
    old: &StreamStatus,
    generation: i64,
    message: &str,
    record: Option<&Record>,
    now: u64,
) -> StreamStatus {
    let mut status = old.clone();
    status.observed_generation = Some(generation);
    set_holder(&mut status, record, now);
    let mut set = |type_, finding| {
        conclude(&mut status.conditions, type_, finding, Some(generation), now);
    };
    set(ACCEPTED, finding(Some(false), "Malformed", message));
    if let Some(record) = record {
        let message = format!("on {}, where it stays as it was until the Stream can be read again", record.streamer);
        set(PLACED, finding(Some(true), "Placed", message));
    } else {
        let message = "it is placed when it can be read";
        set(PLACED, finding(Some(false), "Malformed", message));
        set(CAPTURED, finding(Some(false), "Malformed", message));
    }
    status.reason = reason(&status);
    status
}

fn reason(status: &StreamStatus) -> Option<String> {
    leading_reason(&status.conditions, &[ACCEPTED, PLACED, CAPTURED]).map(ToOwned::to_owned)
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
            "Stream {with} has the media name {name} already: delete this one, or make it anew with another spec.name"
        );
        return finding(Some(false), "Conflict", message);
    }
    if let Some(problem) = facts.problem {
        return finding(Some(false), problem.reason, problem.message.as_str());
    }
    if let (Some(message), Some(record)) = (facts.rejected, facts.record) {
        let message = format!(
            "{} refuses its configuration and goes on with the last one that it took, if any: {}",
            record.streamer,
            facts.redactor.redact(message)
        );
        return finding(Some(false), "RejectedByStreamer", message);
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
    finding(Some(true), "Accepted", message)
}

fn placed(facts: &StreamFacts<'_>) -> Finding {
    let noted = |status, reason: &str, sentence: String, note: &Option<Note>| match note {
        Some(note) => finding(Some(status), note.reason, note.message.as_str()),
        None => finding(Some(status), reason, sentence),
    };
    match facts.outlook {
        Some(Outlook::Placed { streamer, .. }) if facts.record.is_none() => {
            let message = format!("decided for {streamer}, and not written yet: the operator's log says why");
            finding(Some(false), "NotWritten", message)
        }
        Some(Outlook::Placed { streamer, note }) => noted(true, "Placed", format!("on {streamer}"), note),
        Some(Outlook::Releasing { streamer, to, note }) => {
            let sentence = match to {
                Some(to) => format!("goes from {streamer} to {to} as soon as {streamer} has let go of it"),
                None => format!("{streamer} is letting go of it"),
            };
            noted(facts.record.is_some(), "Releasing", sentence, note)
        }
        Some(Outlook::Disabled) => finding(Some(false), "Disabled", "spec.disabled is true: nobody captures it"),
        Some(Outlook::Conflict { with }) => {
            let message = format!("its media name is Stream {with}'s");
            finding(Some(false), "Conflict", message)
        }
        Some(Outlook::Pending(note)) => finding(Some(false), note.reason, note.message.as_str()),
        None => unplanned(facts.record),
    }
}

fn unplanned(record: Option<&Record>) -> Finding {
    match record {
        Some(record) => match (record.phase, &record.to) {
            (Phase::Active, _) => finding(Some(true), "Placed", format!("on {}", record.streamer)),
            (Phase::Releasing, _) => {
                let message = format!("{} is letting go of it", record.streamer);
                finding(Some(true), "Releasing", message)
            }
        },
        None => finding(Some(false), "Waiting", "a new leader hears the streamers out before it places anything"),
    }
}

fn captured(facts: &StreamFacts<'_>) -> Finding {
    let Some(record) = facts.record else {
        let (reason, message) = match facts.outlook {
            Some(Outlook::Disabled) => ("Disabled", "spec.disabled is true"),
            Some(Outlook::Conflict { .. }) => ("Conflict", "its media name is another Stream's"),
            _ => ("NotPlaced", "no streamer has it yet: see the condition Placed"),
        };
        return finding(Some(false), reason, message);
    };
    let streamer = &record.streamer;
    match facts.capture {
        Capture::Running => finding(Some(true), "Running", format!("{streamer} captures it")),
        Capture::Unknown => finding(
            None,
            "NotReported",
            format!(
                "{streamer} does not tell what it runs: its sidecar is not connected, or has no --streamer-api to ask"
            ),
        ),
        Capture::NotRunning => not_running(facts, record),
    }
}

fn not_running(facts: &StreamFacts<'_>, record: &Record) -> Finding {
    let streamer = &record.streamer;
    if let Some(problem) = facts.problem {
        return finding(Some(false), problem.reason, problem.message.as_str());
    }
    let (reason, message) = if facts.rejected.is_some() {
        ("RejectedByStreamer", format!("{streamer} refuses its configuration: see the condition Accepted"))
    } else if record.phase == Phase::Releasing {
        ("Releasing", format!("{streamer} has let go of it"))
    } else if facts.held {
        ("Held", format!("{streamer} is not given it yet, because another streamer may still be capturing it"))
    } else if facts.stream.spec.failover.partition == Partition::StopCapturing && !facts.leased {
        let message = format!(
            "{streamer} has no lease, without which a stream with StopCapturing is not served: a new leader gives one when \
             every Streamer was heard or is surely stopped; look at the Streamers that are not Ready"
        );
        ("NoLease", message)
    } else if facts.stream.spec.r#static {
        ("NotRunning", format!("{streamer} does not run it yet"))
    } else {
        ("OnDemand", format!("{streamer} runs it when somebody asks for it"))
    };
    finding(Some(false), reason, message)
}

#[cfg(test)]
mod tests;
