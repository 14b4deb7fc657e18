//! The configuration held against a live account, for `check`: groups, types, statuses, custom fields and their
//! choices, and fields that the form requires and nothing fills. Pure; every finding names the line in the file.

use crate::config::{Finding, WrittenKey};
use crate::freshdesk::ticket_form::{Choice, FormField, TicketForm};
use crate::source::ticket_number;
use std::collections::{BTreeMap, BTreeSet};

/// Choices that are listed; more are counted.
const LISTED_MAX: usize = 12;
/// Closed states, of which the form may require more.
const RESOLVED: u64 = 4;
const CLOSED: u64 = 5;
/// What every ticket of ours has, or Freshdesk fills by itself.
const ALWAYS_FILLED: [&str; 6] = ["requester", "subject", "description", "status", "priority", "source"];

/// What is looked at.
pub struct Account<'a> {
    /// `acme`, for messages.
    pub name: &'a str,
    /// What Freshdesk says of itself.
    pub form: &'a TicketForm,
    /// What the admin wrote.
    pub written: &'a [WrittenKey],
    /// Each source with the fields its preset fills.
    pub sources: &'a [(String, BTreeSet<String>)],
}

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub struct Compared {
    /// What is good: `group 51000123456 is "Pagos"`.
    pub good: Vec<String>,
    /// What is not.
    pub findings: Vec<Finding>,
}

/// A value with the field it is for.
struct Filled<'a> {
    written: &'a WrittenKey,
    /// `type`, `cf_channel`.
    field: &'a str,
    is_custom: bool,
}

/// Compares.
pub fn compare(account: &Account<'_>) -> Compared {
    let mut compared = Compared::default();
    for filled in account.written.iter().filter_map(filled) {
        match account.form.field(filled.field) {
            Some(field) => account.value(&filled, field, &mut compared),
            None if filled.is_custom => compared.findings.push(account.no_such_field(&filled)),
            None => {}
        }
    }
    account.marker(&mut compared);
    for (source, by_preset) in account.sources {
        account.required(source, by_preset, &mut compared);
    }
    compared.good.sort();
    compared.good.dedup();
    compared
}

/// The field that a key fills, if it fills one.
fn filled(written: &WrittenKey) -> Option<Filled<'_>> {
    let mut parts = written.key.rsplit('.');
    let field = parts.next()?;
    let table = parts.next()?;
    let is_custom = table == "custom_fields";
    (is_custom || table == "ticket" || table == "update").then_some(Filled { written, field, is_custom })
}

