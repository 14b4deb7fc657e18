//! The account's ticket form: which fields there are, which must be filled, what may stand in them. For `check`.

use super::Client;
use super::outcome::{Cause, Outcome};
use serde_json::Value;

/// `GET /api/v2/ticket_fields`, which any agent may ask who can open tickets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TicketForm {
    /// In the order of the form.
    pub fields: Vec<FormField>,
}

/// One field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FormField {
    /// Its name in a ticket that is sent: `group_id`, `type`, `cf_channel`.
    pub name: String,
    /// The vendor's word: `custom_dropdown`, `default_group`, `nested_field`.
    pub kind: String,
    /// A ticket without it is refused.
    pub required: bool,
    /// A ticket that is resolved or closed without it is refused.
    pub required_for_closure: bool,
    /// What may stand in it; empty where anything may.
    pub choices: Vec<Choice>,
}

/// Something that may stand in a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// What agents see, and what is sent where there is no number.
    pub name: String,
    /// What is sent.
    pub number: Option<u64>,
}

impl TicketForm {
    /// The field that is sent under this name.
    pub fn field(&self, name: &str) -> Option<&FormField> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Understands the vendor's list; what is no field in it is passed over.
    pub fn of(fields: &[Value]) -> TicketForm {
        TicketForm { fields: fields.iter().filter_map(FormField::of).collect() }
    }
}

impl FormField {
    fn of(field: &Value) -> Option<FormField> {
        let flag = |name: &str| field[name].as_bool().unwrap_or(false);
        let kind = field["type"].as_str().unwrap_or_default().to_owned();
        Some(FormField {
            name: sent_as(field["name"].as_str()?).to_owned(),
            choices: choices(&kind, &field["choices"]),
            kind,
            required: flag("required_for_agents"),
            required_for_closure: flag("required_for_closure"),
        })
    }
}

/// Some fields are listed under one name and sent under another.
fn sent_as(name: &str) -> &str {
    match name {
        "ticket_type" => "type",
        "group" => "group_id",
        "agent" => "responder_id",
        "product" => "product_id",
        "company" => "company_id",
        other => other,
    }
}

/// Four shapes: a list of names; numbers with lists of names (status); names with numbers; names with the names
/// below them (nested fields, of which the first level is sent under the field's own name).
fn choices(kind: &str, choices: &Value) -> Vec<Choice> {
    let named = |name: &str, number| Choice { name: name.to_owned(), number };
    match choices {
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(|name| named(name, None)).collect(),
        Value::Object(members) => {
            let choice = |(key, value): (&String, &Value)| match value {
                Value::Number(number) => Some(named(key, number.as_u64())),
                _ if kind == "nested_field" => Some(named(key, None)),
                Value::Array(labels) => {
                    Some(named(labels.first().and_then(Value::as_str).unwrap_or(key), key.parse().ok()))
                }
                _ => None,
            };
            members.iter().filter_map(choice).collect()
        }
        _ => Vec::new(),
    }
}

impl Client {
    /// Asks for the account's ticket form.
    ///
    /// # Errors
    /// `Deferred`, with why it could not be asked.
    pub fn ticket_form(&self) -> Result<TicketForm, Outcome> {
        let failed = |cause, reason| Outcome::Deferred { not_before: None, cause, reason };
        let answer = self
            .get("/api/v2/ticket_fields")
            .map_err(|failure| failed(Cause::Unreachable, failure.reason))?;
        match (answer.status, answer.json::<Vec<Value>>()) {
            (200, Some(fields)) => Ok(TicketForm::of(&fields)),
            (status, _) => Err(failed(Cause::Server, format!("ticket_fields answered {status}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_shape_of_choices_is_understood() {
        let form = TicketForm::of(&[
            json!({"name": "status", "type": "default_status", "choices": {"2": ["Open", "abierto"]}}),
            json!({"name": "group", "type": "default_group", "choices": {"Pagos": 51}}),
            json!({"name": "ticket_type", "type": "default_ticket_type", "choices": ["Incident"],
                   "required_for_agents": true}),
            json!({"name": "cf_place", "type": "nested_field", "choices": {"Colombia": {"Bogotá": []}}}),
            json!({"name": "subject", "type": "default_subject"}),
            json!({"no": "field"}),
        ]);
        let shown: Vec<_> = form
            .fields
            .iter()
            .map(|field| (field.name.as_str(), field.choices.first().map(|c| (c.name.as_str(), c.number))))
            .collect();
        assert_eq!(
            shown,
            [
                ("status", Some(("Open", Some(2)))),
                ("group_id", Some(("Pagos", Some(51)))),
                ("type", Some(("Incident", None))),
                ("cf_place", Some(("Colombia", None))),
                ("subject", None),
            ]
        );
        assert!(form.fields[2].required && !form.fields[0].required);
    }
}
