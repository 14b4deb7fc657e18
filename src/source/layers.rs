//! One layer's tables compiled into maps, and the maps laid over each other: later wins key by key, lists
//! replace.

use super::problem::{Layer, Origin, Problem, Within};
use super::table::{
    ContactTable, FollowupTable, NoteTable, RequesterTable, Scalar, Text, TicketTable, UpdateTable,
};
use super::template::{Engine, Fault, Rules, Template};
use super::words;
use serde_json::{Number, Value as Json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// A chat's burst is over sooner, and a customer should not wait longer.
const MERGE_MAX: Duration = Duration::from_secs(3600);

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
    pub reply: Option<bool>,
    /// Nothing is written when the conversation has no ticket yet.
    pub is_ignored_without_ticket: Option<bool>,
}

impl NoteMap {
    /// Lays `upper` over this.
    pub fn overlay(&mut self, upper: NoteMap) {
        self.body = upper.body.or(self.body.take());
        self.private = upper.private.or(self.private);
        self.notify = upper.notify.or(self.notify.take());
        self.reply = upper.reply.or(self.reply);
        self.is_ignored_without_ticket = upper.is_ignored_without_ticket.or(self.is_ignored_without_ticket);
    }
}

/// What an update changes; without layers below, because each rule says all of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct UpdateMap {
    /// By key as written: `status`, `group_id`, `type`, …
    pub fields: BTreeMap<&'static str, Field>,
    pub tags_add: Option<Vec<Arc<Template>>>,
    pub tags_remove: Option<Vec<Arc<Template>>>,
    pub custom_fields: BTreeMap<String, Field>,
    /// A ticket is opened when the conversation has none yet.
    pub opens_ticket: bool,
}

impl UpdateMap {
    /// Is there any key that could change a ticket?
    pub fn changes_something(&self) -> bool {
        let has = |tags: &Option<Vec<Arc<Template>>>| tags.as_ref().is_some_and(|tags| !tags.is_empty());
        !self.fields.is_empty()
            || !self.custom_fields.is_empty()
            || has(&self.tags_add)
            || has(&self.tags_remove)
    }
}

/// A contact's keys.
#[derive(Clone, Debug, Default)]
pub(super) struct ContactMap {
    /// By key as written: `name`, `job_title`, …
    pub fields: BTreeMap<&'static str, Arc<Template>>,
    pub tags_add: Option<Vec<Arc<Template>>>,
    pub custom_fields: BTreeMap<String, Field>,
    pub overwrite: Option<bool>,
}

impl ContactMap {
    /// Lays `upper` over this.
    pub fn overlay(&mut self, upper: ContactMap) {
        self.fields.extend(upper.fields);
        self.custom_fields.extend(upper.custom_fields);
        self.tags_add = upper.tags_add.or(self.tags_add.take());
        self.overwrite = upper.overwrite.or(self.overwrite);
    }
}

/// What becomes of a conversation's later events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FollowupMap {
    /// A resolved, closed or deleted ticket gets a successor; else it is opened again.
    pub opens_new_ticket: Option<bool>,
    /// How long a note waits for others.
    pub merge: Option<Duration>,
}

