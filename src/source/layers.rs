//! One layer's tables compiled into maps, and the maps laid over each other: later wins key by key, lists
//! replace.

use super::problem::{Layer, Origin, Problem, Within};
use super::table::{NoteTable, RequesterTable, Scalar, Text, TicketTable};
use super::template::{Engine, Fault, Rules, Template};
use super::words;
use serde_json::{Number, Value as Json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;

/// One value of a ticket.
#[derive(Clone, Debug)]
pub(super) enum Field {
    /// A number or a flag as written.
    Fixed(Json),
    /// Rendered for each event.
    Template(Arc<Template>),
    /// An expression whose last filter is `int`, `float` or `bool`: sent as what that makes.
    Typed(String),
}

/// A ticket's keys.
#[derive(Clone, Debug, Default)]
pub(super) struct TicketMap {
    /// By key as written: `subject`, `group_id`, …
    pub fields: BTreeMap<&'static str, Field>,
    pub tags: Option<Vec<Arc<Template>>>,
    pub cc_emails: Option<Vec<Arc<Template>>>,
    pub custom_fields: BTreeMap<String, Field>,
}

impl TicketMap {
    /// Lays `upper` over this.
    pub fn overlay(&mut self, upper: TicketMap) {
        self.fields.extend(upper.fields);
        self.custom_fields.extend(upper.custom_fields);
        self.tags = upper.tags.or(self.tags.take());
        self.cc_emails = upper.cc_emails.or(self.cc_emails.take());
    }
}

/// A note's keys.
#[derive(Clone, Debug, Default)]
pub(super) struct NoteMap {
    pub body: Option<Arc<Template>>,
    pub private: Option<bool>,
    pub notify: Option<Vec<Arc<Template>>>,
    /// Nothing is written when the conversation has no ticket yet.
    pub is_ignored_without_ticket: Option<bool>,
}

impl NoteMap {
    /// Lays `upper` over this.
    pub fn overlay(&mut self, upper: NoteMap) {
        self.body = upper.body.or(self.body.take());
        self.private = upper.private.or(self.private);
        self.notify = upper.notify.or(self.notify.take());
        self.is_ignored_without_ticket = upper.is_ignored_without_ticket.or(self.is_ignored_without_ticket);
    }
}

/// The requester's templates.
#[derive(Clone, Debug, Default)]
pub(super) struct RequesterMap {
    pub name: Option<Arc<Template>>,
    pub email: Option<Arc<Template>>,
    pub phone: Option<Arc<Template>>,
    pub external_id: Option<Arc<Template>>,
}

impl RequesterMap {
    /// Lays `upper` over this.
    pub fn overlay(&mut self, upper: RequesterMap) {
        self.name = upper.name.or(self.name.take());
        self.email = upper.email.or(self.email.take());
        self.phone = upper.phone.or(self.phone.take());
        self.external_id = upper.external_id.or(self.external_id.take());
    }
}

/// Compiles tables and gathers what is wrong with them.
pub(super) struct Compiler {
    pub engine: Engine,
    /// Names of the effective finders.
    pub finders: BTreeSet<String>,
    pub problems: Vec<Problem>,
    /// Where each effective key was written.
    pub origins: BTreeMap<String, Origin>,
}

/// A layer and the key of the table in it that is compiled.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub layer: Layer,
    /// `ticket`, `rule[2].ticket`.
    pub table: &'a str,
}

impl Place<'_> {
    fn key(self, key: &str) -> String {
        if self.table.is_empty() { key.to_owned() } else { format!("{}.{key}", self.table) }
    }
}

impl Compiler {
    /// Notes what is wrong with a key.
    pub fn problem(
        &mut self,
        (layer, key, at): (Layer, &str, Option<Range<usize>>),
        what: impl Into<String>,
        help: Option<String>,
    ) {
        let origin = Origin { layer, at };
        self.problems.push(Problem { origin, key: key.to_owned(), what: what.into(), help, within: None });
    }

    fn fault(&mut self, (layer, key): (Layer, &str), text: &Text, fault: Fault) {
        let within = fault.offset.map(|offset| Within::at(text.get_ref(), offset));
        let origin = Origin { layer, at: Some(text.span()) };
        self.problems.push(Problem {
            origin,
            key: key.to_owned(),
            what: fault.what,
            help: fault.help,
            within,
        });
    }

    /// Remembers where the effective value of a key was written; later layers come later.
    pub fn origin(&mut self, (layer, key): (Layer, &str), at: Option<Range<usize>>) {
        self.origins.insert(key.to_owned(), Origin { layer, at });
    }

    /// A template, or nothing and a problem.
    pub fn template(&mut self, place: Place<'_>, key: &str, text: &Text) -> Option<Arc<Template>> {
        let key = place.key(key);
        self.origin((place.layer, &key), Some(text.span()));
        let rules = Rules { finders: &self.finders };
        match self.engine.add((place.layer, &key), text.get_ref(), &rules) {
            Ok(template) => Some(Arc::new(template)),
            Err(fault) => {
                self.fault((place.layer, &key), text, fault);
                None
            }
        }
    }

    /// A condition, or nothing and a problem.
    pub fn condition(&mut self, place: Place<'_>, key: &str, text: &Text) -> Option<Arc<Template>> {
        let key = place.key(key);
        self.origin((place.layer, &key), Some(text.span()));
        let rules = Rules { finders: &self.finders };
        match self.engine.add_condition((place.layer, &key), text.get_ref(), &rules) {
            Ok(template) => Some(Arc::new(template)),
            Err(fault) => {
                self.fault((place.layer, &key), text, fault);
                None
            }
        }
    }

