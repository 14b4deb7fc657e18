//! Tickets and contacts as others see them: the JSON of the API, and plain structs for tests.

use super::form::CustomField;
use super::state::State;
use super::store::{Attachment, Contact, Conversation, Ticket};
use crate::clock::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A ticket with everything that hangs on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TicketView {
    /// Its number, from 1.
    pub id: u64,
    /// Plain text.
    pub subject: String,
    /// Sanitised HTML.
    pub description: String,
    /// The text of it.
    pub description_text: String,
    /// 2 open, 3 pending, 4 resolved, 5 closed.
    pub status: u64,
    /// 1 low to 4 urgent.
    pub priority: u64,
    /// Where it came from.
    pub source: u64,
    /// Sent as `type`.
    #[serde(rename = "type")]
    pub ticket_type: Option<String>,
    /// The group that has it.
    pub group_id: Option<u64>,
    /// The agent who has it.
    pub responder_id: Option<u64>,
    /// The product it is about.
    pub product_id: Option<u64>,
    /// Who asks.
    pub requester: RequesterView,
    /// Tags in the order they were sent.
    pub tags: Vec<String>,
    /// Addresses in copy.
    pub cc_emails: Vec<String>,
    /// The account's own fields that are set.
    pub custom_fields: Map<String, Value>,
    /// Whether it is spam.
    pub spam: bool,
    /// Whether it is deleted.
    pub deleted: bool,
    /// Files that came with it.
    pub attachments: Vec<AttachmentView>,
    /// Notes and replies, oldest first.
    pub notes: Vec<NoteView>,
    /// When it was created.
    #[serde(serialize_with = "as_text")]
    pub created_at: Timestamp,
    /// When it was changed.
    #[serde(serialize_with = "as_text")]
    pub updated_at: Timestamp,
}

/// Who asks: a contact, or an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RequesterView {
    /// The contact's or agent's number.
    pub id: u64,
    /// Shown name.
    pub name: Option<String>,
    /// Address.
    pub email: Option<String>,
    /// Phone.
    pub phone: Option<String>,
    /// `unique_external_id`.
    pub unique_external_id: Option<String>,
}

/// A note or a reply.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoteView {
    /// Its number.
    pub id: u64,
    /// Sanitised HTML.
    pub body: String,
    /// The text of it.
    pub body_text: String,
    /// Whether only agents see it.
    pub private: bool,
    /// Whether it is shown as the customer's.
    pub incoming: bool,
    /// Whether it is a reply, which was mailed to the requester.
    pub reply: bool,
    /// Who wrote it.
    pub user_id: Option<u64>,
    /// Whom a note was announced to.
    pub notify_emails: Vec<String>,
    /// Files that came with it.
    pub attachments: Vec<AttachmentView>,
    /// When it was written.
    #[serde(serialize_with = "as_text")]
    pub created_at: Timestamp,
}

/// A file of a ticket or a note.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttachmentView {
    /// File name.
    pub name: String,
    /// Content type.
    pub content_type: String,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// A contact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ContactView {
    /// Its number.
    pub id: u64,
    /// Shown name.
    pub name: Option<String>,
    /// Address.
    pub email: Option<String>,
    /// Phone.
    pub phone: Option<String>,
    /// Mobile phone.
    pub mobile: Option<String>,
    /// `unique_external_id`.
    pub unique_external_id: Option<String>,
    /// Whether it is deleted.
    pub deleted: bool,
    /// Whether it is blocked.
    pub blocked: bool,
}

fn as_text<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(moment)
}

impl TicketView {
    pub(crate) fn of(state: &State, ticket: &Ticket) -> TicketView {
        let custom = ticket.fields.get("custom_fields").and_then(Value::as_object);
        let set = custom.into_iter().flatten().filter(|(_, value)| !value.is_null());
        TicketView {
            id: ticket.id,
            subject: ticket.text("subject").to_owned(),
            description: ticket.text("description").to_owned(),
            description_text: ticket.text("description_text").to_owned(),
            status: ticket.number("status").unwrap_or_default(),
            priority: ticket.number("priority").unwrap_or_default(),
            source: ticket.number("source").unwrap_or_default(),
            ticket_type: ticket.fields.get("type").and_then(Value::as_str).map(str::to_owned),
            group_id: ticket.number("group_id"),
            responder_id: ticket.number("responder_id"),
            product_id: ticket.number("product_id"),
            requester: requester(state, ticket.requester_id),
            tags: ticket.tags(),
            cc_emails: texts(&ticket.fields, "cc_emails"),
            custom_fields: set.map(|(name, value)| (name.clone(), value.clone())).collect(),
            spam: ticket.spam,
            deleted: ticket.deleted,
            attachments: ticket.attachments.iter().map(AttachmentView::of).collect(),
            notes: ticket.conversations.iter().map(NoteView::of).collect(),
            created_at: ticket.created_at,
            updated_at: ticket.updated_at,
        }
    }
}

impl NoteView {
    fn of(note: &Conversation) -> NoteView {
        let text = |name: &str| note.fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let flag = |name: &str| note.fields.get(name) == Some(&Value::Bool(true));
        NoteView {
            id: note.id,
            body: text("body"),
            body_text: text("body_text"),
            private: flag("private"),
            incoming: flag("incoming"),
            reply: note.fields.get("source").and_then(Value::as_u64) == Some(0),
            user_id: note.fields.get("user_id").and_then(Value::as_u64),
            notify_emails: texts(&note.fields, "to_emails"),
            attachments: note.attachments.iter().map(AttachmentView::of).collect(),
            created_at: note.created_at,
        }
    }
}

