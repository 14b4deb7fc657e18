//! Hides secrets in the text of a configuration before any of it can be quoted.
//!
//! **Invariant:** the masked text has as many lines, and as many characters in each, as the original,
//! so that a caret stays where it belongs. It works on text that does not parse, because that is what
//! gets quoted most; it rather hides too much.

/// Keys that refer to a secret instead of being one.
const REFERENCES: [&str; 3] = ["credential", "file", "env"];
/// Parts of key names whose values are taken for secrets, misspelled keys included.
const SECRET_WORDS: [&str; 7] = ["secret", "secrt", "key", "kay", "token", "passw", "credential"];

/// The text with every secret's characters replaced by `*`.
pub fn mask(text: &str) -> Vec<char> {
    let mut scan = Scan { chars: text.chars().collect(), at: 0, hot: false, depth: 0, tables: Vec::new() };
    while let Some(c) = scan.peek(0) {
        scan.step(c);
    }
    scan.chars
}

struct Scan {
    chars: Vec<char>,
    at: usize,
    /// Whether a value here is a secret.
    hot: bool,
    /// Open brackets.
    depth: usize,
    /// For each open inline table, whether it is a secret's.
    tables: Vec<bool>,
}

impl Scan {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn step(&mut self, c: char) {
        match c {
            '#' => self.at = self.line_end(),
            '"' | '\'' => self.quoted(c),
            '{' => self.open(),
            '}' => {
                self.hot = self.tables.pop().unwrap_or(false);
                self.leave();
            }
            '[' => {
                self.depth += 1;
                self.at += 1;
            }
            ']' => self.leave(),
            '\n' => {
                self.hot &= self.depth > 0;
                self.at += 1;
            }
            c if is_bare(c) => self.bare(),
            _ => self.at += 1,
        }
    }

    fn open(&mut self) {
        self.tables.push(self.hot);
        self.depth += 1;
        self.at += 1;
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.at += 1;
    }

    fn line_end(&self) -> usize {
        let rest = self.chars.iter().skip(self.at);
        self.at + rest.take_while(|c| **c != '\n').count()
    }

    /// A string from its opening quote to its closing one, or to the end of its line.
    fn quoted(&mut self, quote: char) {
        let triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        let width = if triple { 3 } else { 1 };
        let start = self.at + width;
        let mut end = start;
        while let Some(c) = self.chars.get(end).copied() {
            let closes = (0..width).all(|i| self.chars.get(end + i) == Some(&quote));
            if closes || (c == '\n' && !triple) {
                break;
            }
            end += if c == '\\' && quote == '"' { 2 } else { 1 };
        }
        let end = end.min(self.chars.len());
        let after = if self.chars.get(end) == Some(&quote) { end + width } else { end };
        self.key_or_value(start, end, after);
    }

    fn bare(&mut self) {
        let length = self.chars.iter().skip(self.at).take_while(|c| is_bare(**c)).count();
        self.key_or_value(self.at, self.at + length, self.at + length);
    }

    fn key_or_value(&mut self, start: usize, end: usize, after: usize) {
        let word: String = self.chars[start..end].iter().collect();
        let next = self.chars.iter().skip(after).find(|c| !matches!(c, ' ' | '\t'));
        self.at = after;
        if next == Some(&'=') {
            let name = word.rsplit('.').next().unwrap_or(&word).to_lowercase();
            self.hot = match self.tables.last() {
                Some(true) => !REFERENCES.iter().any(|known| super::schema::distance(known, &name) <= 2),
                _ => SECRET_WORDS.iter().any(|part| name.contains(part)),
            };
        } else if self.hot || (word.contains("://") && word.contains('@')) {
            self.chars[start..end].iter_mut().filter(|c| **c != '\n').for_each(|c| *c = '*');
        }
    }
}

fn is_bare(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '=' | ',' | '{' | '}' | '[' | ']' | '"' | '\'' | '#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_references_stay() {
        let check = |text: &str, expect: &str| {
            assert_eq!(mask(text).into_iter().collect::<String>(), expect);
        };
        check("domain = \"acme\" # \"x\"", "domain = \"acme\" # \"x\"");
        check("api_key = \"abc\"", "api_key = \"***\"");
        check("api_kay = 'abc'\nsecrt = abc", "api_kay = '***'\nsecrt = ***");
        check("secret = { credential = \"b2chat\" }", "secret = { credential = \"b2chat\" }");
        check("secret = { credental = \"b2chat\" }", "secret = { credental = \"b2chat\" }");
        check("secret = { value = \"abc\" }", "secret = { value = \"***\" }");
        check("secret = [ { file = \"/a\" }, \"abc\" ]", "secret = [ { file = \"/a\" }, \"***\" ]");
        check(
            "secret = [\n  \"a=\",\n  \"b\",\n]\ncountry = \"CO\"",
            "secret = [\n  \"**\",\n  \"*\",\n]\ncountry = \"CO\"",
        );
        check("x = { secret = \"abc\", preset = \"p\" }", "x = { secret = \"***\", preset = \"p\" }");
        check("secret = \"\"\"a\nñ\"\"\"\nx = \"y\"", "secret = \"\"\"*\n*\"\"\"\nx = \"y\"");
        check("secret = \"abc\nx = \"y\"", "secret = \"***\nx = \"y\"");
        check("proxy = \"http://u:p@proxy:1\"", "proxy = \"******************\"");
    }

    proptest::proptest! {
        #[test]
        fn lines_and_columns_stay(text in "[\\[\\]{}=\"'#,\\\\ \n\rkeyñ€a1.]{0,60}") {
            let masked: String = mask(&text).into_iter().collect();
            let shape = |text: &str| text.split('\n').map(|line| line.chars().count()).collect::<Vec<_>>();
            proptest::prop_assert_eq!(shape(&masked), shape(&text));
        }
    }
}
