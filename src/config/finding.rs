//! One thing that is wrong or doubtful in a configuration, and how it reads.
//!
//! **Invariant:** a finding never shows a secret: the lines it quotes come masked from
//! [`files`](super::files), and its words are ours. It reads in at most six lines.

use std::fmt;
use std::ops::Range;

/// Lines of one finding at most, so that many fit on a screen.
const LINES_MAX: usize = 6;
/// Characters of a quoted line at most; a longer one is cut around the caret.
const QUOTED_CHARS_MAX: usize = 140;
/// Column of the help lines of a finding that quotes nothing.
const PLAIN_MARGIN: usize = 3;

/// Whether a configuration with this finding is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It works; somebody should look.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// Where in a file, with the line itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the admin named it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Characters, counted from 1.
    pub column: usize,
    /// The whole line, secrets masked.
    pub text: String,
    /// Which of its characters are meant, counted from 0; never empty.
    pub caret: Range<usize>,
    /// In a template of several lines: which of them this is, from 1.
    pub template_line: Option<usize>,
}

/// A character of a template or an expression that is in no file of the admin's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Line of the template, from 1.
    pub line: usize,
    /// Character of that line, from 1.
    pub column: usize,
    /// That line.
    pub text: String,
}

/// What is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Where; absent when the fault is not in a line of a file.
    pub place: Option<Box<Place>>,
    /// What to quote when there is no place.
    pub excerpt: Option<Box<Excerpt>>,
    /// The key as written in the file (`source.b2chat.secret`); empty when the line or the words say it.
    pub key: String,
    /// Lower case, no full stop.
    pub what: String,
    /// Lines that say what is allowed or what to do.
    pub help: Vec<String>,
}

impl Finding {
    /// An error in no particular line.
    pub fn error(key: impl Into<String>, what: impl Into<String>) -> Finding {
        Finding {
            severity: Severity::Error,
            place: None,
            excerpt: None,
            key: key.into(),
            what: what.into(),
            help: Vec::new(),
        }
    }

    /// A warning in no particular line.
    pub fn warning(key: impl Into<String>, what: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(key, what) }
    }

    /// The same finding, pointing at `place`.
    pub fn at(self, place: Option<Place>) -> Finding {
        Finding { place: place.map(Box::new), ..self }
    }

    /// The same finding with one more line of help.
    pub fn help(mut self, line: impl Into<String>) -> Finding {
        self.help.push(line.into());
        self
    }

    /// Its lines without the word before the first, which takes `hang` columns.
    pub fn lines(&self, hang: usize) -> Vec<String> {
        let (mut lines, margin) = match (&self.place, &self.excerpt) {
            (Some(place), _) => (self.quoted(place), place.line.to_string().len() + 1),
            (None, Some(excerpt)) => (self.excerpted(excerpt, hang), PLAIN_MARGIN),
            (None, None) => (vec![self.plain()], PLAIN_MARGIN),
        };
        lines.extend(self.help.iter().map(|line| format!("{:margin$}= {line}", "")));
        lines.truncate(LINES_MAX);
        lines
    }

    fn plain(&self) -> String {
        // `source.contako.ticket.subject uses "evnt", …` is one sentence.
        let gap = if self.what.starts_with("uses ") { " " } else { ": " };
        if self.key.is_empty() { self.what.clone() } else { format!("{}{gap}{}", self.key, self.what) }
    }

    fn excerpted(&self, excerpt: &Excerpt, hang: usize) -> Vec<String> {
        let line = if excerpt.line > 1 { format!(", line {}", excerpt.line) } else { String::new() };
        let head = format!("{}{line}: ", self.key);
        let at = excerpt.column.saturating_sub(1);
        let (text, caret) = cut_around(&excerpt.text, at..at + 1);
        let indent = hang + head.chars().count() + caret.start;
        vec![format!("{head}{text}"), format!("{:indent$}^ {}", "", self.what)]
    }

    fn quoted(&self, place: &Place) -> Vec<String> {
        let gap = if self.key.is_empty() { "" } else { "   " };
        let width = place.line.to_string().len();
        let margin = width + 1;
        let (text, caret) = cut_around(&place.text, place.caret.clone());
        let carets = "^".repeat(caret.len());
        let line = place.template_line.map(|line| format!(", line {line}")).unwrap_or_default();
        vec![
            format!("{}:{}:{}{gap}{}{line}", place.file, place.line, place.column, self.key),
            format!("{:margin$}|", ""),
            format!("{:>width$} | {text}", place.template_line.unwrap_or(place.line)).trim_end().to_owned(),
            format!("{:margin$}| {:indent$}{carets} {}", "", "", self.what, indent = caret.start),
        ]
    }
}

