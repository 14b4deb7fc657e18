//! Moments as platforms write them.

use crate::clock::Timestamp;
use crate::clock::zone::{Civil, Zone};

/// The zones of a source.
#[derive(Clone, Debug)]
pub(super) struct Zones {
    /// In which agents read times.
    pub shown: Zone,
    /// In which the platform writes times that name none.
    pub written: Zone,
}

#[cfg(test)]
impl Zones {
    /// Both are UTC.
    pub fn utc() -> Zones {
        Zones { shown: Zone::utc(), written: Zone::utc() }
    }
}

/// Seconds between 2010 and 2100: other numbers are garbled (SendPulse's own samples have 14 and 15 digits).
const PLAUSIBLE: std::ops::Range<u64> = 1_262_304_000..4_102_444_800;

/// Seconds or milliseconds since 1970, ISO 8601 with or without a zone, or `20/11/2025 09:15:02` with the day
/// first, as Spanish and Portuguese write it.
pub(super) fn moment(text: &str, written: &Zone) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(moment) = since_1970(text) {
        return Some(moment);
    }
    if !text.is_ascii() || text.len() > 40 {
        return None;
    }
    let (date, time) = text.split_once(['T', ' ', 't'])?;
    let (year, month, day) = date_of(date.trim_end_matches(','))?;
    let (time, zone) = split_zone(time.trim());
    let (hour, minute, second) = time_of(time)?;
    let civil = Civil { year, month, day, hour, minute, second };
    match zone {
        None => written.moment(civil),
        Some(distance) => Zone::find(distance)?.moment(civil),
    }
}

/// A number of seconds, or of milliseconds.
pub(super) fn since_1970(text: &str) -> Option<Timestamp> {
    let number: u64 = text.split_once('.').map_or(text, |(whole, _)| whole).parse().ok()?;
    if PLAUSIBLE.contains(&number) {
        return Some(Timestamp(number * 1000));
    }
    PLAUSIBLE.contains(&(number / 1000)).then_some(Timestamp(number))
}

fn date_of(text: &str) -> Option<(i32, u8, u8)> {
    let parts: Vec<&str> = text.split(['-', '/', '.']).collect();
    let [first, month, last] = parts.as_slice() else { return None };
    let (year, day) = if first.len() == 4 { (first, last) } else { (last, first) };
    let year: i32 = year.parse().ok().filter(|year| (1970..2200).contains(year))?;
    let (month, day) = (month.parse().ok()?, day.parse().ok()?);
    ((1..=12).contains(&month) && (1..=31).contains(&day)).then_some((year, month, day))
}

/// The time of day, and the distance from UTC if one is written.
fn split_zone(text: &str) -> (&str, Option<&str>) {
    if let Some(time) = text.strip_suffix(['Z', 'z']).or_else(|| text.strip_suffix(" UTC")) {
        return (time, Some("UTC"));
    }
    match text.rfind(['+', '-']) {
        Some(at) => (text[..at].trim_end(), Some(&text[at..])),
        None => (text, None),
    }
}

fn time_of(text: &str) -> Option<(u8, u8, u8)> {
    let (text, afternoon) = match text.to_ascii_lowercase() {
        lower if lower.ends_with("pm") => (text[..text.len() - 2].trim_end(), Some(true)),
        lower if lower.ends_with("am") => (text[..text.len() - 2].trim_end(), Some(false)),
        _ => (text, None),
    };
    let mut parts = text.split(':');
    let hour: u8 = parts.next()?.trim().parse().ok()?;
    let minute: u8 = parts.next()?.parse().ok()?;
    let second = parts.next().unwrap_or("0").split(['.', ',']).next()?.parse().ok()?;
    let hour = match afternoon {
        Some(true) if hour < 12 => hour + 12,
        Some(false) if hour == 12 => 0,
        _ => hour,
    };
    (hour < 24 && minute < 60 && second <= 60 && parts.next().is_none()).then_some((hour, minute, second))
}

/// `2025-11-20`.
pub(super) fn date(civil: Civil) -> String {
    format!("{:04}-{:02}-{:02}", civil.year, civil.month, civil.day)
}

/// `14:03`.
pub(super) fn time(civil: Civil) -> String {
    format!("{:02}:{:02}", civil.hour, civil.minute)
}

/// `2025-11-20 14:03 America/Bogota`; nothing for what is no moment.
pub(super) fn shown(text: &str, zones: &Zones) -> Option<String> {
    let civil = zones.shown.civil(moment(text, &zones.written)?)?;
    Some(format!("{} {} {}", date(civil), time(civil), zones.shown.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_platforms_write_them() {
        let bogota = Zone::find("-05:00").unwrap();
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(moment(text, &bogota).map(|moment| moment.to_string()).as_deref(), expect, "{text}");
        };
        check("1763647391", Some("2025-11-20T14:03:11Z"));
        check("1763647391000", Some("2025-11-20T14:03:11Z"));
        check("1763647391.25", Some("2025-11-20T14:03:11Z"));
        check("2025-11-20T14:03:11Z", Some("2025-11-20T14:03:11Z"));
        check("2025-11-20T14:03:11.123+01:00", Some("2025-11-20T13:03:11Z"));
        check("2025-11-20 14:03:11", Some("2025-11-20T19:03:11Z"));
        check("20/11/2025 09:15:02", Some("2025-11-20T14:15:02Z"));
        check("20/11/2025, 09:15 PM", Some("2025-11-21T02:15:00Z"));
        check("2025-11-20 14:03 UTC", Some("2025-11-20T14:03:00Z"));
        for wrong in
            ["", "yesterday", "16377590567070", "12", "2025-13-20 10:00", "09:16", "1/2 3:4", "2025-11-20"]
        {
            check(wrong, None);
        }
    }
}
