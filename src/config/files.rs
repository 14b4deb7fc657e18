//! The files of a configuration: reading them, joining them by table, and finding a place in them again.
//!
//! **Invariant:** a span is a byte range in all files laid end to end. Each file is parsed with as much
//! blank space before it as the files before it are long, so the parser's own spans already are such
//! ranges, and a finding knows its file however tables were joined.

use super::finding::{Excerpt, Finding, Place};
use super::mask::mask;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Bytes of one file at most: a configuration is written by hand.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The texts of a configuration.
#[derive(Debug, Default)]
pub struct Files {
    list: Vec<File>,
    all_read: bool,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    base: usize,
    /// Blank space up to `base`, then the text.
    padded: String,
    /// The text with secrets hidden, for quoting.
    masked: Vec<char>,
}

impl File {
    fn text(&self) -> &str {
        &self.padded[self.base..]
    }
}

/// All files, joined.
#[derive(Debug)]
pub struct Document<'f> {
    /// The tables as if they had been written in one file.
    pub root: DeTable<'f>,
    /// Whether some file could only be understood in part, so that what is missing may well be there.
    pub partial: bool,
}

/// One key and its value somewhere in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Where the value stands.
    pub span: Range<usize>,
    /// The value as written; may be a secret.
    pub text: String,
}

/// What has been told so far.
#[derive(Debug, Default)]
pub struct Told {
    /// The findings.
    pub findings: Vec<Finding>,
    spans: Vec<Range<usize>>,
}

impl Told {
    /// Tells something that is in no particular line.
    pub fn tell(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Tells something about `span`, unless it is the echo of what was told about a part of it.
    pub fn tell_at(&mut self, files: &Files, span: Range<usize>, finding: Finding) {
        let touches = |told: &Range<usize>| told.start <= span.end && span.start <= told.end;
        if !self.spans.iter().any(touches) {
            self.findings.push(finding.at(files.place(span.clone())));
            self.spans.push(span);
        }
    }
}

impl Files {
    /// Paths, in the order they were read.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.list.iter().map(|file| file.path.clone()).collect()
    }

    /// Reads `main` and `conf.d/*.toml` beside it, in name order.
    pub fn read(main: &Path, told: &mut Told) -> Files {
        let mut files = Files { list: Vec::new(), all_read: true };
        for path in files_of(main, told) {
            match read_text(&path) {
                Ok(text) => {
                    let base = files.list.last().map_or(0, |file| file.padded.len() + 1);
                    let padded = " ".repeat(base) + &text;
                    files.list.push(File { path, base, masked: mask(&text), padded });
                }
                Err(finding) => {
                    files.all_read = false;
                    told.tell(finding);
                }
            }
        }
        files
    }