/// A line too long for a screen, cut so that the caret stays in sight.
fn cut_around(text: &str, caret: Range<usize>) -> (String, Range<usize>) {
    let length = text.chars().count();
    if length <= QUOTED_CHARS_MAX {
        return (text.to_owned(), caret);
    }
    let skip = caret.start.saturating_sub(QUOTED_CHARS_MAX / 2);
    let mut shown: Vec<char> = text.chars().skip(skip).take(QUOTED_CHARS_MAX).collect();
    if skip > 0 {
        shown[0] = '…';
    }
    if skip + shown.len() < length {
        shown.push('…');
    }
    let end = (caret.end - skip).min(shown.len()).max(caret.start - skip + 1);
    (shown.into_iter().collect(), caret.start - skip..end)
}

impl fmt::Display for Finding {
    /// The form of every message: where, the line with a caret, what, then help.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = format!("{}: ", self.severity);
        write!(f, "{word}{}", self.lines(word.len()).join("\n"))
    }
}

/// `valid`, `valid, 2 warnings` or `3 errors, 1 warning`.
pub fn verdict(errors: usize, warnings: usize) -> String {
    let count = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    };
    match (errors, warnings) {
        (0, 0) => "valid".to_owned(),
        (0, _) => format!("valid, {}", count(warnings, "warning")),
        (_, 0) => count(errors, "error"),
        _ => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, text: &str, caret: Range<usize>) -> Option<Place> {
        let file = "/etc/deskspool/deskspool.toml".to_owned();
        Some(Place { file, line, column: caret.start + 1, text: text.to_owned(), caret, template_line: None })
    }

    #[test]
    fn a_finding_with_a_place_quotes_its_line() {
        let finding = Finding::error("", "unknown key in [freshdesk], did you mean api_key?")
            .at(at(10, "api_kay = { credential = \"freshdesk_api_key\" }", 0..7))
            .help("allowed: domain, api_key");
        let expect = "error: /etc/deskspool/deskspool.toml:10:1\n   |\n\
            10 | api_kay = { credential = \"freshdesk_api_key\" }\n   \
            | ^^^^^^^ unknown key in [freshdesk], did you mean api_key?\n   = allowed: domain, api_key";
        assert_eq!(finding.to_string(), expect);
    }

    #[test]
    fn a_finding_without_a_place_names_its_key() {
        let finding =
            Finding::error("source.b2chat.secret", "credential \"b2chat_token\" was not passed by systemd")
                .help("then: …");
        let expect = "error: source.b2chat.secret: credential \"b2chat_token\" was not passed by systemd\n   = then: …";
        assert_eq!(finding.to_string(), expect);
    }

    #[test]
    fn six_lines_at_most_and_the_caret_stays_in_sight() {
        let long = format!("subject = \"{}HERE{}\"", "x".repeat(300), "y".repeat(300));
        let caret = long.find("HERE").map(|start| start..start + 4);
        let finding = Finding::error("", "odd").at(at(7, &long, caret.unwrap_or(0..1)));
        let finding = finding.help("a").help("b").help("c");
        let lines = finding.lines(0);
        assert_eq!(lines.len(), LINES_MAX);
        let start = lines[3].chars().position(|c| c == '^').unwrap_or_default();
        assert_eq!(lines[2].chars().skip(start).take(4).collect::<String>(), "HERE");
    }

    #[test]
    fn a_finding_in_a_preset_quotes_the_template() {
        let text = "event.title = 'incoming_message'".to_owned();
        let excerpt = Some(Box::new(Excerpt { line: 1, column: 13, text }));
        let what = "one = assigns nothing; compare with ==";
        let finding = Finding { excerpt, ..Finding::error("source.sendpulse.keep_if", what) };
        let expect = "error: source.sendpulse.keep_if: event.title = 'incoming_message'\n                                             \
            ^ one = assigns nothing; compare with ==";
        assert_eq!(finding.to_string(), expect);
    }

    #[test]
    fn verdicts() {
        let check = |errors, warnings, expect: &str| assert_eq!(verdict(errors, warnings), expect);
        check(0, 0, "valid");
        check(0, 2, "valid, 2 warnings");
        check(3, 1, "3 errors, 1 warning");
        check(1, 0, "1 error");
    }
}