impl FollowupMap {
    /// Lays `upper` over this.
    pub fn overlay(&mut self, upper: FollowupMap) {
        self.opens_new_ticket = upper.opens_new_ticket.or(self.opens_new_ticket);
        self.merge = upper.merge.or(self.merge);
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
            ("status", &table.status),
            ("priority", &table.priority),
            ("source", &table.source),
            ("group_id", &table.group_id),
            ("product_id", &table.product_id),
            ("responder_id", &table.responder_id),
            ("company_id", &table.company_id),
            ("email_config_id", &table.email_config_id),
        ];
        self.numbers(place, &numbers, &mut map.fields);
        map.tags = self.templates(place, "tags", table.tags.as_deref());
        map.cc_emails = self.templates(place, "cc_emails", table.cc_emails.as_deref());
        map.custom_fields = self.custom_fields(place, table.custom_fields.as_ref());
        if let Some(zone) = table.time_zone.as_ref().filter(|_| place.table != "ticket") {
            let what =
                "belongs to [ticket] or to the source's ticket table, because templates are not a rule's own";
            self.problem((place.layer, &place.key("time_zone"), Some(zone.span())), what, None);
        }
        map
    }

    fn numbers(
        &mut self,
        place: Place<'_>,
        written: &[(&str, &Option<Spanned<Scalar>>)],
        fields: &mut BTreeMap<&'static str, Field>,
    ) {
        for (key, scalar) in written {
            let numbered = words::numbered(key).expect("every key of these tables is in the list");
            if let Some(field) = scalar.as_ref().and_then(|scalar| self.number(place, numbered, scalar)) {
                fields.insert(numbered.key, field);
            }
        }
    }

    fn custom_fields(
        &mut self,
        place: Place<'_>,
        table: Option<&BTreeMap<String, Spanned<Scalar>>>,
    ) -> BTreeMap<String, Field> {
        let mut fields = BTreeMap::new();
        for (name, scalar) in table.into_iter().flatten() {
            if let Some(field) = self.custom_field(place, name, scalar) {
                fields.insert(name.clone(), field);
            }
        }
        fields
    }

    /// A rule's `update` table.
    pub fn update(&mut self, place: Place<'_>, table: &UpdateTable) -> UpdateMap {
        let mut map = UpdateMap::default();
        if let Some(template) = table.ticket_type.as_ref().and_then(|text| self.template(place, "type", text))
        {
            map.fields.insert("type", Field::Template(template));
        }
        let numbers = [
            ("status", &table.status),
            ("priority", &table.priority),
            ("group_id", &table.group_id),
            ("product_id", &table.product_id),
            ("responder_id", &table.responder_id),
        ];
        self.numbers(place, &numbers, &mut map.fields);
        map.tags_add = self.templates(place, "tags_add", table.tags_add.as_deref());
        map.tags_remove = self.templates(place, "tags_remove", table.tags_remove.as_deref());
        map.custom_fields = self.custom_fields(place, table.custom_fields.as_ref());
        map.opens_ticket = self.word(place, "if_none", &table.if_none, ["ticket", "ignore"]) == Some(0);
        map
    }

    /// A `contact` table.
    pub fn contact(&mut self, place: Place<'_>, table: &ContactTable) -> ContactMap {
        let texts = [
            ("name", &table.name),
            ("email", &table.email),
            ("phone", &table.phone),
            ("mobile", &table.mobile),
            ("external_id", &table.external_id),
            ("job_title", &table.job_title),
            ("address", &table.address),
            ("description", &table.description),
        ];
        let mut map = ContactMap { overwrite: table.overwrite, ..ContactMap::default() };
        for (key, text) in texts {
            if let Some(template) = text.as_ref().and_then(|text| self.template(place, key, text)) {
                map.fields.insert(key, template);
            }
        }
        map.tags_add = self.templates(place, "tags_add", table.tags_add.as_deref());
        map.custom_fields = self.custom_fields(place, table.custom_fields.as_ref());
        map
    }

    /// A `followup` table.
    pub fn followup(&mut self, place: Place<'_>, table: &FollowupTable) -> FollowupMap {
        let when_closed = self.word(place, "when_closed", &table.when_closed, ["reopen", "new-ticket"]);
        let merge = table.merge.as_ref().and_then(|text| {
            let merge = words::duration(text.get_ref()).filter(|merge| *merge <= MERGE_MAX);
            if merge.is_none() {
                let key = place.key("merge");
                let what = "expected a duration from 0s to 1h, like \"2m\"";
                self.problem((place.layer, &key, Some(text.span())), what, None);
            }
            merge
        });
        FollowupMap { opens_new_ticket: when_closed.map(|index| index == 1), merge }
    }

    /// Which of two words stands there.
    fn word(
        &mut self,
        place: Place<'_>,
        key: &str,
        word: &Option<Spanned<String>>,
        allowed: [&str; 2],
    ) -> Option<usize> {
        let word = word.as_ref()?;
        let index = allowed.iter().position(|allowed| allowed == word.get_ref());
        let key = place.key(key);
        self.origin((place.layer, &key), Some(word.span()));
        if index.is_none() {
            let what = format!("expected {} or {}", allowed[0], allowed[1]);
            self.problem((place.layer, &key, Some(word.span())), what, None);
        }
        index
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
        let if_none = self.word(place, "if_none", &table.if_none, ["ticket", "ignore"]);
        self.check_reply(place, table);
        NoteMap {
            body: table.body.as_ref().and_then(|text| self.template(place, "body", text)),
            private: table.private,
            notify: self.templates(place, "notify", table.notify.as_deref()),
            reply: table.reply.as_ref().map(|reply| *reply.get_ref()),
            is_ignored_without_ticket: if_none.map(|index| index == 1),
        }
    }

    /// A reply goes to the customer: it can be neither private nor for agents.
    fn check_reply(&mut self, place: Place<'_>, table: &NoteTable) {
        let Some(reply) = table.reply.as_ref().filter(|reply| *reply.get_ref()) else { return };
        let against = [("private = true", table.private == Some(true)), ("notify", table.notify.is_some())];
        for (other, _) in against.into_iter().filter(|(_, is_there)| *is_there) {
            let what = format!("a reply goes to the customer by e-mail, so {other} does not go with it");
            self.problem((place.layer, &place.key("reply"), Some(reply.span())), what, None);
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
