//! Requests to event drafts, at intake: split, kind, filter, ids, conversation. Nothing is thrown away here:
//! what is no event becomes a draft that is buried with its reason.

use super::plain::{one_line, truncate};
use super::template::Template;
use super::view::{Headers, Surroundings, View};
use super::{Source, find};
use crate::clock::Timestamp;
use minijinja::value::Value;
use ring::digest;
use serde::Serialize;
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Most events of one request. A request with more is kept as one dead letter: all of it or nothing.
pub const EVENTS_MAX: usize = 1000;

/// Events that carry what is around their list are at most this much together, estimated from above.
const REPEATED_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Longest id and conversation key kept as they are.
const KEY_MAX_CHARS: usize = 200;

/// A request as intake knows it, after verification.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// From the URL `/in/<source>/<kind>`; empty without.
    pub kind: &'a str,
    /// As received.
    pub headers: &'a [(String, String)],
    /// Percent-decoded.
    pub query: &'a [(String, String)],
    /// When the request arrived.
    pub received_at: Timestamp,
}

/// What is to become of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Spool it; [`Source::plan`] says the rest.
    Keep,
    /// Count it and forget it; why, for history: `rule[2] of the preset`.
    Ignore(String),
    /// Keep it as a dead letter; why.
    Bury(String),
}

/// One event of a request, ready for the spool.
#[derive(Clone, Debug, PartialEq)]
pub struct EventDraft {
    /// The preset's name for it.
    pub kind: String,
    /// The platform's id, or `sha256:` and the beginning of the content's hash; for people.
    pub event_id: String,
    /// Equal for events that are one, whatever carried them. Already tells sources apart.
    pub dedupe: [u8; 16],
    /// How long `dedupe` must be remembered.
    pub dedupe_window: Duration,
    /// The thread on the platform's side, and the ordering key; unique within the source only. An event
    /// without one gets one of its own, beginning with `event:`.
    pub conversation: String,
    /// The event as compact JSON.
    pub body: Vec<u8>,
    /// Compact JSON of what templates see of the request. The secret is not in it.
    pub context: Vec<u8>,
    /// What is to become of it.
    pub verdict: Verdict,
}

/// One event's place in its request.
struct Element {
    json: Arc<Json>,
    around: Surroundings,
}

/// What the events of one request share.
#[derive(Default)]
struct Batch {
    kept: Kept,
    /// How often each content without an id came already: two equal elements of one list are two events, and
    /// the same list sent again has the same two.
    seen: HashMap<[u8; 16], u32>,
}

/// What a source's templates call an event.
#[derive(Default)]
struct Names {
    kind: String,
    id: Option<String>,
    conversation: Option<String>,
}

impl Source {
    /// The events of a decoded body, in order. An empty array has none. An element that is no object is
    /// buried without losing the others; so is a body that is no object.
    pub fn events(&self, request: &RequestContext<'_>, body: Json) -> Vec<EventDraft> {
        let mut batch = Batch { kept: self.kept(request), ..Batch::default() };
        let around = self.surroundings(request.kind, &batch.kept, request.received_at);
        let whole = |body, around| Element { json: Arc::new(body), around };
        let split = match self.split(&body, &around) {
            Ok(split) => split,
            Err(reason) => return vec![self.buried(&whole(body, around), &mut batch, reason)],
        };
        let count = split.as_ref().or(body.as_array()).map_or(1, Vec::len);
        if count > EVENTS_MAX {
            let reason = format!("{count} events in one request, at most {EVENTS_MAX}");
            return vec![self.buried(&whole(body, around), &mut batch, reason)];
        }
        let elements = match (split, body) {
            (Some(list), _) | (None, Json::Array(list)) => list,
            (None, body) => return vec![self.draft(&whole(body, around), &mut batch)],
        };
        let element = |(index, json)| {
            let around = Surroundings { index: Some(index), ..around.clone() };
            self.draft(&whole(json, around), &mut batch)
        };
        elements.into_iter().enumerate().map(element).collect()
    }

