//! `deskspool preset list` and `show`: what is known of each platform, and the file that says it.

use super::render::{Screen, table, words};
use super::{FINE, Global, NOT_FINE, Outcome};
use crate::source::{Preset, presets};
use clap::{Args, Subcommand};

/// `deskspool preset`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PresetArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Every preset, how sure its field names are, and what it is for
    List,
    /// The preset as it is compiled in: TOML, in the schema of [source.<name>]
    Show {
        /// `sendpulse@1`, or `sendpulse` for its latest version
        name: String,
    },
}

const EXAMPLES: &str = "\
Examples:
  deskspool preset list
  deskspool preset show sendpulse              what it does with each event; any key can be set in [source.<name>]
  deskspool preset list --json                 {\"name\":…,\"certainty\":…,\"summary\":…} per line

How sure the field names are:
  documented   the platform documents them
  seen         read in real requests
  draft        guessed from several places: confirm with  deskspool capture SOURCE";

/// Prints the list, or one preset.
pub fn run(global: &Global, args: &PresetArgs, screen: &mut Screen) -> Outcome {
    match &args.what {
        What::List => list(global, screen),
        What::Show { name } => match latest(name) {
            Some(preset) if global.json => {
                let text = serde_json::json!({ "text": preset.text });
                screen.line(&merged(to_json(preset), text).to_string())?;
                Ok(FINE)
            }
            Some(preset) => {
                screen.print(preset.text)?;
                Ok(FINE)
            }
            None => Ok(unknown(name)),
        },
    }
}

fn list(global: &Global, screen: &mut Screen) -> Outcome {
    if global.json {
        for preset in presets() {
            screen.line(&to_json(preset).to_string())?;
        }
        return Ok(FINE);
    }
    let row =
        |preset: &Preset| [preset.name, preset.certainty(), preset.summary()].map(str::to_owned).to_vec();
    let rows: Vec<_> = presets().iter().map(row).collect();
    screen.print(&table(&[words("PRESET"), words("FIELD NAMES"), words("WHAT IT IS FOR")], &rows))?;
    if !global.quiet {
        screen.line("its file: deskspool preset show NAME")?;
    }
    Ok(FINE)
}

fn to_json(preset: &Preset) -> serde_json::Value {
    serde_json::json!({
        "name": preset.name,
        "certainty": preset.certainty(),
        "summary": preset.summary(),
    })
}

fn merged(mut into: serde_json::Value, from: serde_json::Value) -> serde_json::Value {
    if let (Some(into), serde_json::Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
    into
}

/// The preset of this name; without a version its latest.
pub(super) fn latest(name: &str) -> Option<&'static Preset> {
    let version = |preset: &Preset| {
        let (platform, version) = preset.name.split_once('@')?;
        (platform == name).then(|| version.parse::<u32>().unwrap_or_default())
    };
    let exact = presets().iter().find(|preset| preset.name == name);
    let newest =
        || presets().iter().filter(|preset| version(preset).is_some()).max_by_key(|one| version(one));
    exact.or_else(newest)
}

fn unknown(name: &str) -> u8 {
    let names: Vec<&str> = presets().iter().map(|preset| preset.name).collect();
    eprintln!("error: there is no preset {name:?}");
    eprintln!("   = presets: {}", names.join(", "));
    NOT_FINE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_version_is_the_latest() {
        let name = |asked: &str| latest(asked).map(|preset| preset.name);
        assert_eq!(name("sendpulse"), Some("sendpulse@1"));
        assert_eq!(name("sendpulse@1"), Some("sendpulse@1"));
        assert_eq!(name("sendpulse@9"), None);
        assert_eq!(name("send"), None);
    }
}
