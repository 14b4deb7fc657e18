//! `deskspool man`: the manual pages as roff, deskspool(8) and deskspool.toml(5).
//!
//! What the verbs say of themselves comes from the command line's own description; the rest is written in
//! `man/*.txt`, in a markup of five signs: `# ` a section, `## ` a part of it, a line before one that begins with
//! `: ` a term, four blanks an example, and backquotes and asterisks as everywhere.

use super::render::Screen;
use super::{FINE, Outcome};
use clap::{Args, Command};
use std::fmt::Write;

/// When the pages were last written anew.
const DATE: &str = "2026-11-28";
/// Widest line of the source: manual pages are read by tools that want it so.
const LINE_BYTES_MAX: usize = 78;
const TOOL: &str = include_str!("man/deskspool.8.txt");
const FILE: &str = include_str!("man/deskspool.toml.5.txt");

/// `deskspool man`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ManArgs {
    /// Which page
    #[arg(value_parser = ["deskspool.8", "deskspool.toml.5"], default_value = "deskspool.8")]
    page: String,
}

const EXAMPLES: &str = "\
Examples:
  deskspool man | man -l -                     read it
  deskspool man deskspool.toml.5 | man -l -    every key of the configuration
  deskspool man > /usr/local/share/man/man8/deskspool.8";

/// Prints the page.
pub fn run(args: &ManArgs, root: &Command, screen: &mut Screen) -> Outcome {
    screen.print(&page(&args.page, root))?;
    Ok(FINE)
}

fn page(name: &str, root: &Command) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match name {
        "deskspool.8" => {
            let head = format!(".TH DESKSPOOL 8 {DATE} \"deskspool {version}\" \"System Administration\"\n");
            let (before, after) = TOOL.split_once("VERBS\n").unwrap_or((TOOL, ""));
            head + &roff(before) + &verbs(root) + &roff(after)
        }
        _ => {
            let head = format!(".TH DESKSPOOL.TOML 5 {DATE} \"deskspool {version}\" \"File Formats\"\n");
            head + &roff(FILE)
        }
    }
}

/// The verbs, then the options of all.
fn verbs(root: &Command) -> String {
    let mut text = String::from(".SH VERBS\n");
    for verb in root.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        verb_section(&mut text, verb);
    }
    text.push_str(".SH OPTIONS OF EVERY VERB\n");
    options(&mut text, root, true);
    text
}

fn verb_section(text: &mut String, verb: &Command) {
    let usage = verb.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    let _ = writeln!(text, ".SS {}", escaped(verb.get_name(), true));
    for line in usage.lines() {
        let _ = writeln!(text, ".B {}\n.br", escaped(line.trim(), true));
    }
    let about = verb.get_long_about().or(verb.get_about()).map(ToString::to_string).unwrap_or_default();
    let aliases: Vec<&str> = verb.get_visible_aliases().collect();
    let aliases = if aliases.is_empty() { String::new() } else { format!(" (also {})", aliases.join(", ")) };
    wrap(text, &escaped(&format!("{}{aliases}.", about.trim_end_matches('.')), false));
    let subs: Vec<&Command> = verb.get_subcommands().filter(|sub| sub.get_name() != "help").collect();
    for sub in &subs {
        let _ = writeln!(text, ".TP\n.B {}", escaped(sub.get_name(), true));
        wrap(text, &escaped(&sub.get_about().map(ToString::to_string).unwrap_or_default(), false));
    }
    options(text, verb, false);
    if let Some(examples) = verb.get_after_long_help().or(verb.get_after_help()) {
        literal(text, &examples.to_string());
    }
}

/// A term for each argument: of the root those that every verb has.
fn options(text: &mut String, command: &Command, is_root: bool) {
    let is_own = |arg: &&clap::Arg| !arg.is_hide_set() && (is_root || !arg.is_global_set());
    for arg in command.get_arguments().filter(is_own) {
        let term = match arg.get_long() {
            None => arg.to_string(),
            Some(_) => {
                let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
                format!("{short}{arg}")
            }
        };
        let _ = writeln!(text, ".TP\n.B {}", escaped(&term, true));
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let takes = arg.get_action().takes_values() && !defaults.is_empty();
        let default = if takes { format!(" [default: {}]", defaults.join(" ")) } else { String::new() };
        let variable =
            arg.get_env().map(|name| format!(" [env: {}]", name.to_string_lossy())).unwrap_or_default();
        wrap(text, &escaped(&format!("{help}{default}{variable}"), false));
    }
}

