//! One contact: found by external id, e-mail or phone, filled where it lacks something, made where there is none.
//!
//! **Invariants:** what agents wrote stays: only empty fields are filled, unless the admin says `overwrite`. Lists of
//! contacts are immediate and identifiers unique, so doing all of it twice is as doing it once. Nothing is merged:
//! an identifier that another contact has is left to that one. Agents, deleted and blocked contacts cannot be
//! changed, and need not be.

use super::answer::{Answer, Subject};
use super::client::Client;
use super::failure::Failure;
use super::outcome::{Cause, Outcome};
use super::refusal;
use super::write::{ContactFields, changed_tags};
use serde_json::{Map, Value, json};

/// Answered with 409, a contact is changed once more without what others have.
const TRIES: usize = 2;

type Done<T> = Result<T, Outcome>;

impl Client {
    /// See `Desk::put_contact`.
    pub(super) fn find_and_fill(&self, fields: &ContactFields) -> Done<()> {
        if let Some(contact) = self.find_contact(fields)? {
            return self.fill(&self.whole(contact, fields)?, fields);
        }
        let made = self.post("/api/v2/contacts", &Value::Object(wanted(fields)));
        let answer = answered(made)?;
        match answer.status {
            201 => Ok(()),
            409 => self.fill_owner(&answer, fields),
            _ => Err(failed(&answer)),
        }
    }

    fn find_contact(&self, fields: &ContactFields) -> Done<Option<Value>> {
        let who = &fields.requester;
        for (filter, value) in [("unique_external_id", &who.external_id), ("email", &who.email)] {
            let Some(value) = value else { continue };
            let found = self.list(filter, value)?;
            if let [contact] = found.as_slice() {
                return Ok(Some(contact.clone()));
            }
        }
        let Some(phone) = &who.phone else { return Ok(None) };
        let mut found = self.list("phone", phone)?;
        found.extend(self.list("mobile", phone)?);
        found.sort_by_key(|contact| contact["id"].as_u64());
        found.dedup_by_key(|contact| contact["id"].as_u64());
        // A family or an office shares a phone: whoever has another address or id is somebody else.
        found.retain(|contact| agrees(contact, "email", &who.email));
        found.retain(|contact| agrees(contact, "unique_external_id", &who.external_id));
        Ok(if found.len() == 1 { found.pop() } else { None })
    }

    /// Contacts with this identifier, neither deleted nor blocked. The filter by external id is undocumented: an
    /// account that does not know it has nobody there.
    fn list(&self, filter: &str, value: &str) -> Done<Vec<Value>> {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair(filter, value).finish();
        let answer = self.ask(&format!("/api/v2/contacts?{query}"))?;
        match answer.status {
            200 => answer.json().ok_or_else(|| unreadable(&answer)),
            400 => Ok(Vec::new()),
            _ => Err(asked(&answer)),
        }
    }

    /// A row of a list that does not show what is to be changed is fetched, or its tags would be lost.
    fn whole(&self, row: Value, fields: &ContactFields) -> Done<Value> {
        let shows =
            |name: &str, is_wanted: bool| !is_wanted || row.get(name).is_some_and(|value| !value.is_null());
        if shows("tags", !fields.tags_add.is_empty())
            && shows("custom_fields", !fields.custom_fields.is_empty())
        {
            return Ok(row);
        }
        let answer = self.ask(&format!("/api/v2/contacts/{}", row["id"]))?;
        match answer.status {
            200 => answer.json().ok_or_else(|| unreadable(&answer)),
            _ => Err(asked(&answer)),
        }
    }

    /// The contact that has an identifier already, though no list shows it.
    fn fill_owner(&self, answer: &Answer, fields: &ContactFields) -> Done<()> {
        let owner = refusal::duplicates(answer.json().as_ref()).into_iter().find_map(|(_, owner)| owner);
        let Some(owner) = owner else { return Err(failed(answer)) };
        let found = self.ask(&format!("/api/v2/contacts/{owner}"))?;
        match found.status {
            200 => self.fill(&found.json().ok_or_else(|| unreadable(&found))?, fields),
            // An agent.
            404 => {
                log::info!("contact left as it is: user {owner} is an agent");
                Ok(())
            }
            _ => Err(asked(&found)),
        }
    }

    fn fill(&self, contact: &Value, fields: &ContactFields) -> Done<()> {
        let id = contact["id"].as_u64().unwrap_or_default();
        let mut changes = changes(contact, fields);
        for _ in 0..TRIES {
            if changes.is_empty() || contact["deleted"] == true {
                return Ok(());
            }
            let put = self.put(&format!("/api/v2/contacts/{id}"), &Value::Object(changes.clone()));
            let answer = answered(put)?;
            match answer.status {
                200 => return Ok(()),
                // An agent; a contact that is deleted or blocked.
                404 | 405 => {
                    log::info!("contact left as it is: user {id} cannot be changed ({})", answer.status);
                    return Ok(());
                }
                409 => {
                    let taken = refusal::duplicates(answer.json().as_ref());
                    let before = changes.len();
                    changes.retain(|name, _| !taken.iter().any(|(field, _)| field == name));
                    if changes.len() == before {
                        return Err(failed(&answer));
                    }
                }
                _ => return Err(failed(&answer)),
            }
        }
        Ok(())
    }
}