    /// Parses all files and joins their tables.
    pub fn parse(&self, told: &mut Told) -> Document<'_> {
        let mut document = Document { root: DeTable::new(), partial: !self.all_read };
        for file in &self.list {
            match self.parse_one(file, told) {
                Some(table) => self.join(&mut document.root, table, told),
                None => document.partial = true,
            }
        }
        document
    }

    /// The tables of one file, unless its structure is broken.
    fn parse_one<'f>(&self, file: &'f File, told: &mut Told) -> Option<DeTable<'f>> {
        let (table, errors) = DeTable::parse_recoverable(&file.padded);
        if file.text().trim_start().starts_with('{') {
            let brace = file.base + file.text().len() - file.text().trim_start().len();
            let what = "this looks like JSON; the file is TOML: [freshdesk], then domain = \"acme\"";
            told.tell_at(self, brace..brace + 1, Finding::error("", what));
            return None;
        }
        let slips = || errors.iter().map(|error| (error, Slip::of(error.message())));
        let structural = slips().any(|(_, slip)| matches!(slip, Slip::Structure(_)));
        let (mut words, mut lines) = (Vec::new(), Vec::new());
        for (error, slip) in slips() {
            let span = error.span().unwrap_or(file.base..file.base);
            let line = self.place(span.clone()).map(|place| place.line);
            // What follows a break is mostly an echo of it.
            let echo = match &slip {
                Slip::Structure(what) => lines.contains(&line) || words.contains(what),
                _ => structural,
            };
            if echo {
                continue;
            }
            lines.push(line);
            match &slip {
                Slip::Structure(what) if what.contains("list") => words.push(what.clone()),
                _ => {}
            }
            self.tell_slip(slip, span, told);
        }
        (!structural).then(|| table.into_inner())
    }

    fn tell_slip(&self, slip: Slip, span: Range<usize>, told: &mut Told) {
        match slip {
            Slip::Unquoted => {
                let span = self.word_around(span);
                let finding = self.unquoted(&span);
                told.tell_at(self, span, finding);
            }
            Slip::Twice => {
                let table =
                    self.place(span.clone()).is_some_and(|place| place.text.trim_start().starts_with('['));
                let finding = match table {
                    true => Finding::error("", "this table is already above, put its keys together"),
                    false => Finding::error("", "set twice in this file").help("keep one of them"),
                };
                told.tell_at(self, span, finding);
            }
            Slip::Value(what) | Slip::Structure(what) => told.tell_at(self, span, Finding::error("", what)),
        }
    }

    /// The parser points at the first character that it cannot use; the admin wrote a word.
    fn word_around(&self, span: Range<usize>) -> Range<usize> {
        let Some(file) = self.file(span.start) else { return span };
        let ends = |c: char| c.is_whitespace() || matches!(c, '=' | ',' | '{' | '[' | ']' | '}' | '#');
        let (before, after) = (&file.padded[file.base..span.start], &file.padded[span.end..]);
        let start = before.rfind(ends).map_or(0, |at| at + 1) + file.base;
        start..span.end + after.find(ends).unwrap_or(after.len())
    }

    fn unquoted(&self, span: &Range<usize>) -> Finding {
        let Some(place) = self.place(span.clone()) else { return Finding::error("", "text must be quoted") };
        let before: String = place.text.chars().take(place.caret.start).collect();
        let key = before.rsplit(['{', ',', '[']).next().unwrap_or(&before);
        let key = key.split_once('=').map(|(key, _)| key.trim()).unwrap_or("");
        let word: String = place.text.chars().skip(place.caret.start).take(place.caret.len()).collect();
        let what = match (self.written(span.clone()).trim(), key) {
            ("", _) => format!("{key} has no value"),
            (flag @ ("True" | "False" | "TRUE" | "FALSE"), _) => {
                format!("true and false are written small: {key} = {}", flag.to_lowercase())
            }
            (_, "") => format!("text must be quoted: \"{word}\""),
            _ => format!("text must be quoted: {key} = \"{word}\""),
        };
        Finding::error("", what)
    }

    fn join<'f>(&self, into: &mut DeTable<'f>, from: DeTable<'f>, told: &mut Told) {
        for (key, value) in from {
            let Some(earlier) = into.get_key_value(key.get_ref().as_ref()).map(|(earlier, _)| earlier.span())
            else {
                into.insert(key, value);
                continue;
            };
            let inline = self.is_inline(&value);
            let existing =
                into.get_mut(key.get_ref().as_ref()).filter(|existing| !inline && !self.is_inline(existing));
            match (existing.map(|existing| existing.get_mut()), value.into_inner()) {
                (Some(DeValue::Table(existing)), DeValue::Table(more)) => self.join(existing, more, told),
                _ => told.tell_at(self, key.span(), self.set_twice(earlier)),
            }
        }
    }

    /// A table between braces is one value: two of them are not joined.
    fn is_inline(&self, value: &Spanned<DeValue<'_>>) -> bool {
        self.written(value.span()).starts_with('{')
    }

    fn set_twice(&self, earlier: Range<usize>) -> Finding {
        let there = self.place(earlier).map(|place| format!("{}:{}", place.file, place.line));
        Finding::error("", format!("set twice, also at {}", there.unwrap_or_default()))
            .help("keep one of them")
    }

    /// Where a span is, with its line.
    pub fn place(&self, span: Range<usize>) -> Option<Place> {
        let file = self.file(span.start)?;
        let text = file.text();
        let start = floor(text, span.start - file.base);
        let end = floor(text, span.end.saturating_sub(file.base)).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_length = text[line_start..].find('\n').unwrap_or(text.len() - line_start);
        let original = text[line_start..line_start + line_length].trim_end();
        let from = text[..line_start].chars().count();
        let quoted: String = file.masked[from..from + original.chars().count()]
            .iter()
            .map(|c| if c.is_control() { ' ' } else { *c })
            .collect();
        let caret_start = text[line_start..start].chars().count();
        let caret_end = text[line_start..end].chars().count().min(original.chars().count());
        Some(Place {
            file: file.path.display().to_string(),
            line: text[..line_start].matches('\n').count() + 1,
            column: caret_start + 1,
            text: quoted,
            caret: caret_start..caret_end.max(caret_start + 1),
            template_line: None,
        })
    }

    /// Where a character of a template is, if the template stands in its file as it is, without escapes.
    pub fn place_in_template(&self, span: Range<usize>, excerpt: &Excerpt) -> Option<Place> {
        let written = self.written(span.clone());
        let long = written.starts_with("\"\"\"") || written.starts_with("'''");
        // A newline right after the opening quotes is not part of the text.
        let opens_below = long && written[3..].trim_start_matches('\r').starts_with('\n');
        let lines_before = excerpt.line.checked_sub(1)? + usize::from(opens_below);
        let line_start: usize = written.split_inclusive('\n').take(lines_before).map(str::len).sum();
        let text_start = line_start + written[line_start..].lines().next()?.find(excerpt.text.as_str())?;
        let mut characters = excerpt.text.char_indices().skip(excerpt.column.checked_sub(1)?);
        let offset = characters.next().map_or(excerpt.text.len(), |(offset, _)| offset);
        let at = span.start + text_start + offset;
        let place = self.place(at..at + 1)?;
        Some(Place { template_line: long.then_some(excerpt.line), ..place })
    }

    /// Which of the files a place is in, for sorting.
    pub fn rank(&self, place: &Place) -> usize {
        let same = |file: &File| file.path.as_os_str() == place.file.as_str();
        self.list.iter().position(same).unwrap_or(self.list.len())
    }

    fn written(&self, span: Range<usize>) -> &str {
        let Some(file) = self.file(span.start) else { return "" };
        file.padded.get(span).unwrap_or("")
    }

    fn file(&self, at: usize) -> Option<&File> {
        self.list.iter().rfind(|file| file.base <= at).filter(|file| at <= file.padded.len())
    }

    /// Every value under its dotted key; members of lists of tables count from 1: `source.x.rule[1].when`.
    pub fn leaves(&self, root: &DeTable<'_>) -> BTreeMap<String, Leaf> {
        let mut leaves = BTreeMap::new();
        for (key, value) in root.iter() {
            self.collect(key.get_ref().to_string(), value, &mut leaves);
        }
        leaves
    }

    fn collect(&self, path: String, value: &Spanned<DeValue<'_>>, leaves: &mut BTreeMap<String, Leaf>) {
        match value.get_ref() {
            DeValue::Table(table) => {
                for (key, value) in table.iter() {
                    self.collect(format!("{path}.{}", key.get_ref()), value, leaves);
                }
            }
            DeValue::Array(list) if list.iter().any(|one| one.get_ref().is_table()) => {
                for (index, one) in list.iter().enumerate() {
                    self.collect(format!("{path}[{}]", index + 1), one, leaves);
                }
            }
            _ => {
                let text = self.written(value.span()).to_owned();
                leaves.insert(path, Leaf { span: value.span(), text });
            }
        }
    }
}