/// The markup of `man/*.txt` in roff.
fn roff(source: &str) -> String {
    let lines: Vec<&str> = source.lines().collect();
    let mut text = String::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let is_term = lines.get(at + 1).is_some_and(|next| next.starts_with(": "));
        let end = |from: usize, of: &dyn Fn(&str) -> bool| {
            from + lines[from..].iter().take_while(|line| of(line)).count()
        };
        let next = match line {
            "" => at + 1,
            _ if line.starts_with("# ") || line.starts_with("## ") => {
                let (signs, title) = line.split_once(' ').unwrap_or(("", line));
                let _ = writeln!(text, ".{} {}", if signs == "#" { "SH" } else { "SS" }, styled(title));
                at + 1
            }
            _ if line.starts_with("    ") => {
                let next = end(at, &|line| line.starts_with("    ") || line.is_empty());
                let block: Vec<&str> =
                    lines[at..next].iter().map(|line| line.get(4..).unwrap_or("")).collect();
                literal(&mut text, block.join("\n").trim_end());
                next
            }
            _ if is_term => {
                let next = end(at + 1, &|line| !line.is_empty());
                let words: Vec<&str> =
                    lines[at + 1..next].iter().map(|line| line.trim_start_matches(": ").trim()).collect();
                let _ = writeln!(text, ".TP\n{}", styled(line));
                wrap(&mut text, &styled(&words.join(" ")));
                next
            }
            _ => {
                let next = end(at, &|line| !line.is_empty());
                let follows_title = text.lines().last().is_none_or(|last| last.starts_with(".S"));
                text.push_str(if follows_title { "" } else { ".PP\n" });
                wrap(&mut text, &styled(&lines[at..next].join(" ")));
                next
            }
        };
        at = next;
    }
    text
}

/// As it is, indented.
fn literal(text: &mut String, block: &str) {
    let follows_title = text.lines().last().is_some_and(|last| last.starts_with(".S"));
    text.push_str(if follows_title { ".RS 4\n.nf\n" } else { ".PP\n.RS 4\n.nf\n" });
    for line in block.lines() {
        // An empty line would be one more paragraph.
        let _ = writeln!(text, "{}", if line.is_empty() { "\\&".to_owned() } else { escaped(line, true) });
    }
    text.push_str(".fi\n.RE\n");
}

/// Backquotes make bold, asterisks italic.
fn styled(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            let _ = write!(out, "\\fB{}\\fR", escaped(part, true).trim_start_matches("\\&"));
            continue;
        }
        for (index, part) in part.split('*').enumerate() {
            let part = escaped(part, false);
            out.push_str(&if index % 2 == 1 { format!("\\fI{part}\\fR") } else { part });
        }
    }
    if out.starts_with(['.', '\'']) { format!("\\&{out}") } else { out }
}

/// What roff would take for its own; in what is typed, signs stay the signs of the keyboard.
fn escaped(text: &str, is_typed: bool) -> String {
    let mut out = String::new();
    if text.starts_with(['.', '\'']) {
        out.push_str("\\&");
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' if is_typed => out.push_str("\\-"),
            '\'' if is_typed => out.push_str("\\(aq"),
            '`' if is_typed => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            _ => out.push(c),
        }
    }
    out
}

