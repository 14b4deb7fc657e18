//! Durations and sizes as admins write them: text with units.

use serde::de::{self, Deserializer, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// What a duration may look like, for messages.
pub const DURATION_FORMS: &str = "a duration like \"5s\", \"15m\", \"2h\", \"3d\" or \"1h30m\"";
/// What a size may look like, for messages.
pub const SIZE_FORMS: &str = "a size like \"512MiB\", \"2GiB\", \"10MB\" or \"4096\"";

/// Ten years: longer is a slip of the pen, and every sum of two still fits everywhere.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);
const DURATION_UNITS_MILLIS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS_BYTES: [(&str, u64); 9] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Reads `5s`, `15m`, `2h`, `3d`, `250ms` or a sum like `1h30m`; nothing longer than ten years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total_millis: u64 = 0;
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = leading_number(rest)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (_, millis) = DURATION_UNITS_MILLIS.into_iter().find(|(unit, _)| *unit == &after[..end])?;
        total_millis = total_millis.checked_add(number.checked_mul(millis)?)?;
        rest = &after[end..];
    }
    Some(Duration::from_millis(total_millis)).filter(|duration| *duration <= LONGEST)
}

/// Reads `512MiB`, `2GiB`, `10MB`, `4096`; the answer is in bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text)?;
    let (_, bytes) = SIZE_UNITS_BYTES.into_iter().find(|(known, _)| *known == unit.trim_start())?;
    number.checked_mul(bytes)
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// `1h30m`, `5s`, `0s`: the shortest text that [`parse_duration`] reads as the same.
pub fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in DURATION_UNITS_MILLIS.into_iter().rev() {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// `71 GiB`, `512 MiB`, `900 B`: rounded down, for people.
pub fn show_size(bytes: u64) -> String {
    let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{} {unit}", bytes / size),
        None => format!("{bytes} B"),
    }
}

/// Deserializes a duration longer than nothing.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = duration_or_zero(deserializer)?;
    if duration.is_zero() { Err(de::Error::custom("expected more than 0s")) } else { Ok(duration) }
}

/// Deserializes a duration that may be nothing.
pub(super) fn duration_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    text(deserializer, DURATION_FORMS, parse_duration)
}

/// Deserializes a size in bytes, at least one; a bare number is bytes.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let at_least_one = |bytes: u64| Some(bytes).filter(|bytes| *bytes > 0);
    let read = |text: &str| parse_size(text).and_then(at_least_one);
    deserializer.deserialize_any(Read::new(SIZE_FORMS, read, at_least_one))
}

/// Deserializes a whole number from `MIN` to `MAX`.
pub(super) fn whole<'de, const MIN: u64, const MAX: u64, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    let expecting = format!("a whole number from {MIN} to {MAX}");
    let fits = |number: u64| if (MIN..=MAX).contains(&number) { T::try_from(number).ok() } else { None };
    deserializer.deserialize_any(Read::new(expecting, |_| None, fits))
}

/// Deserializes text through `read`; anything else is answered with `expecting`.
pub(super) fn text<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    expecting: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(Read::new(expecting, read, |_| None))
}

struct Read<E, R, W> {
    expecting: E,
    read: R,
    whole: W,
}

impl<E, R, W> Read<E, R, W> {
    fn new<T>(expecting: E, read: R, whole: W) -> Self
    where
        R: Fn(&str) -> Option<T>,
        W: Fn(u64) -> Option<T>,
    {
        Read { expecting, read, whole }
    }
}

impl<'de, T, E: fmt::Display, R: Fn(&str) -> Option<T>, W: Fn(u64) -> Option<T>> Visitor<'de>
    for Read<E, R, W>
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expecting.fmt(f)
    }

    fn visit_str<F: de::Error>(self, text: &str) -> Result<T, F> {
        (self.read)(text).ok_or_else(|| F::invalid_value(de::Unexpected::Other("text"), &self))
    }

    fn visit_i64<F: de::Error>(self, number: i64) -> Result<T, F> {
        let read = u64::try_from(number).ok().and_then(&self.whole);
        read.ok_or_else(|| F::invalid_value(de::Unexpected::Other("number"), &self))
    }
}

/// Something that can stand alone or in a list.
pub(super) trait Listed {
    /// What it may look like, for messages.
    const FORMS: &'static str;
}

/// Deserializes one value or a list of them.
pub(super) struct OneOrList<T>(pub Vec<T>);

impl<'de, T: de::Deserialize<'de> + Listed> de::Deserialize<'de> for OneOrList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both<T>(PhantomData<T>);
        impl<'de, T: de::Deserialize<'de> + Listed> Visitor<'de> for Both<T> {
            type Value = OneOrList<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::FORMS)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(de::value::StrDeserializer::new(text)).map(|one| OneOrList(vec![one]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(OneOrList(all))
            }
        }
        deserializer.deserialize_any(Both(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expect_millis: Option<u64>| {
            assert_eq!(parse_duration(text), expect_millis.map(Duration::from_millis), "{text:?}");
        };
        check("5s", Some(5_000));
        check("250ms", Some(250));
        check("15m", Some(900_000));
        check("2h", Some(7_200_000));
        check("3d", Some(259_200_000));
        check("1h30m", Some(5_400_000));
        check("0s", Some(0));
        for wrong in
            ["", "5", "s", "5 s", "-5s", "1.5h", "5x", "5S", "1h30", "99999999999999999999s", "4000d"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn a_shown_duration_reads_back() {
        let check = |text: &str| assert_eq!(parse_duration(text).map(show_duration).as_deref(), Some(text));
        ["0s", "5s", "15m", "1h30m", "3d", "1d2h3m4s5ms", "20s"].into_iter().for_each(check);
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(parse_size(text), expect, "{text:?}");
        check("4096", Some(4096));
        check("512MiB", Some(512 << 20));
        check("2GiB", Some(2 << 30));
        check("10MB", Some(10_000_000));
        check("10 MB", Some(10_000_000));
        check("1TiB", Some(1 << 40));
        for wrong in ["", "MiB", "-1", "1.5GiB", "10mb", "10M", "99999999999GiB"] {
            check(wrong, None);
        }
    }

    #[test]
    fn sizes_for_people() {
        let check = |bytes: u64, expect: &str| assert_eq!(show_size(bytes), expect);
        check(900, "900 B");
        check(512 << 20, "512 MiB");
        check((71 << 30) + 5, "71 GiB");
    }
}
