//! The schema of a source, one for shipped presets and for the admin's `[source.x]` tables.
//!
//! Every member is optional, because a table is a layer: preset, then the admin's, later wins key by
//! key. Text keeps its place in its file (`Spanned`) so that a finding can point at it.

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use toml::Spanned;

/// A template, an expression or a path, with its place in the file.
pub type Text = Spanned<String>;

/// Text, or a bare number or boolean standing for itself (`group_id = 51000`, `status = "open"`).
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A template that renders to the value.
    Text(String),
    /// The value.
    Number(i64),
    /// The value.
    Decimal(f64),
    /// The value.
    Flag(bool),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a number or true/false")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar::Decimal(number))
            }
            fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Scalar, E> {
                Ok(Scalar::Flag(flag))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// One secret: where it is found, or (with a warning from `check`) the secret itself.
#[derive(Clone)]
pub enum SecretRef {
    /// `{ credential = "x" }`: `$CREDENTIALS_DIRECTORY/x`, given by systemd.
    Credential(CredentialRef),
    /// `{ file = "/path" }`, not readable by everyone.
    File(FileRef),
    /// `{ env = "NAME" }`, for containers.
    Env(EnvRef),
    /// The secret in the file itself.
    Inline(String),
}

/// `{ credential = "x" }`.
#[derive(Clone)]
pub struct CredentialRef {
    /// Name given in the unit's `LoadCredential=`.
    pub credential: String,
}

/// `{ file = "/path" }`.
#[derive(Clone)]
pub struct FileRef {
    /// Absolute path.
    pub file: std::path::PathBuf,
}

/// `{ env = "NAME" }`.
#[derive(Clone)]
pub struct EnvRef {
    /// Name of the environment variable.
    pub env: String,
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretRefVisitor)
    }
}

/// By hand, because an untagged enum would not say which key inside the braces is wrong.
struct SecretRefVisitor;

impl<'de> Visitor<'de> for SecretRefVisitor {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ credential = \"…\" }, { file = \"/…\" } or { env = \"…\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretRef, E> {
        Ok(SecretRef::Inline(text.to_owned()))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<SecretRef, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Braces {
            credential: Option<String>,
            file: Option<std::path::PathBuf>,
            env: Option<String>,
        }
        let braces = Braces::deserialize(de::value::MapAccessDeserializer::new(map))?;
        match (braces.credential, braces.file, braces.env) {
            (Some(credential), None, None) => Ok(SecretRef::Credential(CredentialRef { credential })),
            (None, Some(file), None) => Ok(SecretRef::File(FileRef { file })),
            (None, None, Some(env)) => Ok(SecretRef::Env(EnvRef { env })),
            _ => Err(de::Error::invalid_value(de::Unexpected::Map, &self)),
        }
    }
}

impl fmt::Debug for SecretRef {
    /// Never shows an inline secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::Credential(r) => write!(f, "credential {:?}", r.credential),
            SecretRef::File(r) => write!(f, "file {}", r.file.display()),
            SecretRef::Env(r) => write!(f, "env {}", r.env),
            SecretRef::Inline(_) => f.write_str("inline"),
        }
    }
}

/// One secret, or several during rotation.
#[derive(Clone, Debug)]
pub enum SecretRefs {
    /// The usual case.
    One(SecretRef),
    /// The old and the new one.
    Several(Vec<SecretRef>),
}

impl SecretRefs {
    /// All of them.
    pub fn all(&self) -> &[SecretRef] {
        match self {
            SecretRefs::One(one) => std::slice::from_ref(one),
            SecretRefs::Several(several) => several,
        }
    }
}