/// On lines that are not too long; none may begin with a sign of roff's.
fn wrap(text: &mut String, paragraph: &str) {
    let mut width = 0;
    for word in paragraph.split_whitespace() {
        if width > 0 && width + 1 + word.len() > LINE_BYTES_MAX {
            text.push('\n');
            width = 0;
        }
        let guard = if width == 0 && word.starts_with(['.', '\'']) { "\\&" } else { "" };
        let gap = if width == 0 { "" } else { " " };
        let _ = write!(text, "{gap}{guard}{word}");
        width += gap.len() + guard.len() + word.len();
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup() {
        let check = |source: &str, expect: &str| assert_eq!(roff(source), expect, "{source}");
        check("# NAME\na - `b-c` *d*\n", ".SH NAME\na - \\fBb\\-c\\fR \\fId\\fR\n");
        check("## x\none\ntwo\n\nthree\n", ".SS x\none two\n.PP\nthree\n");
        check("`key` = text\n: what\n  it is\n", ".TP\n\\fBkey\\fR = text\nwhat it is\n");
        check("    a = 'b'\n\n    c\n\nd\n", ".PP\n.RS 4\n.nf\na = \\(aqb\\(aq\n\\&\nc\n.fi\n.RE\n.PP\nd\n");
        check(".x ~ \\\n", "\\&.x \\(ti \\e\n");
    }

    #[test]
    fn the_pages_know_every_verb_and_every_option() {
        let root = crate::cli::command();
        let text = page("deskspool.8", &root);
        for verb in root.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            if verb.get_name() != "help" {
                assert!(text.contains(&format!("\n.SS {}\n", verb.get_name())), "{}", verb.get_name());
            }
            for option in verb.get_opts().filter(|option| !option.is_hide_set()) {
                let long = escaped(&format!("--{}", option.get_long().expect("options are long")), true);
                assert!(text.contains(&long), "{} {long}", verb.get_name());
            }
        }
        assert!(!text.contains("probe\\-queue") && !text.contains("\n.SS complete\n"));
        assert!(text.lines().all(|line| line.len() < 250), "a long line");
    }

    /// Tables of the configuration, and the section of the page that tells their keys.
    const TABLES: [(&str, &str); 18] = [
        ("[freshdesk]", "[freshdesk]"),
        ("[ticket]", "[ticket]"),
        ("[server]", "[server]"),
        ("[spool]", "[spool]"),
        ("[delivery]", "[delivery]"),
        ("[status_page]", "[status_page]"),
        ("[alert]", "[alert]"),
        ("[source.x]", "[source.NAME]"),
        ("[source.x.ticket]", "[ticket]"),
        ("[source.x.verify]", "verify"),
        ("[[source.x.rule]]", "RULES"),
        ("[source.x.note]", "NOTE"),
        ("[source.x.rule.update]", "UPDATE"),
        ("[source.x.contact]", "CONTACT"),
        ("[source.x.followup]", "FOLLOWUP"),
        ("[source.x.requester]", "REQUESTER"),
        ("[source.x.find.y]", "FINDERS"),
        ("[source.x.answers]", "ANSWERS"),
    ];

    /// The keys that the schema allows in a table: an unknown one is answered with them.
    fn keys_of(table: &str) -> Vec<String> {
        let home = tempfile::tempdir().expect("a temporary directory");
        let path = home.path().join("deskspool.toml");
        let rule = if table.contains("rule.") { "[[source.x.rule]]\n" } else { "" };
        std::fs::write(&path, format!("{rule}{table}\nzzzzzz = 1\n")).expect("write it");
        let findings = crate::config::load(&path).expect_err("the key is unknown");
        let help = findings.iter().flat_map(|finding| &finding.help);
        let allowed =
            help.filter_map(|line| line.strip_prefix("allowed: ")).next().expect("it says what is allowed");
        allowed.split(", ").map(str::to_owned).collect()
    }

    /// The terms of a section: the names, and what follows them.
    fn terms(title: &str) -> Vec<(Vec<String>, String)> {
        let from = FILE.split(&format!("# {title}\n")).nth(1).expect("the section is there");
        let section = from.split("\n#").next().unwrap_or(from);
        let lines: Vec<&str> = section.lines().collect();
        let is_term = |pair: &&[&str]| pair[1].starts_with(": ");
        let term = |pair: &[&str]| {
            let names = pair[0].split(" = ").next().unwrap_or_default();
            (names.split('`').skip(1).step_by(2).map(str::to_owned).collect(), pair[0].to_owned())
        };
        lines.windows(2).filter(is_term).map(term).collect()
    }

    #[test]
    fn every_key_of_the_schema_is_explained_and_no_other() {
        for (table, title) in TABLES {
            let mut explained: Vec<String> = terms(title).into_iter().flat_map(|(names, _)| names).collect();
            let mut keys = keys_of(table);
            explained.sort();
            keys.sort();
            assert_eq!(explained, keys, "{table}");
        }
    }

    /// What the example's file comments out with its default, the page names too; that those are the defaults is
    /// shown by `tests/config.rs`.
    #[test]
    fn defaults_are_those_of_the_packaged_example() {
        let example = include_str!("../../packaging/deskspool.toml");
        let mut table = "";
        let mut count = 0;
        for line in example.lines() {
            if line.starts_with('[') {
                table = line.split_whitespace().next().unwrap_or_default();
            }
            let Some((key, value)) = line
                .strip_prefix('#')
                .filter(|rest| !rest.starts_with(' '))
                .and_then(|rest| rest.split_once(" = "))
            else {
                continue;
            };
            let value = value.split("  #").next().unwrap_or(value).split(" #").next().unwrap_or(value).trim();
            let term = terms(table).into_iter().find(|(names, _)| names.iter().any(|name| name == key));
            let (_, term) = term.unwrap_or_else(|| panic!("{table} {key} is not explained"));
            assert!(term.ends_with(&format!("; default `{value}`")), "{table} {term}: it is {value}");
            count += 1;
        }
        assert!(count >= 20, "{count} defaults");
    }

    #[test]
    fn the_packaged_example_names_every_key_of_the_tables() {
        let example = include_str!("../../packaging/deskspool.toml");
        for (table, _) in &TABLES[..7] {
            let from = example.split(&format!("\n{table}\n")).nth(1).expect("the table is there");
            let section = from.split("\n[").next().unwrap_or(from);
            let names: Vec<&str> = section
                .lines()
                .filter_map(|line| line.trim_start_matches(['#', ' ']).split_once([' ', '=']))
                .map(|(name, _)| name)
                .collect();
            // A ticket's other keys are shown where a source changes them.
            let optional = [
                "subject",
                "description",
                "type",
                "group_id",
                "product_id",
                "responder_id",
                "company_id",
                "email_config_id",
                "custom_fields",
                "cc_emails",
            ];
            for key in keys_of(table).iter().filter(|key| !optional.contains(&key.as_str())) {
                assert!(names.contains(&key.as_str()), "{table} {key}");
            }
        }
    }
}
