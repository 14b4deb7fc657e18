//! The forms of a line: for the journal with fields of its own, for the journal as text, as JSON, for a terminal.
//!
//! Every line is words and then `key=value` (logfmt), so all forms are made of the one text.

use crate::clock::Timestamp;
use serde_json::{Map, Value};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Where journald takes entries with fields.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// What admins search by: `journalctl DESKSPOOL_SOURCE=contako`.
const FIELDS: [(&str, &str); 4] = [
    ("id", "DESKSPOOL_ID"),
    ("source", "DESKSPOOL_SOURCE"),
    ("event", "DESKSPOOL_EVENT"),
    ("ticket", "DESKSPOOL_TICKET"),
];
/// The journal's numbers in words.
const LEVELS: [&str; 8] = ["", "", "", "error", "warn", "notice", "info", "debug"];

/// How lines are written.
#[derive(Debug)]
pub(super) enum Form {
    /// To journald's own socket, with fields; what it does not take goes to stderr as text.
    Journal(UnixDatagram),
    /// `<6>text`, from which journald takes the priority.
    Prefixed,
    /// One object a line.
    Json,
    /// With time and level.
    Plain,
}

impl Form {
    /// The form for this process's stderr. `wants_json` is the admin's word.
    pub fn of_stderr(wants_json: bool) -> Form {
        if wants_json {
            return Form::Json;
        }
        let stream = std::env::var("JOURNAL_STREAM").ok();
        let journal = stream.as_deref().filter(|stream| is_stderr(stream));
        match journal.and_then(|_| connect(Path::new(JOURNAL)).ok()) {
            Some(socket) => Form::Journal(socket),
            None if stream.is_some() || std::env::var_os("INVOCATION_ID").is_some() => Form::Prefixed,
            None => Form::Plain,
        }
    }

    /// Writes a line. Nobody is left to be told when even stderr is gone.
    pub fn write(&self, priority: usize, text: &str, now: Timestamp) {
        // One record is one line, whatever a reason brings along.
        let text = text.replace(['\n', '\r'], " ");
        let sent =
            matches!(self, Form::Journal(socket) if socket.send(entry(priority, &text).as_bytes()).is_ok());
        if sent {
            return;
        }
        let _ = io::stderr().lock().write_all(self.line(priority, &text, now).as_bytes());
    }

