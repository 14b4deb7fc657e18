//! One event as templates see it.

use super::find::{Found, scalar_text};
use super::layers::RequesterMap;
use super::requester::{self, Rendered};
use super::template::Template;
use super::{Source, value};
use crate::clock::Timestamp;
use crate::freshdesk::write::Requester;
use minijinja::value::{Enumerator, Object, Value};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An event as the spool gives it back.
#[derive(Clone, Copy, Debug)]
pub struct StoredEvent<'a> {
    /// [`super::EventDraft::body`].
    pub body: &'a [u8],
    /// [`super::EventDraft::context`].
    pub context: &'a [u8],
    /// When the request arrived.
    pub received_at: Timestamp,
    /// [`super::EventDraft::event_id`].
    pub event_id: &'a str,
    /// [`super::EventDraft::kind`].
    pub kind: &'a str,
    /// [`super::EventDraft::conversation`].
    pub conversation: &'a str,
}

/// Request headers: found whatever their case, and with `_` for `-` (`header.x_github_event`).
#[derive(Debug)]
pub(super) struct Headers(pub BTreeMap<String, String>);

impl Object for Headers {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?.to_ascii_lowercase();
        let found = self.0.get(&name).or_else(|| self.0.get(&name.replace('_', "-")));
        found.map(Value::from)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys().map(Value::from).collect())
    }
}

/// The names that templates see; too few to be worth a map, which would be built anew for each event.
#[derive(Debug)]
struct Members(Vec<(&'static str, Value)>);

impl Object for Members {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    /// What no member is called may be a finder: `rating` is `found.rating`.
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let member = |key: &str| self.0.iter().find(|(name, _)| *name == key).map(|(_, value)| value);
        member(key).cloned().or_else(|| {
            let found = value::attribute(member("found")?, key);
            (!found.is_undefined()).then_some(found)
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(name, _)| Value::from(*name)).collect())
    }
}

/// What of a request templates see beside the event.
#[derive(Clone)]
pub(super) struct Surroundings {
    /// From the URL: `/in/<source>/<kind>`.
    pub kind: String,
    pub header: Value,
    pub query: Value,
    pub received_at: Timestamp,
    /// Position in the request's list of events, from 0; none for an event that came alone.
    pub index: Option<usize>,
}

/// An event with everything templates may ask of it.
pub(super) struct View {
    /// What templates are rendered with.
    pub context: Value,
    /// The preset's name for the event.
    pub kind: String,
    pub found: Arc<Found>,
    members: Vec<(&'static str, Value)>,
}

/// Who asks.
pub(super) struct Asking {
    pub requester: Requester,
    /// What was given as e-mail address and is none.
    pub unusable_email: Option<String>,
    /// Nobody was named: `fallback_requester` stands in.
    pub is_fallback: bool,
}

impl View {
    fn set(&mut self, name: &'static str, value: Value) {
        match self.members.iter_mut().find(|(member, _)| *member == name) {
            Some((_, member)) => *member = value,
            None => self.members.push((name, value)),
        }
        self.context = Value::from_object(Members(self.members.clone()));
    }

    /// Lets templates see who asks.
    pub fn set_requester(&mut self, requester: &Requester) {
        self.set("requester", requester::to_template(requester));
    }
}

impl Source {
    /// The event with its surroundings and its kind; `requester` is not known yet.
    pub(super) fn view(&self, event: Arc<Json>, around: &Surroundings) -> Result<View, String> {
        let answers = self.answers.as_ref().and_then(|answers| answers.read(&event));
        let form = answers.as_ref().map_or(Value::UNDEFINED, value::to_template);
        let found = Found { event: Arc::clone(&event), finders: Arc::clone(&self.finders), answers };
        let found = Arc::new(found);
        let members = vec![
            ("event", value::to_template(&event)),
            ("source", Value::from_pairs([("name", self.name.as_str())])),
            ("received_at", Value::from(around.received_at.to_string())),
            ("header", around.header.clone()),
            ("query", around.query.clone()),
            ("index", around.index.map_or(Value::UNDEFINED, Value::from)),
            ("answers", form),
            ("found", Value::from_dyn_object(Arc::clone(&found))),
        ];
        let mut view = View { context: Value::UNDEFINED, kind: String::new(), found, members };
        view.set("kind", Value::from(around.kind.as_str()));
        let kind = self.engine.render(&self.texts.kind, &view.context)?;
        let kind = super::plain::truncate(&super::plain::one_line(&kind), 100);
        if kind != around.kind {
            view.set("kind", Value::from(kind.as_str()));
        }
        view.kind = kind;
        Ok(view)
    }

    /// Who asks, the fallback if nobody is named.
    pub(super) fn resolve_requester(&self, view: &View) -> Result<Asking, (String, String)> {
        let rendered = self.render_requester(&self.requester, view)?;
        let requester = requester::normalise(&rendered, &self.name, self.country);
        let unusable_email =
            requester.email.is_none().then(|| self.unusable_email(&rendered, view)).flatten();
        let named = Asking { requester, unusable_email, is_fallback: false };
        let Some(fallback) = self.fallback.as_ref().filter(|_| !requester::is_somebody(&named.requester))
        else {
            return Ok(named);
        };
        let rendered = self.render_requester(fallback, view)?;
        let requester = requester::normalise(&rendered, &self.name, self.country);
        Ok(Asking { requester, is_fallback: true, ..named })
    }

    fn unusable_email(&self, rendered: &Rendered, view: &View) -> Option<String> {
        let given = match rendered.email.trim() {
            "" => scalar_text(view.found.given("email")?),
            text => text.to_owned(),
        };
        (!super::plain::is_placeholder(&given)).then_some(given)
    }

    fn render_requester(&self, map: &RequesterMap, view: &View) -> Result<Rendered, (String, String)> {
        let render = |template: &Option<Arc<Template>>| match template {
            None => Ok(String::new()),
            Some(template) => {
                let text = self.engine.render(template, &view.context);
                text.map_err(|reason| (template.key.clone(), reason))
            }
        };
        Ok(Rendered {
            name: render(&map.name)?,
            email: render(&map.email)?,
            phone: render(&map.phone)?,
            external_id: render(&map.external_id)?,
        })
    }
}