impl AttachmentView {
    fn of(attachment: &Attachment) -> AttachmentView {
        let (name, content_type) = (attachment.name.clone(), attachment.content_type.clone());
        AttachmentView { name, content_type, size_bytes: attachment.size_bytes }
    }
}

impl ContactView {
    pub(crate) fn of(contact: &Contact) -> ContactView {
        let text = |name: &str| contact.text(name).map(str::to_owned);
        ContactView {
            id: contact.id,
            name: text("name"),
            email: text("email"),
            phone: text("phone"),
            mobile: text("mobile"),
            unique_external_id: text("unique_external_id"),
            deleted: contact.deleted,
            blocked: contact.blocked,
        }
    }
}

fn texts(fields: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = fields.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The contact or agent with that number.
pub(crate) fn requester(state: &State, id: u64) -> RequesterView {
    if let Some(contact) = state.store.contacts.get(&id) {
        let text = |name: &str| contact.text(name).map(str::to_owned);
        let (name, email, phone) = (text("name"), text("email"), text("phone"));
        return RequesterView { id, name, email, phone, unique_external_id: text("unique_external_id") };
    }
    let agent = state.form.agent(id);
    let (name, email) = (agent.map(|agent| agent.name.clone()), agent.map(|agent| agent.email.clone()));
    RequesterView { id, name, email, ..RequesterView::default() }
}

/// What of a ticket is left out of lists.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) description: bool,
    pub(crate) tags: bool,
    pub(crate) attachments: bool,
}

impl Shown {
    pub(crate) const ALL: Shown = Shown { description: true, tags: true, attachments: true };
}

/// A ticket in the API's words; blank members are null, not absent.
pub(crate) fn ticket_json(state: &State, ticket: &Ticket, shown: Shown) -> Map<String, Value> {
    let mut json = Map::new();
    json.insert("id".to_owned(), json!(ticket.id));
    json.insert("requester_id".to_owned(), json!(ticket.requester_id));
    json.insert("spam".to_owned(), json!(ticket.spam));
    if ticket.deleted {
        json.insert("deleted".to_owned(), json!(true));
    }
    for (name, value) in &ticket.fields {
        let description = name == "description" || name == "description_text";
        if (shown.description || !description) && (shown.tags || name != "tags") {
            json.insert(name.clone(), value.clone());
        }
    }
    json.insert("custom_fields".to_owned(), all_custom_fields(&state.form.custom_fields, ticket));
    due_times(state, ticket, &mut json);
    if shown.attachments {
        let files: Vec<Value> = ticket.attachments.iter().map(|file| attachment_json(state, file)).collect();
        json.insert("attachments".to_owned(), json!(files));
    }
    json.insert("created_at".to_owned(), json!(ticket.created_at.to_string()));
    json.insert("updated_at".to_owned(), json!(ticket.updated_at.to_string()));
    json
}

fn all_custom_fields(form: &[CustomField], ticket: &Ticket) -> Value {
    let set = ticket.fields.get("custom_fields");
    let value = |name: &str| set.and_then(|set| set.get(name)).cloned().unwrap_or_default();
    Value::Object(form.iter().map(|field| (field.name.clone(), value(&field.name))).collect())
}

/// The service level engine fills these a moment after the ticket was created, never in the answer to the POST.
fn due_times(state: &State, ticket: &Ticket, json: &mut Map<String, Value>) {
    const ENGINE_DELAY: Duration = Duration::from_secs(2);
    if state.monotonic().saturating_sub(ticket.created_monotonic) < ENGINE_DELAY {
        return;
    }
    for (name, days) in [("due_by", 3), ("fr_due_by", 1)] {
        if json.get(name).is_none_or(Value::is_null) {
            let due = ticket.created_at.plus(Duration::from_secs(days * 86_400));
            json.insert(name.to_owned(), json!(due.to_string()));
        }
    }
}

/// A note or reply in the API's words.
pub(crate) fn conversation_json(state: &State, ticket: u64, conversation: &Conversation) -> Value {
    let mut json = conversation.fields.clone();
    let files: Vec<Value> =
        conversation.attachments.iter().map(|file| attachment_json(state, file)).collect();
    json.insert("id".to_owned(), json!(conversation.id));
    json.insert("ticket_id".to_owned(), json!(ticket));
    json.insert("attachments".to_owned(), json!(files));
    json.insert("created_at".to_owned(), json!(conversation.created_at.to_string()));
    json.insert("updated_at".to_owned(), json!(conversation.updated_at.to_string()));
    Value::Object(json)
}

fn attachment_json(state: &State, attachment: &Attachment) -> Value {
    let created_at = attachment.created_at.to_string();
    json!({
        "id": attachment.id,
        "name": attachment.name,
        "content_type": attachment.content_type,
        "size": attachment.size_bytes,
        "created_at": created_at,
        "updated_at": created_at,
        "attachment_url": format!("{}/attachments/{}", state.base_url, attachment.id),
    })
}

/// A contact in the API's words.
pub(crate) fn contact_json(contact: &Contact) -> Map<String, Value> {
    let mut json = Map::new();
    json.insert("id".to_owned(), json!(contact.id));
    if contact.deleted {
        json.insert("deleted".to_owned(), json!(true));
    }
    json.extend(contact.fields.clone());
    json.insert("created_at".to_owned(), json!(contact.created_at.to_string()));
    json.insert("updated_at".to_owned(), json!(contact.updated_at.to_string()));
    json
}
