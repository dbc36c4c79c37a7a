//! Durations as Kubernetes writes them: `30s`, `1m30s`, `500ms`.

use crate::schema::{matches, rule};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// The form of the Gateway API's Duration (GEP-2257): whole numbers with a unit, at most four of them.
/// A subset of what Go's `time.ParseDuration` reads, without its fractions and signs.
pub(crate) const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// A duration in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Duration {
    ms: u64,
}

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a duration is whole numbers, each with its unit (h, m, s or ms), at most four of them: write it like 30s or 1m30s"
)]
pub struct NotADuration;

impl Duration {
    /// The duration of `ms` milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self { ms }
    }

    /// Its length in milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.ms
    }
}

impl FromStr for Duration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let (mut ms, mut parts, mut rest) = (0, 0, text);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
            let (unit, tail) = tail.split_at(letters);
            let unit: u64 = match unit {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1_000,
                "ms" => 1,
                _ => return Err(NotADuration),
            };
            if !(1..=5).contains(&digits) {
                return Err(NotADuration);
            }
            // Five digits of hours, four times over, are far from overflowing.
            ms += number.parse::<u64>().map_err(|_| NotADuration)? * unit;
            parts += 1;
            rest = tail;
        }
        if (1..=4).contains(&parts) { Ok(Self { ms }) } else { Err(NotADuration) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (self.ms / 3_600_000, "h"),
            (self.ms / 60_000 % 60, "m"),
            (self.ms / 1_000 % 60, "s"),
            (self.ms % 1_000, "ms"),
        ];
        if self.ms == 0 {
            return f.write_str("0s");
        }
        units.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, unit)| write!(f, "{count}{unit}"))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let rules = [rule(matches("self", PATTERN), &NotADuration.to_string())];
        json_schema!({"type": "string", "minLength": 2, "maxLength": 32, "x-kubernetes-validations": rules})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_kubernetes_writes_them() {
        for (text, ms) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("24h", 86_400_000),
            ("0s", 0),
            ("1h1m1s1ms", 3_661_001),
        ] {
            assert_eq!(text.parse(), Ok(Duration::from_ms(ms)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "30", "s", "30 s", "-30s", "1.5h", "30S", "1d", "123456s", "1s1s1s1s1s", "1µs", "1sec"] {
            assert_eq!(text.parse::<Duration>(), Err(NotADuration), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(ms in 0..359_999_999_999_u64) {
            prop_assert_eq!(Duration::from_ms(ms).to_string().parse(), Ok(Duration::from_ms(ms)));
        }
    }
}
