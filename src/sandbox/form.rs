//! The account as an administrator set it up: the ticket form, groups, products, agents.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What tickets of the account are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Form {
    /// Choices of `group_id`.
    pub groups: Vec<Named>,
    /// Choices of `product_id`.
    pub products: Vec<Named>,
    /// Choices of `company_id`.
    pub companies: Vec<Named>,
    /// Choices of `responder_id`; the first one owns the API key.
    pub agents: Vec<Agent>,
    /// Choices of `email_config_id`.
    pub email_configs: Vec<Named>,
    /// Choices of `type`.
    pub ticket_types: Vec<String>,
    /// Choices of `status`; 2 to 5 are the vendor's.
    pub statuses: Vec<Named>,
    /// Choices of `source`.
    pub sources: Vec<Named>,
    /// The account's own fields.
    pub custom_fields: Vec<CustomField>,
    /// Default fields that agents must fill, by the names of the API (`type`, `group_id`).
    pub required_for_agents: Vec<String>,
    /// Default fields without which a ticket cannot be resolved or closed.
    pub required_for_closure: Vec<String>,
}

/// A number with a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// What the API wants.
    pub id: u64,
    /// What agents see.
    pub name: String,
}

/// Somebody who answers tickets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// What the API wants.
    pub id: u64,
    /// What agents see.
    pub name: String,
    /// His address, which no contact can have.
    pub email: String,
}

/// A field of the account's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomField {
    /// `cf_…`, what the API wants.
    pub name: String,
    /// `custom_text`, `custom_dropdown` and so on.
    #[serde(rename = "type")]
    pub kind: CustomKind,
    /// Choices of a dropdown.
    #[serde(default)]
    pub choices: Vec<String>,
    /// Whether every ticket must have it.
    #[serde(default)]
    pub required_for_agents: bool,
    /// Whether a ticket must have it to be resolved or closed.
    #[serde(default)]
    pub required_for_closure: bool,
}

/// What a field of the account's own takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CustomKind {
    /// A line of at most 255 characters.
    #[serde(rename = "custom_text")]
    Text,
    /// Text.
    #[serde(rename = "custom_paragraph")]
    Paragraph,
    /// A whole number.
    #[serde(rename = "custom_number")]
    Number,
    /// A number.
    #[serde(rename = "custom_decimal")]
    Decimal,
    /// `true` or `false`.
    #[serde(rename = "custom_checkbox")]
    Checkbox,
    /// `YYYY-MM-DD`.
    #[serde(rename = "custom_date")]
    Date,
    /// One of the choices.
    #[serde(rename = "custom_dropdown")]
    Dropdown,
}

/// The vendor's priorities.
pub(crate) const PRIORITIES: [(u64, &str); 4] = [(1, "Low"), (2, "Medium"), (3, "High"), (4, "Urgent")];

impl Default for Form {
    fn default() -> Form {
        let named = |id, name: &str| Named { id, name: name.to_owned() };
        let field = |name: &str, kind| CustomField::new(name, kind);
        Form {
            groups: vec![named(51_000_123_456, "Pagos"), named(51_000_123_457, "Soporte")],
            products: vec![named(51_000_000_701, "Tienda")],
            companies: vec![named(51_000_000_801, "Acme")],
            agents: vec![
                Agent::new(51_000_000_001, "Integrations", "integrations@acme.example"),
                Agent::new(51_000_000_002, "Marta Gil", "marta@acme.example"),
            ],
            email_configs: vec![named(51_000_000_901, "Support mailbox")],
            ticket_types: ["Question", "Incident", "Problem", "Feature Request", "Refund"]
                .map(str::to_owned)
                .to_vec(),
            statuses: vec![
                named(2, "Open"),
                named(3, "Pending"),
                named(4, "Resolved"),
                named(5, "Closed"),
                named(6, "Waiting on Customer"),
                named(7, "Waiting on Third Party"),
            ],
            sources: vec![
                named(1, "Email"),
                named(2, "Portal"),
                named(3, "Phone"),
                named(7, "Chat"),
                named(9, "Feedback Widget"),
                named(10, "Outbound Email"),
            ],
            custom_fields: vec![
                field("cf_external_ref", CustomKind::Text),
                field("cf_b2chat_link", CustomKind::Text),
                CustomField {
                    choices: ["WhatsApp", "Telegram", "Instagram", "Web"].map(str::to_owned).to_vec(),
                    ..field("cf_channel", CustomKind::Dropdown)
                },
                field("cf_vip", CustomKind::Checkbox),
                field("cf_score", CustomKind::Number),
                field("cf_follow_up", CustomKind::Date),
            ],
            required_for_agents: vec!["subject".to_owned(), "description".to_owned()],
            required_for_closure: Vec::new(),
        }
    }
}

impl CustomField {
    /// A field that nobody must fill.
    pub fn new(name: &str, kind: CustomKind) -> CustomField {
        let name = name.to_owned();
        CustomField {
            name,
            kind,
            choices: Vec::new(),
            required_for_agents: false,
            required_for_closure: false,
        }
    }
}

