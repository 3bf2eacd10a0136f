//! Durations in human-readable form: `90s`, `1500ms`, `1.5h`.

use core::fmt;
use core::time::Duration;

/// Units and their length in nanoseconds, shortest first.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

debug_as_display!(DurationError);

/// The reason why a text is not a duration.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// The text does not begin with a number.
    #[error(
        "a duration is a number and a unit, such as \"90s\" or \"1500ms\"; the number is missing"
    )]
    NoNumber,
    /// The unit is missing or unknown.
    #[error(
        "a duration is a number and a unit, such as \"90s\"; the units are ns, us, ms, s, m, h, d"
    )]
    NoUnit,
    /// The duration is longer than `u64::MAX` nanoseconds.
    #[error("a duration is at most 584 years")]
    TooLong,
}

/// Reads a duration: a decimal number (a fraction is allowed) and one of `ns us ms s m h d`.
///
/// # Errors
/// [`DurationError`] says what is missing.
///
/// ```
/// use core::time::Duration;
/// use heartbeat_core::parse_duration;
/// assert_eq!(parse_duration("1500ms"), Ok(Duration::from_millis(1500)));
/// assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
/// assert!(parse_duration("90").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') {
        return Err(DurationError::NoNumber);
    }
    let unit = unit.trim_start();
    let (_, nanos_per_unit) = *UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(DurationError::NoUnit)?;

    let whole: u64 = whole.parse().map_err(|_| DurationError::TooLong)?;
    let mut nanos = whole
        .checked_mul(nanos_per_unit)
        .ok_or(DurationError::TooLong)?;
    let mut place = nanos_per_unit;
    for digit in fraction.bytes() {
        place /= 10;
        nanos = nanos
            .checked_add(place * u64::from(digit - b'0'))
            .ok_or(DurationError::TooLong)?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// Displays a duration in the longest unit up to seconds that gives a whole number (`90s`, `1500ms`).
/// [`parse_duration`] reads the same duration back.
///
/// ```
/// use core::time::Duration;
/// use heartbeat_core::DurationText;
/// assert_eq!(DurationText(Duration::from_secs(90)).to_string(), "90s");
/// assert_eq!(DurationText(Duration::from_millis(1500)).to_string(), "1500ms");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationText(pub Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let fitting = UNITS[..4]
            .iter()
            .rev()
            .find(|(_, unit)| nanos.is_multiple_of(u128::from(*unit)));
        let (name, unit) = *fitting.unwrap_or(&UNITS[0]);
        write!(f, "{}{name}", nanos / u128::from(unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, nanos) in [
            ("7ns", 7),
            ("7us", 7_000),
            ("7ms", 7_000_000),
            ("7s", 7_000_000_000),
            ("2m", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            ("1d", 86_400_000_000_000),
            (" 0.25 s ", 250_000_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_nanos(nanos)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for (text, error) in [
            ("", DurationError::NoNumber),
            ("s", DurationError::NoNumber),
            (".5s", DurationError::NoNumber),
            ("1.2.3s", DurationError::NoNumber),
            ("-1s", DurationError::NoNumber),
            ("90", DurationError::NoUnit),
            ("90 parsecs", DurationError::NoUnit),
            ("99999999999999999999s", DurationError::TooLong),
            ("600000d", DurationError::TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text}");
        }
    }
}