impl<'de> Deserialize<'de> for SecretRefs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = SecretRefs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                SecretRefVisitor.expecting(f)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretRefs, E> {
                SecretRefVisitor.visit_str(text).map(SecretRefs::One)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<SecretRefs, A::Error> {
                SecretRefVisitor.visit_map(map).map(SecretRefs::One)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<SecretRefs, A::Error> {
                let mut several = Vec::new();
                while let Some(one) = list.next_element()? {
                    several.push(one);
                }
                Ok(SecretRefs::Several(several))
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}

/// `verify = { scheme = "…", … }`, interface §5.3.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyTable {
    /// `none`, `header`, `bearer`, `basic`, `query`, `path`, `hmac-sha256-hex`, `hmac-sha256-base64`,
    /// `hmac-sha1-hex`, `hmac-sha1-base64`, `standard-webhooks`, `stripe`, `tidio`, `twilio`.
    pub scheme: Option<Spanned<String>>,
    /// Header that carries the secret or the signature.
    pub header: Option<String>,
    /// What stands before the secret or the signature in that header, e.g. `sha256=`.
    pub prefix: Option<String>,
    /// User of the `basic` scheme; any user when absent.
    pub user: Option<String>,
    /// Query parameter of the `query` scheme.
    pub name: Option<String>,
    /// What an `hmac` scheme signs: text with `{body}` and `{Header-Name}`; the raw body when absent.
    pub signed: Option<Spanned<String>>,
    /// How far from now a signed time may be; default 5 minutes.
    pub tolerance: Option<Spanned<String>>,
    /// What the platform calls and signs, where that is not `server.public_url` and the path.
    pub url: Option<Spanned<String>>,
    /// Query parameter that is answered with its own value: a platform asks so whether the URL is ours.
    pub echo: Option<String>,
    /// Answers a POST without a body without asking for the secret, because nothing becomes of it.
    pub empty_post: Option<bool>,
    /// Allows `none` on a listener that is not loopback.
    pub insecure: Option<bool>,
}

/// What a rule does: one word, or several.
#[derive(Clone, Debug)]
pub enum Actions {
    /// `do = "note"`.
    One(String),
    /// `do = ["note", "update"]`, each with its place.
    Several(Vec<Text>),
}

impl<'de> Deserialize<'de> for Actions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;
        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Actions;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ticket, note, update, contact or ignore in quotes, or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Actions, E> {
                Ok(Actions::One(text.to_owned()))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Actions, A::Error> {
                let mut several = Vec::new();
                while let Some(one) = list.next_element()? {
                    several.push(one);
                }
                Ok(Actions::Several(several))
            }
        }
        deserializer.deserialize_any(OneOrSeveral)
    }
}

/// Paths tried in order, then synonyms looked for anywhere in the event.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FinderTable {
    /// Dotted paths from the event's root: `contact.variables.email`; a number is an index, `*` any element.
    pub paths: Option<Vec<Text>>,
    /// Member names, compared without case, accents, `_`, `-` and blanks.
    pub synonyms: Option<Vec<Text>>,
    /// Dotted paths: synonyms are looked for below these only; default: the whole event.
    pub within: Option<Vec<Text>>,
    /// Member names below which synonyms are not looked for (`bot`, `agent`: not the customer).
    pub skip: Option<Vec<Text>>,
}

/// Ticket keys; the defaults in `[ticket]`, a preset's, a source's and a rule's are all of this shape.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TicketTable {
    /// Plain text template.
    pub subject: Option<Text>,
    /// HTML template, auto-escaped.
    pub description: Option<Text>,
    /// Word, number or template.
    pub status: Option<Spanned<Scalar>>,
    /// Word, number or template.
    pub priority: Option<Spanned<Scalar>>,
    /// Word, number or template.
    pub source: Option<Spanned<Scalar>>,
    /// Template.
    #[serde(rename = "type")]
    pub ticket_type: Option<Text>,
    /// Number or template.
    pub group_id: Option<Spanned<Scalar>>,
    /// Number or template.
    pub product_id: Option<Spanned<Scalar>>,
    /// Number or template.
    pub responder_id: Option<Spanned<Scalar>>,
    /// Number or template.
    pub company_id: Option<Spanned<Scalar>>,
    /// Number or template.
    pub email_config_id: Option<Spanned<Scalar>>,
    /// Templates; each may render to several tags separated by commas; empty ones vanish.
    pub tags: Option<Vec<Text>>,
    /// Names `cf_…` and templates or values.
    pub custom_fields: Option<BTreeMap<String, Spanned<Scalar>>>,
    /// Templates.
    pub cc_emails: Option<Vec<Text>>,
    /// Zone in which agents read times: `America/Bogota`, `-05:00`, `UTC`.
    pub time_zone: Option<Spanned<String>>,
}

