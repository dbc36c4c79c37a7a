//! Times and durations as sentences have them.

/// `2026-01-31T12:00:05Z`, of ms since the Unix epoch. What a status holds: an age would change with every plan.
pub(crate) fn timestamp(wall: u64) -> String {
    i64::try_from(wall / 1000)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| format!("{wall} ms"), |time| time.to_string())
}

/// `31 s`, or `1.5 s` below ten seconds. What an Event holds.
pub(crate) fn duration(ms: u64) -> String {
    if ms >= 10_000 || ms.is_multiple_of(1000) {
        format!("{} s", ms / 1000)
    } else {
        format!("{}.{} s", ms / 1000, ms % 1000 / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_whole_seconds() {
        assert_eq!(timestamp(1_700_000_000_999), "2023-11-14T22:13:20Z");
        assert_eq!(timestamp(u64::MAX), format!("{} ms", u64::MAX));
    }

    #[test]
    fn durations_are_seconds() {
        assert_eq!(duration(31_999), "31 s");
        assert_eq!(duration(2_000), "2 s");
        assert_eq!(duration(1_540), "1.5 s");
    }
}