impl Account<'_> {
    fn value(&self, filled: &Filled<'_>, field: &FormField, compared: &mut Compared) {
        let value = &filled.written.value;
        let is_template = value.as_str().is_some_and(|text| text.contains("{{") || text.contains("{%"));
        if is_template {
            if let Some(finding) = self.template(filled, field) {
                compared.findings.push(finding);
            }
            return;
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !field.choices.is_empty() {
            match chosen(field, &text) {
                Some(choice) => compared.good.push(good(filled.field, choice)),
                None => compared.findings.push(self.no_such_choice(filled, field, &text)),
            }
            return;
        }
        let fits = match field.kind.as_str() {
            "custom_number" => value.is_i64(),
            "custom_decimal" => value.is_number(),
            "custom_checkbox" => value.is_boolean(),
            _ => true,
        };
        if !fits {
            compared.findings.push(finding(filled, wanted(&field.kind).to_owned()));
        } else if filled.is_custom {
            compared.good.push(format!("field {} exists", filled.field));
        }
    }

    /// Freshdesk refuses text where it wants a number.
    fn template(&self, filled: &Filled<'_>, field: &FormField) -> Option<Finding> {
        let filter = match field.kind.as_str() {
            "custom_number" => "int",
            "custom_decimal" => "float",
            "custom_checkbox" => "bool",
            _ => return None,
        };
        let text = filled.written.value.as_str()?;
        let last = text.trim().strip_suffix("}}")?.rsplit('|').next()?.trim();
        let is_typed = ["int", "float", "bool"].contains(&last);
        (!is_typed).then(|| {
            finding(filled, format!("{}, and this makes text", wanted(&field.kind)))
                .help(format!("end it with a filter:  {{{{ … | {filter} }}}}"))
        })
    }

    fn no_such_choice(&self, filled: &Filled<'_>, field: &FormField, text: &str) -> Finding {
        let (one, many) = match filled.field {
            "group_id" => ("group", "groups"),
            "product_id" => ("product", "products"),
            "responder_id" => ("agent", "agents"),
            "type" => ("ticket type", "types"),
            "status" => ("status", "statuses"),
            "priority" => ("priority", "priorities"),
            "source" => ("ticket source", "sources"),
            _ => ("choice", "choices"),
        };
        finding(filled, format!("{} has no {one} {text}", self.name)).help(format!(
            "{many} of {}: {}",
            self.name,
            listed(&field.choices)
        ))
    }

    fn no_such_field(&self, filled: &Filled<'_>) -> Finding {
        let names: Vec<&str> =
            self.form.fields.iter().map(|field| field.name.as_str()).filter(|name| is_custom(name)).collect();
        finding(filled, format!("{} has no ticket field {}", self.name, filled.field)).help(format!(
            "fields of {}: {}",
            self.name,
            some(&names)
        ))
    }

    /// The marker must be a line of text of the account's own.
    fn marker(&self, compared: &mut Compared) {
        let Some(written) = self.written.iter().find(|one| one.key == "freshdesk.marker_field") else {
            return;
        };
        let Some(name) = written.value.as_str() else { return };
        let what = match self.form.field(name) {
            Some(field) if field.kind == "custom_text" => {
                return compared.good.push(format!("field {name} exists"));
            }
            Some(field) => format!("expected a field of type custom_text, {name} is {}", field.kind),
            None => format!("{} has no ticket field {name}", self.name),
        };
        let texts = self.form.fields.iter().filter(|field| field.kind == "custom_text");
        let texts: Vec<&str> = texts.map(|field| field.name.as_str()).collect();
        let finding = Finding::error(&written.key, what).at(written.place.clone());
        compared.findings.push(finding.help(format!("text fields of {}: {}", self.name, some(&texts))));
    }

    /// Fields that the form requires and nothing fills: every ticket of the source would be refused.
    fn required(&self, source: &str, by_preset: &BTreeSet<String>, compared: &mut Compared) {
        let of_source = format!("source.{source}.ticket.");
        let of_rules = format!("source.{source}.rule[");
        let base: BTreeSet<&str> = self
            .written
            .iter()
            .filter(|one| one.key.starts_with("ticket.") || one.key.starts_with(&of_source))
            .filter_map(|one| filled(one).map(|filled| filled.field))
            .chain(by_preset.iter().map(String::as_str))
            .chain(ALWAYS_FILLED)
            .collect();
        let in_rules: BTreeSet<&str> = self
            .written
            .iter()
            .filter(|one| one.key.starts_with(&of_rules) && one.key.contains(".ticket."))
            .filter_map(|one| filled(one).map(|filled| filled.field))
            .collect();
        let closes = self.closes(source);
        let preset = format!("source.{source}.preset");
        let place = || self.written.iter().find(|one| one.key == preset).and_then(|one| one.place.clone());
        for field in &self.form.fields {
            let wanted = field.required || (field.required_for_closure && closes);
            if !wanted || base.contains(field.name.as_str()) {
                continue;
            }
            let when = if field.required { "" } else { " for tickets that are resolved or closed" };
            let what = format!("the form of {} requires {}{when}", self.name, field.name);
            let key = format!("source.{source}.ticket");
            let finding = match in_rules.contains(field.name.as_str()) {
                true => Finding::warning(key, format!("{what}, and only some rules fill it")),
                false => Finding::error(key, format!("{what}, and nothing fills it")),
            };
            compared.findings.push(finding.at(place()).help(self.to_fill(source, field)));
        }
    }

    /// Whether the source's tickets are born resolved or closed.
    fn closes(&self, source: &str) -> bool {
        let status = |key: String| self.written.iter().find(|one| one.key == key);
        let written = status(format!("source.{source}.ticket.status")).or(status("ticket.status".to_owned()));
        let text = written.map(|one| one.value.as_str().map_or_else(|| one.value.to_string(), str::to_owned));
        text.and_then(|text| ticket_number("status", &text))
            .is_some_and(|status| status == RESOLVED || status == CLOSED)
    }

    fn to_fill(&self, source: &str, field: &FormField) -> String {
        let value = match field.choices.first() {
            Some(Choice { number: Some(number), .. }) => number.to_string(),
            Some(choice) => format!("{:?}", choice.name),
            None => "\"…\"".to_owned(),
        };
        let line = match is_custom(&field.name) {
            true => format!("custom_fields = {{ {} = {value} }}", field.name),
            false => format!("{} = {value}", field.name),
        };
        let choices = match field.choices.is_empty() {
            true => String::new(),
            false => format!("   (choices: {})", listed(&field.choices)),
        };
        format!("in [source.{source}.ticket]:  {line}{choices}")
    }
}