    /// A bare expression whose value is wanted, checked.
    pub fn expression(&mut self, place: Place<'_>, key: &str, text: &Text) -> Option<String> {
        // Compiled as a condition for its checks of names and filters; evaluated from its text.
        self.condition(place, key, text).map(|_| text.get_ref().clone())
    }

    fn templates(
        &mut self,
        place: Place<'_>,
        key: &str,
        texts: Option<&[Text]>,
    ) -> Option<Vec<Arc<Template>>> {
        let texts = texts?;
        let mut templates = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let item = if texts.len() == 1 { key.to_owned() } else { format!("{key}[{}]", index + 1) };
            templates.extend(self.template(place, &item, text));
        }
        self.origin((place.layer, &place.key(key)), texts.first().map(Spanned::span));
        Some(templates)
    }

    /// A `[ticket]` table.
    pub fn ticket(&mut self, place: Place<'_>, table: &TicketTable) -> TicketMap {
        let mut map = TicketMap::default();
        let texts =
            [("subject", &table.subject), ("description", &table.description), ("type", &table.ticket_type)];
        for (key, text) in texts {
            if let Some(template) = text.as_ref().and_then(|text| self.template(place, key, text)) {
                map.fields.insert(key, Field::Template(template));
            }
        }
        let numbers = [
            &table.status,
            &table.priority,
            &table.source,
            &table.group_id,
            &table.product_id,
            &table.responder_id,
            &table.company_id,
            &table.email_config_id,
        ];
        for (numbered, scalar) in words::NUMBERED.iter().zip(numbers) {
            if let Some(field) = scalar.as_ref().and_then(|scalar| self.number(place, numbered, scalar)) {
                map.fields.insert(numbered.key, field);
            }
        }
        map.tags = self.templates(place, "tags", table.tags.as_deref());
        map.cc_emails = self.templates(place, "cc_emails", table.cc_emails.as_deref());
        for (name, scalar) in table.custom_fields.iter().flatten() {
            if let Some(field) = self.custom_field(place, name, scalar) {
                map.custom_fields.insert(name.clone(), field);
            }
        }
        map
    }

    fn number(
        &mut self,
        place: Place<'_>,
        numbered: &words::Numbered,
        scalar: &Spanned<Scalar>,
    ) -> Option<Field> {
        let text = match scalar.get_ref() {
            Scalar::Text(text) => text.clone(),
            Scalar::Number(number) => number.to_string(),
            Scalar::Decimal(_) | Scalar::Flag(_) => String::new(),
        };
        if text.contains('{') {
            let text = Spanned::new(scalar.span(), text);
            return self.template(place, numbered.key, &text).map(Field::Template);
        }
        let key = place.key(numbered.key);
        self.origin((place.layer, &key), Some(scalar.span()));
        let number = numbered.number(&text);
        if number.is_none() {
            let what = format!("expected {}", numbered.allowed());
            self.problem((place.layer, &key, Some(scalar.span())), what, None);
        }
        number.map(|number| Field::Fixed(Json::from(number)))
    }

    fn custom_field(&mut self, place: Place<'_>, name: &str, scalar: &Spanned<Scalar>) -> Option<Field> {
        let key = format!("custom_fields.{name}");
        self.origin((place.layer, &place.key(&key)), Some(scalar.span()));
        match scalar.get_ref() {
            Scalar::Number(number) => Some(Field::Fixed(Json::from(*number))),
            Scalar::Decimal(decimal) => {
                Number::from_f64(*decimal).map(|number| Field::Fixed(Json::Number(number)))
            }
            Scalar::Flag(flag) => Some(Field::Fixed(Json::Bool(*flag))),
            Scalar::Text(text) => {
                let template = self.template(place, &key, &Spanned::new(scalar.span(), text.clone()))?;
                Some(typed_expression(text).map_or(Field::Template(template), Field::Typed))
            }
        }
    }

    /// A `note` table.
    pub fn note(&mut self, place: Place<'_>, table: &NoteTable) -> NoteMap {
        let if_none = table.if_none.as_ref().and_then(|word| match word.get_ref().as_str() {
            "ticket" => Some(false),
            "ignore" => Some(true),
            _ => {
                let key = place.key("if_none");
                self.problem((place.layer, &key, Some(word.span())), "expected ticket or ignore", None);
                None
            }
        });
        NoteMap {
            body: table.body.as_ref().and_then(|text| self.template(place, "body", text)),
            private: table.private,
            notify: self.templates(place, "notify", table.notify.as_deref()),
            is_ignored_without_ticket: if_none,
        }
    }

    /// A `requester` table.
    pub fn requester(&mut self, place: Place<'_>, table: &RequesterTable) -> RequesterMap {
        let mut template =
            |key: &str, text: &Option<Text>| text.as_ref().and_then(|text| self.template(place, key, text));
        RequesterMap {
            name: template("name", &table.name),
            email: template("email", &table.email),
            phone: template("phone", &table.phone),
            external_id: template("external_id", &table.external_id),
        }
    }
}

/// The expression of a template that is nothing but `{{ … | int }}` or the like.
fn typed_expression(text: &str) -> Option<String> {
    let expression = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim_matches('-').trim();
    let filter = expression.rsplit('|').next()?.trim();
    let is_typed = matches!(filter, "int" | "float" | "bool") && expression.contains('|');
    (is_typed && !expression.contains("}}")).then(|| expression.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_explicit_filter_makes_a_number() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(typed_expression(text).as_deref(), expect, "{text}")
        };
        check("{{ event.score | int }}", Some("event.score | int"));
        check("{{ event.score }}", None);
        check("n {{ event.score | int }}", None);
        check("{{ event.a | int }}{{ event.b | int }}", None);
        check("{{ int }}", None);
    }
}
