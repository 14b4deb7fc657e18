//! The words of a template's code, with their places: enough to find the mistakes that the template engine
//! only meets when it renders.

/// One word or sign of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// Bytes from the beginning of the text.
    pub offset: usize,
    /// A name, a number, a quoted text with its quotes, or one sign.
    pub text: &'a str,
}

/// The words inside `{{ … }}` and `{% … %}`.
pub(super) fn template(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find('{').map(|found| at + found) {
        let close = match text.as_bytes().get(open + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => {
                at = text[open..].find("#}").map_or(text.len(), |end| open + end + 2);
                continue;
            }
            _ => {
                at = open + 1;
                continue;
            }
        };
        at = code(text, open + 2, Some(close), &mut tokens);
    }
    tokens
}

/// The words of a bare expression.
pub(super) fn expression(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    code(text, 0, None, &mut tokens);
    tokens
}

/// Reads code from `at` to `close`; returns where it ended.
fn code<'a>(text: &'a str, mut at: usize, close: Option<&str>, tokens: &mut Vec<Token<'a>>) -> usize {
    while let Some(c) = text[at..].chars().next() {
        if close.is_some_and(|close| text[at..].starts_with(close)) {
            return at + 2;
        }
        let end = at
            + match c {
                '"' | '\'' => quoted(&text[at..], c),
                c if is_word(c) => text[at..].find(|c| !is_word(c)).unwrap_or(text.len() - at),
                c => c.len_utf8(),
            };
        if !c.is_whitespace() {
            tokens.push(Token { offset: at, text: &text[at..end] });
        }
        at = end;
    }
    text.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Length of the quoted text that `text` begins with.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (offset, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return offset + 1,
            _ => {}
        }
    }
    text.len()
}

/// Names of filters (`| name`) and of tests (`is name`, `is not name`).
pub(super) fn filters_and_tests<'a>(tokens: &[Token<'a>]) -> (Vec<Token<'a>>, Vec<Token<'a>>) {
    let (mut filters, mut tests) = (Vec::new(), Vec::new());
    let mut pairs = tokens.iter().zip(tokens.iter().skip(1)).peekable();
    while let Some((before, name)) = pairs.next() {
        if !name.text.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            continue;
        }
        match before.text {
            "|" => filters.push(*name),
            "is" if name.text == "not" => tests.extend(pairs.peek().map(|(_, test)| **test)),
            "is" => tests.push(*name),
            _ => {}
        }
    }
    (filters, tests)
}

/// A lone `=` that compares nothing: outside of brackets, where it is no argument's name either.
pub(super) fn lone_equals(text: &str) -> Option<usize> {
    let tokens = expression(text);
    let mut depth = 0_i32;
    for (index, token) in tokens.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            "=" if depth == 0 => {
                let joins = |other: Option<&Token<'_>>, signs: &str, distance: usize| {
                    other.is_some_and(|other| {
                        signs.contains(other.text) && other.offset.abs_diff(token.offset) == distance
                    })
                };
                let before = index.checked_sub(1).and_then(|index| tokens.get(index));
                if !joins(before, "=!<>", 1) && !joins(tokens.get(index + 1), "=", 1) {
                    return Some(token.offset);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_tests_are_found() {
        let check = |text: &str, filters: &[&str], tests: &[&str]| {
            let tokens = template(text);
            let (found, tested) = filters_and_tests(&tokens);
            let texts =
                |tokens: Vec<Token<'static>>| tokens.iter().map(|token| token.text).collect::<Vec<_>>();
            let leak = |tokens: Vec<Token<'_>>| -> Vec<Token<'static>> {
                tokens
                    .iter()
                    .map(|t| Token { offset: t.offset, text: String::leak(t.text.to_owned()) })
                    .collect()
            };
            assert_eq!(
                (texts(leak(found)), texts(leak(tested))),
                (filters.to_vec(), tests.to_vec()),
                "{text}"
            );
        };
        check("a | b {{ x | upper | join(', ') }}", &["upper", "join"], &[]);
        check("{% if x is not defined and y is string %}{% endif %}", &[], &["defined", "string"]);
        check("{{ 'a | b' | c }}{# | d #}", &["c"], &[]);
        check("{{ \"it's | \\\" | no\" }}", &[], &[]);
        check("{ | x } {{", &[], &[]);
    }

    #[test]
    fn one_equals_sign_is_a_mistake() {
        let check = |text: &str, expect: Option<usize>| assert_eq!(lone_equals(text), expect, "{text}");
        check("event.title = 'x'", Some(12));
        check("event.title == 'x'", None);
        check("a != 1 and b >= 2 and c <= 3", None);
        check("x | facts(skip=['a'])", None);
        check("a == 'b=c'", None);
        check("ñ=1", Some(2));
    }
}