/// Note keys.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NoteTable {
    /// HTML template, auto-escaped.
    pub body: Option<Text>,
    /// Default true.
    pub private: Option<bool>,
    /// Addresses of agents, as templates.
    pub notify: Option<Vec<Text>>,
    /// Sent to the customer by e-mail as an answer; default false.
    pub reply: Option<Spanned<bool>>,
    /// `ticket` (default) or `ignore`: what to do when the conversation has no ticket yet.
    pub if_none: Option<Spanned<String>>,
}

/// Templates of the requester's fields; what is absent is found by the finders.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequesterTable {
    /// Template.
    pub name: Option<Text>,
    /// Template.
    pub email: Option<Text>,
    /// Template.
    pub phone: Option<Text>,
    /// Template.
    pub external_id: Option<Text>,
}

/// Where the answers of a platform's forms are; all are paths like those of finders, from the answer where not said
/// otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnswersTable {
    /// The list of answers, from the event.
    pub list: String,
    /// Where an answer has its question's words.
    pub label: Vec<String>,
    /// Where it has what was answered.
    pub value: Vec<String>,
    /// Where it has its question's id.
    pub question: Option<String>,
    /// The list of questions with their ids and words, from the event.
    pub questions: Option<String>,
    /// The list of options with their ids and words.
    pub options: Option<String>,
}

/// What changes in the conversation's ticket.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateTable {
    /// Word, number or template; one that renders empty changes nothing. So do all below.
    pub status: Option<Spanned<Scalar>>,
    /// Word, number or template.
    pub priority: Option<Spanned<Scalar>>,
    /// Template.
    #[serde(rename = "type")]
    pub ticket_type: Option<Text>,
    /// Number or template.
    pub group_id: Option<Spanned<Scalar>>,
    /// Number or template.
    pub product_id: Option<Spanned<Scalar>>,
    /// The agent: number or template.
    pub responder_id: Option<Spanned<Scalar>>,
    /// Templates, as in `ticket.tags`; the ticket's other tags stay.
    pub tags_add: Option<Vec<Text>>,
    /// Templates; tags the ticket does not have are no mistake.
    pub tags_remove: Option<Vec<Text>>,
    /// Names `cf_…` and templates or values.
    pub custom_fields: Option<BTreeMap<String, Spanned<Scalar>>>,
    /// `ignore` (default) or `ticket`: what to do when the conversation has no ticket yet.
    pub if_none: Option<Spanned<String>>,
}

/// What is written of the requester's contact. Identifiers and name come from `requester` where they are absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContactTable {
    /// Template.
    pub name: Option<Text>,
    /// Template.
    pub email: Option<Text>,
    /// Template.
    pub phone: Option<Text>,
    /// Template: the second number.
    pub mobile: Option<Text>,
    /// Template.
    pub external_id: Option<Text>,
    /// Template.
    pub job_title: Option<Text>,
    /// Template.
    pub address: Option<Text>,
    /// Plain text template: what agents read beside the name.
    pub description: Option<Text>,
    /// Templates; the contact's other tags stay.
    pub tags_add: Option<Vec<Text>>,
    /// The account's own contact fields, and templates or values.
    pub custom_fields: Option<BTreeMap<String, Spanned<Scalar>>>,
    /// True: what an event says replaces what is there. Default false: only empty fields are filled.
    pub overwrite: Option<bool>,
}

/// What becomes of events after the one that opened the conversation's ticket.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FollowupTable {
    /// `reopen` (default) or `new-ticket`: what `do = "ticket"` does when the ticket is resolved, closed or gone.
    pub when_closed: Option<Spanned<String>>,
    /// How long a note waits for others of its conversation, to go out with them as one.
    pub merge: Option<Spanned<String>>,
}

