//! The words an admin writes for Freshdesk's numbers, and durations as text.

use std::time::Duration;

/// A ticket's key whose value is a number, with the words that stand for some.
pub(super) struct Numbered {
    pub key: &'static str,
    words: &'static [(&'static str, u64)],
}

/// Keys that are sent as numbers, with Freshdesk's numbers for the words (API v2, "Ticket properties").
pub(super) const NUMBERED: [Numbered; 8] = [
    Numbered { key: "status", words: &[("open", 2), ("pending", 3), ("resolved", 4), ("closed", 5)] },
    Numbered { key: "priority", words: &[("low", 1), ("medium", 2), ("high", 3), ("urgent", 4)] },
    Numbered {
        key: "source",
        words: &[("email", 1), ("portal", 2), ("phone", 3), ("chat", 7), ("feedback", 9), ("outbound", 10)],
    },
    Numbered { key: "group_id", words: &[] },
    Numbered { key: "product_id", words: &[] },
    Numbered { key: "responder_id", words: &[] },
    Numbered { key: "company_id", words: &[] },
    Numbered { key: "email_config_id", words: &[] },
];

/// The numbered key of this name.
pub(super) fn numbered(key: &str) -> Option<&'static Numbered> {
    NUMBERED.iter().find(|numbered| numbered.key == key)
}

/// The number that Freshdesk wants in a ticket's key: `("status", "open")` is 2.
pub fn ticket_number(key: &str, text: &str) -> Option<u64> {
    numbered(key)?.number(text)
}

impl Numbered {
    /// The number that a word or digits stand for.
    pub fn number(&self, text: &str) -> Option<u64> {
        let text = text.trim();
        let by_word =
            self.words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, number)| *number);
        by_word.or_else(|| text.parse().ok().filter(|number| *number > 0))
    }

    /// What may be written.
    pub fn allowed(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        if words.is_empty() { "a number".to_owned() } else { format!("{} or a number", words.join(", ")) }
    }
}

/// `90s`, `10m`, `12h`, `7d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_seconds = match text[digits.len()..].trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let count: u64 = digits.trim().parse().ok()?;
    count.checked_mul(unit_seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_for_numbers() {
        let check = |key: &str, text: &str, expect: Option<u64>| {
            assert_eq!(numbered(key).unwrap().number(text), expect, "{key} {text}");
        };
        check("status", "Resolved", Some(4));
        check("status", "7", Some(7));
        check("priority", " urgent ", Some(4));
        check("priority", "opne", None);
        check("group_id", "51000123456", Some(51_000_123_456));
        check("group_id", "billing", None);
        check("group_id", "0", None);
    }

    #[test]
    fn durations_have_units() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(duration(text).map(|d| d.as_secs()), expect, "{text}")
        };
        check("90s", Some(90));
        check("10m", Some(600));
        check("7d", Some(604_800));
        check("7", None);
        check("d", None);
        check("1y", None);
    }
}
