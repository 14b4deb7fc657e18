//! Finders: a field by the paths where it should be, then by the names people give it, anywhere in the event.
//!
//! The search is breadth-first and bounded in depth and in members looked at, so the shallowest `email` wins
//! and a hostile event costs little. A value that is a placeholder (`{{workflow.email}}`, `undefined`) or does
//! not look like what is sought counts as not found.

use super::fold::{fold, fold_into, folds_to};
use super::plain::{is_placeholder, one_line};
use super::requester::{self, Address};
use super::{phone, rating, value};
use minijinja::value::{Enumerator, Object, Value};
use serde_json::Value as Json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

const DEPTH_MAX: usize = 8;
const MEMBERS_MAX: usize = 5000;
/// What describes a field of a form builder, beside its `value`, and says nothing itself.
const OF_A_FIELD: [&str; 6] = ["title", "label", "name", "id", "type", "key"];
/// A longer name of a member is no label.
const LABEL_MAX_BYTES: usize = 200;

/// What a finder accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    /// A text with a valid address in it.
    Email,
    /// A text or number that is a phone number.
    Phone,
    /// One line of text or a number; of a list its first.
    Word,
    /// Anything with something to read in it.
    Any,
}

impl Wants {
    fn of(name: &str) -> Wants {
        match name {
            "email" => Wants::Email,
            "phone" => Wants::Phone,
            "name" | "first_name" | "last_name" | "subject" | "external_id" | "event_id" | "conversation"
            | "kind" => Wants::Word,
            _ => Wants::Any,
        }
    }

    /// The value itself or, for what must be one word, the first element that will do.
    fn accept(self, json: &Json, is_by_name: bool) -> Option<&Json> {
        match (self, json) {
            // Form builders and CRMs write `{"id": "email", "value": "a@x.co"}`.
            (_, Json::Object(members)) if is_by_name => members
                .get("value")
                .filter(|value| !value.is_object())
                .and_then(|value| self.accept(value, true)),
            (Wants::Any, other) => (!value::is_blank(other) && !other.is_boolean()).then_some(other),
            (_, Json::Array(elements)) => elements
                .iter()
                .take(100)
                .filter(|element| !element.is_array())
                .find_map(|e| self.accept(e, true)),
            (_, Json::Bool(_) | Json::Null | Json::Object(_)) => None,
            (Wants::Email, Json::String(text)) => requester::address(text).map(|_| json),
            (Wants::Email, _) => None,
            (Wants::Phone, scalar) => phone::normalise(&scalar_text(scalar), None).map(|_| json),
            (_, Json::String(text)) => (!is_placeholder(text) && !one_line(text).is_empty()).then_some(json),
            (_, _) => Some(json),
        }
    }
}

/// A dotted path.
#[derive(Clone, Debug)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug)]
enum Step {
    /// A member by its name, else by its folded name; a number is an index too.
    Member { name: String, folded: String },
    /// `*`: every element or member.
    Any,
}

impl Path {
    /// `contact.variables.email`, `items.0.name`, `attachments.*.url`; `.` is the whole.
    pub fn parse(text: &str) -> Path {
        if text.trim() == "." {
            return Path(Vec::new());
        }
        let steps = text.trim().split('.').map(|name| match name.trim() {
            "*" => Step::Any,
            name => Step::Member { name: name.to_owned(), folded: fold(name) },
        });
        Path(steps.collect())
    }

    /// All values at the path, in order.
    pub fn values<'a>(&self, root: &'a Json) -> Vec<&'a Json> {
        let members = self.0.iter().take_while(|step| matches!(step, Step::Member { .. })).count();
        let (members, branching) = self.0.split_at(members);
        let one = members.iter().try_fold(root, |json, step| step.member(json));
        let mut here: Vec<&Json> = one.into_iter().collect();
        for step in branching {
            here = here.into_iter().flat_map(|json| step.values(json)).take(MEMBERS_MAX).collect();
        }
        here
    }
}

/// A `split` that is a path with `*`.
pub(super) fn listed_path(expression: &str) -> Option<Path> {
    let path = expression.trim().strip_prefix("event.")?;
    let is_path = path.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '*'));
    (is_path && path.split('.').any(|step| step == "*")).then(|| Path::parse(path))
}

