//! What people are told: statuses and Events, from what is known. Pure; nothing is decided by a report.
//!
//! A status changes only when something has: it holds timestamps, not ages, and what moves all the time (load,
//! revision, last contact) is refreshed once a minute or along with something else.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::condition::{self, Condition};

use self::advice::Names;
use self::reason::Reason;
use crate::cluster::Declared;
use crate::text::shortened;

pub mod advice;
pub mod event;
pub mod reason;
pub mod redact;
pub mod stream;
pub mod streamer;

pub use redact::Redactor;
pub use stream::{StreamFacts, malformed_stream, stream_status};
pub use streamer::{StreamerFacts, malformed_streamer, streamer_status};

/// The longest message of a condition or an Event, in bytes; the API server refuses an Event with more.
const MAX_MESSAGE: usize = 1024;

/// Of a moment in ms since the Unix epoch, in whole seconds as Kubernetes writes them.
fn time(wall: u64) -> Time {
    let seconds = i64::try_from(wall / 1000).unwrap_or(i64::MAX);
    Time(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX))
}

/// What a condition says, before it is compared with what it said before.
struct Finding {
    status: Option<bool>,
    reason: Reason,
    message: String,
    /// The Streamer that it depends on, if it is not the object itself.
    streamer: Option<String>,
    secret: Option<(String, String)>,
    set: Option<(&'static str, String)>,
}

fn finding(status: Option<bool>, reason: Reason, message: impl Into<String>) -> Finding {
    Finding { status, reason, message: message.into(), streamer: None, secret: None, set: None }
}

/// Whose conditions they are, and how its owner changes it.
#[derive(Debug, Clone, Copy)]
struct Subject<'a> {
    names: Names<'a>,
    declared: Declared,
    generation: Option<i64>,
    /// Ms since the Unix epoch.
    now: u64,
}

/// Puts a finding into `conditions`; the time of transition stays while the status does.
fn conclude(conditions: &mut Vec<Condition>, type_: &str, finding: &Finding, subject: &Subject<'_>) {
    let new = Condition {
        type_: type_.to_owned(),
        status: condition::status(finding.status).to_owned(),
        reason: finding.reason.name().to_owned(),
        message: advised(&finding.message, finding.reason, &names(finding, subject), subject.declared),
        last_transition_time: time(subject.now),
        observed_generation: subject.generation,
    };
    condition::set(conditions, new);
}

fn names<'a>(finding: &'a Finding, subject: &Subject<'a>) -> Names<'a> {
    Names {
        streamer: finding.streamer.as_deref().or(subject.names.streamer),
        secret: finding.secret.as_ref().map(|(name, key)| (name.as_str(), key.as_str())),
        set: finding.set.as_ref().map(|(field, value)| (*field, value.as_str())),
        ..subject.names
    }
}

/// A sentence with what a person can do behind it, which is not cut off however long the sentence is.
fn advised(sentence: &str, reason: Reason, names: &Names<'_>, declared: Declared) -> String {
    let advice = reason.waiting().map_or(&[][..], |waits| waits.advice);
    let told: Vec<String> = advice.iter().filter_map(|advice| advice.sentence(names, declared)).collect();
    if told.is_empty() {
        return shortened(sentence, MAX_MESSAGE).to_owned();
    }
    let behind = format!(". {}", capitalised(&told.join("; ")));
    let sentence = shortened(sentence, MAX_MESSAGE.saturating_sub(behind.len()));
    shortened(&(sentence.trim_end_matches('.').to_owned() + &behind), MAX_MESSAGE).to_owned()
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// The reason that a person looks for: of the first condition that is `False`, or else of the first that waits for
/// something, or else that of `well`.
fn leading(
    conditions: &[Condition],
    types: &[&str],
    well: &str,
    named: impl Fn(&str) -> Option<&'static Reason>,
) -> Option<String> {
    let known = || types.iter().filter_map(|type_| condition::find(conditions, type_));
    // After a failover that one is the rule for as long as the old streamer stays away.
    let usual = |condition: &Condition| condition.status == "True" && condition.reason == "MayStillRun";
    let waits = |condition: &&Condition| {
        named(&condition.reason).is_some_and(|reason| reason.waiting().is_some()) && !usual(condition)
    };
    let wrong = known().find(|condition| condition.status == "False");
    let found = wrong.or_else(|| known().find(waits)).or_else(|| condition::find(conditions, well));
    found.map(|condition| condition.reason.clone())
}

#[cfg(test)]
mod tests;
