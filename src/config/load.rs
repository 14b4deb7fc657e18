//! Loading: files → tables → secrets → compiled sources, collecting findings all the way.

use super::files::{Document, Files, Leaf, Told};
use super::finding::{Excerpt, Finding, Severity};
use super::page::{StatusPageConfig, StatusPageTable};
use super::schema;
use super::secrets::{self, Resolved, Secret, Surroundings};
use super::tables::{
    BackoffConfig, DeliveryConfig, FreshdeskConfig, FreshdeskTable, ServerConfig, SpoolConfig,
};
use super::{Config, SourceConfig, Written};
use crate::source::Credentials;
use crate::source::table::{SecretRef, SecretRefs, SourceTable, TicketTable};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::DeValue;

const TABLES: [&str; 8] =
    ["freshdesk", "ticket", "server", "spool", "delivery", "status_page", "alert", "source"];
const NAME_CHARS_MAX: usize = 32;
/// Stands for a credential that only the service sees.
const UNSEEN: &str = "unseen";

/// A usable configuration and what is doubtful in it.
#[derive(Debug)]
pub struct Loaded<S> {
    /// The configuration.
    pub config: Config,
    /// The compiled sources, in the order of `config.sources`.
    pub sources: Vec<S>,
    /// What somebody should look at.
    pub warnings: Vec<Finding>,
}

/// What the compiler of sources has to say against one.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Bytes of the admin's files, from a `Spanned`; absent when the fault is in a preset.
    pub at: Option<Range<usize>>,
    /// `source.contako.ticket.subject`.
    pub key: String,
    /// Lower case, no full stop.
    pub what: String,
    /// Lines that say what is allowed or what to do.
    pub help: Vec<String>,
    /// The character inside a template or an expression.
    pub within: Option<Excerpt>,
}

/// What a check wants to know of a compiled source.
#[derive(Clone, Debug, Default)]
pub struct SourceReport {
    /// `sendpulse@1`.
    pub preset: Option<String>,
    /// The preset's field names are unconfirmed.
    pub draft: bool,
    /// Templates and expressions of preset and admin together.
    pub templates: usize,
    /// Rules of preset and admin together.
    pub rules: usize,
    /// Anyone may post: the scheme is `none`.
    pub open: bool,
    /// The admin allows that on any listener.
    pub insecure: bool,
    /// Only some addresses may post, and none of this machine.
    pub remote_only: bool,
}

/// Everything that could be read, and everything that is wrong.
pub(super) struct Reading<S> {
    pub config: Config,
    pub sources: Vec<(S, SourceReport)>,
    pub findings: Vec<Finding>,
    /// What became of the secrets.
    pub secrets: SecretsCount,
    /// Tables that could not be taken as they are.
    pub broken: Vec<String>,
}

/// What became of the secrets.
#[derive(Clone, Copy, Default)]
pub(super) struct SecretsCount {
    pub read: usize,
    /// Credentials, where this is not the service.
    pub unseen: usize,
    pub missing: usize,
}

/// Compiles one source: name, the admin's table, `[ticket]`, what the table refers to.
pub(super) type Compile<'a, S> =
    &'a dyn Fn(&str, &SourceTable, &TicketTable, &Credentials) -> Result<(S, SourceReport), Vec<Problem>>;

/// Loads a configuration without looking into its sources.
pub fn load(path: &Path) -> Result<Loaded<()>, Vec<Finding>> {
    load_with(path, &Surroundings::of_process(), &|_, _, _, _| Ok(((), SourceReport::default())))
}

/// Loads a configuration and compiles its sources with `compile`.
///
/// # Errors
/// All findings, warnings included, sorted by file and then worst first.
pub fn load_with<S>(
    path: &Path,
    around: &Surroundings,
    compile: Compile<'_, S>,
) -> Result<Loaded<S>, Vec<Finding>> {
    let reading = read(path, around, compile);
    if reading.findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(reading.findings);
    }
    let sources = reading.sources.into_iter().map(|(source, _)| source).collect();
    Ok(Loaded { config: reading.config, sources, warnings: reading.findings })
}