impl Agent {
    fn new(id: u64, name: &str, email: &str) -> Agent {
        Agent { id, name: name.to_owned(), email: email.to_owned() }
    }
}

impl Form {
    pub(crate) fn agent_by_email(&self, email: &str) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.email.eq_ignore_ascii_case(email))
    }

    pub(crate) fn agent(&self, id: u64) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.id == id)
    }

    pub(crate) fn is_required(&self, field: &str) -> bool {
        self.required_for_agents.iter().any(|name| name == field)
    }

    pub(crate) fn is_required_for_closure(&self, field: &str) -> bool {
        self.required_for_closure.iter().any(|name| name == field)
    }

    /// `GET /ticket_fields`.
    pub(crate) fn ticket_fields(&self) -> Value {
        let mut fields = self.default_fields();
        fields.extend(self.custom_fields.iter().map(custom_field));
        for (position, field) in fields.iter_mut().enumerate() {
            let field = field.as_object_mut().expect("a field is an object");
            field.insert("id".to_owned(), json!(51_000_010_000_u64 + position as u64));
            field.insert("position".to_owned(), json!(position + 1));
        }
        Value::Array(fields)
    }

    fn default_fields(&self) -> Vec<Value> {
        let statuses = self.statuses.iter().map(|it| (it.id.to_string(), json!([it.name, it.name])));
        let priorities = PRIORITIES.iter().map(|(id, name)| ((*name).to_owned(), json!(id)));
        let agents = self.agents.iter().map(|agent| (agent.name.clone(), json!(agent.id)));
        vec![
            self.field("requester", "requester", None),
            self.field("company", "company_id", None),
            self.field("subject", "subject", None),
            self.field("ticket_type", "type", Some(json!(self.ticket_types))),
            self.field("source", "source", Some(by_name(&self.sources))),
            self.field("status", "status", Some(Value::Object(statuses.collect()))),
            self.field("priority", "priority", Some(Value::Object(priorities.collect()))),
            self.field("group", "group_id", Some(by_name(&self.groups))),
            self.field("agent", "responder_id", Some(Value::Object(agents.collect()))),
            self.field("product", "product_id", Some(by_name(&self.products))),
            self.field("description", "description", None),
        ]
    }

    /// A default field: named one way here and sent another way in a ticket.
    fn field(&self, name: &str, sent_as: &str, choices: Option<Value>) -> Value {
        let always = ["requester", "status", "priority"].contains(&name);
        let required = always || self.is_required(sent_as);
        field_json(
            name,
            &format!("default_{name}"),
            (required, self.is_required_for_closure(sent_as)),
            choices,
        )
    }
}

fn by_name(choices: &[Named]) -> Value {
    Value::Object(choices.iter().map(|choice| (choice.name.clone(), json!(choice.id))).collect())
}

fn custom_field(field: &CustomField) -> Value {
    let kind = serde_json::to_value(field.kind).expect("a kind is a word");
    let choices = (field.kind == CustomKind::Dropdown).then(|| json!(field.choices));
    let required = (field.required_for_agents, field.required_for_closure);
    let mut shown = field_json(&field.name, kind.as_str().unwrap_or_default(), required, choices);
    shown["default"] = json!(false);
    shown
}

fn field_json(name: &str, kind: &str, required: (bool, bool), choices: Option<Value>) -> Value {
    let mut field = Map::new();
    let label = name.trim_start_matches("cf_").replace('_', " ");
    for (key, value) in [
        ("id", Value::Null),
        ("name", json!(name)),
        ("label", json!(label)),
        ("description", Value::Null),
        ("position", Value::Null),
        ("required_for_closure", json!(required.1)),
        ("required_for_agents", json!(required.0)),
        ("type", json!(kind)),
        ("default", json!(true)),
        ("customers_can_edit", json!(false)),
        ("label_for_customers", json!(label)),
        ("required_for_customers", json!(false)),
        ("displayed_to_customers", json!(false)),
    ] {
        field.insert(key.to_owned(), value);
    }
    if let Some(choices) = choices {
        field.insert("choices".to_owned(), choices);
    }
    Value::Object(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_of_choices_differ_as_documented() {
        let fields = Form::default().ticket_fields();
        let check = |name: &str, pointer: &str, expect: Value| {
            let field = fields.as_array().unwrap().iter().find(|field| field["name"] == name).unwrap();
            assert_eq!(field.pointer(pointer), Some(&expect), "{name}{pointer}");
        };
        check("status", "/choices/2/0", json!("Open"));
        check("priority", "/choices/Urgent", json!(4));
        check("group", "/choices/Pagos", json!(51_000_123_456_u64));
        check("agent", "/choices/Integrations", json!(51_000_000_001_u64));
        check("ticket_type", "/choices/0", json!("Question"));
        check("cf_channel", "/choices/1", json!("Telegram"));
        check("cf_channel", "/type", json!("custom_dropdown"));
        check("subject", "/required_for_agents", json!(true));
        check("cf_vip", "/required_for_agents", json!(false));
    }
}
