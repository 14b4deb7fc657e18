//! What ships with the program: the built-in defaults and the presets, in the schema that admins write.

use super::table::SourceTable;
use std::sync::{LazyLock, OnceLock};

/// A shipped mapping of one platform.
pub struct Preset {
    /// With its version: `sendpulse@1`.
    pub name: &'static str,
    /// The file as it is printed by `preset show`.
    pub text: &'static str,
    table: OnceLock<SourceTable>,
}

impl Preset {
    /// One line for `preset list`.
    pub fn summary(&self) -> &str {
        self.table().summary.as_deref().unwrap_or_default()
    }

    /// `documented`, `seen` or `draft`: how sure the field names are.
    pub fn certainty(&self) -> &str {
        self.table().certainty.as_deref().unwrap_or("draft")
    }

    /// What to do in the platform, and which events become what.
    pub fn guide(&self) -> &str {
        self.table().guide.as_deref().unwrap_or_default()
    }

    /// Whether the platform makes the secret and shows it.
    pub fn is_secret_theirs(&self) -> bool {
        self.table().platform_secret.unwrap_or(false)
    }

    /// The parsed file. Parsed when it is asked for: a daemon keeps the few tables that its sources name.
    pub fn table(&self) -> &SourceTable {
        self.table.get_or_init(|| parse(self.text))
    }
}

const TEXTS: [(&str, &str); 24] = [
    ("alertmanager@1", include_str!("presets/alertmanager.toml")),
    ("b2chat@1", include_str!("presets/b2chat.toml")),
    ("botpress@1", include_str!("presets/botpress.toml")),
    ("chatwoot@1", include_str!("presets/chatwoot.toml")),
    ("contako@1", include_str!("presets/contako.toml")),
    ("empower@1", include_str!("presets/empower.toml")),
    ("generic@1", include_str!("presets/generic.toml")),
    ("github@1", include_str!("presets/github.toml")),
    ("google-forms@1", include_str!("presets/google-forms.toml")),
    ("grafana@1", include_str!("presets/grafana.toml")),
    ("html-form@1", include_str!("presets/html-form.toml")),
    ("sendpulse@1", include_str!("presets/sendpulse.toml")),
    ("standard-webhooks@1", include_str!("presets/standard-webhooks.toml")),
    ("stripe@1", include_str!("presets/stripe.toml")),
    ("tally@1", include_str!("presets/tally.toml")),
    ("telegram@1", include_str!("presets/telegram.toml")),
    ("tidio@1", include_str!("presets/tidio.toml")),
    ("twilio@1", include_str!("presets/twilio.toml")),
    ("typebot@1", include_str!("presets/typebot.toml")),
    ("typeform@1", include_str!("presets/typeform.toml")),
    ("uptimekuma@1", include_str!("presets/uptimekuma.toml")),
    ("whatsapp@1", include_str!("presets/whatsapp.toml")),
    ("zabbix@1", include_str!("presets/zabbix.toml")),
    ("zapier@1", include_str!("presets/zapier.toml")),
];

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    TEXTS.iter().map(|(name, text)| Preset { name, text, table: OnceLock::new() }).collect()
});

static BUILTIN: LazyLock<SourceTable> = LazyLock::new(|| parse(include_str!("presets/builtin.toml")));

fn parse(text: &str) -> SourceTable {
    toml::from_str(text).expect("shipped files are parsed by this module's test")
}

/// All presets, by name.
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

/// The preset of this name, with its version.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// What holds where neither the preset nor the admin says otherwise.
pub(super) fn builtin() -> &'static SourceTable {
    &BUILTIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_files_parse() {
        assert!(builtin().find.as_ref().is_some_and(|find| find.contains_key("email")));
        for preset in presets() {
            assert!(!preset.summary().is_empty(), "{}", preset.name);
            assert!(["documented", "seen", "draft"].contains(&preset.certainty()), "{}", preset.name);
        }
        assert!(preset("sendpulse@1").is_some() && preset("sendpulse").is_none());
    }
}