/// Reads as much as can be read.
pub(super) fn read<S>(path: &Path, around: &Surroundings, compile: Compile<'_, S>) -> Reading<S> {
    let mut told = Told::default();
    let files = Files::read(path, &mut told);
    let document = files.parse(&mut told);
    let leaves = files.leaves(&document.root);
    let partial = document.partial;
    let mut reader = Reader {
        files: &files,
        leaves,
        around,
        told,
        secrets: SecretsCount::default(),
        broken: Vec::new(),
        partial,
    };
    let mut config = reader.config(path, document);
    let sources = reader.compile(&mut config, compile);
    reader.sort();
    let Reader { told, secrets, broken, .. } = reader;
    Reading { config, sources, findings: told.findings, secrets, broken }
}

struct Reader<'a> {
    files: &'a Files,
    leaves: BTreeMap<String, Leaf>,
    around: &'a Surroundings,
    told: Told,
    secrets: SecretsCount,
    broken: Vec<String>,
    partial: bool,
}

impl<'a> Reader<'a> {
    fn config(&mut self, path: &Path, document: Document<'_>) -> Config {
        let mut tables = self.tables(document);
        let freshdesk = self.table("freshdesk", tables.remove("freshdesk"));
        let ticket = self.table("ticket", tables.remove("ticket"));
        let server: ServerConfig = self.table("server", tables.remove("server"));
        let spool: SpoolConfig = self.table("spool", tables.remove("spool"));
        let delivery: DeliveryConfig = self.table("delivery", tables.remove("delivery"));
        self.check_backoff(&delivery.backoff);
        let alert = self.table("alert", tables.remove("alert"));
        let status_page = self.table("status_page", tables.remove("status_page"));
        let status_page = self.status_page(status_page);
        let sources = self.sources(tables.remove("source"));
        let written = self.leaves.iter().map(|(key, leaf)| (key.clone(), leaf.text.clone())).collect();
        Config {
            path: path.to_owned(),
            files: self.files.paths(),
            freshdesk: self.freshdesk(path, freshdesk),
            server,
            spool,
            delivery,
            alert,
            status_page,
            ticket,
            sources,
            written: Written(written),
        }
    }

