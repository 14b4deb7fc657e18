//! Zones: what the clock on an agent's wall shows.

use super::Timestamp;
use std::fmt;
use std::sync::Arc;
use tz::{DateTime, TimeZone};

/// A time zone with its name, found once when the configuration is read.
#[derive(Clone)]
pub struct Zone {
    name: String,
    rules: Arc<TimeZone>,
}

/// A date and a time of day in some zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// As written, like 2026.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
}

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Zone {
        Zone { name: "UTC".to_owned(), rules: Arc::new(TimeZone::utc()) }
    }

    /// `America/Bogota` as the machine's zone files (`/usr/share/zoneinfo`) know it, `UTC`, or a fixed distance like
    /// `-05:00`. `None` for anything else.
    pub fn find(name: &str) -> Option<Zone> {
        if name == "UTC" {
            return Some(Zone::utc());
        }
        let rules = match distance_seconds(name) {
            Some(seconds) => TimeZone::fixed(seconds).ok()?,
            // Not every text that the C library would understand: no paths, no rules by hand.
            None if is_name(name) => TimeZone::from_posix_tz(name).ok()?,
            None => return None,
        };
        Some(Zone { name: name.to_owned(), rules: Arc::new(rules) })
    }

    /// As it was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the wall shows at `moment`.
    pub fn civil(&self, moment: Timestamp) -> Option<Civil> {
        let seconds = i64::try_from(moment.unix_seconds()).ok()?;
        let shown = DateTime::from_timespec(seconds, 0, self.rules.as_ref().as_ref()).ok()?;
        let (hour, minute, second) = (shown.hour(), shown.minute(), shown.second());
        Some(Civil { year: shown.year(), month: shown.month(), day: shown.month_day(), hour, minute, second })
    }

    /// When the wall shows `civil`; the earlier of two moments when clocks are set back.
    pub fn moment(&self, civil: Civil) -> Option<Timestamp> {
        let Civil { year, month, day, hour, minute, second } = civil;
        let rules = self.rules.as_ref().as_ref();
        let found = DateTime::find(year, month, day, hour, minute, second, 0, rules).ok()?;
        let seconds = u64::try_from(found.earliest()?.unix_time()).ok()?;
        Some(Timestamp(seconds.checked_mul(1000)?))
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone {}", self.name)
    }
}

/// `-05:00`, `+5:30`, `+0530`, `-03`.
pub(crate) fn distance_seconds(text: &str) -> Option<i32> {
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let digits = &text[1..];
    let (hours, minutes) = match (digits.split_once(':'), digits.len()) {
        (Some(parts), _) => parts,
        (None, 4) if digits.is_ascii() => digits.split_at(2),
        (None, _) => (digits, "0"),
    };
    let number = |text: &str, max: i32| -> Option<i32> {
        let is_plain = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| is_plain && *number <= max)
    };
    Some(sign * (number(hours, 14)? * 3600 + number(minutes, 59)? * 60))
}

/// `America/Argentina/Buenos_Aires`: a file below the zone directory, and nothing else.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+'))
    };
    name.contains('/') && name.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walls_show_what_zones_say() {
        let check = |name: &str, seconds: u64, expect: (i32, u8, u8, u8, u8)| {
            let zone = Zone::find(name).unwrap_or_else(|| panic!("{name}"));
            let Civil { year, month, day, hour, minute, .. } = zone.civil(Timestamp(seconds * 1000)).unwrap();
            assert_eq!((year, month, day, hour, minute), expect, "{name}");
            let back = zone.moment(zone.civil(Timestamp(seconds * 1000)).unwrap());
            assert_eq!(back, Some(Timestamp(seconds * 1000)));
        };
        check("UTC", 1_763_712_073, (2025, 11, 21, 8, 1));
        check("-05:00", 1_763_712_073, (2025, 11, 21, 3, 1));
        check("+5:30", 1_763_712_073, (2025, 11, 21, 13, 31));
        check("-0330", 1_763_712_073, (2025, 11, 21, 4, 31));
        if std::path::Path::new("/usr/share/zoneinfo/Europe/Madrid").exists() {
            check("Europe/Madrid", 1_763_712_073, (2025, 11, 21, 9, 1));
            check("Europe/Madrid", 1_753_712_073, (2025, 7, 28, 16, 14));
            check("America/Bogota", 1_763_712_073, (2025, 11, 21, 3, 1));
        }
    }

    #[test]
    fn only_zones_are_zones() {
        for wrong in [
            "",
            "Bogota",
            "bogotá/x",
            "/etc/passwd",
            "America/../../etc/passwd",
            "-25:00",
            "+1:99",
            "EST5EDT",
            "5",
        ] {
            assert!(Zone::find(wrong).is_none(), "{wrong}");
        }
    }
}