impl Path {
    /// The whole once for each value at the path, with only that value in the lists on the way.
    pub fn narrowed(&self, root: &Json) -> Vec<Json> {
        narrowed(&self.0, root)
    }
}

fn narrowed(steps: &[Step], json: &Json) -> Vec<Json> {
    let Some((step, rest)) = steps.split_first() else { return vec![json.clone()] };
    match (step, json) {
        (Step::Any, Json::Array(elements)) => {
            let each = elements.iter().flat_map(|element| narrowed(rest, element));
            each.map(|element| Json::Array(vec![element])).collect()
        }
        (Step::Member { name, folded }, Json::Object(members)) => {
            let key = members.get_key_value(name).map(|(key, _)| key);
            let Some(key) = key.or_else(|| members.keys().find(|key| folds_to(key, folded))) else {
                return Vec::new();
            };
            let around = members.iter().filter(|(name, _)| *name != key);
            let around: serde_json::Map<String, Json> =
                around.map(|(name, member)| (name.clone(), member.clone())).collect();
            let with = |inner| {
                let mut whole = around.clone();
                whole.insert(key.clone(), inner);
                Json::Object(whole)
            };
            narrowed(rest, &members[key]).into_iter().map(with).collect()
        }
        _ => Vec::new(),
    }
}

impl Step {
    fn values<'a>(&self, json: &'a Json) -> Vec<&'a Json> {
        match (self, json) {
            (Step::Any, Json::Array(elements)) => elements.iter().collect(),
            (Step::Any, Json::Object(members)) => members.values().collect(),
            _ => self.member(json).into_iter().collect(),
        }
    }

    fn member<'a>(&self, json: &'a Json) -> Option<&'a Json> {
        let Step::Member { name, folded } = self else { return None };
        match json {
            Json::Array(elements) => name.parse::<usize>().ok().and_then(|index| elements.get(index)),
            Json::Object(members) => members.get(name).or_else(|| {
                members.iter().find_map(|(name, member)| folds_to(name, folded).then_some(member))
            }),
            _ => None,
        }
    }
}

/// One finder as it is effective.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    pub name: String,
    pub paths: Vec<Path>,
    pub synonyms: HashMap<String, usize>,
    pub within: Vec<Path>,
    pub skip: HashSet<String>,
}

impl Finder {
    /// The first value that is what the finder wants; of a form, its answers take the event's place for synonyms.
    pub fn find<'a>(&self, event: &'a Json, answers: Option<&'a Json>) -> Option<&'a Json> {
        let wants = Wants::of(&self.name);
        self.find_as((event, answers), wants).or_else(|| self.typed(answers?, wants))
    }

    /// The first value with something in it, for telling an agent what was given but could not be used.
    pub fn find_anything<'a>(&self, event: &'a Json, answers: Option<&'a Json>) -> Option<&'a Json> {
        self.find_as((event, answers), Wants::Word)
    }

    fn find_as<'a>(&self, (event, answers): (&'a Json, Option<&'a Json>), wants: Wants) -> Option<&'a Json> {
        let at_paths = self.paths.iter().flat_map(|path| path.values(event));
        let by_path = at_paths.into_iter().find_map(|json| wants.accept(json, false));
        by_path.or_else(|| {
            if self.synonyms.is_empty() {
                return None;
            }
            let roots = || match (answers, self.within.as_slice()) {
                (Some(answers), _) => vec![answers],
                (None, []) => vec![event],
                (None, within) => within.iter().flat_map(|path| path.values(event)).collect(),
            };
            let named = self.search(roots(), wants, &|name, folded| {
                fold_into(name, folded);
                self.synonyms.get(folded.as_str()).copied()
            });
            named.or_else(|| self.search(roots(), wants, &|name, folded| self.said_in(name, folded)))
        })
    }

