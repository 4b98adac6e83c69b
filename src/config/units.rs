//! Durations, sizes and modes as people type them.

use std::time::Duration;

/// `250ms`, `30s`, `5m`, `2h`, `1d`.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "is not a duration";
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or(WRONG)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| WRONG)?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    };
    milliseconds.map(Duration::from_millis).ok_or(WRONG)
}

/// `512 MiB`, `10GiB`, `65536`.
pub(super) fn bytes(text: &str) -> Result<u64, &'static str> {
    const WRONG: &str = "is not a size";
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| WRONG)?;
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(WRONG),
    };
    number.checked_mul(factor).ok_or(WRONG)
}

/// `0660`.
pub(super) fn mode(text: &str) -> Result<u32, &'static str> {
    let mode = u32::from_str_radix(text, 8).map_err(|_| "is not an octal file mode")?;
    if mode > 0o777 { Err("is not a file mode") } else { Ok(mode) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_nonsense_is_refused() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        assert_eq!(bytes("10GiB"), Ok(10 << 30));
        assert_eq!(bytes("512 MiB"), Ok(512 << 20));
        assert_eq!(bytes("7"), Ok(7));
        assert_eq!(mode("0660"), Ok(0o660));
        for bad in ["", "5", "m", "-5s", "5 s", "1.5h", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "GiB", "5GB", "-1", "99999999999TiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        for bad in ["", "9", "1777", "rw"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }
}
