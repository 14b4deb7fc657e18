//! The tables of one source apart from the others: as the admin wrote them, for somebody who wants to try another
//! wording; and from a text that is in no file yet, with the findings that `check` would have.
//!
//! **Invariant:** no inline secret leaves, and none is looked for: a text that is tried uses the running secrets.

use super::files::{Files, Told};
use super::finding::Finding;
use super::load::{Compile, SourceReport, told};
use super::written::is_secret;
use super::{Config, Severity, schema};
use crate::source::Credentials;
use crate::source::table::SourceTable;
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What findings call a text that is in no file.
const NAME: &str = "mapping";
/// A mapping is written by hand.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// The tables of one source as the admin wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceText {
    /// TOML, comments included; inline secrets are left out.
    pub text: String,
    /// The file that most of it is in.
    pub file: String,
    /// An inline secret was left out.
    pub lacks_secret: bool,
}

/// The tables of `[source.<name>]` in the files of `main`; an empty text when there are none.
///
/// # Errors
/// The first finding, when the files cannot be read or understood.
pub fn source_text(main: &Path, name: &str) -> Result<SourceText, Finding> {
    let mut told = Told::default();
    let files = Files::read(main, &mut told);
    files.parse(&mut told);
    if let Some(finding) = told.findings.into_iter().next() {
        return Err(finding);
    }
    let mut found = SourceText::default();
    for (path, text) in files.texts() {
        let part = sections(text, name);
        if part.len() > found.text.len() {
            found.file = path.display().to_string();
        }
        if !part.is_empty() && !found.text.is_empty() {
            found.text.push('\n');
        }
        found.text.push_str(&part);
    }
    let (text, lacks_secret) = without_secrets(&found.text);
    Ok(SourceText { text, lacks_secret, ..found })
}

/// Compiles `[source.<name>]` of a text, with the secrets, `[ticket]` and public URL of `config`.
///
/// # Errors
/// All findings.
pub(super) fn read<S>(
    (name, text): (&str, &str),
    config: &Config,
    compile: Compile<'_, S>,
) -> Result<(S, SourceReport), Vec<Finding>> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(vec![Finding::error("", format!("longer than {} KiB", TEXT_BYTES_MAX >> 10))]);
    }
    let files = Files::of_text(NAME, text);
    let mut findings = Told::default();
    let mut document = files.parse(&mut findings);
    let table = table_of(&files, name, &mut document.root, &mut findings);
    let Some(table) = table.filter(|_| findings.findings.is_empty()) else {
        return Err(sorted(findings.findings));
    };
    let running = config.sources.iter().find(|source| source.name == name);
    let credentials = Credentials {
        secrets: running.map(|source| source.secrets.clone()).unwrap_or_default(),
        verify_tokens: running.map(|source| source.verify_tokens.clone()).unwrap_or_default(),
        public_url: config.server.public_url.clone(),
    };
    let compiled = compile(name, &table, &config.ticket, &credentials);
    compiled.map_err(|problems| sorted(problems.into_iter().map(|problem| told(&files, problem)).collect()))
}

/// `read`, without what a check wants to know of it.
///
/// # Errors
/// All findings.
pub fn read_source<S>(
    text: (&str, &str),
    config: &Config,
    compile: Compile<'_, S>,
) -> Result<S, Vec<Finding>> {
    read(text, config, compile).map(|(source, _)| source)
}

fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| finding.place.as_ref().map(|place| (place.line, place.column)));
    findings
}

/// The table of the source; everything else in the text is told.
fn table_of(files: &Files, name: &str, root: &mut DeTable<'_>, findings: &mut Told) -> Option<SourceTable> {
    let only = format!("only [source.{name}] and what is below it is tried here");
    let mut found = None;
    for (key, value) in std::mem::take(root) {
        match (key.get_ref().as_ref(), value.into_inner()) {
            ("source", DeValue::Table(sources)) => {
                for (key, value) in sources {
                    if key.get_ref() == name && value.get_ref().is_table() {
                        found = Some(value);
                    } else {
                        findings.tell_at(files, key.span(), Finding::error("", only.clone()));
                    }
                }
            }
            _ => findings.tell_at(files, key.span(), Finding::error("", only.clone())),
        }
    }
    match found {
        Some(value) => Some(schema::read(files, &format!("source.{name}"), value, findings)),
        None => {
            if findings.findings.iter().all(|finding| finding.severity != Severity::Error) {
                findings.tell(Finding::error("", format!("[source.{name}] is missing")));
            }
            None
        }
    }
}

