//! An event to its Freshdesk writes, at delivery.

use super::compile::{Action, Rule};
use super::layers::{Field, NoteMap, TicketMap};
use super::plain::{is_placeholder, one_line, truncate};
use super::template::Template;
use super::view::{StoredEvent, View};
use super::{Source, html, requester, words};
use crate::freshdesk::write::{NoteFields, TicketFields, Write};
use serde_json::{Map, Number, Value as Json};
use std::sync::Arc;
use thiserror::Error;

/// Freshdesk's longest subject.
const SUBJECT_MAX_CHARS: usize = 255;
/// Freshdesk's longest tag, and how many of them.
const TAG_MAX_CHARS: usize = 32;
const TAGS_MAX: usize = 30;

/// Why an event cannot become a write as its source is configured: one line, without customer text.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MappingError {
    /// What was stored is no JSON object.
    #[error("mapping: the stored event is not a JSON object")]
    NotAnObject,
    /// A text that must not be empty is.
    #[error("mapping: {key} rendered empty{}", missing_text(.missing))]
    Empty {
        /// `ticket.subject`.
        key: String,
        /// Names it reads that the event does not have.
        missing: Vec<String>,
    },
    /// Nobody that Freshdesk could answer.
    #[error("mapping: no requester: none of email, phone, external_id found")]
    NoRequester,
    /// A template or condition that failed on this event.
    #[error("mapping: {key} {reason}")]
    Template {
        /// `rule[1].when`.
        key: String,
        /// `invalid operation in line 1`.
        reason: String,
    },
    /// A text where Freshdesk wants one of few words, or a number.
    #[error("mapping: {key} rendered something else than {allowed}")]
    Word {
        /// `ticket.priority`.
        key: String,
        /// `low, medium, high, urgent or a number`.
        allowed: String,
    },
}

fn missing_text(missing: &[String]) -> String {
    match missing.iter().take(3).cloned().collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => names,
        names => format!(" ({names} missing)"),
    }
}

impl From<(String, String)> for MappingError {
    fn from((key, reason): (String, String)) -> MappingError {
        MappingError::Template { key, reason }
    }
}

impl Source {
    /// The writes of an event, in order; none when a filter or a rule ignores it. `ticket` is the ticket its
    /// conversation has already.
    pub fn plan(&self, stored: &StoredEvent<'_>, ticket: Option<u64>) -> Result<Vec<Write>, MappingError> {
        let mut view = self.stored_view(stored)?;
        let (requester, unusable_email) = self.resolve_requester(&view)?;
        view.set_requester(&requester);
        if let Some(keep_if) = &self.texts.keep_if
            && !self.holds(keep_if, &view)?
        {
            return Ok(Vec::new());
        }
        let rule = self.first_rule(&view)?;
        let (action, fields, note) = match rule {
            Some(rule) => (rule.action, &rule.ticket, &rule.note),
            None => (Action::Ticket, &self.ticket, &self.note),
        };
        match (action, ticket) {
            (Action::Ignore, _) => Ok(Vec::new()),
            (_, Some(_)) => Ok(vec![Write::AddNote(self.note_fields(note, &view)?)]),
            (Action::Note, None) if note.is_ignored_without_ticket == Some(true) => Ok(Vec::new()),
            (Action::Ticket | Action::Note, None) => {
                let mut planned = self.ticket_fields(fields, &view)?;
                if !requester::is_somebody(&requester) {
                    return Err(MappingError::NoRequester);
                }
                planned.requester = requester;
                if let Some(email) = unusable_email {
                    mention(&mut planned.description, "Email (not valid)", &email);
                }
                Ok(vec![Write::CreateTicket(Box::new(planned))])
            }
        }
    }

    /// Who asks, in a few words, for listings.
    pub fn requester_label(&self, stored: &StoredEvent<'_>) -> Option<String> {
        let view = self.stored_view(stored).ok()?;
        let (requester, _) = self.resolve_requester(&view).ok()?;
        let label = requester.name.or(requester.email).or(requester.phone).or(requester.external_id);
        label.map(|label| truncate(&label, 60))
    }

