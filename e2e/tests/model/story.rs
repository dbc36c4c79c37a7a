//! A run in words.

use weir_feed::record::{Phase, Record};

use crate::clock::{MONO, UNIT, WALL};
use crate::fault::{Edit, Fault};

pub(crate) fn line(time: u64, what: &str) -> String {
    format!("{:>4}.{:03}  {what}", time / UNIT, time % UNIT)
}

/// An epoch, a term or a version, counted from where the run began.
pub(crate) fn number(number: u64) -> String {
    number.checked_sub(WALL).or(number.checked_sub(MONO)).unwrap_or(number).to_string()
}

pub(crate) fn record(record: &Record) -> String {
    let Record { streamer, epoch, phase, to, previous, .. } = record;
    let state = match (phase, to) {
        (Phase::Active, _) => format!("{streamer} has it"),
        (Phase::Releasing, Some(to)) => format!("{streamer} is to let go of it, for {to}"),
        (Phase::Releasing, None) => format!("{streamer} is to let go of it"),
    };
    let previous = previous.as_ref().map(|previous| format!(", {previous} had it before")).unwrap_or_default();
    format!("{state}{previous} (epoch {})", number(*epoch))
}

pub(crate) fn fault(fault: Fault) -> String {
    format!("{fault:?}")
}

pub(crate) fn edit(edit: Edit) -> String {
    format!("{edit:?}")
}
