//! What a reload changes, in the words of the keys.

use super::Config;
use super::secrets::Secret;
use super::units::show_duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// What a running daemon cannot take over.
const FIXED: [&str; 5] =
    ["server.listen", "server.trusted_proxies", "spool.dir", "delivery.workers", "status_page.listen"];

/// Keys whose parts are told as one.
const SECRETS: [&str; 4] = [".secret", ".verify_token", ".api_key", ".password"];

/// The difference between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Takes effect with the reload: `source.sendpulse.rule[1] changed`, `source.contako added`.
    pub changed: Vec<String>,
    /// Does not: `server.listen (127.0.0.1:8085 → 127.0.0.1:9085)`.
    pub needs_restart: Vec<String>,
}

/// Compares two configurations.
pub fn diff(old: &Config, new: &Config) -> Diff {
    let (facts_before, facts_now) = (facts(old), facts(new));
    let mut keys = BTreeSet::new();
    for key in old.written.0.keys().chain(new.written.0.keys()) {
        let same_text = old.written.0.get(key) == new.written.0.get(key);
        let same_fact = facts_before.contains_key(key) && facts_before.get(key) == facts_now.get(key);
        if !same_text && !same_fact {
            keys.insert(told_as(key, old, new));
        }
    }
    keys.extend(secrets_changed(old, new));
    let restart = |key: &str| FIXED.contains(&key);
    let from_to =
        |key: &String| format!("{key} ({} → {})", shown(&facts_before, key), shown(&facts_now, key));
    Diff {
        needs_restart: keys.iter().filter(|key| restart(key)).map(from_to).collect(),
        changed: keys.iter().filter(|key| !restart(key)).map(|key| with_verb(key, old, new)).collect(),
    }
}

/// The key under which a change is told: a whole source when it came or went, a whole rule.
fn told_as(key: &str, old: &Config, new: &Config) -> String {
    let name = key.strip_prefix("source.").map(|rest| rest.split('.').next().unwrap_or(rest));
    if let Some(name) = name.filter(|name| has_source(old, name) != has_source(new, name)) {
        return format!("source.{name}");
    }
    if key.starts_with("server.tls") {
        return "server.tls".to_owned();
    }
    if is_secret(key) {
        let end = SECRETS.iter().find_map(|name| key.find(name).map(|at| at + name.len()));
        return key[..end.unwrap_or(key.len())].to_owned();
    }
    key.find(']').map_or(key, |end| &key[..=end]).to_owned()
}

fn is_secret(key: &str) -> bool {
    let of_source = [".secret", ".verify_token"].iter().any(|name| key.contains(name));
    key.starts_with("freshdesk.api_key")
        || key.starts_with("status_page.password")
        || (key.starts_with("source.") && of_source)
}

fn has_source(config: &Config, name: &str) -> bool {
    config.sources.iter().any(|source| source.name == name)
}