    /// The tables by name; names that are not ours are told.
    fn tables<'f>(&mut self, document: Document<'f>) -> BTreeMap<String, Spanned<DeValue<'f>>> {
        let (known, unknown): (Vec<_>, Vec<_>) =
            document.root.into_iter().partition(|(key, _)| TABLES.contains(&key.get_ref().as_ref()));
        for (key, value) in unknown {
            let kind = if value.get_ref().is_table() { "table" } else { "key" };
            let hint = schema::did_you_mean(key.get_ref(), &TABLES);
            let hint = hint.map(|known| format!(", did you mean [{known}]?")).unwrap_or_default();
            let finding = Finding::error("", format!("unknown {kind}{hint}"))
                .help("allowed: [freshdesk], [ticket], [server], [spool], [delivery], [status_page], [alert], [source.<name>]");
            self.told.tell_at(self.files, key.span(), finding);
        }
        known.into_iter().map(|(key, value)| (key.into_inner().into_owned(), value)).collect()
    }

    fn table<T: serde::de::DeserializeOwned + Default>(
        &mut self,
        path: &str,
        value: Option<Spanned<DeValue<'_>>>,
    ) -> T {
        let Some(value) = value else { return T::default() };
        let findings_before = self.told.findings.len();
        let table = schema::read(self.files, path, value, &mut self.told);
        if self.told.findings.len() > findings_before {
            self.broken.push(path.to_owned());
        }
        table
    }

    fn check_backoff(&mut self, backoff: &BackoffConfig) {
        if backoff.first <= backoff.max {
            return;
        }
        let leaf = self.leaves.get("delivery.backoff.first").or(self.leaves.get("delivery.backoff.max"));
        let span = leaf.map(|leaf| leaf.span.clone()).unwrap_or_default();
        self.told.tell_at(self.files, span, Finding::error("", "backoff.first is longer than backoff.max"));
    }

    fn freshdesk(&mut self, path: &Path, table: FreshdeskTable) -> FreshdeskConfig {
        if table.domain.is_some() && table.url.is_some() {
            let span = self.leaves.get("freshdesk.url").map(|leaf| leaf.span.clone()).unwrap_or_default();
            self.told.tell_at(self.files, span, Finding::error("", "either domain or url, not both"));
        }
        if !self.is_set("freshdesk.domain") && !self.is_set("freshdesk.url") {
            self.missing("freshdesk.domain", path, &["[freshdesk]", "domain = \"acme\""]);
        }
        let api_key = match &table.api_key {
            Some(reference) => self.secret("freshdesk.api_key", reference, "freshdesk_api_key"),
            None if self.is_set("freshdesk.api_key") => None,
            None => {
                self.missing(
                    "freshdesk.api_key",
                    path,
                    &["[freshdesk]", "api_key = { credential = \"freshdesk_api_key\" }"],
                );
                None
            }
        };
        FreshdeskConfig {
            url: table.url.or(table.domain).unwrap_or_default(),
            api_key: api_key.unwrap_or_else(|| Secret::new([])),
            rate_per_minute: table.rate_per_minute,
            timeout: table.timeout,
            marker_field: table.marker_field,
            ca_file: table.ca_file,
            proxy: table.proxy,
        }
    }

    fn status_page(&mut self, table: StatusPageTable) -> StatusPageConfig {
        let StatusPageTable { listen, actions, password } = table;
        let reference = password;
        let password = reference
            .as_ref()
            .and_then(|reference| self.secret("status_page.password", reference, "status_page"));
        if actions && reference.is_none() && !self.is_set("status_page.password") {
            let span = self.leaves.get("status_page.actions").map(|leaf| leaf.span.clone());
            let finding =
                Finding::error("", "actions need a password: who reaches the page could drop envelopes")
                    .help("password = { credential = \"status_page\" }");
            self.told.tell_at(self.files, span.unwrap_or_default(), finding);
        }
        if let Some(address) = listen.iter().find(|address| !address.ip().is_loopback()) {
            let what =
                format!("{address} is not loopback: whoever reaches it sees sources, numbers and errors");
            self.told.findings.push(Finding::warning("status_page.listen", what));
        }
        StatusPageConfig { listen, actions, password }
    }

    /// Whether the key, or one below it, stands in a file, well written or not.
    fn is_set(&self, key: &str) -> bool {
        let below = |other: &String| {
            other.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.leaves.keys().any(below)
    }

    /// Tells what is missing, unless it may be in what could not be read or under a mistyped name.
    fn missing(&mut self, key: &str, path: &Path, lines: &[&str]) {
        let (table, name) = key.split_once('.').unwrap_or((key, ""));
        let mistyped = format!("in [{table}], did you mean {name}?");
        let table_mistyped = format!("did you mean [{table}]?");
        let told =
            |finding: &Finding| finding.what.ends_with(&mistyped) || finding.what.ends_with(&table_mistyped);
        if self.partial || self.leaves.contains_key(table) || self.told.findings.iter().any(told) {
            return;
        }
        let finding = Finding::error(
            "",
            format!(
                "{} is missing in {}",
                if name.is_empty() { "[source.<name>]" } else { key },
                path.display()
            ),
        );
        let add = lines
            .iter()
            .enumerate()
            .map(|(n, line)| format!("{} {line}", if n == 0 { "add: " } else { "     " }));
        self.told.findings.push(add.fold(finding, Finding::help));
    }

    fn secret(&mut self, key: &str, reference: &SecretRef, file_name: &str) -> Option<Secret> {
        match secrets::resolve(key, reference, file_name, self.around) {
            Resolved::Found(secret, warning) => {
                self.secrets.read += 1;
                self.told.findings.extend(warning);
                Some(secret)
            }
            Resolved::Missing(finding) => {
                self.secrets.missing += 1;
                self.told.findings.push(finding);
                None
            }
            // A check goes on with something that can stand where a secret stands.
            Resolved::Unseen => {
                self.secrets.unseen += 1;
                Some(Secret::new(UNSEEN))
            }
        }
    }

    fn sources(&mut self, value: Option<Spanned<DeValue<'_>>>) -> Vec<SourceConfig> {
        let Some(value) = value else { return Vec::new() };
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            let finding = Finding::error("", "expected a table: [source.<name>]");
            self.told.tell_at(self.files, span, finding);
            return Vec::new();
        };
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries.into_iter().filter_map(|(key, value)| self.source(&key, value)).collect()
    }

    /// One source; none when something in it is wrong, for then compiling would only echo that.
    fn source(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: Spanned<DeValue<'_>>,
    ) -> Option<SourceConfig> {
        let name = key.get_ref().to_string();
        let place = self.files.place(key.span());
        let findings_before = self.errors();
        if !is_source_name(&name) {
            let finding = Finding::error("", "not a name for a source").help(format!(
                "allowed: a-z, 0-9, - and _, a letter or digit first, at most {NAME_CHARS_MAX} characters"
            ));
            self.told.tell_at(self.files, key.span(), finding);
        }
        if !value.get_ref().is_table() {
            let finding = Finding::error("", format!("expected a table: [source.{name}]"));
            self.told.tell_at(self.files, value.span(), finding);
            return None;
        }
        let table: SourceTable = self.table(&format!("source.{name}"), Some(value));
        let secrets = self.secrets(&format!("source.{name}.secret"), table.secret.as_ref(), &name);
        let key = format!("source.{name}.verify_token");
        let verify_tokens = self.secrets(&key, table.verify_token.as_ref(), &format!("{name}_verify"));
        let origin = place.map(|place| PathBuf::from(place.file)).unwrap_or_default();
        (self.errors() == findings_before).then_some(SourceConfig {
            name,
            table,
            origin,
            secrets,
            verify_tokens,
        })
    }

    fn secrets(&mut self, key: &str, written: Option<&Spanned<SecretRefs>>, file_name: &str) -> Vec<Secret> {
        let references = written.map(|written| written.get_ref().all()).unwrap_or_default();
        references.iter().filter_map(|reference| self.secret(key, reference, file_name)).collect()
    }

    fn errors(&self) -> usize {
        self.told.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    fn compile<S>(&mut self, config: &mut Config, compile: Compile<'_, S>) -> Vec<(S, SourceReport)> {
        if !self.leaves.keys().any(|key| key.starts_with("source.")) {
            self.missing(
                "source",
                &config.path,
                &[
                    "[source.sendpulse]",
                    "preset = \"sendpulse@1\"",
                    "secret = { credential = \"sendpulse\" }",
                ],
            );
        }
        let mut compiled = Vec::new();
        for source in &config.sources {
            let credentials = Credentials {
                secrets: source.secrets.clone(),
                verify_tokens: source.verify_tokens.clone(),
                public_url: config.server.public_url.clone(),
            };
            match compile(&source.name, &source.table, &config.ticket, &credentials) {
                Ok((source_compiled, report)) => {
                    self.doubts(source, &report, &config.server);
                    compiled.push((source_compiled, report));
                }
                Err(problems) => problems.into_iter().for_each(|problem| self.problem(problem)),
            }
        }
        compiled
    }

    fn problem(&mut self, problem: Problem) {
        let exact = problem.at.clone().zip(problem.within.as_ref());
        let exact = exact.and_then(|(span, excerpt)| self.files.place_in_template(span, excerpt));
        let place = exact.or_else(|| problem.at.and_then(|span| self.files.place(span)));
        let excerpt = problem.within.map(Box::new);
        let finding = Finding { excerpt, ..Finding::error(problem.key, problem.what) }.at(place);
        let finding = problem.help.into_iter().fold(finding, Finding::help);
        // What is wrong in [ticket] is wrong in every source.
        if !self.told.findings.contains(&finding) {
            self.told.findings.push(finding);
        }
    }

    fn doubts(&mut self, source: &SourceConfig, report: &SourceReport, server: &ServerConfig) {
        let key = format!("source.{}", source.name);
        let preset = report.preset.as_deref().unwrap_or("");
        if report.open {
            self.open_source(&key, report, server);
        }
        let is_local = server.listen.iter().all(|address| address.ip().is_loopback());
        if report.remote_only && is_local && server.trusted_proxies.is_empty() {
            let what = "allow lists no address of this machine, but every request will come from its proxy";
            let finding = Finding::warning(&key, what)
                .help("say whose X-Forwarded-For is believed: [server] trusted_proxies = [\"127.0.0.1\"]");
            self.told.findings.push(finding);
        }
        if report.rules == 0 && (preset.is_empty() || preset.starts_with("generic@")) {
            self.told
                .findings
                .push(Finding::warning(&key, "no rule, every event becomes a ticket or a note"));
        }
        if report.draft {
            let what = format!("preset {preset} is a draft, field names unconfirmed");
            self.told.findings.push(Finding::warning(&key, what));
        }
    }

    fn open_source(&mut self, key: &str, report: &SourceReport, server: &ServerConfig) {
        match server.listen.iter().find(|address| !address.ip().is_loopback()) {
            Some(address) if !report.insecure => {
                let what =
                    format!("scheme \"none\" lets anyone post, and server.listen {address} is not loopback");
                let finding = Finding::error(format!("{key}.verify"), what)
                    .help("give it a secret and a scheme, or accept it:")
                    .help("verify = { scheme = \"none\", insecure = true }");
                self.told.findings.push(finding);
            }
            _ => self.told.findings.push(Finding::warning(
                format!("{key}.verify"),
                "scheme \"none\", whoever reaches the listener can post",
            )),
        }
    }

    /// By file, worst first, from top to bottom; what has no place comes last.
    fn sort(&mut self) {
        let files = self.files;
        let rank = |finding: &Finding| match &finding.place {
            Some(place) => (files.rank(place), finding.severity, place.line, place.column),
            None => (usize::MAX, finding.severity, 0, 0),
        };
        self.told.findings.sort_by_key(rank);
    }
}