/// `[[source.x.rule]]`: the first whose `when` holds decides.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleTable {
    /// Expression; absent means always.
    pub when: Option<Text>,
    /// `ticket`, `note`, `update`, `contact` or `ignore`, or a list of those that go together. Tables `update` and
    /// `contact` of the rule are done as well, named here or not.
    #[serde(rename = "do")]
    pub actions: Option<Spanned<Actions>>,
    /// Overrides of the source's ticket keys.
    pub ticket: Option<TicketTable>,
    /// Overrides of the source's note keys.
    pub note: Option<NoteTable>,
    /// What changes in the conversation's ticket.
    pub update: Option<Spanned<UpdateTable>>,
    /// Overrides of the source's contact keys.
    pub contact: Option<Spanned<ContactTable>>,
    /// Overrides of the source's follow-up keys.
    pub followup: Option<FollowupTable>,
    /// Override of the source's.
    pub attach_event: Option<bool>,
}

/// `[source.x]`, and the whole of a preset's file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceTable {
    /// `sendpulse@1`; absent in presets, and for a source that maps everything itself.
    pub preset: Option<Spanned<String>>,
    /// One line for `preset list`.
    pub summary: Option<String>,
    /// `documented`, `seen` or `draft`: how sure the field names are.
    pub certainty: Option<String>,
    /// What to do in the platform, and which events become what: for `preset show`.
    pub guide: Option<String>,
    /// The platform makes the secret and shows it; otherwise we make it and the platform is told. For `init`.
    pub platform_secret: Option<bool>,
    /// What the platform must know to post.
    pub secret: Option<Spanned<SecretRefs>>,
    /// How the secret is compared.
    pub verify: Option<VerifyTable>,
    /// Answers `GET` challenges (`hub.challenge`) to whoever knows it.
    pub verify_token: Option<Spanned<SecretRefs>>,
    /// Addresses that may post: `203.0.113.0/24`; all when absent.
    pub allow: Option<Vec<Spanned<String>>>,
    /// Two-letter country that completes national phone numbers.
    pub country: Option<Spanned<String>>,
    /// Expression: an event for which it is false is counted and ignored.
    pub keep_if: Option<Text>,
    /// Expression that gives the list of events in a decoded body; default: a top-level array's elements, else the whole.
    /// A path with `*` gives the whole body once for each element, with only that element in the lists on the path.
    pub split: Option<Text>,
    /// Template: the preset's name for the event (`incoming_message`).
    pub kind: Option<Text>,
    /// Template: the platform's own id of the event; empty: a content hash is used.
    pub event_id: Option<Text>,
    /// How long an event id is remembered; default 7 days.
    pub dedupe_window: Option<Spanned<String>>,
    /// How long a content hash is remembered where there is no event id; default 10 minutes.
    pub dedupe_hash_window: Option<Spanned<String>>,
    /// Template: the thread on the platform's side; empty: the event is its own conversation.
    pub conversation: Option<Text>,
    /// Named finders: `name`, `email`, `phone`, `external_id`, `text`, and any more that templates use as `found.x`.
    pub find: Option<BTreeMap<String, FinderTable>>,
    /// Where a form's questions and answers are: templates see them as `answers`, and finders look there first.
    pub answers: Option<AnswersTable>,
    /// The requester's fields.
    pub requester: Option<RequesterTable>,
    /// Who asks when an event names nobody.
    pub fallback_requester: Option<RequesterTable>,
    /// The ticket that an event opens.
    pub ticket: Option<TicketTable>,
    /// The note that an event adds.
    pub note: Option<NoteTable>,
    /// What is written of contacts by rules with `do = "contact"`.
    pub contact: Option<ContactTable>,
    /// What becomes of events after the one that opened the conversation's ticket.
    pub followup: Option<FollowupTable>,
    /// Attaches the event's JSON to each ticket and note; default false.
    pub attach_event: Option<bool>,
    /// Zone of times that the platform writes without one; default: the account's (`ticket.time_zone`).
    pub time_zone: Option<Spanned<String>>,
    /// The admin's rules are asked before the preset's.
    pub rule: Option<Vec<RuleTable>>,
}
