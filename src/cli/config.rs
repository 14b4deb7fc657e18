//! `deskspool config [KEY] [--origin]`: the effective configuration, and where each value was written.

use super::render::{Screen, one_line};
use super::{FINE, Failure, Global, NOT_FINE, Outcome};
use crate::config::{Place, WrittenKey, written_keys};
use crate::source::preset;
use clap::Args;
use std::collections::BTreeMap;

/// `deskspool config`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ConfigArgs {
    /// A key or a table: delivery.workers, source.b2chat.ticket
    key: Option<String>,
    /// Say where each value was written
    #[arg(long)]
    origin: bool,
}

const EXAMPLES: &str = "\
Examples:
  deskspool config                             everything that is set, by you or by a preset
  deskspool config source.b2chat.ticket --origin
  deskspool config delivery --json             {\"key\":…,\"value\":…,\"origin\":…} per line

Layers, later wins key by key: preset, [ticket], [source.x]; what nobody sets has its default, and is not listed.
Secrets are not shown. Exit codes: 0 fine, 1 no such key is set.";

/// A value and where it was written.
struct Effective {
    value: serde_json::Value,
    origin: String,
}

/// Prints what is effective.
pub fn run(global: &Global, args: &ConfigArgs, screen: &mut Screen) -> Outcome {
    let written = written_keys(&global.config)
        .map_err(|finding| Failure::Other(anyhow::anyhow!("{}", finding.lines(0).join("\n"))))?;
    let effective = effective(&written);
    let wanted = |key: &str| {
        args.key.as_deref().is_none_or(|asked| {
            key.strip_prefix(asked)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
        })
    };
    let rows: Vec<(&String, &Effective)> = effective.iter().filter(|(key, _)| wanted(key)).collect();
    if rows.is_empty() {
        let asked = args.key.as_deref().unwrap_or_default();
        eprintln!("error: {asked} is not set");
        eprintln!("   = what is set: deskspool config");
        return Ok(NOT_FINE);
    }
    // One value is shown whole; of many the long ones are cut.
    let chars_max = if rows.len() == 1 { usize::MAX } else { VALUE_CHARS_MAX };
    let line =
        |(key, one): &(&String, &Effective)| format!("{key} = {}", one_line(&toml_of(&one.value), chars_max));
    let lines: Vec<String> = rows.iter().map(line).collect();
    let short = |line: &&String| line.chars().count() <= ORIGIN_COLUMN_MAX;
    let width = lines.iter().filter(short).map(|line| line.chars().count()).max().unwrap_or_default();
    for ((key, one), line) in rows.iter().zip(&lines) {
        if global.json {
            let object = serde_json::json!({ "key": key, "value": one.value, "origin": one.origin });
            screen.line(&object.to_string())?;
        } else if args.origin {
            screen.line(&format!("{line:width$}   {}", one.origin))?;
        } else {
            screen.line(line)?;
        }
    }
    Ok(FINE)
}

/// Longest value among many.
const VALUE_CHARS_MAX: usize = 100;
/// Widest line that the origins line up behind.
const ORIGIN_COLUMN_MAX: usize = 70;

/// Presets first, then `[ticket]` for every source, then what the admin wrote.
fn effective(written: &[WrittenKey]) -> BTreeMap<String, Effective> {
    let mut effective = BTreeMap::new();
    let sources = written.iter().filter_map(|one| one.key.strip_prefix("source.")?.split('.').next());
    let sources: std::collections::BTreeSet<&str> = sources.collect();
    for source in sources {
        let mine = |one: &&WrittenKey| one.key == format!("source.{source}.preset");
        let name = written.iter().find(mine).and_then(|one| one.value.as_str()).unwrap_or_default();
        for one in written.iter().filter(|one| one.key.starts_with("ticket.")) {
            effective.insert(format!("source.{source}.{}", one.key), of(one));
        }
        if let Some(preset) = preset(name) {
            let table: toml::Table = preset.text.parse().unwrap_or_default();
            let mut leaves = Vec::new();
            flatten(&format!("source.{source}"), &toml::Value::Table(table), &mut leaves);
            for (key, value) in leaves {
                effective.insert(key, Effective { value, origin: format!("preset {name}") });
            }
        }
    }
    effective.extend(written.iter().map(|one| (one.key.clone(), of(one))));
    effective
}

fn of(one: &WrittenKey) -> Effective {
    let place = |place: &Place| format!("{}:{}", place.file, place.line);
    Effective { value: one.value.clone(), origin: one.place.as_ref().map(place).unwrap_or_default() }
}

fn flatten(path: &str, value: &toml::Value, leaves: &mut Vec<(String, serde_json::Value)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                flatten(&format!("{path}.{key}"), value, leaves);
            }
        }
        toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {
            for (index, value) in list.iter().enumerate() {
                // The admin's rules come first under the same numbers.
                flatten(&format!("{path}[{} of the preset]", index + 1), value, leaves);
            }
        }
        value => leaves.extend(serde_json::to_value(value).ok().map(|value| (path.to_owned(), value))),
    }
}

/// JSON's texts, numbers, flags and lists read the same in TOML.
fn toml_of(value: &serde_json::Value) -> String {
    value.to_string()
}
