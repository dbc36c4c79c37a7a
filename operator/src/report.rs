//! What people are told: statuses and Events, from what is known. Pure; nothing is decided by a report.
//!
//! A status changes only when something has: it holds timestamps, not ages, and what moves all the time (load,
//! revision, last contact) is refreshed once a minute or along with something else.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use weir_crds::condition::{self, Condition};

use crate::text::shortened;

pub mod event;
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
    reason: String,
    message: String,
}

fn finding(status: Option<bool>, reason: &str, message: impl Into<String>) -> Finding {
    Finding { status, reason: reason.to_owned(), message: message.into() }
}

/// Puts a finding into `conditions`; the time of transition stays while the status does.
fn conclude(conditions: &mut Vec<Condition>, type_: &str, finding: Finding, generation: Option<i64>, now: u64) {
    let new = Condition {
        type_: type_.to_owned(),
        status: condition::status(finding.status).to_owned(),
        reason: finding.reason,
        message: shortened(&finding.message, MAX_MESSAGE).to_owned(),
        last_transition_time: time(now),
        observed_generation: generation,
    };
    condition::set(conditions, new);
}
