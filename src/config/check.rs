//! `deskspool check` without the network: the configuration, and whether this machine can run it.
//!
//! The answer is data; [`Check::render`] makes the lines that admins see. Nothing is changed: a listen
//! address is bound for a moment and let go, the spool is only looked at.

use super::Config;
use super::finding::{Finding, Severity, verdict};
use super::load::{self, Compile, Reading};
use super::secrets::Surroundings;
use super::units::show_size;
use crate::clock::{Clock, SystemClock, spell};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

/// Where the text of a line begins.
const TEXT_COLUMN: usize = 8;

/// One line of the answer, or one finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Looked at, and fine.
    Good(String),
    /// Not looked at, and why.
    Skipped(String),
    /// Not fine, or doubtful.
    Found(Finding),
}

impl Line {
    /// `{"result":"ok","text":…}`, `{"result":"error","key":…,"text":…}`.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Line::Good(text) => serde_json::json!({ "result": "ok", "text": text }),
            Line::Skipped(text) => serde_json::json!({ "result": "skipped", "text": text }),
            Line::Found(finding) => serde_json::json!({
                "result": finding.severity.to_string(),
                "key": finding.key,
                "text": finding.to_string(),
            }),
        }
    }
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// In the order they are shown, except that what is good comes first.
    pub lines: Vec<Line>,
    /// Credentials that only the service sees; where there are any, Freshdesk cannot be asked.
    pub credentials_unseen: usize,
}

/// Who has an address that could not be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// The daemon that this configuration is for.
    Ours,
    /// systemd, for a `.socket` unit; perhaps for ours.
    Systemd,
    /// We may not look at other processes, as in `ExecStartPre=`.
    Hidden,
    /// Somebody else: `pid 733 (nginx)`, where that could be found out.
    Other(Option<String>),
}

/// What a check is made with.
pub struct Inputs<'a, S> {
    /// The main file.
    pub path: &'a Path,
    /// Where secrets come from.
    pub around: &'a Surroundings,
    /// Compiles one source.
    pub compile: Compile<'a, S>,
    /// Asked only about addresses that are in use.
    pub occupant: &'a dyn Fn(SocketAddr) -> Occupant,
    /// systemd listens where platforms post, and `server.listen` is ignored.
    pub activated: bool,
}

/// Checks everything that needs no network. The configuration is there when it says how to reach Freshdesk, whatever
/// else is wrong in it.
pub fn check<S>(inputs: &Inputs<'_, S>) -> (Check, Option<Config>) {
    let reading = load::read(inputs.path, inputs.around, inputs.compile);
    let mut answer = Check::default();
    answer.describe(&reading);
    let broken = |table: &str| reading.broken.iter().any(|name| name == table);
    let config = &reading.config;
    let listeners = |key: &'static str, all: &[SocketAddr], broken: bool| {
        all.iter().filter(|_| !broken).map(|address| (key, *address)).collect::<Vec<_>>()
    };
    if inputs.activated {
        answer
            .skipped("server.listen: ignored, deskspool.socket says where (systemctl cat deskspool.socket)");
    }
    let mut addresses =
        listeners("server.listen", &config.server.listen, broken("server") || inputs.activated);
    let page = &config.status_page.listen;
    addresses.extend(listeners("status_page.listen", page, broken("status_page") || broken("server")));
    answer.check_listeners(&addresses, inputs.occupant);
    if !broken("spool") {
        answer.check_spool(&reading.config, inputs.around.service);
    }
    let freshdesk = &reading.config.freshdesk;
    let can_ask = !broken("freshdesk") && !freshdesk.url.is_empty() && !freshdesk.api_key.expose().is_empty();
    answer.lines.extend(reading.findings.into_iter().map(Line::Found));
    (answer, can_ask.then_some(reading.config))
}

impl Check {
    /// Adds what is fine.
    pub fn good(&mut self, text: impl Into<String>) {
        self.lines.push(Line::Good(text.into()));
    }

    /// Adds what could not be looked at.
    pub fn skipped(&mut self, text: impl Into<String>) {
        self.lines.push(Line::Skipped(text.into()));
    }

    /// Adds a finding.
    pub fn found(&mut self, finding: Finding) {
        self.lines.push(Line::Found(finding));
    }