    /// The headers and parameters that are kept with an event: none that carries a secret or a session.
    fn kept(&self, request: &RequestContext<'_>) -> Kept {
        let secret_query = self.verifier.secret_query().unwrap_or_default();
        let mut kept = Kept::default();
        for (name, value) in request.headers {
            let name = name.to_ascii_lowercase();
            let is_secret = matches!(name.as_str(), "authorization" | "proxy-authorization" | "cookie")
                || self.verifier.is_proof_header(&name);
            if !is_secret {
                kept.header
                    .entry(name)
                    .and_modify(|all| *all = format!("{all}, {value}"))
                    .or_insert_with(|| value.clone());
            }
        }
        for (name, value) in request.query.iter().filter(|(name, _)| name != secret_query) {
            kept.query.insert(name.clone(), value.clone());
        }
        kept
    }

    fn surroundings(&self, kind: &str, kept: &Kept, received_at: Timestamp) -> Surroundings {
        Surroundings {
            kind: kind.to_owned(),
            header: Value::from_object(Headers(kept.header.clone())),
            query: Value::from_pairs(kept.query.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
            received_at,
            index: None,
        }
    }

    /// The list that `split` gives; nothing when there is no `split`, or no list where it looks. With a path that
    /// repeats what is around its lists, the reason why that would be too much.
    fn split(&self, body: &Json, around: &Surroundings) -> Result<Option<Vec<Json>>, String> {
        let Some(expression) = self.texts.split.as_deref() else { return Ok(None) };
        let Some(path) = find::listed_path(expression) else {
            return Ok(self.listed(expression, body, around));
        };
        let (count, bytes) = (path.values(body).len(), body.to_string().len());
        if count > EVENTS_MAX {
            return Err(format!("{count} events in one request, at most {EVENTS_MAX}"));
        }
        if count.saturating_mul(bytes) > REPEATED_MAX_BYTES {
            return Err(format!("{count} events in a request of {} KiB", bytes / 1024));
        }
        Ok(Some(path.narrowed(body)).filter(|events| !events.is_empty()))
    }

    fn listed(&self, expression: &str, body: &Json, around: &Surroundings) -> Option<Vec<Json>> {
        // A plain path is followed in the JSON itself, so that every digit is kept.
        let is_path = expression.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
        if let Some(path) = expression.trim().strip_prefix("event.").filter(|_| is_path) {
            return find::Path::parse(path).values(body).first()?.as_array().cloned();
        }
        let view = self.view(Arc::new(body.clone()), around).ok()?;
        let list = self.engine.evaluate(expression, &view.context).ok()?;
        serde_json::to_value(list).ok()?.as_array().cloned()
    }

    fn draft(&self, element: &Element, batch: &mut Batch) -> EventDraft {
        if !element.json.is_object() {
            return self.buried(element, batch, "event is not an object".to_owned());
        }
        let view = match self.view(Arc::clone(&element.json), &element.around) {
            Ok(view) => view,
            Err(reason) => return self.buried(element, batch, format!("mapping: kind {reason}")),
        };
        let render = |template: &Template| {
            // A mistake here must not cost the event; delivery will name it.
            let text = self.engine.render(template, &view.context).unwrap_or_default();
            Some(one_line(&text)).filter(|text| !text.is_empty())
        };
        let (id, conversation) = (render(&self.texts.event_id), render(&self.texts.conversation));
        let mut draft = self.identified(element, batch, Names { kind: view.kind.clone(), id, conversation });
        draft.verdict = self.verdict(view);
        draft
    }

    /// With ids and keys; the verdict is not decided yet.
    fn identified(&self, element: &Element, batch: &mut Batch, names: Names) -> EventDraft {
        let (source, kind) = (self.name.as_bytes(), names.kind.as_bytes());
        let (dedupe, dedupe_window, event_id) = match &names.id {
            Some(id) => (hash16(&[b"id", source, kind, id.as_bytes()]), self.windows.id, shortened(id)),
            None => {
                let thread = names.conversation.as_deref().unwrap_or_default();
                let content = canonical(&element.json);
                let first = hash16(&[b"content", source, kind, thread.as_bytes(), content.as_bytes()]);
                let occurrence = batch.seen.entry(first).and_modify(|count| *count += 1).or_default();
                let hash = hash16(&[&first, &occurrence.to_be_bytes()]);
                (hash, self.windows.hash, format!("sha256:{}", &hex(&hash)[..12]))
            }
        };
        let conversation = names.conversation.map(|key| shortened(&key)).unwrap_or_else(|| {
            let received = element.around.received_at.0.to_be_bytes();
            let index = element.around.index.unwrap_or_default().to_be_bytes();
            format!("event:{}", &hex(&hash16(&[&dedupe, &received, &index]))[..16])
        });
        EventDraft {
            kind: names.kind,
            event_id,
            dedupe,
            dedupe_window,
            conversation,
            body: serde_json::to_vec(&*element.json).expect("JSON that was read can be written"),
            context: batch.kept.to_json(&element.around),
            verdict: Verdict::Keep,
        }
    }

    fn buried(&self, element: &Element, batch: &mut Batch, reason: String) -> EventDraft {
        let kind = element.around.kind.clone();
        let draft = self.identified(element, batch, Names { kind, ..Names::default() });
        EventDraft { verdict: Verdict::Bury(reason), ..draft }
    }

    /// Filters decide here and again at delivery; what cannot be decided is kept, so that it is not lost.
    fn verdict(&self, mut view: View) -> Verdict {
        let conditions = self.rules.iter().filter_map(|rule| rule.when.as_ref()).chain(&self.texts.keep_if);
        if conditions.into_iter().any(|condition| condition.reads("requester")) {
            if let Ok(asking) = self.resolve_requester(&view) {
                view.set_requester(&asking.requester);
            }
        }
        let keep_if = self.texts.keep_if.as_ref();
        if keep_if.is_some_and(|keep_if| self.engine.holds(keep_if, &view.context) == Ok(false)) {
            return Verdict::Ignore("keep_if is false".to_owned());
        }
        match self.first_rule(&view) {
            Ok(Some(rule)) if rule.is_ignored() => Verdict::Ignore(format!("{} says ignore", rule.name)),
            _ => Verdict::Keep,
        }
    }
}

#[derive(Default)]
struct Kept {
    header: BTreeMap<String, String>,
    query: BTreeMap<String, String>,
}

impl Kept {
    fn to_json(&self, around: &Surroundings) -> Vec<u8> {
        #[derive(Serialize)]
        struct Context<'a> {
            kind: &'a str,
            index: Option<usize>,
            header: &'a BTreeMap<String, String>,
            query: &'a BTreeMap<String, String>,
        }
        let (header, query) = (&self.header, &self.query);
        let context = Context { kind: &around.kind, index: around.index, header, query };
        serde_json::to_vec(&context).expect("texts can be written")
    }
}

