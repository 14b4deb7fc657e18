//! Why an event becomes what it becomes: each condition that was asked, with the values it looked at, and what
//! rendered empty. For `deskspool try` and the pages that show a mapping; it holds customer text.

use super::layers::{Field, NoteMap, TicketMap};
use super::plain::{is_placeholder, one_line, truncate};
use super::rule::Rule;
use super::template::Template;
use super::view::{StoredEvent, View};
use super::{Layer, Source, value};
use serde::Serialize;
use std::sync::Arc;

/// Longest value that is quoted beside a condition.
const VALUE_MAX_CHARS: usize = 60;

/// What was asked of an event, and what it could not answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explanation {
    /// `keep_if` and the rules in order, up to the first that matched.
    pub asked: Vec<Asked>,
    /// The rule that decided; none: the event becomes a ticket or a note.
    pub rule: Option<String>,
    /// Keys that rendered empty, with the names that had no value: `ticket.type`, `event.kind`.
    pub empty: Vec<Empty>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// `keep_if`, `rule[1]`, `rule[2] of the preset`.
    pub name: String,
    /// As written; none for a rule without `when`, which always matches.
    pub condition: Option<String>,
    /// Whether it holds; none when it could not be decided.
    pub holds: Option<bool>,
    /// Why it could not be decided.
    pub fault: Option<String>,
    /// What its names stand for in this event: `event.title`, `"bot_block"`.
    pub values: Vec<(String, String)>,
    /// What the rule does; none for `keep_if`.
    pub says: Option<String>,
}

/// A key that rendered nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Empty {
    /// `ticket.type`.
    pub key: String,
    /// Names it reads that this event does not have.
    pub missing: Vec<String>,
}

impl Source {
    /// Goes the way of [`Source::plan`] and notes what it meets. `opens` tells whether the ticket's keys are
    /// wanted, or the note's.
    pub fn explain(&self, stored: &StoredEvent<'_>, opens: bool) -> Explanation {
        let mut explanation = Explanation::default();
        let Ok(mut view) = self.stored_view(stored) else { return explanation };
        if let Ok(asking) = self.resolve_requester(&view) {
            view.set_requester(&asking.requester);
        }
        if let Some(keep_if) = &self.texts.keep_if {
            let asked = self.ask("keep_if".to_owned(), Some(keep_if), &view);
            let goes_on = asked.holds == Some(true);
            explanation.asked.push(asked);
            if !goes_on {
                return explanation;
            }
        }
        let decided = self.ask_rules(&view, &mut explanation);
        let effects = decided.map_or(&self.effects, |rule| &rule.effects);
        explanation.empty = match opens {
            true => self.empty_in_ticket(&effects.ticket, &view),
            false => self.empty_in_note(&effects.note, &view),
        };
        explanation
    }

    fn ask_rules(&self, view: &View, explanation: &mut Explanation) -> Option<&Rule> {
        for rule in &self.rules {
            let name = rule_name(rule);
            let mut asked = self.ask(name.clone(), rule.when.as_ref(), view);
            asked.says = Some(rule.words());
            let (holds, faulty) = (asked.holds == Some(true), asked.holds.is_none());
            explanation.asked.push(asked);
            if holds {
                explanation.rule = Some(name);
                return Some(rule);
            }
            if faulty {
                return None;
            }
        }
        None
    }

    fn ask(&self, name: String, condition: Option<&Arc<Template>>, view: &View) -> Asked {
        let Some(condition) = condition else {
            let values = Vec::new();
            return Asked { name, condition: None, holds: Some(true), fault: None, values, says: None };
        };
        let (holds, fault) = match self.engine.holds(condition, &view.context) {
            Ok(holds) => (Some(holds), None),
            Err(fault) => (None, Some(fault)),
        };
        let values = self.engine.names_in(condition).into_iter().map(|name| {
            let found = name.split('.').fold(view.context.clone(), |at, part| value::attribute(&at, part));
            let shown = match found.is_undefined() || found.is_none() {
                true => "missing".to_owned(),
                false => {
                    truncate(&one_line(&serde_json::to_string(&found).unwrap_or_default()), VALUE_MAX_CHARS)
                }
            };
            (name, shown)
        });
        let values = values.collect();
        let condition = Some(self.engine.condition_text(condition));
        Asked { name, condition, holds, fault, values, says: None }
    }

    fn empty_in_ticket(&self, map: &TicketMap, view: &View) -> Vec<Empty> {
        let fields = map.fields.values().chain(map.custom_fields.values());
        let templates = fields.filter_map(|field| match field {
            Field::Template(template) => Some(template),
            Field::Fixed(_) | Field::Typed(_) => None,
        });
        let lists = map.tags.iter().chain(&map.cc_emails).flatten();
        self.empty_among(templates.chain(lists), view)
    }

    fn empty_in_note(&self, map: &NoteMap, view: &View) -> Vec<Empty> {
        self.empty_among(map.body.iter().chain(map.notify.iter().flatten()), view)
    }

    fn empty_among<'a>(&self, templates: impl Iterator<Item = &'a Arc<Template>>, view: &View) -> Vec<Empty> {
        let is_empty = |template: &&Arc<Template>| {
            self.engine.render(template, &view.context).is_ok_and(|text| is_placeholder(&text))
        };
        let empty = |template: &Arc<Template>| Empty {
            key: template.key.clone(),
            missing: template.missing(&view.context),
        };
        templates.filter(is_empty).map(empty).collect()
    }
}

fn rule_name(rule: &Rule) -> String {
    match rule.layer {
        Layer::Preset => format!("{} of the preset", rule.name),
        _ => rule.name.clone(),
    }
}