    /// Adds a finding of the account: its help to what was found at the same place, or itself.
    pub fn found_in_account(&mut self, finding: Finding) {
        let place = finding.place.as_deref().map(|place| (&place.file, place.line, place.column));
        let same = self.lines.iter_mut().find_map(|line| match line {
            Line::Found(other) if other.severity == Severity::Error => other
                .place
                .as_deref()
                .is_some_and(|other| Some((&other.file, other.line, other.column)) == place)
                .then_some(other),
            _ => None,
        });
        match same {
            Some(other) => other.help.extend(finding.help),
            None => self.found(finding),
        }
    }

    /// What has a place in a file comes first, then the worst, as the findings of the files alone are sorted.
    pub fn sort(&mut self) {
        self.lines.sort_by_key(|line| match line {
            Line::Good(_) | Line::Skipped(_) => (0, Severity::Error),
            Line::Found(finding) if finding.place.is_some() => (1, Severity::Error),
            Line::Found(finding) => (2, finding.severity),
        });
    }

    /// How many findings are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        let is = |line: &&Line| matches!(line, Line::Found(finding) if finding.severity == severity);
        self.lines.iter().filter(is).count()
    }

    /// The lines as admins see them, the verdict last; ends with a newline.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let good = self.lines.iter().filter(|line| !matches!(line, Line::Found(_)));
        let rest = self.lines.iter().filter(|line| matches!(line, Line::Found(_)));
        for line in good.chain(rest) {
            let (word, lines) = match line {
                Line::Good(line) => ("ok", vec![line.clone()]),
                Line::Skipped(line) => ("skip", vec![line.clone()]),
                Line::Found(finding) if finding.severity == Severity::Error => ("error", finding.lines(0)),
                Line::Found(finding) => ("warn", finding.lines(0)),
            };
            for (index, line) in lines.iter().enumerate() {
                let label = if index == 0 { format!("  {word}") } else { String::new() };
                text.push_str(format!("{label:TEXT_COLUMN$}{line}").trim_end());
                text.push('\n');
            }
        }
        text + &verdict(self.count(Severity::Error), self.count(Severity::Warning)) + "\n"
    }

    fn describe<S>(&mut self, reading: &Reading<S>) {
        let config = &reading.config;
        let errors = |finding: &&Finding| finding.severity == Severity::Error;
        let is_readable = !reading.findings.iter().filter(errors).any(|finding| finding.place.is_some());
        if is_readable && !config.files.is_empty() {
            self.good(file_names(config));
        }
        if !reading.findings.iter().any(|finding| errors(&finding)) {
            let reports = || reading.sources.iter().map(|(_, report)| report);
            let presets: std::collections::BTreeSet<_> =
                reports().filter_map(|report| report.preset.as_ref()).collect();
            let templates = reports().map(|report| report.templates).sum();
            self.good(format!(
                "{}, {}, {}",
                counted(presets.len(), "preset"),
                counted(reading.sources.len(), "source"),
                counted(templates, "template")
            ));
        }
        if let Some(tls) = &config.server.certificate {
            let left = tls.chain.expires().saturating_sub(SystemClock::new().now().unix_seconds());
            let key = if tls.identity.is_some() { "fits its key" } else { "key not seen from here" };
            self.good(format!("certificate ends in {}, {key}", spell(left)));
        }
        let secrets = reading.secrets;
        self.credentials_unseen = secrets.unseen;
        let systemds = match secrets.unseen {
            0 => String::new(),
            unseen => format!("; {} for systemd to pass", counted(unseen, "credential")),
        };
        if secrets.missing == 0 && secrets.read + secrets.unseen > 0 {
            self.good(format!("secrets: {} readable, none world-readable{systemds}", secrets.read));
        }
    }

    fn check_listeners(
        &mut self,
        addresses: &[(&str, SocketAddr)],
        occupant: &dyn Fn(SocketAddr) -> Occupant,
    ) {
        let mut usable = Vec::new();
        for (key, address) in addresses {
            match listen_fault(key, *address, occupant) {
                None => usable.push(address.to_string()),
                Some(line) => self.lines.push(line),
            }
        }
        if let Some((last, others)) = usable.split_last() {
            let list =
                if others.is_empty() { last.clone() } else { format!("{} and {last}", others.join(", ")) };
            self.good(format!("{list} free or ours"));
        }
    }

    fn check_spool(&mut self, config: &Config, service: bool) {
        let dir = &config.spool.dir;
        let shown = dir.display();
        let Some(existing) = dir.ancestors().find(|ancestor| ancestor.exists()) else { return };
        let Ok(disk) = rustix::fs::statvfs(existing) else { return };
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        let free = show_size(free_bytes);
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        let writable = rustix::fs::access(existing, access).is_ok();
        match (existing == dir, writable) {
            (true, _) if !dir.is_dir() => {
                self.found(Finding::error("", format!("spool {shown} is not a directory")));
            }
            (true, true) => self.good(format!("spool {shown} writable, {free} free")),
            (false, true) => self.good(format!("spool {shown} will be made, {free} free")),
            (_, false) if !service => self.good(format!("spool {shown} belongs to the service, {free} free")),
            (true, false) => {
                self.found(
                    Finding::error("", format!("spool {shown} is not writable"))
                        .help(format!("chown deskspool: {shown}")),
                );
            }
            (false, false) => self.found(
                Finding::error("", format!("spool {shown} does not exist and cannot be made here"))
                    .help("in the unit: StateDirectory=deskspool makes /var/lib/deskspool"),
            ),
        }
        let wanted_bytes = config.spool.disk_free_min_bytes;
        if free_bytes < wanted_bytes {
            let what = format!("{} wanted, {free} free: platforms would get 503", show_size(wanted_bytes));
            self.found(Finding::warning("spool.disk_free_min", what));
        }
    }
}