/// The tables of a source cut out of a file, comments before them included.
fn sections(text: &str, name: &str) -> String {
    let (root, _) = DeTable::parse_recoverable(text);
    let mut headers = Headers { text, name, found: BTreeMap::new() };
    headers.walk(&[], root.get_ref());
    let starts: Vec<(usize, bool)> = headers.found.into_iter().collect();
    let end = |index: usize| starts.get(index + 1).map_or(text.len(), |(next, _)| *next);
    let ours = starts.iter().enumerate().filter(|(_, (_, is_ours))| *is_ours);
    let parts: Vec<&str> = ours.map(|(index, (start, _))| text[*start..end(index)].trim()).collect();
    let mut joined = parts.join("\n\n");
    if !joined.is_empty() {
        joined.push('\n');
    }
    joined
}

/// Where the tables of a file begin, and which of them are the source's.
struct Headers<'a> {
    text: &'a str,
    name: &'a str,
    found: BTreeMap<usize, bool>,
}

impl Headers<'_> {
    fn walk(&mut self, path: &[&str], table: &DeTable<'_>) {
        for (key, value) in table.iter() {
            let path = [path, &[key.get_ref().as_ref()]].concat();
            match value.get_ref() {
                DeValue::Table(inner) => self.table(&path, value, inner),
                DeValue::Array(list) => {
                    for one in list.iter() {
                        if let DeValue::Table(inner) = one.get_ref() {
                            self.table(&path, one, inner);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn table(&mut self, path: &[&str], value: &Spanned<DeValue<'_>>, inner: &DeTable<'_>) {
        let is_ours = matches!(path, ["source", name, ..] if *name == self.name);
        if let Some(start) = self.header(value.span().start) {
            *self.found.entry(start).or_default() |= is_ours;
        }
        self.walk(path, inner);
    }

    /// The start of a header's line, or of the comment right before it; none where a value is no table of its own.
    fn header(&self, at: usize) -> Option<usize> {
        let line = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let is_header = self.text[line..].trim_start_matches([' ', '\t']).starts_with('[')
            && self.text[line..at].trim().is_empty();
        let mut start = line;
        while let Some(before) = self.text[..start].strip_suffix('\n') {
            let above = before.rfind('\n').map_or(0, |newline| newline + 1);
            if !before[above..].trim_start().starts_with('#') {
                break;
            }
            start = above;
        }
        is_header.then_some(start)
    }
}

/// The text without inline secrets; whether there were any.
fn without_secrets(text: &str) -> (String, bool) {
    let files = Files::of_text(NAME, text);
    let document = files.parse(&mut Told::default());
    let leaves = files.leaves(&document.root);
    let may_hold = |key: &str| {
        let part = key.split('.').nth(2).unwrap_or_default();
        (part.starts_with("secret") || part.starts_with("verify_token")) && is_secret(key)
    };
    let mut inline: Vec<_> =
        leaves.into_iter().filter(|(key, _)| may_hold(key)).map(|(_, leaf)| leaf.span).collect();
    inline.sort_by_key(|span| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for span in &inline {
        text.replace_range(span.clone(), "\"\"");
        let line = text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
        if text[line..].trim_start().starts_with(['s', 'v']) {
            text.insert_str(line, "# keep your own line: ");
        }
    }
    (text, !inline.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Problem;

    const FILE: &str = "\
[freshdesk]
domain = \"acme\"

# Chats.
[source.chat]
preset = \"generic@1\"   # any JSON
secret = \"geheim\"
[source.chat.ticket]
subject = \"\"\"
[source.other]
{{ event.text }}\"\"\"

[source.other]
secret = { file = \"/x\" }

# Angry ones first.
[[source.chat.rule]]
when = \"rating < 2\"
[[source.chat.rule]]
do = \"ignore\"

# Another.
[source.chat2]
preset = \"generic@1\"
";

    #[test]
    fn a_source_is_cut_out_with_its_comments_and_without_its_secret() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("deskspool.toml");
        std::fs::write(&path, FILE).expect("write the file");
        let found = source_text(&path, "chat").expect("it can be read");
        let expect = "# Chats.\n[source.chat]\npreset = \"generic@1\"   # any JSON\n# keep your own line: secret = \"\"\n\n\
            [source.chat.ticket]\nsubject = \"\"\"\n[source.other]\n{{ event.text }}\"\"\"\n\n\
            # Angry ones first.\n[[source.chat.rule]]\nwhen = \"rating < 2\"\n\n[[source.chat.rule]]\ndo = \"ignore\"\n";
        assert_eq!(found.text, expect);
        assert!(found.lacks_secret && found.file.ends_with("deskspool.toml"), "{found:?}");
        let other = source_text(&path, "other").expect("it can be read");
        assert_eq!(other.text, "[source.other]\nsecret = { file = \"/x\" }\n");
        assert!(!other.lacks_secret);
        assert_eq!(source_text(&path, "nobody"), Ok(SourceText::default()));
    }

    /// What `check` would say of a text.
    fn findings(text: &str) -> String {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("deskspool.toml");
        std::fs::write(&path, "[freshdesk]\ndomain = \"acme\"\napi_key = { env = \"KEY\" }\n[source.x]\nsecret = { env = \"S\" }\n")
            .expect("write the file");
        let variable = |name: &str| Some(name.to_owned());
        let around = super::super::Surroundings { credentials_directory: None, service: true, variable };
        let compile = |_: &str, table: &SourceTable, _: &_, _: &Credentials| {
            let wrong = |text: &Spanned<String>| Problem {
                at: Some(text.span()),
                key: "source.x.keep_if".to_owned(),
                what: "is no good".to_owned(),
                help: Vec::new(),
                within: None,
            };
            match table.keep_if.as_ref().filter(|text| text.get_ref() == "wrong") {
                Some(text) => Err(vec![wrong(text)]),
                None => Ok(((), SourceReport::default())),
            }
        };
        let config = super::super::load_with(&path, &around, &compile).expect("it is good").config;
        let findings = read_source(("x", text), &config, &compile).err().unwrap_or_default();
        findings.iter().map(|finding| format!("{finding}\n")).collect()
    }

    #[test]
    fn a_text_has_the_findings_that_check_would_have() {
        assert_eq!(findings("[source.x]\nkeep_if = \"fine\"\n"), "");
        let unknown = findings("[source.x]\npresett = \"a\"\n");
        assert!(
            unknown.starts_with("error: mapping:2:1\n  |\n2 | presett = \"a\"\n  | ^^^^^^^ unknown key in [source.x], did you mean preset?\n  = allowed: "),
            "{unknown}"
        );
        let compiled = findings("[source.x]\nkeep_if = \"wrong\"\n");
        assert!(compiled.starts_with("error: mapping:2:11   source.x.keep_if\n"), "{compiled}");
        assert!(findings("[source.x]\nkeep_if = fine\n").contains("text must be quoted: keep_if = \"fine\""));
        for elsewhere in ["[source.x]\n[source.y]\n", "[source.x]\n[server]\n", "a = 1\n[source.x]\n"] {
            let found = findings(elsewhere);
            assert!(found.contains("only [source.x] and what is below it is tried here"), "{found}");
        }
        assert_eq!(findings(""), "error: [source.x] is missing\n");
        assert_eq!(findings(&"#".repeat(TEXT_BYTES_MAX + 1)), "error: longer than 64 KiB\n");
    }
}
