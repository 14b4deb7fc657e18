//! `[alert]`: whom to tell when something needs a person.

use super::secrets::Secret;
use super::units;
use serde::{Deserialize, Deserializer};
use std::time::Duration;

/// `[alert]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertConfig {
    /// A program with its arguments; empty: none.
    pub command: Vec<String>,
    /// Where to post; part of it may be a secret, hence hidden.
    #[serde(deserialize_with = "url")]
    pub url: Option<Secret>,
    /// Whether each matter gets a ticket in Freshdesk.
    pub ticket: bool,
    /// An event that waits longer is worth an alert.
    #[serde(deserialize_with = "units::duration")]
    pub oldest_waiting: Duration,
}

impl Default for AlertConfig {
    fn default() -> Self {
        AlertConfig {
            command: Vec::new(),
            url: None,
            ticket: false,
            oldest_waiting: Duration::from_secs(900),
        }
    }
}

impl AlertConfig {
    /// Whether anybody is to be told.
    pub fn is_on(&self) -> bool {
        self.ticket || self.sends()
    }

    /// Whether a message leaves the house.
    pub fn sends(&self) -> bool {
        !self.command.is_empty() || self.url.is_some()
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    units::text(deserializer, "an address like \"https://hooks.example.com/services/…\"", |text| {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let host = rest.split('/').next().unwrap_or_default();
        let is_clean = text.chars().all(|c| c.is_ascii_graphic());
        (!host.is_empty() && is_clean).then(|| Some(Secret::new(text)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_is_told_or_nobody() {
        let check = |text: &str, expect: Option<bool>| {
            let alert = toml::from_str::<AlertConfig>(text).ok();
            assert_eq!(alert.map(|alert| alert.is_on()), expect, "{text}");
        };
        check("", Some(false));
        check("oldest_waiting = \"1h\"", Some(false));
        check("command = [\"/usr/bin/logger\", \"-t\", \"deskspool\"]", Some(true));
        check("url = \"https://hooks.example.com/services/T0/B0\"", Some(true));
        check("ticket = true", Some(true));
        check("url = \"hooks.example.com\"", None);
        check("url = \"https:///x\"", None);
        check("url = \"https://a/b c\"", None);
        check("command = \"logger\"", None);
    }
}