    fn line(&self, priority: usize, text: &str, now: Timestamp) -> String {
        let level = LEVELS[priority];
        match self {
            Form::Journal(_) | Form::Prefixed => format!("<{priority}>{text}\n"),
            Form::Plain => format!("{now} {level:<6} {text}\n"),
            Form::Json => {
                let (message, pairs) = parts(text);
                let mut object = Map::new();
                let head = [("time", now.to_string()), ("level", level.to_owned()), ("message", message)];
                object.extend(head.map(|(key, text)| (key.to_owned(), Value::String(text))));
                object.extend(pairs.into_iter().map(|(key, text)| (key.to_owned(), number_or_text(text))));
                format!("{}\n", Value::Object(object))
            }
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

/// `JOURNAL_STREAM` is the device and the inode of what systemd connected to the journal; a child may have another
/// stderr since.
fn is_stderr(stream: &str) -> bool {
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|stderr| format!("{}:{}", stderr.dev(), stderr.ino()) == stream)
}

/// An entry in the journal's native protocol: a field a line. No value has a line break.
fn entry(priority: usize, text: &str) -> String {
    let (message, pairs) = parts(text);
    let mut entry = format!("MESSAGE={text}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=deskspool\n");
    for (key, value) in &pairs {
        let field = FIELDS.iter().find(|(known, _)| known == key);
        // A value that was quoted may bring its line breaks back.
        if let Some((_, name)) = field.filter(|_| !value.contains('\n')) {
            entry.push_str(&format!("{name}={value}\n"));
        }
    }
    // `attempt delivered`, `event accepted`, `envelope dead`.
    let mut words = message.split(' ');
    if let (Some("attempt" | "event" | "envelope"), Some(outcome), None) =
        (words.next(), words.next(), words.next())
    {
        entry.push_str(&format!("DESKSPOOL_OUTCOME={outcome}\n"));
    }
    entry
}

/// The words of a line, and its pairs with their values unquoted.
fn parts(text: &str) -> (String, Vec<(&str, String)>) {
    let (mut words, mut pairs) = (Vec::new(), Vec::new());
    let mut rest = text;
    while !rest.is_empty() {
        let length = piece_length(rest);
        let (piece, behind) = rest.split_at(length);
        rest = behind.trim_start_matches(' ');
        match piece.split_once('=').filter(|(key, _)| is_key(key)) {
            Some((key, value)) => pairs.push((key, unquoted(value))),
            None => words.extend((!piece.is_empty()).then_some(piece)),
        }
    }
    (words.join(" "), pairs)
}

/// To the next blank that is not in quotes.
fn piece_length(text: &str) -> usize {
    let (mut in_quotes, mut is_escaped) = (false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if in_quotes => is_escaped = true,
            '"' => in_quotes = !in_quotes,
            ' ' if !in_quotes => return at,
            _ => {}
        }
    }
    text.len()
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Our quotes are Rust's; where they are JSON's too they are undone, else only taken off.
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    serde_json::from_str(value).unwrap_or_else(|_| inner.to_owned())
}

fn number_or_text(text: String) -> Value {
    match text.parse::<u64>() {
        Ok(number) if number.to_string() == text => Value::from(number),
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_763_712_000_000);
    const DELIVERED: &str = "attempt delivered id=10432 source=botpress ticket=8812 took=0.41s";

    #[test]
    fn a_line_is_words_and_pairs() {
        let check = |text, words: &str, expect: &[(&str, &str)]| {
            let (message, pairs) = parts(text);
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
            assert_eq!((message.as_str(), pairs.as_slice()), (words, expect), "{text}");
        };
        check("", "", &[]);
        check("stopped", "stopped", &[]);
        check("event accepted id=1  event=\"a b=c\"", "event accepted", &[("id", "1"), ("event", "a b=c")]);
        check(r#"x reason="say \"no\" \\" next=1"#, "x", &[("reason", r#"say "no" \"#), ("next", "1")]);
        check("x reason=\"\\u{301}\" open=\"no end", "x", &[("reason", "\\u{301}"), ("open", "\"no end")]);
        check("GET https://a/?B=c now", "GET https://a/?B=c now", &[]);
    }

    #[test]
    fn every_form_of_a_line() {
        let check = |form: Form, text, expect: &str| assert_eq!(form.line(6, text, NOW), expect);
        check(Form::Prefixed, "stopped", "<6>stopped\n");
        check(Form::Plain, "stopped", "2025-11-21T08:00:00Z info   stopped\n");
        let expect = "{\"time\":\"2025-11-21T08:00:00Z\",\"level\":\"info\",\"message\":\"attempt delivered\",\
            \"id\":10432,\"source\":\"botpress\",\"ticket\":8812,\"took\":\"0.41s\"}\n";
        check(Form::Json, DELIVERED, expect);
    }

    #[test]
    fn the_journal_gets_fields() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        let form = Form::Journal(connect(&path).unwrap());
        let check = |priority, text: &str, expect: &str| {
            form.write(priority, text, NOW);
            let mut heard = [0; 4096];
            let length = journal.recv(&mut heard).unwrap();
            let heard = String::from_utf8_lossy(&heard[..length]);
            let head = format!("MESSAGE={text}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=deskspool\n");
            assert_eq!(heard, head.replace("two\nlines", "two lines") + expect);
        };
        let of_botpress = "DESKSPOOL_ID=10432\nDESKSPOOL_SOURCE=botpress\n";
        check(6, DELIVERED, &format!("{of_botpress}DESKSPOOL_TICKET=8812\nDESKSPOOL_OUTCOME=delivered\n"));
        check(
            4,
            "event refused source=chat from=198.51.100.4 reason=\"secret\"",
            "DESKSPOOL_SOURCE=chat\nDESKSPOOL_OUTCOME=refused\n",
        );
        let forged = "event accepted event=\"a\\nDESKSPOOL_ID=1\"";
        check(6, forged, "DESKSPOOL_OUTCOME=accepted\n");
        check(3, "two\nlines", "");
    }

    #[test]
    fn another_stderr_is_not_the_journal() {
        assert!(!is_stderr("1:1"));
        let stderr = std::fs::metadata("/proc/self/fd/2").unwrap();
        assert!(is_stderr(&format!("{}:{}", stderr.dev(), stderr.ino())));
    }
}
