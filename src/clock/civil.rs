//! How does a point in time look to a person? UTC in the proleptic Gregorian calendar (RFC 3339).

use super::Wall;

const SECONDS_PER_DAY: u64 = 86_400;
/// From 0000-03-01 to 1970-01-01: with years that begin in March, the leap day is a year's last.
const DAYS_TO_EPOCH: u64 = 719_468;
const DAYS_PER_ERA: u64 = 146_097;

impl Wall {
    /// `YYYY-MM-DDThh:mm:ss.SSSZ`; a time after the year 9999 has more digits.
    pub fn rfc3339_millis(self) -> String {
        format!("{}.{:03}Z", seconds_text(self), self.0 / 1_000 % 1_000)
    }

    /// `YYYY-MM-DDThh:mm:ss.SSSSSSZ`.
    pub fn rfc3339_micros(self) -> String {
        format!("{}.{:06}Z", seconds_text(self), self.0 % 1_000_000)
    }

    /// A UTC date and time after 1970; the parts must be those of a real date.
    pub fn from_civil(year: u64, month: u64, day: u64, seconds_of_day: u64) -> Option<Self> {
        wall(year, month, day, seconds_of_day)
    }
}

fn seconds_text(at: Wall) -> String {
    let seconds = at.0 / 1_000_000;
    let (year, month, day) = date(seconds / SECONDS_PER_DAY);
    let of_day = seconds % SECONDS_PER_DAY;
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a day since 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_EPOCH;
    let (era, of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn wall(year: u64, month: u64, day: u64, seconds_of_day: u64) -> Option<Wall> {
    let (year, from_march) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let (era, year_of_era) = (year / 400, year % 400);
    let of_year = (153 * from_march + 2) / 5 + day.checked_sub(1)?;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let days = (era * DAYS_PER_ERA + of_era).checked_sub(DAYS_TO_EPOCH)?;
    Some(Wall(days.checked_mul(86_400)?.checked_add(seconds_of_day)?.checked_mul(1_000_000)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates_are_written_as_the_calendar_has_them() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_210_096, "2024-02-29T12:34:56.000Z"),
            (4_102_444_799, "2099-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Wall(seconds * 1_000_000).rfc3339_millis(), expected);
        }
        assert_eq!(Wall(1_999_999).rfc3339_millis(), "1970-01-01T00:00:01.999Z");
        assert_eq!(Wall(1_999_999).rfc3339_micros(), "1970-01-01T00:00:01.999999Z");
    }

    #[test]
    fn every_day_to_2400_is_read_back_as_written() {
        for day in 0..157_000 {
            let (year, month, day_of_month) = date(day);
            assert_eq!(wall(year, month, day_of_month, 7), Some(Wall((day * 86_400 + 7) * 1_000_000)));
        }
    }
}