/// All that is known, as `POST /contacts` takes it.
fn wanted(fields: &ContactFields) -> Map<String, Value> {
    let who = &fields.requester;
    // Freshdesk demands a name.
    let known_as = [&who.name, &who.email, &who.phone, &who.external_id];
    let name = known_as.into_iter().flatten().next();
    let texts = [
        ("name", name),
        ("email", who.email.as_ref()),
        ("phone", who.phone.as_ref()),
        ("mobile", fields.mobile.as_ref()),
        ("unique_external_id", who.external_id.as_ref()),
        ("job_title", fields.job_title.as_ref()),
        ("address", fields.address.as_ref()),
        ("description", fields.description.as_ref()),
    ];
    let mut wanted: Map<String, Value> =
        texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text?)))).collect();
    if !fields.tags_add.is_empty() {
        wanted.insert("tags".to_owned(), json!(fields.tags_add));
    }
    if !fields.custom_fields.is_empty() {
        wanted.insert("custom_fields".to_owned(), Value::Object(fields.custom_fields.clone()));
    }
    wanted
}

/// What `PUT /contacts/{id}` is to change.
fn changes(contact: &Value, fields: &ContactFields) -> Map<String, Value> {
    let mut wanted = wanted(fields);
    let may_set = |has: &Value, value: &Value| is_empty(has) || fields.overwrite && has != value;
    let name_is_ours = fields.requester.name.is_some() && is_derived(contact);
    // A name that we would only make up replaces none.
    if fields.requester.name.is_none() || !(name_is_ours || may_set(&contact["name"], &wanted["name"])) {
        wanted.remove("name");
    }
    // Freshdesk derived the number from what a ticket said, or an agent put it into the other field.
    let has_phone = |name: &str| !is_empty(&contact[name]) && contact[name] == wanted["phone"];
    if wanted.contains_key("phone") && has_phone("mobile") {
        wanted.remove("phone");
    }
    let tags: Option<Vec<String>> = serde_json::from_value(contact["tags"].clone()).ok();
    if wanted.contains_key("tags") {
        let tags = tags.unwrap_or_default();
        let changed = changed_tags(&tags, &fields.tags_add, &[]);
        match changed == tags {
            true => wanted.remove("tags"),
            false => wanted.insert("tags".to_owned(), json!(changed)),
        };
    }
    if let Some(Value::Object(custom)) = wanted.get_mut("custom_fields") {
        custom.retain(|name, value| may_set(&contact["custom_fields"][name], value));
        if custom.is_empty() {
            wanted.remove("custom_fields");
        }
    }
    wanted.retain(|name, value| {
        matches!(name.as_str(), "name" | "tags" | "custom_fields") || may_set(&contact[name], value)
    });
    wanted
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty())
}

/// Did Freshdesk make the name up from an identifier, because nobody gave one?
fn is_derived(contact: &Value) -> bool {
    let name = contact["name"].as_str().unwrap_or_default().trim();
    let email = contact["email"].as_str().unwrap_or_default();
    let made_of = [
        email,
        email.split('@').next().unwrap_or_default(),
        contact["phone"].as_str().unwrap_or_default(),
        contact["mobile"].as_str().unwrap_or_default(),
        contact["unique_external_id"].as_str().unwrap_or_default(),
    ];
    name.is_empty() || made_of.iter().any(|made_of| made_of.eq_ignore_ascii_case(name))
}

/// The contact has no such identifier, or this one.
fn agrees(contact: &Value, name: &str, value: &Option<String>) -> bool {
    let has = contact[name].as_str().unwrap_or_default();
    has.is_empty() || value.as_deref().is_none_or(|value| value.eq_ignore_ascii_case(has))
}

fn answered(result: Result<Answer, Failure>) -> Done<Answer> {
    result.map_err(|Failure { sent, reason }| match sent {
        true => Outcome::Unknown { reason },
        false => Outcome::Deferred { not_before: None, cause: Cause::Unreachable, reason },
    })
}

/// What the answer to a write comes to; a success that does not look like one is unclear.
fn failed(answer: &Answer) -> Outcome {
    answer.outcome(Subject::Contact)
}

/// What the answer to a question comes to.
fn asked(answer: &Answer) -> Outcome {
    match answer.outcome(Subject::Account) {
        Outcome::Deferred { not_before, cause, reason } => Outcome::Deferred { not_before, cause, reason },
        Outcome::Rejected { reason } => Outcome::Rejected { reason },
        Outcome::Unknown { reason } => Outcome::Deferred { not_before: None, cause: Cause::Server, reason },
        Outcome::Delivered { .. } => unreadable(answer),
    }
}

fn unreadable(answer: &Answer) -> Outcome {
    let reason = format!("{} but the answer is not what Freshdesk sends", answer.status);
    Outcome::Deferred { not_before: None, cause: Cause::Server, reason }
}

/// The contact for people: what is sent when there is none yet.
pub(super) fn preview(fields: &ContactFields) -> Value {
    Value::Object(wanted(fields))
}

#[cfg(test)]
#[path = "contact_tests.rs"]
mod tests;
