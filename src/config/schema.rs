//! From a parsed table to a typed one, with every fault in it told, not only the first.
//!
//! serde stops at the first fault. So the fault is told, its key is cut out, and the rest is read
//! again, until it fits. The typed tables are the schema; there is no second description of it.

use super::files::{Files, Told};
use super::finding::Finding;
use serde::de::DeserializeOwned;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeValue, ValueDeserializer};

/// One step from a table to a value in it.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Reads `value` as a `T` called `path`; what does not fit is told and left out.
pub(super) fn read<T: DeserializeOwned + Default>(
    files: &Files,
    path: &str,
    mut value: Spanned<DeValue<'_>>,
    told: &mut Told,
) -> T {
    loop {
        let error = match T::deserialize(ValueDeserializer::from(value.clone())) {
            Ok(table) => return table,
            Err(error) => error,
        };
        let span = error.span().unwrap_or(value.span());
        let steps = steps_to(&value, &span).unwrap_or_default();
        told.tell_at(files, span, in_our_words(error.message(), &table_of(path, &steps)));
        if steps.is_empty() || !cut(&mut value, &steps) {
            return T::default();
        }
    }
}

/// The deepest value whose own span, or whose key's, is `span`.
fn steps_to(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<Step>> {
    let within = |step: Step, inner: Vec<Step>| Some([vec![step], inner].concat());
    match value.get_ref() {
        DeValue::Table(table) => table.iter().find_map(|(key, inner)| {
            let step = Step::Key(key.get_ref().to_string());
            match steps_to(inner, span) {
                Some(inner) => within(step, inner),
                None => (key.span() == *span || inner.span() == *span).then(|| vec![step]),
            }
        }),
        DeValue::Array(list) => {
            list.iter().enumerate().find_map(|(index, inner)| match steps_to(inner, span) {
                Some(steps) => within(Step::Index(index), steps),
                None => (inner.span() == *span).then(|| vec![Step::Index(index)]),
            })
        }
        _ => None,
    }
}

fn cut(value: &mut Spanned<DeValue<'_>>, steps: &[Step]) -> bool {
    let (Some(step), rest) = (steps.first(), steps.get(1..).unwrap_or_default()) else { return false };
    match (step, value.get_mut()) {
        (Step::Key(key), DeValue::Table(table)) if rest.is_empty() => table.remove(key.as_str()).is_some(),
        (Step::Key(key), DeValue::Table(table)) => {
            table.get_mut(key.as_str()).is_some_and(|inner| cut(inner, rest))
        }
        (Step::Index(index), DeValue::Array(list)) if rest.is_empty() => {
            let mut kept = toml::de::DeArray::new();
            let others = list.iter().enumerate().filter(|(at, _)| at != index);
            others.for_each(|(_, other)| kept.push(other.clone()));
            *list = kept;
            true
        }
        (Step::Index(index), DeValue::Array(list)) => {
            list.get_mut(*index).is_some_and(|inner| cut(inner, rest))
        }
        _ => false,
    }
}

/// The name of the table that holds the value, as its header is written: `source.contako.rule`.
fn table_of(path: &str, steps: &[Step]) -> String {
    let holders = steps.split_last().map_or(steps, |(_, holders)| holders);
    let keys = holders.iter().filter_map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Index(_) => None,
    });
    std::iter::once(path).chain(keys).collect::<Vec<_>>().join(".")
}

/// serde's words in ours. Its description of what it found is left out: it quotes the value.
fn in_our_words(message: &str, table: &str) -> Finding {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") {
        return unknown_key(quoted[0], &quoted[1..], &format!("[{table}]"));
    }
    if message.starts_with("unknown variant") {
        let words: Vec<String> = quoted.iter().skip(1).map(|word| format!("\"{word}\"")).collect();
        return Finding::error("", format!("expected {}", words.join(" or ")));
    }
    match message.split_once("expected ") {
        Some((_, expected)) => {
            let what = match expected {
                "a string" => "text in quotes",
                "a boolean" => "true or false",
                "a sequence" => "a list: [ … ]",
                "f64" => "a number",
                _ if expected.starts_with("struct ") || expected == "a map" => "a table",
                _ => expected,
            };
            Finding::error("", format!("expected {what}"))
        }
        None => {
            message.lines().skip(1).fold(
                Finding::error("", message.lines().next().unwrap_or("not understood")),
                |finding, line| finding.help(line),
            )
        }
    }
}

/// `unknown key in [freshdesk], did you mean api_key?`, and the keys there are.
pub(super) fn unknown_key(key: &str, allowed: &[&str], table: &str) -> Finding {
    let suggestion = did_you_mean(key, allowed);
    let hint = suggestion.map(|known| format!(", did you mean {known}?")).unwrap_or_default();
    Finding::error("", format!("unknown key in {table}{hint}"))
        .help(format!("allowed: {}", allowed.join(", ")))
}

/// The known word nearest to a mistyped one, if it is near.
pub(super) fn did_you_mean<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|candidate| (distance(candidate, word), *candidate));
    near.filter(|(edits, candidate)| *edits * 3 <= candidate.chars().count().max(3))
        .min()
        .map(|(_, best)| best)
}

/// How many letters to add, drop, change or swap with the next (Damerau-Levenshtein, each place once).
pub(super) fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let change = usize::from(left[i - 1] != right[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let check = |left, right, expect| assert_eq!(distance(left, right), expect, "{left} {right}");
        check("", "", 0);
        check("api_key", "api_key", 0);
        check("api_key", "api_kay", 1);
        check("listen", "lisetn", 1);
        check("file", "", 4);
        check("domain", "server", 6);
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["domain", "url", "api_key", "timeout"];
        let check = |word, expect| assert_eq!(did_you_mean(word, &known), expect, "{word}");
        check("api_kay", Some("api_key"));
        check("time_out", Some("timeout"));
        check("uri", Some("url"));
        check("password", None);
        check("x", None);
    }
}