fn with_verb(key: &str, old: &Config, new: &Config) -> String {
    let within = |config: &Config| {
        let below = |other: &String| {
            other.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        config.written.0.keys().any(below)
    };
    let is_block = key.ends_with(']') || key.matches('.').count() == 1 && key.starts_with("source.");
    match (within(old), within(new)) {
        (false, true) if is_block => format!("{key} added"),
        (true, false) if is_block => format!("{key} removed"),
        _ => format!("{key} changed"),
    }
}

/// The contents behind a reference can change while the reference stays.
fn secrets_changed(old: &Config, new: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    if old.freshdesk.api_key.expose() != new.freshdesk.api_key.expose() {
        keys.push("freshdesk.api_key".to_owned());
    }
    let password =
        |config: &Config| config.status_page.password.as_ref().map(|secret| secret.expose().to_vec());
    if password(old) != password(new) {
        keys.push("status_page.password".to_owned());
    }
    let identity = |config: &Config| config.server.certificate.as_ref()?.identity.clone();
    if old.server.tls.is_some() && new.server.tls.is_some() && identity(old) != identity(new) {
        keys.push("server.tls".to_owned());
    }
    for source in &new.sources {
        let before = old.sources.iter().find(|before| before.name == source.name);
        if before.is_some_and(|before| !same(&before.secrets, &source.secrets)) {
            keys.push(format!("source.{}.secret", source.name));
        }
        if before.is_some_and(|before| !same(&before.verify_tokens, &source.verify_tokens)) {
            keys.push(format!("source.{}.verify_token", source.name));
        }
    }
    keys
}

fn same(before: &[Secret], now: &[Secret]) -> bool {
    before.iter().map(Secret::expose).eq(now.iter().map(Secret::expose))
}

fn shown(facts: &BTreeMap<String, String>, key: &str) -> String {
    facts.get(key).filter(|fact| !fact.is_empty()).cloned().unwrap_or_else(|| "none".to_owned())
}

/// The effective value of each key that has a default, so that writing a default down is no change.
pub(super) fn facts(config: &Config) -> BTreeMap<String, String> {
    let (freshdesk, server, spool, delivery) =
        (&config.freshdesk, &config.server, &config.spool, &config.delivery);
    let facts: [(&str, String); 22] = [
        ("freshdesk.domain", freshdesk.url.clone()),
        ("freshdesk.url", freshdesk.url.clone()),
        ("freshdesk.rate_per_minute", freshdesk.rate_per_minute.to_string()),
        ("freshdesk.timeout", show_duration(freshdesk.timeout)),
        ("freshdesk.proxy", proxy_text(freshdesk.proxy.as_ref())),
        ("server.listen", list(&server.listen)),
        ("server.body_max", server.body_max_bytes.to_string()),
        ("server.connections_max", server.connections_max.to_string()),
        ("server.connections_per_ip_max", server.connections_per_ip_max.to_string()),
        ("server.trusted_proxies", list(&server.trusted_proxies)),
        ("spool.dir", spool.dir.display().to_string()),
        ("spool.envelopes_max", spool.envelopes_max.to_string()),
        ("spool.bytes_max", spool.bytes_max.to_string()),
        ("spool.disk_free_min", spool.disk_free_min_bytes.to_string()),
        ("spool.keep_delivered", show_duration(spool.keep_delivered)),
        ("spool.keep_dead", show_duration(spool.keep_dead)),
        ("delivery.workers", delivery.workers.to_string()),
        ("delivery.backoff.first", show_duration(delivery.backoff.first)),
        ("delivery.backoff.factor", delivery.backoff.factor.to_string()),
        ("delivery.backoff.max", show_duration(delivery.backoff.max)),
        ("delivery.backoff.jitter", delivery.backoff.jitter.to_string()),
        ("delivery.give_up_after", show_duration(delivery.give_up_after)),
    ];
    let mut facts: BTreeMap<String, String> =
        facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    facts.insert("delivery.after_dead".to_owned(), format!("{:?}", delivery.after_dead).to_lowercase());
    facts.insert("status_page.listen".to_owned(), list(&config.status_page.listen));
    facts.insert("alert.command".to_owned(), list(&config.alert.command));
    facts.insert("alert.ticket".to_owned(), config.alert.ticket.to_string());
    facts.insert("alert.oldest_waiting".to_owned(), show_duration(config.alert.oldest_waiting));
    facts.insert("privacy.redact".to_owned(), list(&config.privacy.redact));
    facts.insert("status_page.actions".to_owned(), config.status_page.actions.to_string());
    facts.insert("delivery.stop_timeout".to_owned(), show_duration(delivery.stop_timeout));
    facts
}

/// Compared, never shown: `freshdesk.proxy` is not among the keys whose values are told.
fn proxy_text(proxy: Option<&Secret>) -> String {
    proxy.map(|proxy| String::from_utf8_lossy(proxy.expose()).into_owned()).unwrap_or_default()
}

fn list<T: Display>(all: &[T]) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{SourceReport, load_with};
    use crate::config::secrets::Surroundings;
    use std::fs;

    const FRESHDESK: &str = "[freshdesk]\ndomain = \"acme\"\napi_key = { env = \"KEY\" }\n";
    const SENDPULSE: &str = "[source.sendpulse]\npreset = \"sendpulse@1\"\nsecret = { env = \"TOKEN\" }\n";

    /// `variable` gives the secrets their values.
    fn config(text: &str, variable: fn(&str) -> Option<String>) -> Config {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("deskspool.toml");
        fs::write(&path, text).expect("write the file");
        let around = Surroundings { credentials_directory: None, service: true, variable };
        match load_with(&path, &around, &|_, _, _, _| Ok(((), SourceReport::default()))) {
            Ok(loaded) => loaded.config,
            Err(findings) => panic!("{findings:?}"),
        }
    }

    fn check(old: &str, new: &str, changed: &[&str], needs_restart: &[&str]) {
        let configs =
            [old, new].map(|text| config(&format!("{FRESHDESK}{text}"), |name| Some(name.to_owned())));
        let found = diff(&configs[0], &configs[1]);
        assert_eq!(
            (found.changed, found.needs_restart),
            (owned(changed), owned(needs_restart)),
            "{old} → {new}"
        );
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn nothing_changed() {
        check(SENDPULSE, SENDPULSE, &[], &[]);
        let moved = format!("# a comment\n\n{SENDPULSE}");
        check(SENDPULSE, &moved, &[], &[]);
    }

    #[test]
    fn writing_a_default_down_is_no_change() {
        let written = format!(
            "timeout = \"20s\"\n[server]\nlisten = [\"127.0.0.1:8085\"]\n[delivery]\nafter_dead = \"pass\"\n\
             backoff = {{ jitter = 1.0 }}\n{SENDPULSE}"
        );
        check(SENDPULSE, &written, &[], &[]);
    }

    #[test]
    fn rules_and_sources_come_and_go() {
        let rule = |when: &str| format!("[[source.sendpulse.rule]]\nwhen = \"{when}\"\ndo = \"ignore\"\n");
        let one = format!("{SENDPULSE}{}", rule("a"));
        check(&one, &format!("{SENDPULSE}{}", rule("b")), &["source.sendpulse.rule[1] changed"], &[]);
        check(&one, &format!("{one}{}", rule("b")), &["source.sendpulse.rule[2] added"], &[]);
        check(&one, SENDPULSE, &["source.sendpulse.rule[1] removed"], &[]);
        let both =
            format!("{SENDPULSE}[source.contako]\npreset = \"contako@1\"\nsecret = {{ env = \"C\" }}\n");
        check(SENDPULSE, &both, &["source.contako added"], &[]);
        check(&both, SENDPULSE, &["source.contako removed"], &[]);
        check(
            SENDPULSE,
            &format!("{SENDPULSE}[source.sendpulse.ticket]\nsubject = \"hi\"\n"),
            &["source.sendpulse.ticket.subject changed"],
            &[],
        );
    }

    #[test]
    fn some_changes_need_a_restart() {
        let text = "rate_per_minute = 60\n[server]\nlisten = \"127.0.0.1:9085\"\n\
            trusted_proxies = [\"127.0.0.1\"]\n[spool]\ndir = \"/srv/spool\"\n\
            [delivery]\nworkers = 8\ngive_up_after = \"1d\"\n";
        check(
            SENDPULSE,
            &format!("{text}{SENDPULSE}"),
            &["delivery.give_up_after changed", "freshdesk.rate_per_minute changed"],
            &[
                "delivery.workers (4 → 8)",
                "server.listen (127.0.0.1:8085 → 127.0.0.1:9085)",
                "server.trusted_proxies (none → 127.0.0.1)",
                "spool.dir (/var/lib/deskspool → /srv/spool)",
            ],
        );
    }

    #[test]
    fn a_secret_is_compared_and_never_told() {
        let text = format!("{FRESHDESK}{SENDPULSE}");
        let old = config(&text, |name| Some(name.to_owned()));
        let new = config(&text, |name| Some(format!("{name} hunter2")));
        let expect = owned(&["freshdesk.api_key changed", "source.sendpulse.secret changed"]);
        assert_eq!(diff(&old, &new), Diff { changed: expect, needs_restart: Vec::new() });
        let inline = text.replace("{ env = \"TOKEN\" }", "\"hunter2\"");
        let new = config(&inline, |name| Some(name.to_owned()));
        assert_eq!(diff(&old, &new).changed, ["source.sendpulse.secret changed"]);
        assert!(!format!("{new:?}").contains("hunter2"));
    }
}
