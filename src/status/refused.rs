//! The last requests that were turned away, in memory: enough to mend the configuration or the platform.
//!
//! **Invariant:** no secret and no part of one: names of headers and parameters, lengths, and words that stand
//! before a secret (`Bearer `). It is bounded: so many requests for each source, and sources are configured.

use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Requests that are remembered for each source.
const KEPT: usize = 100;
/// Where requests to no source of ours are listed.
pub const NO_SOURCE: &str = "-";
/// Longest name of a header or a parameter that is told.
const NAME_CHARS_MAX: usize = 40;
/// What stands before secrets and signatures, as platforms write it.
const PREFIXES: [&str; 9] =
    ["Bearer ", "Basic ", "Token token=", "Token ", "ApiKey ", "sha256=", "sha1=", "v1=", "v1,"];
/// Parts of names that carry secrets.
const SECRET_NAMES: [&str; 9] =
    ["auth", "token", "secret", "key", "signature", "hmac", "password", "webhook-id", "hub"];

/// One request that was turned away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// RFC 3339, UTC.
    pub at: String,
    /// Address it came from.
    pub from: String,
    /// `authorization did not match`.
    pub why: String,
    /// `got 36 characters, expected 32`.
    pub detail: String,
    /// What it brought where secrets may be: never the value.
    pub brought: Vec<Brought>,
}

/// Something of a request that may be a secret or a signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brought {
    /// `header x-api-key`, `query parameter token`.
    pub place: String,
    /// What stands before it: `Bearer `; empty without.
    pub prefix: String,
    /// Characters behind the prefix.
    pub characters: usize,
}

/// The last requests of one source that were turned away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RefusedView {
    /// Its name, or `-` for requests to no source of ours.
    pub source: String,
    /// All since `since`, also those that are not listed.
    pub count: u64,
    /// The first since the daemon was started; RFC 3339, UTC.
    pub since: String,
    /// What would probably mend it.
    pub hint: Option<String>,
    /// The last, newest first.
    pub last: Vec<Refused>,
}

#[derive(Default)]
struct Memory {
    count: u64,
    since: String,
    last: VecDeque<Refused>,
}

/// The memory of all sources.
#[derive(Default)]
pub struct Turned(BTreeMap<String, Memory>);

impl Turned {
    /// Remembers one; the oldest of its source may go.
    pub fn add(&mut self, source: &str, at: Timestamp, refused: Refused) {
        let memory = self.0.entry(source.to_owned()).or_default();
        let refused = Refused { at: at.to_string(), ..refused };
        if memory.count == 0 {
            memory.since.clone_from(&refused.at);
        }
        memory.count += 1;
        if memory.last.len() == KEPT {
            memory.last.pop_front();
        }
        memory.last.push_back(refused);
    }

    /// What is remembered, of one source or of all.
    pub fn views(&self, source: Option<&str>) -> Vec<RefusedView> {
        let wanted = self.0.iter().filter(|(name, _)| source.is_none_or(|source| source == *name));
        let view = |(source, memory): (&String, &Memory)| RefusedView {
            source: source.clone(),
            count: memory.count,
            since: memory.since.clone(),
            hint: memory.last.back().and_then(hint),
            last: memory.last.iter().rev().cloned().collect(),
        };
        wanted.map(view).collect()
    }
}

/// What a request brought where secrets may be: in headers and parameters that are called so, and in `expected`.
pub fn brought(
    headers: &[(String, String)],
    query: &[(String, String)],
    expected: Option<&str>,
) -> Vec<Brought> {
    let is_candidate = |name: &str| may_carry_secret(name, expected);
    let describe = |kind: &str, (name, value): &(String, String)| {
        let (prefix, characters) = shape(value);
        let name: String = name.to_ascii_lowercase().chars().take(NAME_CHARS_MAX).collect();
        Brought { place: format!("{kind} {name}"), prefix: prefix.to_owned(), characters }
    };
    let in_headers = headers.iter().filter(|(name, _)| is_candidate(name));
    let in_query = query.iter().filter(|(name, _)| is_candidate(name));
    in_headers
        .map(|pair| describe("header", pair))
        .chain(in_query.map(|pair| describe("query parameter", pair)))
        .take(8)
        .collect()
}

/// Headers or parameters with every value hidden that may be a secret or a signature: `Bearer (29 characters)`.
pub fn masked(pairs: &[(String, String)], expected: Option<&str>) -> Vec<(String, String)> {
    let hide = |(name, value): &(String, String)| {
        if !may_carry_secret(name, expected) && !name.to_ascii_lowercase().contains("cookie") {
            return (name.clone(), value.clone());
        }
        let (prefix, characters) = shape(value);
        (name.clone(), format!("{prefix}({characters} characters)"))
    };
    pairs.iter().map(hide).collect()
}