    /// What stands beside `sibling`, in the same object, by a synonym.
    fn beside<'a>(&self, root: &'a Json, sibling: &Json) -> Option<&'a Json> {
        let (mut level, mut looked_at) = (vec![root], 0);
        for _ in 0..DEPTH_MAX {
            let mut next = Vec::new();
            for json in level {
                let (members, elements) = (json.as_object(), json.as_array());
                let inner = members.into_iter().flat_map(|members| members.values());
                let inner: Vec<&Json> = inner.chain(elements.into_iter().flatten()).collect();
                if let Some(members) =
                    members.filter(|_| inner.iter().any(|json| std::ptr::eq(*json, sibling)))
                {
                    let ranked = members.iter().filter_map(|(name, member)| {
                        let rank = self.synonyms.get(fold(name).as_str())?;
                        Some((rank, Wants::Word.accept(member, true)?))
                    });
                    return ranked.min_by_key(|(rank, _)| **rank).map(|(_, found)| found);
                }
                looked_at += inner.len();
                next.extend(inner.into_iter().filter(|json| json.is_object() || json.is_array()));
            }
            if looked_at > MEMBERS_MAX {
                return None;
            }
            level = next;
        }
        None
    }

    /// An answer that can only be what is wanted, whatever the question.
    fn typed<'a>(&self, answers: &'a Json, wants: Wants) -> Option<&'a Json> {
        let members = answers.as_object().filter(|_| wants == Wants::Email && !self.synonyms.is_empty())?;
        members.values().find_map(|answer| wants.accept(answer, true))
    }

    /// Which synonym stands as words in a member's name that is a question or a label (`What is your e-mail?`). A
    /// word that is to be skipped tells that it is about something else (`Company name`).
    fn said_in(&self, label: &str, folded: &mut String) -> Option<usize> {
        if !label.trim().contains(char::is_whitespace) || label.len() > LABEL_MAX_BYTES {
            return None;
        }
        let words = label.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'));
        let words: Vec<String> = words.map(fold).filter(|word| !word.is_empty()).collect();
        if words.iter().any(|word| self.skip.contains(word)) {
            return None;
        }
        let mut best = None;
        for from in 0..words.len() {
            folded.clear();
            for word in &words[from..] {
                folded.push_str(word);
                let rank = self.synonyms.get(folded.as_str()).copied();
                best = [best, rank].into_iter().flatten().min();
            }
        }
        best
    }

    /// Level by level; within a level the order of the synonyms decides, then the order in the event.
    fn search<'a>(
        &self,
        roots: Vec<&'a Json>,
        wants: Wants,
        rank_of: &dyn Fn(&str, &mut String) -> Option<usize>,
    ) -> Option<&'a Json> {
        let (mut level, mut looked_at, mut folded) = (roots, 0, String::new());
        for _ in 0..DEPTH_MAX {
            let mut best: Option<(usize, &Json)> = None;
            let mut next = Vec::new();
            for json in level {
                let is_field = json.get("value").is_some();
                let members: Box<dyn Iterator<Item = (&str, &Json)>> = match json {
                    Json::Object(members) => {
                        Box::new(members.iter().map(|(name, member)| (name.as_str(), member)))
                    }
                    Json::Array(elements) => Box::new(elements.iter().map(|element| ("", element))),
                    _ => continue,
                };
                for (name, member) in members {
                    looked_at += 1;
                    if looked_at > MEMBERS_MAX {
                        return best.map(|(_, found)| found);
                    }
                    let describes = is_field && OF_A_FIELD.contains(&name);
                    let rank = rank_of(name, &mut folded).filter(|_| !describes);
                    let is_better = |rank: &usize| best.is_none_or(|(best, _)| *rank < best);
                    if let Some(rank) = rank.filter(is_better) {
                        best = wants.accept(member, true).map(|found| (rank, found)).or(best);
                    }
                    if member.is_object() || member.is_array() {
                        fold_into(name, &mut folded);
                        if !self.skip.contains(folded.as_str()) {
                            next.push(member);
                        }
                    }
                }
            }
            if best.is_some() {
                return best.map(|(_, found)| found);
            }
            level = next;
        }
        None
    }
}

