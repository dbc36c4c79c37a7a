//! Which of the eligible streamers is best: the least score, compared field by field.

use crate::draft::Seat;

/// The order of fields is the order of priority; the name, at the end, decides every tie.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score<'a> {
    /// Streams that it has or is getting, per mille of its capacity.
    used_per_mille: u64,
    /// The same, as a number.
    used: u32,
    name: &'a str,
}

/// What an unlimited streamer is measured against.
const UNLIMITED: u32 = 1000;

impl<'a> Score<'a> {
    pub(crate) fn of(name: &'a str, seat: &Seat<'_>) -> Self {
        let used = seat.used();
        let capacity = seat.streamer.capacity.unwrap_or(UNLIMITED).max(1);
        Self { used_per_mille: u64::from(used) * 1000 / u64::from(capacity), used, name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(used_per_mille: u64, used: u32, name: &str) -> Score<'_> {
        Score { used_per_mille, used, name }
    }

    #[test]
    fn the_share_used_comes_before_the_number_and_the_name_decides_ties() {
        assert!(score(100, 50, "b") < score(200, 1, "a"));
        assert!(score(100, 1, "b") < score(100, 2, "a"));
        assert!(score(100, 1, "a") < score(100, 1, "b"));
    }
}