/// Why the address could not be listened on, or why that is not known; or nothing.
fn listen_fault(key: &str, address: SocketAddr, occupant: &dyn Fn(SocketAddr) -> Occupant) -> Option<Line> {
    let error = TcpListener::bind(address).err()?;
    let what = match error.kind() {
        ErrorKind::AddrInUse => match occupant(address) {
            Occupant::Ours => return None,
            Occupant::Systemd => {
                let text = "systemd listens there: with deskspool.socket it is ignored, else it is in use";
                return Some(Line::Skipped(format!("{key} {address}: {text}")));
            }
            Occupant::Hidden => {
                let text =
                    "in use by a process that cannot be seen from here, perhaps systemd for a socket unit";
                return Some(Line::Skipped(format!("{key} {address}: {text}")));
            }
            Occupant::Other(Some(who)) => format!("is in use by {who}"),
            Occupant::Other(None) => "is in use".to_owned(),
        },
        ErrorKind::AddrNotAvailable => "is not an address of this machine".to_owned(),
        ErrorKind::PermissionDenied => {
            return Some(Line::Found(
                Finding::error("", format!("{key} {address} is not allowed to this user"))
                    .help("ports below 1024, in the unit: AmbientCapabilities=CAP_NET_BIND_SERVICE"),
            ));
        }
        _ => format!("cannot be listened on: {error}"),
    };
    Some(Line::Found(Finding::error("", format!("{key} {address} {what}"))))
}

