//! Broken configurations and the exact words they are answered with; `UPDATE_GOLDEN=1` rewrites them.
//!
//! Each directory in `tests/bad-config/` holds a `deskspool.toml`, maybe a `conf.d/`, and
//! `expected-error`. Messages name the files as if they lay in `/etc/deskspool`.

use deskspool::config::{self, Finding, Severity, Surroundings};
use deskspool::daemon::compile;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

fn surroundings() -> Surroundings {
    Surroundings {
        credentials_directory: Some(PathBuf::from("tests/bad-config/credentials")),
        service: true,
        variable: |_| None,
    }
}

fn findings_of(case: &Path) -> Vec<Finding> {
    config::load_with(&case.join("deskspool.toml"), &surroundings(), &compile).err().unwrap_or_default()
}

fn rendered(case: &Path, findings: &[Finding]) -> String {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    lines.join("\n").replace(&case.display().to_string(), "/etc/deskspool") + "\n"
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir("tests/bad-config").expect("the directory of cases");
    let mut cases: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    cases.retain(|case| !case.ends_with("credentials"));
    cases.sort();
    cases
}

#[test]
fn every_broken_configuration_is_answered_word_for_word() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    for case in cases() {
        let findings = findings_of(&case);
        let found = rendered(&case, &findings);
        let golden = case.join("expected-error");
        if update {
            fs::write(&golden, &found).expect("write the golden");
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        let refused = findings.iter().any(|finding| finding.severity == Severity::Error);
        if found != expected || !refused {
            differing.push(format!("{}: expected\n{expected}\nfound\n{found}", case.display()));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n\n"));
}

/// The shipped example, loaded after `change`.
fn example(change: impl Fn(&str) -> String) -> config::Config {
    let text = fs::read_to_string("packaging/deskspool.toml").expect("the example");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("deskspool.toml");
    fs::write(&path, text.lines().map(|line| change(line) + "\n").collect::<String>()).expect("write it");
    match config::load_with(&path, &surroundings(), &compile) {
        Ok(loaded) => {
            assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
            loaded.config
        }
        Err(findings) => panic!("{}", rendered(directory.path(), &findings)),
    }
}

#[test]
fn the_example_loads_and_what_it_comments_out_is_the_default() {
    let plain = example(str::to_owned);
    assert_eq!(plain.freshdesk.url, "https://acme.freshdesk.com");
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphabetic()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    let all = example(uncommented);
    assert_eq!(config::diff(&plain, &all), config::Diff::default());
    let shown = fs::read_to_string("packaging/deskspool.toml").expect("the example");
    assert!(shown.lines().filter(|line| uncommented(line) != *line).count() >= 18);
}

#[test]
fn what_the_example_shows_without_a_default_is_understood() {
    let examples = ["url", "marker_field", "ca_file", "proxy", "public_url"];
    let config = example(|line| match line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")) {
        Some((key, _)) if examples.contains(&key) => line[2..].to_owned(),
        _ if line.starts_with("domain") => String::new(),
        _ => line.to_owned(),
    });
    assert_eq!(config.freshdesk.url, "http://127.0.0.1:8090");
    assert_eq!(config.freshdesk.marker_field.as_deref(), Some("cf_external_ref"));
    assert_eq!(config.server.public_url.as_deref(), Some("https://hooks.acme.com"));
    assert!(config.freshdesk.ca_file.is_some() && config.freshdesk.proxy.is_some());
}

#[test]
fn the_rules_that_the_example_shows_are_valid() {
    let is_rules = std::cell::Cell::new(false);
    let config = example(|line| {
        is_rules.set(is_rules.get() || line == "# [[source.sendpulse.rule]]");
        if is_rules.get() { line.trim_start_matches(['#', ' ']).to_owned() } else { line.to_owned() }
    });
    assert_eq!(config.sources[0].table.rule.as_ref().map(Vec::len), Some(2));
}

#[test]
fn two_facts_and_a_source_are_enough() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("deskspool.toml");
    let text = "freshdesk.domain = \"acme\"\nfreshdesk.api_key = { credential = \"freshdesk_api_key\" }\n\
        source.sendpulse = { preset = \"sendpulse@1\", secret = { credential = \"sendpulse\" } }\n";
    fs::write(&path, text).expect("write the file");
    let loaded = config::load_with(&path, &surroundings(), &compile).expect("it is enough");
    assert_eq!(loaded.warnings, Vec::<Finding>::new());
    assert_eq!(loaded.config.freshdesk.api_key.expose(), b"not-a-real-key");
    let source = &loaded.config.sources[0];
    assert_eq!((source.name.as_str(), source.secrets[0].expose()), ("sendpulse", &b"not-a-real-token"[..]));
    assert_eq!(source.origin, path);
}

#[test]
fn there_are_enough_cases_and_none_shows_a_secret() {
    let cases = cases();
    assert!(cases.len() >= 25, "{}", cases.len());
    for case in cases {
        let golden = fs::read_to_string(case.join("expected-error")).expect("a golden");
        for secret in ["not-a-real", "hunter2"] {
            assert!(!golden.contains(secret), "{} shows {secret}", case.display());
        }
        assert!(golden.split("error: ").all(|finding| finding.lines().count() <= 6), "{}", case.display());
    }
}

/// The example with pieces replaced: what admins' slips look like to the parser.
fn slipped() -> impl Strategy<Value = String> {
    let example = fs::read_to_string("packaging/deskspool.toml").expect("the example");
    let piece = prop_oneof![
        "[\\[\\]{}=\"'#,\\\\ \n\tñ€a1.]{0,4}",
        Just("\"\"\"".to_owned()),
        Just("[[x]]".to_owned())
    ];
    prop::collection::vec((0.0..1.0f64, 0usize..12, piece), 1..6).prop_map(move |slips| {
        let mut characters: Vec<char> = example.chars().collect();
        for (place, length, piece) in slips {
            let start = (characters.len() as f64 * place) as usize;
            let end = (start + length).min(characters.len());
            characters.splice(start..end, piece.chars());
        }
        characters.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_slip_of_the_pen_breaks_the_reader(text in slipped()) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("deskspool.toml");
        fs::write(&path, &text).expect("write the file");
        fs::create_dir(directory.path().join("conf.d")).expect("make conf.d");
        fs::write(directory.path().join("conf.d/1.toml"), &text).expect("write the file");
        let findings = config::load_with(&path, &surroundings(), &compile).err().unwrap_or_default();
        for finding in &findings {
            prop_assert!(finding.to_string().lines().count() <= 6);
            let place = finding.place.as_deref();
            prop_assert!(place.is_none_or(|place| place.caret.start <= place.text.chars().count() + 1));
        }
    }
}
