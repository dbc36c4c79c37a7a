//! Numbers for a table.

use std::time::Duration;

/// The value below which a share (0 to 1) of the values lies, by the nearest rank; `None` of none.
pub fn quantile<T: PartialOrd + Copy>(values: &[T], share: f64) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The median of several runs and, where they differ, the least and the greatest: `3 (1–7)`.
pub fn runs<T: PartialOrd + Copy>(values: &[T], tell: impl Fn(T) -> String) -> String {
    let (Some(least), Some(median), Some(most)) = (quantile(values, 0.0), quantile(values, 0.5), quantile(values, 1.0))
    else {
        return "–".to_owned();
    };
    let (least, median, most) = (tell(least), tell(median), tell(most));
    if least == most { median } else { format!("{median} ({least}–{most})") }
}

/// `30.05 s`
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// `12 ms`, `0.31 ms`
pub fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

/// `31 MiB`, `512 B`
#[expect(clippy::cast_precision_loss, reason = "three figures are shown")]
pub fn bytes(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    match bytes as f64 {
        many if many >= 10.0 * KIB * KIB => format!("{:.0} MiB", many / KIB / KIB),
        many if many >= KIB * KIB => format!("{:.1} MiB", many / KIB / KIB),
        some if some >= KIB => format!("{:.1} KiB", some / KIB),
        few => format!("{few} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(quantile(&values, 0.5), Some(50));
        assert_eq!(quantile(&values, 0.99), Some(99));
        assert_eq!(quantile(&values, 1.0), Some(100));
        assert_eq!(quantile(&values, 0.0), Some(1));
        assert_eq!(quantile(&[7], 0.99), Some(7));
        assert_eq!(quantile::<u64>(&[], 0.5), None);
    }

    #[test]
    fn runs_that_differ_show_by_how_much() {
        assert_eq!(runs(&[3, 1, 7], |n| n.to_string()), "3 (1–7)");
        assert_eq!(runs(&[4, 4], |n| n.to_string()), "4");
        assert_eq!(runs::<u8>(&[], |n| n.to_string()), "–");
    }

    #[test]
    fn units_fit_the_number() {
        assert_eq!(millis(Duration::from_micros(312)), "0.31 ms");
        assert_eq!(millis(Duration::from_micros(45_400)), "45 ms");
        assert_eq!(seconds(Duration::from_millis(30_049)), "30.05 s");
        assert_eq!([bytes(512), bytes(1_536), bytes(31 << 20)], ["512 B", "1.5 KiB", "31 MiB"]);
    }
}