    pub(super) fn stored_view(&self, stored: &StoredEvent<'_>) -> Result<View, MappingError> {
        let event: Json = serde_json::from_slice(stored.body).map_err(|_| MappingError::NotAnObject)?;
        if !event.is_object() {
            return Err(MappingError::NotAnObject);
        }
        let around = self.stored_surroundings(stored.context, stored.received_at);
        let failed = |reason| MappingError::Template { key: "kind".to_owned(), reason };
        self.view(Arc::new(event), &around).map_err(failed)
    }

    /// The first rule whose condition holds: the admin's before the preset's.
    pub(super) fn first_rule(&self, view: &View) -> Result<Option<&Rule>, MappingError> {
        for rule in &self.rules {
            let holds = match &rule.when {
                Some(condition) => self.holds(condition, view)?,
                None => true,
            };
            if holds {
                return Ok(Some(rule));
            }
        }
        Ok(None)
    }

    fn holds(&self, condition: &Template, view: &View) -> Result<bool, MappingError> {
        let failed = |reason| MappingError::Template { key: condition.key.clone(), reason };
        self.engine.holds(condition, &view.context).map_err(failed)
    }

    fn render(&self, template: &Template, view: &View) -> Result<String, MappingError> {
        let failed = |reason| MappingError::Template { key: template.key.clone(), reason };
        self.engine.render(template, &view.context).map_err(failed)
    }

    fn note_fields(&self, note: &NoteMap, view: &View) -> Result<NoteFields, MappingError> {
        let body = match &note.body {
            Some(template) => self.html(template, view)?,
            None => return Err(MappingError::Empty { key: "note.body".to_owned(), missing: Vec::new() }),
        };
        let notify = self.render_all(note.notify.as_deref(), view)?;
        Ok(NoteFields {
            body,
            private: note.private.unwrap_or(true),
            notify_emails: requester::addresses(&notify),
        })
    }

    /// HTML with something to read in it.
    fn html(&self, template: &Template, view: &View) -> Result<String, MappingError> {
        let rendered = self.render(template, view)?;
        if html::has_text(&rendered) {
            return Ok(rendered);
        }
        Err(MappingError::Empty { key: template.key.clone(), missing: template.missing(&view.context) })
    }

    fn ticket_fields(&self, map: &TicketMap, view: &View) -> Result<TicketFields, MappingError> {
        let (subject, description) = self.subject_and_description(map, view)?;
        let number = |key: &'static str| self.number(map, key, view);
        Ok(TicketFields {
            subject,
            description,
            status: number("status")?,
            priority: number("priority")?,
            source: number("source")?,
            group_id: number("group_id")?,
            product_id: number("product_id")?,
            responder_id: number("responder_id")?,
            company_id: number("company_id")?,
            email_config_id: number("email_config_id")?,
            ticket_type: self.text(map, "type", view)?,
            tags: tags(&self.render_all(map.tags.as_deref(), view)?),
            custom_fields: self.custom_fields(map, view)?,
            cc_emails: requester::addresses(&self.render_all(map.cc_emails.as_deref(), view)?),
            ..TicketFields::default()
        })
    }

    /// A subject that is too long is cut, and stands in full before the description.
    fn subject_and_description(
        &self,
        map: &TicketMap,
        view: &View,
    ) -> Result<(String, String), MappingError> {
        let empty = |key: &str| MappingError::Empty { key: key.to_owned(), missing: Vec::new() };
        let Some(Field::Template(subject)) = map.fields.get("subject") else {
            return Err(empty("ticket.subject"));
        };
        let full = one_line(&self.render(subject, view)?);
        if is_placeholder(&full) {
            let missing = subject.missing(&view.context);
            return Err(MappingError::Empty { key: subject.key.clone(), missing });
        }
        let Some(Field::Template(description)) = map.fields.get("description") else {
            return Err(empty("ticket.description"));
        };
        let mut description = self.html(description, view)?;
        let cut = truncate(&full, SUBJECT_MAX_CHARS);
        if cut != full {
            description = format!("<b>Subject:</b> {}<br>\n<br>\n{description}", html::escape(&full));
        }
        Ok((cut, description))
    }

