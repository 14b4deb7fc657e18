//! What the admin wrote, key by key, for those who compare it with something that is not a file.

use super::files::{Files, Told};
use super::finding::{Finding, Place};
use std::path::Path;

/// One key of the admin's files that becomes a value in Freshdesk.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenKey {
    /// `source.b2chat.ticket.group_id`, `source.contako.rule[2].update.custom_fields.cf_x`.
    pub key: String,
    /// As written.
    pub value: serde_json::Value,
    /// Where.
    pub place: Option<Place>,
}

/// Every key that the admin wrote, in the order of the keys; secrets say `hidden` unless they are references.
///
/// # Errors
/// The first finding, when the files cannot be read or understood.
pub fn written_keys(main: &Path) -> Result<Vec<WrittenKey>, Finding> {
    let mut told = Told::default();
    let files = Files::read(main, &mut told);
    let document = files.parse(&mut told);
    let leaves = files.leaves(&document.root);
    if let Some(finding) = told.findings.into_iter().next() {
        return Err(finding);
    }
    let written = |(key, leaf): (String, super::files::Leaf)| {
        let value = match is_secret(&key) {
            true => serde_json::Value::from("hidden"),
            false => value_of(&leaf.text)?,
        };
        Some(WrittenKey { key, value, place: files.place(leaf.span) })
    };
    Ok(leaves.into_iter().filter_map(written).collect())
}

/// An inline secret, or a part of one: anything that stands where a secret may, but no reference to one.
pub(super) fn is_secret(key: &str) -> bool {
    let names = ["secret", "api_key", "verify_token", "proxy"];
    let is_reference =
        key.rsplit('.').next().is_some_and(|last| ["credential", "file", "env"].contains(&last));
    !is_reference && key.split('.').any(|part| names.iter().any(|name| part.starts_with(name)))
}

fn value_of(text: &str) -> Option<serde_json::Value> {
    let value = format!("value = {text}").parse::<toml::Table>().ok()?.remove("value")?;
    serde_json::to_value(value).ok()
}

/// Every key of tickets, updates and markers that the admin wrote, in the order of the keys. Reads the files anew;
/// what cannot be read is not in it. Secrets stand under other keys.
pub fn written_for_freshdesk(main: &Path) -> Vec<WrittenKey> {
    let mut told = Told::default();
    let files = Files::read(main, &mut told);
    let document = files.parse(&mut told);
    let leaves = files.leaves(&document.root).into_iter();
    let written = |(key, leaf): (String, super::files::Leaf)| {
        let value = value_of(&leaf.text)?;
        let place = files.place(leaf.span);
        Some(WrittenKey { key, value, place })
    };
    leaves.filter(|(key, _)| is_for_freshdesk(key)).filter_map(written).collect()
}

fn is_for_freshdesk(key: &str) -> bool {
    let parts: Vec<&str> = key.split('.').collect();
    match parts.as_slice() {
        ["ticket", ..] | ["freshdesk", "marker_field"] => true,
        ["source", _, rule, "ticket" | "update", ..] => rule.starts_with("rule["),
        ["source", _, "ticket" | "update" | "preset", ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let hidden = ["freshdesk.api_key", "source.x.secret", "source.x.secret[1]", "freshdesk.proxy"];
        assert!(hidden.iter().all(|key| is_secret(key)));
        let shown = [
            "freshdesk.api_key.credential",
            "source.x.secret.file",
            "source.x.ticket.type",
            "delivery.workers",
        ];
        assert!(!shown.iter().any(|key| is_secret(key)));
    }

    #[test]
    fn keys_have_values_and_places_and_secrets_are_not_among_them() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("deskspool.toml");
        let text = "[freshdesk]\napi_key = \"geheim\"\nmarker_field = \"cf_ref\"\n[ticket]\npriority = \"low\"\n\
            [source.x]\nsecret = \"geheim\"\nticket = { group_id = 7 }\n[[source.x.rule]]\ndo = \"note\"\n\
            update = { custom_fields = { cf_a = \"b\" } }\n";
        std::fs::write(&path, text).expect("write the file");
        let written = written_for_freshdesk(&path);
        let shown: Vec<String> = written
            .iter()
            .map(|one| {
                format!("{} {} {}", one.place.as_ref().map_or(0, |place| place.line), one.key, one.value)
            })
            .collect();
        let expect = [
            "3 freshdesk.marker_field \"cf_ref\"",
            "11 source.x.rule[1].update.custom_fields.cf_a \"b\"",
            "8 source.x.ticket.group_id 7",
            "5 ticket.priority \"low\"",
        ];
        assert_eq!(shown, expect);
    }
}
