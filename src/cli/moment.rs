//! How do people write a time on a command line? `25h`, or `2026-01-31T00:00:00Z`.

use std::str::FromStr;
use std::time::Duration;

use crate::clock::{Clock, SystemClock, Wall};

/// A whole number of seconds, minutes, hours or days: `90s`, `15m`, `25h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// Until when: a span from now, or a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// From now on, by this machine's clock.
    For(Span),
    /// Seconds since 1970.
    At(u64),
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "give a whole number with s, m, h or d behind it, as in 25h";
        let unit = text.chars().next_back().ok_or(wrong)?;
        let seconds: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong),
        };
        let number = text.strip_suffix(unit).unwrap_or_default();
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong);
        }
        let number: u64 = number.parse().map_err(|_| wrong)?;
        number.checked_mul(seconds).map(|seconds| Self(Duration::from_secs(seconds))).ok_or(wrong)
    }
}

impl FromStr for Until {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('T') {
            return instant(text).map(Self::At).ok_or("give a UTC time as in 2026-01-31T00:00:00Z");
        }
        text.parse().map(Self::For)
    }
}

impl Until {
    /// In seconds since 1970.
    pub(super) fn seconds(self) -> u64 {
        match self {
            Self::For(Span(span)) => now().saturating_add(span.as_secs()),
            Self::At(seconds) => seconds,
        }
    }
}

/// This machine's time in seconds since 1970.
pub(super) fn now() -> u64 {
    SystemClock.wall().0 / 1_000_000
}

/// `2026-01-31T00:00:00Z`.
pub(super) fn shown(seconds: u64) -> String {
    let text = Wall(seconds.saturating_mul(1_000_000)).rfc3339_millis();
    format!("{}Z", text.split('.').next().unwrap_or_default())
}

/// What `shown` writes, back in seconds.
pub(super) fn instant(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let time = time.split('.').next()?;
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(time, ':')?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = Wall::from_civil(year, month, day, hour * 3_600 + minute * 60 + second)?.0 / 1_000_000;
    // The 31st of February would be another day.
    (shown(seconds) == format!("{date}T{time}Z")).then_some(seconds)
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let numbers: Vec<u64> = text.split(separator).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_number_and_a_unit() {
        assert_eq!("25h".parse(), Ok(Span(Duration::from_secs(90_000))));
        assert_eq!("7d".parse(), Ok(Span(Duration::from_secs(604_800))));
        for wrong in
            ["", "h", "25", "-1h", "+1h", "1.5h", "1w", "25 h", "99999999999999999999d", "18446744073709551615d"]
        {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read_as_they_are_shown() {
        assert_eq!("2026-01-31T00:00:01Z".parse(), Ok(Until::At(1_769_817_601)));
        assert_eq!(shown(1_769_817_601), "2026-01-31T00:00:01Z");
        assert_eq!(instant("2026-01-31T00:00:01.250Z"), Some(1_769_817_601));
        for wrong in [
            "2026-01-31T00:00:01",
            "2026-13-31T00:00:01Z",
            "2026-02-31T00:00:00Z",
            "2026-01-31T24:00:00Z",
            "T",
            "2026-01-31T",
        ] {
            assert!(wrong.parse::<Until>().is_err(), "{wrong}");
        }
    }
}
