//! What `init` says at the end: what goes into each platform, and what to type next.

use super::files::Home;
use super::{Answers, Chosen, platform_of};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Where packages put the snippets for proxies.
const SNIPPETS: [&str; 2] = ["/usr/share/doc/deskspool/nginx.conf", "/usr/share/doc/deskspool/Caddyfile"];
/// What stands for the host when nobody said how it is called.
const SOME_HOST: &str = "https://<this host>";

/// One of these platforms' proofs, as people paste it.
struct Proof {
    url: String,
    /// `header x-bp-secret: 3f…`, `secret 3f…`.
    beside: Option<String>,
}

/// For people. Secrets are shown here, once: they must be pasted.
pub(super) fn render(home: &Home, answers: &Answers, secrets: usize) -> String {
    let mut text = format!(
        "wrote {} and {secrets} secrets beside it, in secrets/ ({})\n",
        home.config.display(),
        home.modes()
    );
    if home.lacks_group() {
        text.push_str("there is no group deskspool yet: make it, chgrp these files to it and chmod them 0640, or the service cannot read them\n");
    }
    for source in &answers.sources {
        let proof = proof(source, answers.public_url.as_deref());
        let _ = writeln!(text, "\n{}\n  paste    {}", source.name, proof.url);
        if let Some(beside) = proof.beside {
            let _ = writeln!(text, "  with     {beside}");
        }
        if let Some(token) = &source.verify_token {
            let _ = writeln!(text, "  with     verify token {token}");
        }
        if source.is_secret_missing {
            let path = home.secrets.join(&source.name);
            let _ = writeln!(
                text,
                "  missing  the secret that it shows: put it into {}, then deskspool reload",
                path.display()
            );
        }
        if source.preset.certainty() == "draft" {
            let _ = writeln!(
                text,
                "  draft    its field names are unconfirmed: deskspool capture {}",
                source.name
            );
        }
        let mut title = "how";
        for line in guide(source, answers.public_url.as_deref()).lines() {
            let _ = writeln!(text, "  {title:<8} {line}");
            title = "";
        }
    }
    let snippets: Vec<&str> = SNIPPETS.into_iter().filter(|path| Path::new(path).exists()).collect();
    let snippets = if snippets.is_empty() {
        "README.md, \"Let the platforms in\"".to_owned()
    } else {
        snippets.join(", ")
    };
    let _ = write!(
        text,
        "\nplatforms call with TLS; a snippet for the proxy: {snippets}\n\nnext:\n{}",
        next(home)
    );
    text
}

/// What to type: as the package's service, or by hand where the configuration is elsewhere.
fn next(home: &Home) -> String {
    let is_usual = home.config == Path::new(super::super::CONFIG_DEFAULT);
    if is_usual {
        return "  deskspool check\n  systemctl enable --now deskspool\n  deskspool status --watch\n"
            .to_owned();
    }
    let config = home.config.display();
    format!(
        "  deskspool --config {config} check\n  deskspool --config {config} serve\n  deskspool --config {config} status\n"
    )
}

/// For programs; no secret in it.
pub(super) fn as_json(home: &Home, answers: &Answers, secrets: &[PathBuf]) -> serde_json::Value {
    let source = |source: &Chosen| {
        serde_json::json!({
            "name": source.name,
            "preset": source.preset.name,
            "url": address(source, answers.public_url.as_deref()),
            "secret_file": home.secrets.join(&source.name).display().to_string(),
        })
    };
    serde_json::json!({
        "config": home.config.display().to_string(),
        "secrets": secrets.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "key": answers.tested,
        "sources": answers.sources.iter().map(source).collect::<Vec<_>>(),
    })
}

fn address(source: &Chosen, public_url: Option<&str>) -> String {
    format!("{}/in/{}", public_url.unwrap_or(SOME_HOST), source.name)
}

/// As the preset's scheme wants it.
fn proof(source: &Chosen, public_url: Option<&str>) -> Proof {
    let url = address(source, public_url);
    let secret = &source.secret;
    let verify = source.preset.table().verify.clone().unwrap_or_default();
    let scheme = verify.scheme.as_ref().map_or("header", |scheme| scheme.get_ref().as_str());
    if source.is_secret_missing {
        return Proof { url, beside: None };
    }
    let (url, beside) = match scheme {
        "query" => (format!("{url}?{}={secret}", verify.name.as_deref().unwrap_or("token")), None),
        "path" => (format!("{url}/{secret}"), None),
        "header" => {
            let header = verify.header.as_deref().unwrap_or("Authorization");
            let prefix = verify.prefix.as_deref().unwrap_or_default();
            (url, Some(format!("header {header}: {prefix}{secret}")))
        }
        "bearer" => (url, Some(format!("header Authorization: Bearer {secret}"))),
        _ if source.preset.is_secret_theirs() => (url, None),
        _ => (url, Some(format!("secret {secret}"))),
    };
    Proof { url, beside }
}

/// The first part of the preset's own words: where to click.
fn guide(source: &Chosen, public_url: Option<&str>) -> String {
    let guide = source.preset.guide().split("\n\n").next().unwrap_or_default();
    let host = public_url.unwrap_or(SOME_HOST);
    let here = format!("/in/{}", source.name);
    // A secret that is part of the address is pasted with it, wherever the address stands.
    let is_in_url = proof(source, None).url.contains(&source.secret);
    let secret = if is_in_url { source.secret.as_str() } else { "<the secret>" };
    guide
        .replace("<the\nsecret>", "<the secret>")
        .replace("<the secret>", secret)
        .replace("https://<this host>", host)
        .replace(&format!("/in/{}", platform_of(source.preset.name)), &here)
        .replace("/in/<the source's name>", &here)
        .trim()
        .to_owned()
}
