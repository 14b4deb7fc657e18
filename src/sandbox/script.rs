//! The file that scripts a sandbox, and the same shapes as JSON on the control path.
//!
//! The format is in the documentation of [`super`]. **Invariant:** a key that an effect does not know is an error
//! that names it; nothing is ignored.

use super::faults::{Effect, Fault, FaultBody};
use super::form::Form;
use super::knobs::Knobs;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// The open points of the API.
    pub knobs: Knobs,
    /// The ticket form, groups and the like.
    pub form: Form,
    /// What goes wrong.
    #[serde(rename = "fault")]
    pub faults: Vec<Fault>,
}

/// Why a script cannot be used; the text names the key, and the place where the format knows it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ScriptError(String);

impl Script {
    /// Reads TOML, or JSON when the name ends in `.json`.
    pub fn read(path: &Path) -> Result<Script, ScriptError> {
        let text = std::fs::read_to_string(path).map_err(|error| ScriptError(error.to_string()))?;
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        if is_json { Script::from_json(text.as_bytes()) } else { Script::from_toml(&text) }
    }

    /// Reads TOML.
    pub fn from_toml(text: &str) -> Result<Script, ScriptError> {
        toml::from_str(text).map_err(|error| ScriptError(error.to_string()))
    }

    /// Reads JSON.
    pub fn from_json(text: &[u8]) -> Result<Script, ScriptError> {
        serde_json::from_slice(text).map_err(|error| ScriptError(error.to_string()))
    }
}

/// One fault, a list of them, or `{"fault": […]}`.
pub(crate) fn faults(json: Value) -> Result<Vec<Fault>, ScriptError> {
    let refused = |error: serde_json::Error| ScriptError(error.to_string());
    match json {
        Value::Array(_) => serde_json::from_value(json).map_err(refused),
        Value::Object(ref members) if members.contains_key("fault") => {
            serde_json::from_value(members["fault"].clone()).map_err(refused)
        }
        _ => serde_json::from_value(json).map(|fault| vec![fault]).map_err(refused),
    }
}

/// A fault as it is written: flat, so that unknown keys can be refused by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    effect: String,
    method: Option<String>,
    path: Option<String>,
    after: Option<u64>,
    every: Option<u64>,
    first: Option<u64>,
    times: Option<u64>,
    probability: Option<f64>,
    seed: Option<u64>,
    hold_s: Option<u64>,
    delay_ms: Option<u64>,
    commit: Option<bool>,
    status: Option<u16>,
    body: Option<String>,
    retry_after: Option<u64>,
    location: Option<bool>,
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Fault, D::Error> {
        let mut written = Written::deserialize(deserializer)?;
        written.fault().map_err(serde::de::Error::custom)
    }
}

impl Written {
    fn fault(&mut self) -> Result<Fault, String> {
        let effect = self.effect()?;
        self.no_key_is_left()?;
        let mut fault = Fault::new(effect);
        if let Some(method) = &self.method {
            fault = fault.on_method(method);
        }
        if let Some(path) = &self.path {
            fault = fault.on_path(path);
        }
        if *fault.effect() == Effect::Refuse && fault.has_matcher() {
            return Err("refuse happens before anything is read: it takes no method and no path".to_owned());
        }
        fault = fault.after(self.after.unwrap_or(0)).every(self.every.unwrap_or(1));
        fault = self.first.into_iter().fold(fault, Fault::first);
        fault = self.times.into_iter().fold(fault, Fault::times);
        match self.probability {
            Some(chance) if !(0.0..=1.0).contains(&chance) => {
                Err("probability is between 0 and 1".to_owned())
            }
            Some(chance) => Ok(fault.probability(chance, self.seed.unwrap_or(1))),
            None => Ok(fault),
        }
    }

    /// Takes the keys that belong to the effect.
    fn effect(&mut self) -> Result<Effect, String> {
        Ok(match self.effect.as_str() {
            "refuse" => Effect::Refuse,
            "reset_before_reading" => Effect::ResetBeforeReading,
            "commit_then_reset" => Effect::CommitThenReset,
            "wrong_key" => Effect::WrongKey,
            "stall" => {
                let hold = Duration::from_secs(self.hold_s.take().unwrap_or(3600));
                Effect::Stall { hold, commit: self.take_commit() }
            }
            "slow" => {
                let delay = self.delay_ms.take().ok_or("slow needs delay_ms")?;
                Effect::Slow { delay: Duration::from_millis(delay) }
            }
            "truncated_json" => Effect::TruncatedJson { location: self.location.take().unwrap_or(true) },
            "garbage_200" => Effect::Garbage200 { commit: self.take_commit() },
            "status" => self.status()?,
            other => return Err(format!("unknown effect {other:?}; there are {EFFECTS}")),
        })
    }