fn finding(filled: &Filled<'_>, what: String) -> Finding {
    Finding::error(&filled.written.key, what).at(filled.written.place.clone())
}

fn is_custom(name: &str) -> bool {
    name.starts_with("cf_")
}

fn wanted(kind: &str) -> &'static str {
    match kind {
        "custom_number" => "the field wants a whole number",
        "custom_decimal" => "the field wants a number",
        _ => "the field wants true or false",
    }
}

/// The choice that a value stands for: its number, a word for it, or its name.
fn chosen<'a>(field: &'a FormField, text: &str) -> Option<&'a Choice> {
    let number = ticket_number(&field.name, text).or_else(|| text.parse().ok());
    let by_number = field.choices.iter().find(|choice| choice.number.is_some() && choice.number == number);
    by_number.or_else(|| field.choices.iter().find(|choice| choice.number.is_none() && choice.name == text))
}

fn good(field: &str, choice: &Choice) -> String {
    let what = field.trim_end_matches("_id").replace("responder", "agent");
    match choice.number {
        Some(number) => format!("{what} {number} is {:?}", choice.name),
        None => format!("{what} {:?} exists", choice.name),
    }
}

/// `Pagos 51000123456, Soporte 51000123457`.
fn listed(choices: &[Choice]) -> String {
    let choice = |choice: &Choice| match choice.number {
        Some(number) => format!("{} {number}", choice.name),
        None => choice.name.clone(),
    };
    let names: Vec<String> = choices.iter().map(choice).collect();
    some(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn some(names: &[&str]) -> String {
    let more = names.len().saturating_sub(LISTED_MAX);
    let shown = names[..names.len() - more].join(", ");
    match (names.len(), more) {
        (0, _) => "none".to_owned(),
        (_, 0) => shown,
        (_, more) => format!("{shown} and {more} more"),
    }
}

/// The ticket fields that a preset's file fills.
pub fn fields_of_preset(text: &str) -> BTreeSet<String> {
    let table: toml::Table = text.parse().unwrap_or_default();
    let ticket = table.get("ticket").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let custom = ticket.get("custom_fields").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    ticket.keys().chain(custom.keys()).filter(|key| *key != "custom_fields").cloned().collect()
}

/// What is good, few on a line: `group 51000123456 is "Pagos"; fields cf_a, cf_b exist`.
pub fn summary(good: &[String]) -> String {
    let mut fields: Vec<&str> = Vec::new();
    let mut others: BTreeMap<&str, ()> = BTreeMap::new();
    for line in good {
        match line.strip_prefix("field ").and_then(|rest| rest.strip_suffix(" exists")) {
            Some(field) => fields.push(field),
            None => drop(others.insert(line, ())),
        }
    }
    let mut parts: Vec<String> = others.keys().map(|line| (*line).to_owned()).collect();
    match fields.as_slice() {
        [] => {}
        [one] => parts.push(format!("field {one} exists")),
        several => parts.push(format!("fields {} exist", several.join(", "))),
    }
    parts.join("; ")
}
