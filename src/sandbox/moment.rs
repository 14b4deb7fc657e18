//! Reading the dates and times that the API takes.

use crate::clock::Timestamp;

/// `2026-11-21`, `2026-11-21T08:01:13Z`, `2026-11-21T10:01:13+02:00`; without a zone it is UTC.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let days = days(date)?;
    if rest.is_empty() {
        return at(days, 0, 0);
    }
    let time = rest.strip_prefix('T').or_else(|| rest.strip_prefix(' '))?;
    let (clock, zone) = time.split_at_checked(8)?;
    let zone = without_fraction(zone)?;
    at(days, seconds_of_day(clock)?, offset_seconds(zone)?)
}

/// Whether `text` is a date `YYYY-MM-DD` that exists.
pub(crate) fn is_date(text: &str) -> bool {
    text.len() == 10 && days(text).is_some()
}

fn at(days: i64, seconds: i64, offset: i64) -> Option<Timestamp> {
    u64::try_from(days * 86_400 + seconds - offset).ok().map(|seconds| Timestamp(seconds * 1000))
}

/// Days since 1970 (Howard Hinnant's `days_from_civil`).
fn days(date: &str) -> Option<i64> {
    let (year, month, day) = three(date, '-')?;
    if date.len() != 10 || !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn seconds_of_day(clock: &str) -> Option<i64> {
    let (hour, minute, second) = three(clock, ':')?;
    (hour < 24 && minute < 60 && second < 61).then_some(hour * 3600 + minute * 60 + second)
}

fn without_fraction(zone: &str) -> Option<&str> {
    match zone.strip_prefix('.') {
        None => Some(zone),
        Some(rest) => {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            (digits > 0).then(|| &rest[digits..])
        }
    }
}

fn offset_seconds(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone == "Z" {
        return Some(0);
    }
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: String = zone[1..].chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = digits.split_at_checked(2)?;
    let minutes = if minutes.is_empty() { 0 } else { number(minutes)? };
    Some(sign * (number(hours)? * 3600 + minutes * 60))
}

fn three(text: &str, separator: char) -> Option<(i64, i64, i64)> {
    let mut parts = text.split(separator).map(number);
    let all = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(all)
}

fn number(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_every_documented_form() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(parse(text).map(|moment| moment.to_string()).as_deref(), expect, "{text}");
        };
        check("2026-11-21", Some("2026-11-21T00:00:00Z"));
        check("2026-11-21T08:01:13Z", Some("2026-11-21T08:01:13Z"));
        check("2026-11-21T08:01:13", Some("2026-11-21T08:01:13Z"));
        check("2026-11-21T10:01:13+02:00", Some("2026-11-21T08:01:13Z"));
        check("2026-11-20T23:01:13.250-0900", Some("2026-11-21T08:01:13Z"));
        check("2024-02-29", Some("2024-02-29T00:00:00Z"));
        check("2026-02-29", None);
        check("2026-13-01", None);
        check("21/11/2026", None);
        check("2026-11-21T25:00:00Z", None);
        check("yesterday", None);
        check("2026-11-2é", None);
    }
}
