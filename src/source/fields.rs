//! What the planned writes carry: each map of templates rendered for one event, as Freshdesk takes it.

use super::layers::{ContactMap, Field, NoteMap, TicketMap, UpdateMap};
use super::plain::{is_placeholder, one_line, truncate};
use super::plan::MappingError;
use super::requester::{self, Rendered};
use super::template::Template;
use super::view::{Asking, View};
use super::{Source, html, phone, words};
use crate::freshdesk::write::{Attachment, ContactFields, NoteFields, Requester, TicketFields, UpdateFields};
use serde_json::{Map, Number, Value as Json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Freshdesk's longest subject.
const SUBJECT_MAX_CHARS: usize = 255;
/// Freshdesk's longest tag, and how many of them.
const TAG_MAX_CHARS: usize = 32;
const TAGS_MAX: usize = 30;
/// Texts of a contact are cut here.
const CONTACT_TEXT_MAX_CHARS: usize = 2000;

impl Source {
    /// A note.
    pub(super) fn note_fields(&self, note: &NoteMap, view: &View) -> Result<NoteFields, MappingError> {
        let (body, files) = match &note.body {
            Some(template) => self.html(template, view)?,
            None => return Err(MappingError::Empty { key: "note.body".to_owned(), missing: Vec::new() }),
        };
        let notify = self.render_all(note.notify.as_deref(), view)?;
        let reply = note.reply == Some(true);
        Ok(NoteFields {
            body,
            private: note.private.unwrap_or(true) && !reply,
            notify_emails: if reply { Vec::new() } else { requester::addresses(&notify) },
            reply,
            attachments: files,
            ..NoteFields::default()
        })
    }

    /// HTML with something to read in it, and the file of a transcript that is too long for it.
    fn html(&self, template: &Template, view: &View) -> Result<(String, Vec<Attachment>), MappingError> {
        let failed = |reason| MappingError::Template { key: template.key.clone(), reason };
        let (rendered, whole) = self.engine.render_with_file(template, &view.context).map_err(failed)?;
        if html::has_text(&rendered) {
            let file = |whole: String| Attachment {
                name: "transcript.txt".to_owned(),
                content_type: "text/plain; charset=utf-8",
                bytes: whole.into_bytes(),
            };
            return Ok((rendered, whole.map(file).into_iter().collect()));
        }
        Err(MappingError::Empty { key: template.key.clone(), missing: template.missing(&view.context) })
    }

    /// A ticket, its requester excepted.
    pub(super) fn ticket_fields(&self, map: &TicketMap, view: &View) -> Result<TicketFields, MappingError> {
        let (subject, description, attachments) = self.subject_and_description(map, view)?;
        let number = |key: &'static str| self.number(&map.fields, key, view);
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
            ticket_type: self.text(&map.fields, "type", view)?,
            tags: tags(&self.render_all(map.tags.as_deref(), view)?),
            custom_fields: self.custom_fields(("ticket", &map.custom_fields), view)?,
            cc_emails: requester::addresses(&self.render_all(map.cc_emails.as_deref(), view)?),
            attachments,
            ..TicketFields::default()
        })
    }

    /// What changes in a ticket.
    pub(super) fn update_fields(&self, map: &UpdateMap, view: &View) -> Result<UpdateFields, MappingError> {
        let number = |key: &'static str| self.number(&map.fields, key, view);
        Ok(UpdateFields {
            status: number("status")?,
            priority: number("priority")?,
            ticket_type: self.text(&map.fields, "type", view)?,
            group_id: number("group_id")?,
            product_id: number("product_id")?,
            responder_id: number("responder_id")?,
            tags_add: tags(&self.render_all(map.tags_add.as_deref(), view)?),
            tags_remove: tags(&self.render_all(map.tags_remove.as_deref(), view)?),
            custom_fields: self.custom_fields(("update", &map.custom_fields), view)?,
        })
    }

    /// A contact: who asks, unless its own keys say otherwise.
    pub(super) fn contact_fields(
        &self,
        map: &ContactMap,
        asking: &Asking,
        view: &View,
    ) -> Result<ContactFields, MappingError> {
        let text = |key: &str| -> Result<Option<String>, MappingError> {
            let Some(template) = map.fields.get(key) else { return Ok(None) };
            let text = truncate(self.render(template, view)?.trim(), CONTACT_TEXT_MAX_CHARS);
            Ok(Some(text).filter(|text| !is_placeholder(text)))
        };
        let own = Rendered {
            name: text("name")?.unwrap_or_default(),
            email: text("email")?.unwrap_or_default(),
            phone: text("phone")?.unwrap_or_default(),
            external_id: text("external_id")?.unwrap_or_default(),
        };
        let named = !own.name.is_empty();
        let own = requester::normalise(&own, &self.name, self.country);
        let (theirs, mobile) = (asking.requester.clone(), text("mobile")?);
        Ok(ContactFields {
            requester: Requester {
                name: own.name.filter(|_| named).or(theirs.name),
                email: own.email.or(theirs.email),
                phone: own.phone.or(theirs.phone),
                external_id: own.external_id.or(theirs.external_id),
            },
            mobile: mobile.and_then(|number| phone::normalise(&number, self.country)),
            job_title: text("job_title")?.map(|text| one_line(&text)),
            address: text("address")?,
            description: text("description")?,
            tags_add: tags(&self.render_all(map.tags_add.as_deref(), view)?),
            custom_fields: self.custom_fields(("contact", &map.custom_fields), view)?,
            overwrite: map.overwrite == Some(true),
        })
    }

    /// A subject that is too long is cut, and stands in full before the description.
    fn subject_and_description(
        &self,
        map: &TicketMap,
        view: &View,
    ) -> Result<(String, String, Vec<Attachment>), MappingError> {
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
        let (mut description, files) = self.html(description, view)?;
        let cut = truncate(&full, SUBJECT_MAX_CHARS);
        if cut != full {
            description = format!("<b>Subject:</b> {}<br>\n<br>\n{description}", html::escape(&full));
        }
        Ok((cut, description, files))
    }

    fn number(
        &self,
        fields: &BTreeMap<&'static str, Field>,
        key: &'static str,
        view: &View,
    ) -> Result<Option<u64>, MappingError> {
        let template = match fields.get(key) {
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

    fn text(
        &self,
        fields: &BTreeMap<&'static str, Field>,
        key: &'static str,
        view: &View,
    ) -> Result<Option<String>, MappingError> {
        let Some(Field::Template(template)) = fields.get(key) else { return Ok(None) };
        let text = one_line(&self.render(template, view)?);
        Ok(Some(text).filter(|text| !is_placeholder(text)))
    }

    fn custom_fields(
        &self,
        (table, written): (&str, &BTreeMap<String, Field>),
        view: &View,
    ) -> Result<Map<String, Json>, MappingError> {
        let mut fields = Map::new();
        for (name, field) in written {
            let value = match field {
                Field::Fixed(fixed) => fixed.clone(),
                Field::Template(template) => {
                    let text = self.render(template, view)?;
                    let text: String =
                        text.trim().chars().filter(|c| !c.is_control() || *c == '\n').collect();
                    Json::String(text)
                }
                Field::Typed(expression) => {
                    let failed = |reason| (format!("{table}.custom_fields.{name}"), reason);
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