    fn status(&mut self) -> Result<Effect, String> {
        let status = self.status.take().ok_or("status needs the key status, e.g. status = 503")?;
        if !(200..=599).contains(&status) {
            return Err("status is between 200 and 599".to_owned());
        }
        let body = match self.body.take().as_deref() {
            None | Some("json") => FaultBody::Json,
            Some("html") => FaultBody::Html,
            Some("empty") => FaultBody::Empty,
            Some(other) => return Err(format!("unknown body {other:?}; there are json, html, empty")),
        };
        let retry_after = self.retry_after.take();
        Ok(Effect::Status { status, body, retry_after, commit: self.take_commit() })
    }

    fn take_commit(&mut self) -> bool {
        self.commit.take().unwrap_or(false)
    }

    fn no_key_is_left(&self) -> Result<(), String> {
        let left = [
            ("hold_s", self.hold_s.is_some()),
            ("delay_ms", self.delay_ms.is_some()),
            ("commit", self.commit.is_some()),
            ("status", self.status.is_some()),
            ("body", self.body.is_some()),
            ("retry_after", self.retry_after.is_some()),
            ("location", self.location.is_some()),
        ];
        match left.iter().find(|(_, is_left)| *is_left) {
            Some((key, _)) => Err(format!("{} takes no {key}", self.effect)),
            None => Ok(()),
        }
    }
}

const EFFECTS: &str = "refuse, reset_before_reading, commit_then_reset, stall, status, wrong_key, \
                       truncated_json, garbage_200, slow";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_file_scripts_everything() {
        let script = Script::from_toml(
            r#"
            [knobs]
            list_delay_s = 5

            [form]
            required_for_agents = ["subject", "type"]
            custom_fields = [{ name = "cf_a", type = "custom_dropdown", choices = ["x"] }]

            [[fault]]
            effect = "commit_then_reset"
            method = "post"
            path   = "/api/v2/tickets"
            every  = 5

            [[fault]]
            effect = "status"
            status = 429
            retry_after = 30
            probability = 0.5
            seed = 9
            "#,
        )
        .unwrap();
        assert_eq!(script.knobs.list_delay_s, 5);
        assert_eq!(script.form.custom_fields.len(), 1);
        let limited =
            Effect::Status { status: 429, body: FaultBody::Json, retry_after: Some(30), commit: false };
        let expect = [
            Fault::new(Effect::CommitThenReset).on("POST", "/api/v2/tickets").every(5),
            Fault::new(limited).probability(0.5, 9),
        ];
        assert_eq!(script.faults, expect);
    }

    #[test]
    fn the_control_path_takes_the_same_shapes() {
        let one = json!({"effect": "stall", "hold_s": 3, "commit": true});
        let expect = Fault::new(Effect::Stall { hold: Duration::from_secs(3), commit: true });
        for json in [one.clone(), json!([one]), json!({"fault": [one]})] {
            assert_eq!(faults(json).unwrap(), std::slice::from_ref(&expect));
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let check = |fault: Value, expect: &str| {
            let error = faults(fault.clone()).unwrap_err().to_string();
            assert!(error.contains(expect), "{fault}: {error}");
        };
        check(json!({"effect": "explode"}), "unknown effect \"explode\"");
        check(json!({"effect": "wrong_key", "hold_s": 1}), "wrong_key takes no hold_s");
        check(json!({"effect": "wrong_key", "hodl": 1}), "unknown field `hodl`");
        check(json!({"effect": "refuse", "path": "/"}), "no method and no path");
        check(json!({"effect": "slow"}), "slow needs delay_ms");
        check(json!({"effect": "status"}), "status needs");
        check(json!({"effect": "status", "status": 99}), "between 200 and 599");
        check(json!({"effect": "status", "status": 500, "body": "xml"}), "json, html, empty");
        check(json!({"effect": "wrong_key", "probability": 2}), "between 0 and 1");
    }
}