/// `/etc/deskspool/deskspool.toml, conf.d/20-empower.toml`.
fn file_names(config: &Config) -> String {
    let directory = config.path.parent().unwrap_or(Path::new(""));
    let name = |path: &std::path::PathBuf| {
        if *path == config.path { path.as_path() } else { path.strip_prefix(directory).unwrap_or(path) }
            .display()
            .to_string()
    };
    config.files.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn counted(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::SourceReport;
    use std::fs;

    /// The answer for a configuration in a directory of its own, which reads as `/etc/deskspool`; `SPOOL` in
    /// the text is a directory beside it.
    fn answer(text: &str, occupant: &dyn Fn(SocketAddr) -> Occupant) -> String {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (etc, spool) = (directory.path().join("etc"), directory.path().join("spool"));
        for path in [&etc.join("conf.d"), &spool] {
            fs::create_dir_all(path).expect("make a directory");
        }
        let text = text.replace("SPOOL", &spool.display().to_string());
        fs::write(etc.join("deskspool.toml"), text).expect("write the file");
        fs::write(etc.join("conf.d/20-more.toml"), "[delivery]\nworkers = 2\n").expect("write the file");
        let variable = |name: &str| Some(name.to_owned()).filter(|name| name != "UNSET");
        let around = Surroundings { credentials_directory: None, service: false, variable };
        let report = SourceReport {
            preset: Some("empower@1".to_owned()),
            draft: true,
            templates: 31,
            rules: 1,
            ..SourceReport::default()
        };
        let compile = |_: &str, _: &_, _: &_, _: &_| Ok(((), report.clone()));
        let path = etc.join("deskspool.toml");
        let inputs = Inputs { path: &path, around: &around, compile: &compile, occupant, activated: false };
        let (check, config) = check(&inputs);
        assert!(config.is_some() || check.count(Severity::Error) > 0);
        let text = check.render();
        let text = text.replace(&etc.display().to_string(), "/etc/deskspool");
        let text = text.replace(&spool.display().to_string(), "/var/lib/deskspool");
        text.lines().map(|line| format!("{}\n", without_free_space(line))).collect()
    }

    /// The free space is this machine's.
    fn without_free_space(line: &str) -> &str {
        if line.ends_with(" free") { line.rsplit_once(", ").map_or(line, |(before, _)| before) } else { line }
    }

    fn nobody(address: SocketAddr) -> Occupant {
        panic!("{address} is not in use")
    }

    const HEAD: &str = "[freshdesk]\ndomain = \"acme\"\napi_key = { credential = \"key\" }\n\
        [spool]\ndir = \"SPOOL\"\ndisk_free_min = \"1B\"\n[status_page]\nlisten = \"off\"\n";
    const LISTEN: &str = "[server]\nlisten = [\"127.0.0.1:0\", \"[::1]:0\"]\n";

    #[test]
    fn a_good_configuration_reads_as_a_list() {
        let source = "[source.empower]\nsecret = { env = \"TOKEN\" }\n";
        let expect = "  ok    /etc/deskspool/deskspool.toml, conf.d/20-more.toml\n  \
              ok    1 preset, 1 source, 31 templates\n  \
              ok    secrets: 1 readable, none world-readable; 1 credential for systemd to pass\n  \
              ok    127.0.0.1:0 free or ours\n  \
              ok    spool /var/lib/deskspool writable\n  \
              warn  source.empower: preset empower@1 is a draft, field names unconfirmed\n\
            valid, 1 warning\n";
        let listen = LISTEN.replace(", \"[::1]:0\"", "");
        assert_eq!(answer(&format!("{HEAD}{listen}{source}"), &nobody), expect);
    }

    #[test]
    fn what_is_broken_is_told_and_the_rest_is_still_checked() {
        let source = "[source.empower]\nsecret = { env = \"UNSET\" }\ncolour = 1\n";
        let text = answer(&format!("{HEAD}[server]\nlisten = \"8085\"\n{source}"), &nobody);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  ok    spool /var/lib/deskspool writable");
        assert_eq!(lines[1], "  error /etc/deskspool/deskspool.toml:10:10");
        assert_eq!(lines[3], "        10 | listen = \"8085\"");
        assert!(
            text.contains("\n  error source.empower.secret: environment variable UNSET is not set\n"),
            "{text}"
        );
        assert!(text.ends_with("\n3 errors\n"), "{text}");
    }

    #[test]
    fn an_address_in_use_is_ours_or_an_error() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("its address");
        let source = "[source.empower]\nsecret = { env = \"TOKEN\" }\n";
        let text = format!("{HEAD}[server]\nlisten = \"{address}\"\n{source}");
        let check = |occupant: Occupant, expect: &str| {
            let found = answer(&text, &|_| occupant.clone());
            assert!(found.contains(expect), "{expect} is not in {found}");
        };
        check(Occupant::Ours, &format!("  ok    {address} free or ours\n"));
        check(Occupant::Systemd, &format!("  skip  server.listen {address}: systemd listens there: with "));
        check(
            Occupant::Hidden,
            &format!("  skip  server.listen {address}: in use by a process that cannot "),
        );
        check(Occupant::Other(None), &format!("  error server.listen {address} is in use\n"));
        check(
            Occupant::Other(Some("pid 733 (nginx)".to_owned())),
            &format!("  error server.listen {address} is in use by pid 733 (nginx)\n"),
        );
    }

    #[test]
    fn a_disk_that_is_too_full_is_warned_of() {
        let head = HEAD.replace("1B", "9000000TiB");
        let source = "[source.empower]\nsecret = { env = \"TOKEN\" }\n";
        let found = answer(&format!("{head}{LISTEN}{source}").replace(", \"[::1]:0\"", ""), &nobody);
        assert!(found.contains("\n  warn  spool.disk_free_min: 9000000 TiB wanted, "), "{found}");
        assert!(found.ends_with("\nvalid, 2 warnings\n"), "{found}");
    }
}
