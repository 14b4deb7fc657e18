//! The small readable block of details under a ticket's text: one `label: value` per line.

use super::plain::{is_placeholder, one_line, truncate};
use super::value::{member, printed, to_text, words};
use super::{fold, html};
use minijinja::value::{Value, ValueKind};

/// More lines are no block that anybody reads.
const LINES_MAX: usize = 120;
/// A longer value is cut, visibly; the text of the ticket is not made of these.
const VALUE_MAX_CHARS: usize = 1000;

/// The lines of a value: members by their path (`payment / amount`), blanks left out, and so is every leaf
/// whose text is one of `skip` without regard to case (it is shown already).
pub(super) fn facts(value: &Value, skip: &[String], as_html: bool) -> String {
    let skip: Vec<String> = skip.iter().map(|text| text.trim().to_lowercase()).collect();
    let mut block = Block { skip: &skip, lines: Vec::new(), left_out: 0, ends_at: usize::MAX };
    block.walk(value, &mut Vec::new());
    let mut lines: Vec<String> =
        block.lines.iter().map(|(label, value)| line(label, value, as_html)).collect();
    if block.left_out > 0 {
        lines.push(format!("… and {} more", block.left_out));
    }
    lines.join(if as_html { "<br>\n" } else { "\n" })
}

fn line(label: &str, value: &str, as_html: bool) -> String {
    match (as_html, label.is_empty()) {
        (true, true) => html_value(value),
        (true, false) => format!("<b>{}:</b> {}", html::escape(label), html_value(value)),
        (false, true) => value.to_owned(),
        (false, false) => format!("{label}: {value}"),
    }
}

fn html_value(value: &str) -> String {
    html::link(value).unwrap_or_else(|| html::lines(value))
}

/// Would the block be empty? Ends at the first detail that would be in it.
pub(super) fn is_blank(value: &Value) -> bool {
    let mut block = Block { skip: &[], lines: Vec::new(), left_out: 0, ends_at: 1 };
    block.walk(value, &mut Vec::new());
    block.lines.is_empty()
}

struct Block<'a> {
    skip: &'a [String],
    lines: Vec<(String, String)>,
    left_out: usize,
    /// Lines after which nobody looks further.
    ends_at: usize,
}

impl Block<'_> {
    fn walk(&mut self, value: &Value, path: &mut Vec<String>) {
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => {}
            ValueKind::Map if path.len() < 12 => {
                for name in value.try_iter().into_iter().flatten() {
                    if self.lines.len() >= self.ends_at {
                        return;
                    }
                    path.push(one_line(&name.to_string()));
                    self.walk(&member(value, &name), path);
                    path.pop();
                }
            }
            ValueKind::Seq | ValueKind::Iterable => self.walk_list(value, path),
            _ => self.leaf(value, path),
        }
    }

    fn walk_list(&mut self, list: &Value, path: &mut Vec<String>) {
        if self.is_shown(list) {
            return;
        }
        let elements: Vec<Value> = list.try_iter().into_iter().flatten().take(10_000).collect();
        if !elements.iter().any(holds_a_map) {
            let mut found = Vec::new();
            words(list, &mut found);
            return self.push(&found.join(", "), path);
        }
        for (index, element) in elements.iter().enumerate() {
            if self.lines.len() >= self.ends_at {
                return;
            }
            path.push((index + 1).to_string());
            self.walk(element, path);
            path.pop();
        }
    }

    fn leaf(&mut self, value: &Value, path: &[String]) {
        let text = printed(value);
        if !is_placeholder(&text) && !self.is_shown(value) {
            self.push(&text, path);
        }
    }

    fn is_shown(&self, value: &Value) -> bool {
        if self.skip.is_empty() {
            return false;
        }
        let text = to_text(value);
        let text = text.trim().to_lowercase();
        self.skip.contains(&text)
    }

    fn push(&mut self, text: &str, path: &[String]) {
        if text.trim().is_empty() {
            return;
        }
        if self.lines.len() == LINES_MAX {
            self.left_out += 1;
            return;
        }
        self.lines.push((path.join(" / "), truncate(text.trim(), VALUE_MAX_CHARS)));
    }
}

fn holds_a_map(value: &Value) -> bool {
    match value.kind() {
        ValueKind::Map => true,
        ValueKind::Seq | ValueKind::Iterable => {
            value.try_iter().into_iter().flatten().any(|v| holds_a_map(&v))
        }
        _ => false,
    }
}

/// The map without the members of these names.
pub(super) fn without(map: &Value, names: &[String]) -> Value {
    if map.kind() != ValueKind::Map {
        return map.clone();
    }
    let names: Vec<String> = names.iter().map(|name| fold::fold(name)).collect();
    let kept = map.try_iter().into_iter().flatten().filter(|name| {
        let name = fold::fold(&name.to_string());
        !names.contains(&name)
    });
    Value::from_pairs(kept.map(|name| (name.clone(), member(map, &name))).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::super::value::to_template;
    use super::*;

    fn check(json: &str, skip: &[&str], as_html: bool, expect: &str) {
        let value = to_template(&serde_json::from_str(json).unwrap());
        let skip: Vec<String> = skip.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(facts(&value, &skip, as_html), expect);
    }

    #[test]
    fn one_line_per_detail() {
        check(
            r#"{"a":{"b":1,"c":null,"d":""},"t":["x",2,["y"]],"e":"{{y}}"}"#,
            &[],
            false,
            "a / b: 1\nt: x, 2, y",
        );
        check(r#"{"items":[{"n":"p"},{"n":"q"}]}"#, &[], false, "items / 1 / n: p\nitems / 2 / n: q");
        check("[]", &[], false, "");
    }

    #[test]
    fn what_is_shown_is_not_repeated() {
        check(r#"{"text":"hello","x":"y"}"#, &["hello"], false, "x: y");
        check(r#"{"turns":[{"role":"u","text":"hi"}],"x":1}"#, &["u: hi"], false, "x: 1");
    }

    #[test]
    fn blank_is_what_has_no_lines() {
        for json in [
            "{}",
            "[]",
            "null",
            "\"\"",
            "0",
            "{\"a\":{\"b\":[\" \",null]}}",
            "{\"a\":[{\"b\":\"{{c}}\"}]}",
            "[[],[\"x\"]]",
            "{\"a\":null,\"b\":{\"c\":[{},{\"d\":false}]}}",
            "{\"a\":{\"b\":{\"c\":\"undefined\"}}}",
            "{\"\":\"x\"}",
        ] {
            let value = to_template(&serde_json::from_str(json).unwrap());
            assert_eq!(is_blank(&value), facts(&value, &[], false).is_empty(), "{json}");
        }
    }

    #[test]
    fn html_is_escaped_once() {
        check(r#"{"a<b":"1 & 2\n3"}"#, &[], true, "<b>a&lt;b:</b> 1 &amp; 2<br>\n3");
        check(r#"{"u":"https://x.y/z"}"#, &[], true, "<b>u:</b> <a href=\"https://x.y/z\">https://x.y/z</a>");
    }

    #[test]
    fn without_leaves_members_out() {
        let map = to_template(&serde_json::json!({"first_name": 1, "b": 2}));
        assert_eq!(facts(&without(&map, &["FirstName".to_owned()]), &[], false), "b: 2");
    }
}