/// A scalar as text, without the quotes of JSON.
pub(super) fn scalar_text(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// All finders of a source.
pub(super) type Finders = BTreeMap<String, Finder>;

/// `found` of one event: each finder runs when a template asks for it.
#[derive(Debug)]
pub(super) struct Found {
    pub event: Arc<Json>,
    pub finders: Arc<Finders>,
    /// Of an event that is a form.
    pub answers: Option<Json>,
}

impl Found {
    fn find(&self, name: &str) -> Option<&Json> {
        self.finders.get(name)?.find(&self.event, self.answers.as_ref())
    }

    /// What was given for it, whether it can be used or not.
    pub fn given(&self, name: &str) -> Option<&Json> {
        self.finders.get(name)?.find_anything(&self.event, self.answers.as_ref())
    }

    /// What the finder of this name gives.
    pub fn get(&self, name: &str) -> Option<Value> {
        let found = self.find(name);
        match (name, found) {
            ("email", Some(json)) => Some(Value::from(self.address_in(json)?.email)),
            ("name", Some(json)) => Some(self.with_surname(json)),
            ("name", None) => self.name_beside_the_address().map(Value::from),
            // `Péssimo` is 1; what is no grade stays what was said.
            ("rating", Some(json)) => {
                Some(rating::graded(&scalar_text(json)).unwrap_or_else(|| value::to_template(json)))
            }
            (_, found) => found.map(value::to_template),
        }
    }

    /// `{"nombre": "Ana", "apellidos": "Ruiz"}` is Ana Ruiz; a name that has its surname keeps it as it is.
    fn with_surname(&self, name: &Json) -> Value {
        let roots = [self.answers.as_ref(), Some(&*self.event)];
        let finder = self.finders.get("last_name");
        let surname = roots.into_iter().flatten().find_map(|root| finder?.beside(root, name));
        let (first, surname) = (scalar_text(name), surname.map(scalar_text).unwrap_or_default());
        let is_there = surname.split_whitespace().any(|word| first.split_whitespace().any(|one| one == word));
        if surname.is_empty() || is_there {
            return value::to_template(name);
        }
        Value::from(format!("{first} {surname}"))
    }

    /// `"Pérez, Ana" <ana@example.com>` names a person too.
    fn name_beside_the_address(&self) -> Option<String> {
        self.address_in(self.find("email")?)?.name
    }

    fn address_in(&self, json: &Json) -> Option<Address> {
        requester::address(&scalar_text(json))
    }
}

impl Object for Found {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.get(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.finders.keys().map(Value::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn finder(name: &str, paths: &[&str], synonyms: &[&str]) -> Finder {
        Finder {
            name: name.to_owned(),
            paths: paths.iter().map(|path| Path::parse(path)).collect(),
            synonyms: synonyms.iter().enumerate().map(|(rank, name)| (fold(name), rank)).collect(),
            within: Vec::new(),
            skip: ["bot".to_owned()].into(),
        }
    }

    fn check(finder: &Finder, event: Json, expect: Json) {
        assert_eq!(finder.find(&event, None).cloned().unwrap_or_default(), expect, "{event}");
    }

    #[test]
    fn paths_come_first_and_in_order() {
        let text = finder("text", &["a.b.0.c", "*.body"], &["message"]);
        check(&text, json!({"message": "m", "a": {"b": [{"c": "deep"}]}}), json!("deep"));
        check(&text, json!({"message": "m", "x": {"Body": "any"}}), json!("any"));
        check(&text, json!({"message": "m", "a": {"b": []}}), json!("m"));
    }

    #[test]
    fn synonyms_are_found_anywhere_the_shallowest_first() {
        let email = finder("email", &[], &["email", "correo_electronico", "почта"]);
        check(&email, json!({"x": {"email": "deep@x.co"}, "Correo Electrónico": "a@x.co"}), json!("a@x.co"));
        check(&email, json!({"list": [{"Почта": "p@x.co"}]}), json!("p@x.co"));
        check(&email, json!({"email": "not one", "x": {"email": "b@x.co"}}), json!("b@x.co"));
        check(&email, json!({"email": ["{{email}}", "c@x.co"]}), json!("c@x.co"));
        check(&email, json!({"bot": {"email": "bot@x.co"}}), Json::Null);
    }

    #[test]
    fn placeholders_and_wrong_kinds_are_not_found() {
        let name = finder("name", &[], &["name"]);
        check(&name, json!({"name": "undefined", "x": {"name": "Ana"}}), json!("Ana"));
        check(&name, json!({"name": true, "x": {"name": {"first": "A"}}}), Json::Null);
        check(&name, json!({"name": {"id": "name", "value": "Ana"}}), json!("Ana"));
        check(&name, json!({"name": {"value": {"value": "Ana"}}}), Json::Null);
        check(
            &name,
            json!({"x": [{"name": "mail", "value": "a@x.co"}], "y": {"z": {"name": "Ana"}}}),
            json!("Ana"),
        );
        let phone = finder("phone", &[], &["phone"]);
        check(
            &phone,
            json!({"phone": "call me", "x": {"phone": 380_671_112_233_u64}}),
            json!(380_671_112_233_u64),
        );
        let text = finder("text", &[], &["message"]);
        check(&text, json!({"message": [{"text": "hi"}]}), json!([{"text": "hi"}]));
        check(&text, json!({"message": {"message": "inner"}}), json!("inner"));
    }

    #[test]
    fn a_surname_is_sought_beside_the_name_only() {
        let check = |event: Json, expect: &str| {
            let finders =
                [finder("name", &[], &["nombre"]), finder("last_name", &[], &["surname", "apellidos"])];
            let finders = finders.map(|finder| (finder.name.clone(), finder)).into();
            let found = Found { event: Arc::new(event), finders: Arc::new(finders), answers: None };
            assert_eq!(found.get("name").map(|name| name.to_string()).as_deref(), Some(expect));
        };
        check(json!({"x": [{"nombre": "Ana", "apellidos": "Ruiz Gil", "y": 1}]}), "Ana Ruiz Gil");
        check(json!({"nombre": "Ana", "asesor": {"apellidos": "Gil"}}), "Ana");
        check(json!({"nombre": "Ana Ruiz", "Apellidos": "Ruiz"}), "Ana Ruiz");
        check(json!({"nombre": "Ana", "apellidos": "{{last_name}}", "surname": null}), "Ana");
    }

    #[test]
    fn the_search_is_bounded() {
        let text = finder("text", &[], &["needle"]);
        let mut deep = json!({"needle": "x"});
        for _ in 0..DEPTH_MAX {
            deep = json!({ "a": deep });
        }
        check(&text, deep, Json::Null);
        let wide: Vec<Json> = (0..MEMBERS_MAX + 1).map(|n| json!(n)).collect();
        check(&text, json!([wide, {"needle": "x"}]), Json::Null);
    }

    #[test]
    fn a_question_says_what_it_asks_for() {
        let mut name = finder("name", &[], &["full name", "nombre"]);
        name.skip.insert("company".to_owned());
        check(&name, json!({"Company nombre": "ACME", "¿Cuál es tu nombre?": "Ana"}), json!("Ana"));
        check(&name, json!({"nombres": "no", "company_nombre": "ACME"}), Json::Null);
        let email = finder("email", &[], &["e-mail"]);
        check(&email, json!({"What is your e-mail address?": "a@x.co"}), json!("a@x.co"));
        let form = json!({"How do we reach you?": "b@x.co"});
        assert_eq!(email.find(&json!({"email": "no@x.co"}), Some(&form)), Some(&json!("b@x.co")));
    }

    #[test]
    fn a_path_with_stars_narrows_the_whole() {
        let body = json!({"o": 1, "entry": [{"id": 1, "m": [{"t": "a"}, {"t": "b"}]}, {"id": 2}, {"id": 3, "m": [{"t": "c"}]}]});
        let narrowed = listed_path("event.entry.*.m.*").unwrap().narrowed(&body);
        let expect = [("a", 1), ("b", 1), ("c", 3)];
        let expect = expect.map(|(text, id)| json!({"o": 1, "entry": [{"id": id, "m": [{"t": text}]}]}));
        assert_eq!(narrowed, expect);
        assert!(listed_path("event.entry").is_none() && listed_path("[event.a * 2]").is_none());
    }

    #[test]
    fn within_limits_where_synonyms_are_sought() {
        let mut phone = finder("phone", &[], &["phone"]);
        phone.within = vec![Path::parse("contact.variables")];
        check(
            &phone,
            json!({"phone": "1234567", "contact": {"variables": {"Phone": "7654321"}}}),
            json!("7654321"),
        );
    }
}