fn may_carry_secret(name: &str, expected: Option<&str>) -> bool {
    let name = name.to_ascii_lowercase();
    expected.is_some_and(|expected| expected.eq_ignore_ascii_case(&name))
        || SECRET_NAMES.iter().any(|part| name.contains(part))
}

/// What stands before a secret, and how long the rest is.
pub fn shape(value: &str) -> (&'static str, usize) {
    let value = value.trim();
    let head =
        |prefix: &&&str| value.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    let prefix = PREFIXES.iter().find(head).copied().unwrap_or_default();
    (prefix, value[prefix.len()..].trim().chars().count())
}

/// The line to write in `[source.x]`, where what came tells it.
fn hint(refused: &Refused) -> Option<String> {
    let expects = |place: &str| {
        let name = place.split_whitespace().last().unwrap_or_default();
        refused.why.starts_with(name) || refused.why.ends_with(&format!("{name} is missing"))
    };
    if refused.why.ends_with("is missing") {
        let other = refused.brought.iter().find(|brought| !expects(&brought.place))?;
        let name = other.place.split_whitespace().last()?;
        let prefix = match other.prefix.as_str() {
            "" => String::new(),
            prefix => format!(", prefix = {prefix:?}"),
        };
        let verify = match other.place.starts_with("header ") {
            true => format!("{{ scheme = \"header\", header = {name:?}{prefix} }}"),
            false => format!("{{ scheme = \"query\", name = {name:?} }}"),
        };
        return Some(format!("It sends {}. If that is the secret:  verify = {verify}", other.place));
    }
    let given = refused.brought.iter().find(|brought| expects(&brought.place))?;
    // A prefix that the scheme did not take off makes what was compared that much longer.
    let expected = refused.detail.rsplit("expected ").next()?.parse::<usize>().ok()?;
    (!given.prefix.is_empty() && given.characters == expected)
        .then(|| format!("It sends \"{}…\". Then set:  verify.prefix = {:?}", given.prefix, given.prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn nothing_of_a_secret_is_remembered() {
        let headers = pairs(&[("Authorization", "Bearer abcdef"), ("X-Api-Key", "12345"), ("Accept", "*/*")]);
        let found = brought(&headers, &pairs(&[("token", "geheim"), ("page", "2")]), None);
        let text = serde_json::to_string(&found).unwrap();
        for secret in ["abcdef", "12345", "geheim"] {
            assert!(!text.contains(secret), "{text}");
        }
        let places: Vec<_> = found.iter().map(|one| (one.place.as_str(), one.characters)).collect();
        assert_eq!(
            places,
            [("header authorization", 6), ("header x-api-key", 5), ("query parameter token", 6)]
        );
        assert_eq!(found[0].prefix, "Bearer ");
    }

    #[test]
    fn hints_name_the_line_to_write() {
        let check = |why: &str, detail: &str, headers: &[(&str, &str)], expect: Option<&str>| {
            let brought = brought(&pairs(headers), &[], Some("X-Hook"));
            let refused = Refused { why: why.into(), detail: detail.into(), brought, ..Refused::default() };
            assert_eq!(hint(&refused).as_deref(), expect, "{why}");
        };
        let prefixed = "It sends \"Token …\". Then set:  verify.prefix = \"Token \"";
        check(
            "x-hook did not match",
            "got 9 characters, expected 3",
            &[("X-Hook", "Token abc")],
            Some(prefixed),
        );
        check("x-hook did not match", "got 3 characters, expected 3", &[("X-Hook", "abd")], None);
        let other = "It sends header x-api-key. If that is the secret:  \
                     verify = { scheme = \"header\", header = \"x-api-key\" }";
        check("header x-hook is missing", "", &[("X-Api-Key", "abd")], Some(other));
        check("header x-hook is missing", "", &[("Accept", "*/*")], None);
    }

    #[test]
    fn the_last_hundred_are_kept_and_all_are_counted() {
        let mut turned = Turned::default();
        for number in 0..120_u64 {
            let refused = Refused { detail: number.to_string(), ..Refused::default() };
            turned.add("empower", Timestamp(number * 1000), refused);
        }
        turned.add("contako", Timestamp(0), Refused::default());
        let views = turned.views(Some("empower"));
        assert_eq!((views.len(), views[0].count, views[0].last.len()), (1, 120, KEPT));
        assert_eq!(
            (views[0].last[0].detail.as_str(), views[0].since.as_str()),
            ("119", "1970-01-01T00:00:00Z")
        );
        assert_eq!(turned.views(None).len(), 2);
        assert!(turned.views(Some("nobody")).is_empty());
    }
}