/// `[a-z0-9][a-z0-9_-]{0,31}`: it stands in a URL, in logs and in metrics.
pub fn is_source_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= NAME_CHARS_MAX
        && name.starts_with(plain)
        && name.chars().all(|c| plain(c) || matches!(c, '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names() {
        let check = |name: &str, expect| assert_eq!(is_source_name(name), expect, "{name}");
        check("sendpulse-2", true);
        check("2_b", true);
        check(&"a".repeat(32), true);
        check(&"a".repeat(33), false);
        for wrong in ["", "-a", "_a", "A", "a b", "ñ", "a/b"] {
            check(wrong, false);
        }
    }

    /// What becomes of one problem, found at the table's `keep_if`.
    fn told(keep_if: &str, problem: impl Fn(Option<Range<usize>>) -> Problem) -> String {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("deskspool.toml");
        let text =
            "[freshdesk]\ndomain = \"acme\"\napi_key = { env = \"KEY\" }\n[source.contako]\nkeep_if = ";
        fs::write(&path, format!("{text}{keep_if}\n")).expect("write the file");
        let variable = |name: &str| Some(name.to_owned());
        let around = Surroundings { credentials_directory: None, service: true, variable };
        let compile = |_: &str, table: &SourceTable, _: &TicketTable, _: &Credentials| {
            Err::<((), SourceReport), _>(vec![problem(table.keep_if.as_ref().map(Spanned::span))])
        };
        let findings = load_with(&path, &around, &compile).err().unwrap_or_default();
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings[0].to_string().replace(&directory.path().display().to_string(), "/etc")
    }

    fn problem(at: Option<Range<usize>>, within: Option<(usize, usize, &str)>) -> Problem {
        let within = within.map(|(line, column, text)| Excerpt { line, column, text: text.to_owned() });
        let (key, what) = ("source.contako.keep_if".to_owned(), "expected }}".to_owned());
        Problem { at, key, what, help: Vec::new(), within }
    }

    #[test]
    fn a_problem_in_a_template_of_one_line_points_into_its_line() {
        let found = told("\"{{ a }\"", |at| problem(at, Some((1, 6, "{{ a }"))));
        let expect = "error: /etc/deskspool.toml:5:17   source.contako.keep_if\n  |\n5 | keep_if = \"{{ a }\"\n  \
            |                 ^ expected }}";
        assert_eq!(found, expect);
    }

    #[test]
    fn a_problem_in_a_longer_template_says_which_line_of_it() {
        let found = told("\"\"\"\n<b>\n{{ a }</b>\"\"\"", |at| problem(at, Some((2, 6, "{{ a }</b>"))));
        let expect = "error: /etc/deskspool.toml:7:6   source.contako.keep_if, line 2\n  |\n2 | {{ a }</b>\"\"\"\n  \
            |      ^ expected }}";
        assert_eq!(found, expect);
    }

    #[test]
    fn a_problem_in_escaped_text_points_at_all_of_it() {
        let found = told("\"\\u007b{ a }\"", |at| problem(at, Some((1, 6, "{{ a }"))));
        assert!(found.contains("5:11   source.contako.keep_if\n"), "{found}");
        assert!(
            found.ends_with("| keep_if = \"\\u007b{ a }\"\n  |           ^^^^^^^^^^^^^ expected }}"),
            "{found}"
        );
    }

    #[test]
    fn a_problem_in_a_preset_quotes_it() {
        let found = told("\"x\"", |_| problem(None, Some((1, 6, "{{ a }"))));
        let expect =
            "error: source.contako.keep_if: {{ a }\n                                    ^ expected }}";
        assert_eq!(found, expect);
    }

    #[test]
    fn a_problem_with_a_name_reads_as_a_sentence() {
        let uses =
            |_| Problem { what: "uses \"evnt\", which does not exist".to_owned(), ..problem(None, None) };
        assert_eq!(told("\"x\"", uses), "error: source.contako.keep_if uses \"evnt\", which does not exist");
    }
}
