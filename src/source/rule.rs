//! What becomes of an event: the rules, and what each of them writes.
//!
//! **Invariant:** a rule's actions are done in one order, whatever order they are written in: contact, then
//! ticket or note, then update. So a ticket finds its contact, and an update its ticket.

use super::layers::{Compiler, ContactMap, FollowupMap, NoteMap, Place, TicketMap, UpdateMap};
use super::problem::Layer;
use super::table::{Actions, RuleTable, Text};
use super::template::Template;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;

/// Something a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    Contact,
    Ticket,
    Note,
    Update,
    Ignore,
}

const ACTIONS: [(&str, Action); 5] = [
    ("ticket", Action::Ticket),
    ("note", Action::Note),
    ("update", Action::Update),
    ("contact", Action::Contact),
    ("ignore", Action::Ignore),
];
const ALLOWED: &str = "ticket, note, update, contact or ignore";

/// What a source does where no rule says otherwise: the base that rules lay their keys over.
#[derive(Clone, Debug, Default)]
pub(super) struct Effects {
    pub ticket: TicketMap,
    pub note: NoteMap,
    pub contact: ContactMap,
    pub update: UpdateMap,
    pub followup: FollowupMap,
    pub attach_event: bool,
}

/// One rule, its keys laid over the source's.
pub(super) struct Rule {
    /// `rule[1]`, for reasons.
    pub name: String,
    /// Whose table it is in.
    pub layer: Layer,
    pub when: Option<Arc<Template>>,
    /// Sorted, each once; never empty.
    pub actions: Vec<Action>,
    pub effects: Effects,
}

impl Rule {
    pub fn is_ignored(&self) -> bool {
        self.actions == [Action::Ignore]
    }

    /// What it does, in the order in which it is done: `note, update`.
    pub fn words(&self) -> String {
        let word = |action: &Action| ACTIONS.iter().find(|(_, other)| other == action).map(|(word, _)| *word);
        self.actions.iter().filter_map(word).collect::<Vec<_>>().join(", ")
    }
}

/// A rule, or nothing and the problems.
pub(super) fn compile(
    compiler: &mut Compiler,
    (layer, name): (Layer, String),
    table: &RuleTable,
    base: &Effects,
) -> Option<Rule> {
    let place = Place { layer, table: &name };
    let when = table.when.as_ref().map(|text| compiler.condition(place, "when", text));
    let before = compiler.problems.len();
    let effects = effects(compiler, (layer, &name), table, base);
    let is_whole = compiler.problems.len() == before;
    let actions = actions(compiler, (layer, &name), table)?;
    if is_whole && actions.contains(&Action::Update) && !effects.update.changes_something() {
        let at = table.update.as_ref().map(Spanned::span).or_else(|| actions_at(table));
        let help = "update = { priority = \"high\", tags_add = [\"vip\"] }".to_owned();
        compiler.problem((layer, &format!("{name}.update"), at), "changes nothing", Some(help));
        return None;
    }
    let when = match when {
        Some(compiled) => Some(compiled?),
        None => None,
    };
    Some(Rule { name, layer, when, actions, effects })
}

fn effects(
    compiler: &mut Compiler,
    (layer, name): (Layer, &str),
    table: &RuleTable,
    base: &Effects,
) -> Effects {
    let mut effects = base.clone();
    let key = |table: &str| format!("{name}.{table}");
    if let Some(table) = &table.ticket {
        effects.ticket.overlay(compiler.ticket(Place { layer, table: &key("ticket") }, table));
    }
    if let Some(table) = &table.note {
        effects.note.overlay(compiler.note(Place { layer, table: &key("note") }, table));
    }
    if let Some(table) = &table.update {
        effects.update = compiler.update(Place { layer, table: &key("update") }, table.get_ref());
    }
    if let Some(table) = &table.contact {
        effects.contact.overlay(compiler.contact(Place { layer, table: &key("contact") }, table.get_ref()));
    }
    if let Some(table) = &table.followup {
        effects.followup.overlay(compiler.followup(Place { layer, table: &key("followup") }, table));
    }
    effects.attach_event = table.attach_event.unwrap_or(base.attach_event);
    effects
}

fn actions_at(table: &RuleTable) -> Option<Range<usize>> {
    table.actions.as_ref().map(Spanned::span)
}

/// The words of `do`, with what the rule's tables imply.
fn actions(compiler: &mut Compiler, (layer, name): (Layer, &str), table: &RuleTable) -> Option<Vec<Action>> {
    let key = format!("{name}.do");
    let words = match table.actions.as_ref().map(|actions| (actions.span(), actions.get_ref())) {
        Some((span, Actions::One(word))) => vec![Spanned::new(span, word.clone())],
        Some((_, Actions::Several(words))) => words.clone(),
        None => Vec::new(),
    };
    let before = compiler.problems.len();
    let mut actions = Vec::new();
    for word in &words {
        match action(word) {
            Some(action) if actions.contains(&action) => {
                compiler.problem((layer, &key, Some(word.span())), "is named twice", None);
            }
            Some(action) => actions.push(action),
            None => compiler.problem((layer, &key, Some(word.span())), format!("expected {ALLOWED}"), None),
        }
    }
    if words.is_empty() {
        let at = actions_at(table).or(table.when.as_ref().map(Spanned::span));
        compiler.problem((layer, &key, at), "is missing", Some(format!("do = {ALLOWED}, or a list of them")));
    }
    if actions.contains(&Action::Ignore) {
        check_ignored(compiler, (layer, &key), table, actions.len() > 1);
    } else {
        imply(table, &mut actions);
    }
    if actions.contains(&Action::Ticket) && actions.contains(&Action::Note) {
        let what = "either ticket or note: where a ticket is already, it gets the note";
        compiler.problem((layer, &key, actions_at(table)), what, None);
    }
    actions.sort_unstable();
    (compiler.problems.len() == before).then_some(actions)
}

fn action(word: &Text) -> Option<Action> {
    ACTIONS.iter().find(|(known, _)| known == word.get_ref()).map(|(_, action)| *action)
}

fn imply(table: &RuleTable, actions: &mut Vec<Action>) {
    let implied = [(table.update.is_some(), Action::Update), (table.contact.is_some(), Action::Contact)];
    for (_, action) in implied.into_iter().filter(|(is_there, _)| *is_there) {
        if !actions.contains(&action) {
            actions.push(action);
        }
    }
}

fn check_ignored(compiler: &mut Compiler, (layer, key): (Layer, &str), table: &RuleTable, has_others: bool) {
    let writes = table.update.as_ref().map(Spanned::span).or(table.contact.as_ref().map(Spanned::span));
    if has_others || writes.is_some() {
        let at = writes.filter(|_| !has_others).or_else(|| actions_at(table));
        compiler.problem((layer, key, at), "ignore writes nothing, so nothing can go with it", None);
    }
}