/// What the parser complains of.
enum Slip {
    /// Text without quotes, or no value at all.
    Unquoted,
    /// A key or a table again.
    Twice,
    /// A value that cannot be; the rest of the file can be trusted.
    Value(String),
    /// The structure is broken: what follows cannot be trusted.
    Structure(String),
}

impl Slip {
    fn of(message: &str) -> Slip {
        let begins = |words: &[&str]| words.iter().any(|word| message.starts_with(word));
        if begins(&["string values must be quoted", "invalid boolean", "invalid float"]) {
            return Slip::Unquoted;
        }
        if begins(&["duplicate key"]) {
            return Slip::Twice;
        }
        if begins(&[
            "invalid date",
            "invalid time",
            "invalid hex",
            "invalid oct",
            "invalid bin",
            "`_`",
            "unexpected lead",
        ]) {
            return Slip::Value("not a number or a date".to_owned());
        }
        if begins(&["missing escaped value"]) {
            return Slip::Value(
                "in double quotes a \\ is written \\\\; single quotes take it as it is".to_owned(),
            );
        }
        let what = match message {
            _ if begins(&["invalid basic string", "invalid literal string", "invalid multi-line"]) => {
                "this text has no closing quote"
            }
            _ if begins(&["key with no value"]) => "expected = and a value",
            _ if begins(&["unclosed table"]) => "this table has no closing ]",
            _ if message.contains("array") => "a list above is not closed, ] is missing",
            _ => return Slip::Structure(message.replace('`', "")),
        };
        Slip::Structure(what.to_owned())
    }
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn files_of(main: &Path, told: &mut Told) -> Vec<PathBuf> {
    let mut paths = vec![main.to_owned()];
    let directory = main.with_file_name("conf.d");
    match fs::read_dir(&directory) {
        Ok(entries) => {
            let named = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
            paths.extend(entries.flatten().map(|entry| entry.path()).filter(named));
            paths[1..].sort();
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(error) => told.tell(unreadable(&directory, &error)),
    }
    paths
}

fn read_text(path: &Path) -> Result<String, Finding> {
    let length = fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    if length > FILE_BYTES_MAX {
        return Err(Finding::error("", format!("{} is larger than 1 MiB", path.display())));
    }
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        Finding::error("", format!("{} is not UTF-8 text, see line {line}", path.display()))
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Finding {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => {
            Finding::error("", format!("{path} does not exist")).help("name another with --config PATH")
        }
        ErrorKind::PermissionDenied => {
            Finding::error("", format!("{path} cannot be read: permission denied"))
                .help(format!("chmod 0640 {path}; chgrp deskspool {path}"))
        }
        _ => Finding::error("", format!("{path} cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[(&str, &str)]) -> (Files, BTreeMap<String, Leaf>, Vec<String>) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in parts {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("inside the directory")).expect("create conf.d");
            fs::write(path, text).expect("write a file");
        }
        let mut told = Told::default();
        let files = Files::read(&directory.path().join("deskspool.toml"), &mut told);
        let leaves = files.leaves(&files.parse(&mut told).root);
        let prefix = format!("{}/", directory.path().display());
        let texts = told.findings.iter().map(|finding| finding.to_string().replace(&prefix, "")).collect();
        (files, leaves, texts)
    }

    #[test]
    fn files_are_joined_by_table_in_name_order() {
        let (files, leaves, findings) = read(&[
            ("deskspool.toml", "[freshdesk]\ndomain = \"acme\"\n[source.a]\npreset = \"x@1\"\n"),
            ("conf.d/20-b.toml", "[source.b]\npreset = \"y@1\"\n"),
            ("conf.d/10-a.toml", "[source.a.ticket]\nsubject = \"hi\"\n[[source.a.rule]]\ndo = \"ignore\"\n"),
            ("conf.d/notes.txt", "not ours"),
        ]);
        assert_eq!(findings, Vec::<String>::new());
        let keys: Vec<&str> = leaves.keys().map(String::as_str).collect();
        let expect = [
            "freshdesk.domain",
            "source.a.preset",
            "source.a.rule[1].do",
            "source.a.ticket.subject",
            "source.b.preset",
        ];
        assert_eq!(keys, expect);
        let place = files.place(leaves["source.a.rule[1].do"].span.clone()).expect("it is in a file");
        assert!(place.file.ends_with("conf.d/10-a.toml"), "{}", place.file);
        assert_eq!((place.line, place.column, place.text.as_str()), (4, 6, "do = \"ignore\""));
        assert_eq!(leaves["source.b.preset"].text, "\"y@1\"");
    }

    #[test]
    fn the_same_key_twice_names_both_places() {
        let (_, _, findings) = read(&[
            ("deskspool.toml", "[a]\nx = 1\ny = { z = 1 }\n"),
            ("conf.d/1.toml", "[a]\nx = 2\ny = { w = 1 }\n"),
        ]);
        assert_eq!(
            findings,
            [
                "error: conf.d/1.toml:2:1\n  |\n2 | x = 2\n  | ^ set twice, also at deskspool.toml:2\n  = keep one of them",
                "error: conf.d/1.toml:3:1\n  |\n3 | y = { w = 1 }\n  | ^ set twice, also at deskspool.toml:3\n  = keep one of them",
            ]
        );
    }

    #[test]
    fn places_count_characters_and_survive_windows_and_marks() {
        let (files, leaves, _) =
            read(&[("deskspool.toml", "\u{feff}# ñ\r\nn = 'é'\r\n\"ü\" = { a = 1 }\r\n")]);
        let place = files.place(leaves["ü.a"].span.clone()).expect("it is in a file");
        assert_eq!((place.line, place.column, place.text.as_str()), (3, 13, "\"ü\" = { a = 1 }"));
    }
}