    fn number(&self, map: &TicketMap, key: &'static str, view: &View) -> Result<Option<u64>, MappingError> {
        let template = match map.fields.get(key) {
            None | Some(Field::Typed(_)) => return Ok(None),
            Some(Field::Fixed(fixed)) => return Ok(fixed.as_u64()),
            Some(Field::Template(template)) => template,
        };
        let text = self.render(template, view)?;
        if is_placeholder(&text) {
            return Ok(None);
        }
        let Some(numbered) = words::numbered(key) else { return Ok(None) };
        let wrong = || MappingError::Word { key: template.key.clone(), allowed: numbered.allowed() };
        numbered.number(&text).map(Some).ok_or_else(wrong)
    }

    fn text(&self, map: &TicketMap, key: &'static str, view: &View) -> Result<Option<String>, MappingError> {
        let Some(Field::Template(template)) = map.fields.get(key) else { return Ok(None) };
        let text = one_line(&self.render(template, view)?);
        Ok(Some(text).filter(|text| !is_placeholder(text)))
    }

    fn custom_fields(&self, map: &TicketMap, view: &View) -> Result<Map<String, Json>, MappingError> {
        let mut fields = Map::new();
        for (name, field) in &map.custom_fields {
            let value = match field {
                Field::Fixed(fixed) => fixed.clone(),
                Field::Template(template) => {
                    let text = self.render(template, view)?;
                    let text: String =
                        text.trim().chars().filter(|c| !c.is_control() || *c == '\n').collect();
                    Json::String(text)
                }
                Field::Typed(expression) => {
                    let failed = |reason| (format!("ticket.custom_fields.{name}"), reason);
                    let value = self.engine.evaluate(expression, &view.context).map_err(failed)?;
                    typed(&value)
                }
            };
            if !value.is_null() && value.as_str().is_none_or(|text| !is_placeholder(text)) {
                fields.insert(name.clone(), value);
            }
        }
        Ok(fields)
    }

    fn render_all(
        &self,
        templates: Option<&[Arc<Template>]>,
        view: &View,
    ) -> Result<Vec<String>, MappingError> {
        templates.unwrap_or_default().iter().map(|template| self.render(template, view)).collect()
    }
}

/// What a filter like `int` made, as JSON.
fn typed(value: &minijinja::Value) -> Json {
    if let Some(integer) = value.as_i64().filter(|_| value.is_integer()) {
        return Json::from(integer);
    }
    match value.kind() {
        minijinja::value::ValueKind::Bool => Json::Bool(value.is_true()),
        minijinja::value::ValueKind::Number => {
            let decimal: Option<f64> = value.to_string().parse().ok();
            decimal.and_then(Number::from_f64).map_or(Json::Null, Json::Number)
        }
        _ => Json::Null,
    }
}

/// Tags as Freshdesk takes them: one line, no commas, at most 32 characters, each once, at most 30.
fn tags(rendered: &[String]) -> Vec<String> {
    let mut tags: Vec<String> = Vec::new();
    for word in rendered.iter().flat_map(|text| text.split([',', '\n'])) {
        let tag: String = one_line(word).chars().take(TAG_MAX_CHARS).collect();
        let tag = tag.trim_end().to_owned();
        let is_new = !tags.iter().any(|other| other.to_lowercase() == tag.to_lowercase());
        if !is_placeholder(&tag) && is_new && tags.len() < TAGS_MAX {
            tags.push(tag);
        }
    }
    tags
}

/// Adds a line to a description that does not say it yet.
fn mention(description: &mut String, label: &str, text: &str) {
    let escaped = html::escape(&truncate(&one_line(text), 200));
    if !escaped.is_empty() && !description.contains(&escaped) {
        description.push_str(&format!("<br>\n<b>{label}:</b> {escaped}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_what_freshdesk_takes() {
        let check = |rendered: &[&str], expect: &[&str]| {
            let rendered: Vec<String> = rendered.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(tags(&rendered), expect);
        };
        check(&["a,b , A", "", "undefined", "c\nd"], &["a", "b", "c", "d"]);
        check(&[&"x".repeat(40)], &[&"x".repeat(32)]);
        let many: Vec<String> = (0..40).map(|n| format!("t{n}")).collect();
        assert_eq!(tags(&many).len(), TAGS_MAX);
    }
}
