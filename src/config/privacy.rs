//! `[privacy]`: what admins shall not see of customers.

use serde::{Deserialize, Deserializer};

/// `[privacy]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrivacyConfig {
    /// `name`, `email`, `phone`, `external_id` of requesters, and members of events by name or path.
    #[serde(deserialize_with = "words")]
    pub redact: Vec<String>,
}

fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    match words.iter().all(|word| !word.split('.').any(str::is_empty)) {
        true => Ok(words),
        false => {
            Err(serde::de::Error::custom("expected names or paths, like \"phone\" or \"contact.address\""))
        }
    }
}
