//! Fields of a form to one object: `a[b]` nests, `a[]` and repeated names are lists, JSON inside a field is JSON.
//!
//! **Invariant:** no field is lost: one that does not fit where its name says keeps its name as written.

use super::{BodyKind, Decoded, json};
use serde_json::{Map, Value};

/// More form fields than this is no form a person filled in.
pub(super) const FIELDS_MAX: usize = 1000;

/// `a[b][c]…` nested deeper than this is taken as a name.
const DEPTH_MAX: usize = 16;

/// Text of fields that is looked at as JSON where it stands; what is beyond stays text. JSON in memory is many
/// times its text, and each field could hold as much as [`json::VALUES_MAX`] allows.
const INNER_BYTES_MAX: usize = 256 * 1024;

/// Text that is copied into the elements of a carried list at most.
const COPIED_BYTES_MAX: usize = 256 * 1024;

/// Fields that carry a whole event as JSON, whatever stands beside them.
const CARRIERS: [&str; 3] = ["payload", "data", "json"];

/// The fields of one form, in order.
#[derive(Default)]
pub(super) struct Fields {
    texts: Vec<(String, Value)>,
}

impl Fields {
    /// Adds a field with its text.
    pub fn add(&mut self, name: String, text: String) {
        // How the form was encoded is no part of what it says.
        if name != "_charset_" {
            self.texts.push((name, Value::String(text)));
        }
    }

    /// Adds a field that is no text: a file.
    pub fn add_value(&mut self, name: String, value: Value) {
        self.texts.push((name, value));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// What the form says.
    pub fn finish(mut self) -> Decoded {
        let Some((name, carried)) = self.take_carried() else {
            return Decoded { value: Value::Object(self.object()), how: BodyKind::Form };
        };
        let bytes: usize = self.texts.iter().map(|(name, value)| name.len() + value_bytes(value)).sum();
        let copies = carried.as_array().map_or(1, Vec::len);
        if copies.saturating_mul(bytes) > COPIED_BYTES_MAX && carried.is_array() {
            self.texts.push((name, carried));
            return Decoded { value: Value::Object(self.object()), how: BodyKind::Form };
        }
        Decoded { value: merged(carried, self.object()), how: BodyKind::JsonInForm }
    }

    /// The JSON that the form was made to carry, and its field's name; the field is taken out.
    fn take_carried(&mut self) -> Option<(String, Value)> {
        let is_carrier = |(name, _): &(String, Value)| CARRIERS.contains(&name.as_str());
        let at = if self.texts.len() == 1 { 0 } else { self.texts.iter().position(is_carrier)? };
        let (name, Value::String(text)) = self.texts.get(at)? else { return None };
        // A lone name without a value may be the JSON itself.
        let is_lone_name = self.texts.len() == 1 && text.trim().is_empty();
        let carried = json::container(if is_lone_name { name } else { text })?;
        Some((self.texts.remove(at).0, carried))
    }

    fn object(self) -> Map<String, Value> {
        let mut object = Map::new();
        for (name, value) in self.texts {
            let path = path(&name);
            if let Err(value) = insert(&mut object, &path, value) {
                add(&mut object, &name, value);
            }
        }
        let mut left = INNER_BYTES_MAX;
        for (_, value) in &mut object {
            settle(value, &mut left);
        }
        object
    }
}

fn value_bytes(value: &Value) -> usize {
    value.as_str().map_or(100, str::len)
}

/// The carried JSON with the fields that stood beside it: they are members of each of its objects.
fn merged(mut carried: Value, beside: Map<String, Value>) -> Value {
    let objects = match &mut carried {
        Value::Array(elements) => elements.iter_mut().collect(),
        other => vec![other],
    };
    for object in objects.into_iter().filter_map(Value::as_object_mut) {
        for (name, value) in &beside {
            if !object.contains_key(name) {
                object.insert(name.clone(), value.clone());
            }
        }
    }
    carried
}

/// `a[b][]` is `a`, `b` and nothing; a name that is not written so is one step.
fn path(name: &str) -> Vec<&str> {
    let whole = || vec![name];
    let Some((first, rest)) = name.split_once('[') else { return whole() };
    let Some(rest) = rest.strip_suffix(']').filter(|_| !first.is_empty()) else { return whole() };
    let steps: Vec<&str> = std::iter::once(first).chain(rest.split("][")).collect();
    let is_plain = |step: &&str| !step.contains(['[', ']']);
    if steps.len() <= DEPTH_MAX && steps.iter().all(is_plain) { steps } else { whole() }
}

/// Puts a value where its path says; gives it back when something else is there.
fn insert(object: &mut Map<String, Value>, path: &[&str], value: Value) -> Result<(), Value> {
    match path {
        [] => Err(value),
        [name] => {
            add(object, name, value);
            Ok(())
        }
        [name, ""] => {
            match object.entry(*name).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(list) => list.push(value),
                Value::Object(_) => return Err(value),
                first => *first = Value::Array(vec![first.take(), value]),
            }
            Ok(())
        }
        [name, "", rest @ ..] => {
            let list = object.entry(*name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { return Err(value) };
            // `items[][id]=1&items[][n]=2&items[][id]=3` are two items: a name that comes again begins the next.
            let begins = |last: Option<&Value>| {
                last.and_then(Value::as_object).is_none_or(|last| last.contains_key(rest[0]))
            };
            if begins(list.last()) {
                list.push(Value::Object(Map::new()));
            }
            match list.last_mut() {
                Some(Value::Object(last)) => insert(last, rest, value),
                _ => Err(value),
            }
        }
        [name, rest @ ..] => match object.entry(*name).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(inner) => insert(inner, rest, value),
            _ => Err(value),
        },
    }
}

/// A name that comes again makes a list.
fn add(object: &mut Map<String, Value>, name: &str, value: Value) {
    match object.get_mut(name) {
        None => {
            object.insert(name.to_owned(), value);
        }
        Some(Value::Array(values)) => values.push(value),
        Some(first) => {
            let values = vec![first.take(), value];
            *first = Value::Array(values);
        }
    }
}

/// `a[0]`, `a[1]` … are a list, and a field whose text is an object or a list of objects is that, while there
/// are bytes `left` to look at.
fn settle(value: &mut Value, left: &mut usize) {
    match value {
        Value::String(text) => {
            let text = text.trim();
            // What a person types into a field is text, even in brackets.
            let is_json = text.starts_with("{\"") || text.starts_with("[{\"");
            if !is_json || text.len() > *left {
                return;
            }
            *left -= text.len();
            if let Some(inner) = json::container(text) {
                *value = inner;
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| settle(element, left)),
        Value::Object(members) => {
            members.iter_mut().for_each(|(_, member)| settle(member, left));
            let is_list = !members.is_empty()
                && members.keys().enumerate().all(|(index, name)| *name == index.to_string());
            if is_list {
                *value =
                    Value::Array(std::mem::take(members).into_iter().map(|(_, member)| member).collect());
            }
        }
        _ => {}
    }
}