impl Source {
    /// The surroundings of a stored event; a context that cannot be read is an empty one.
    pub(super) fn stored_surroundings(&self, context: &[u8], received_at: Timestamp) -> Surroundings {
        let context: Json = serde_json::from_slice(context).unwrap_or_default();
        let texts = |name: &str| -> BTreeMap<String, String> {
            let members = context[name].as_object().into_iter().flatten();
            members.map(|(name, value)| (name.clone(), find::scalar_text(value))).collect()
        };
        let kept = Kept { header: texts("header"), query: texts("query") };
        let mut around = self.surroundings(context["kind"].as_str().unwrap_or_default(), &kept, received_at);
        around.index = context["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        around
    }
}

/// The first 16 bytes of a SHA-256 over the parts, each with its length before it.
fn hash16(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finish().as_ref()[..16]);
    short
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A key as it is, or its beginning and a hash of all of it.
fn shortened(key: &str) -> String {
    if key.chars().count() <= KEY_MAX_CHARS {
        return key.to_owned();
    }
    format!("{}#{}", truncate(key, KEY_MAX_CHARS - 40), &hex(&hash16(&[key.as_bytes()]))[..16])
}

/// JSON with sorted members and no blanks: equal for equal events, whatever wrote them.
fn canonical(json: &Json) -> String {
    fn write(json: &Json, text: &mut String) {
        match json {
            Json::Array(elements) => {
                text.push('[');
                for element in elements {
                    write(element, text);
                    text.push(',');
                }
                text.push(']');
            }
            Json::Object(members) => {
                let mut names: Vec<&String> = members.keys().collect();
                names.sort_unstable();
                text.push('{');
                for name in names {
                    text.push_str(&Json::from(name.as_str()).to_string());
                    text.push(':');
                    write(&members[name], text);
                    text.push(',');
                }
                text.push('}');
            }
            scalar => text.push_str(&scalar.to_string()),
        }
    }
    let mut text = String::new();
    write(json, &mut text);
    text
}
