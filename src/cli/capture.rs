//! `deskspool capture SOURCE`: waits for a real request, saves it, lists what is in it and suggests a mapping.

use super::render::{Screen, bytes, one_line};
use super::{FINE, Failure, Global, Outcome};
use crate::capture::Captured;
use crate::trial::request::{CAPTURED_HEADER, TrialRequest};
use crate::trial::suggestion;
use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one question waits before it is asked anew; the daemon keeps what comes in between.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Files of one source in one directory.
const FILES_MAX: u32 = 100_000;
/// Members that are listed.
const LISTED_MAX: usize = 60;

/// `deskspool capture`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct CaptureArgs {
    /// The source whose next request is wanted
    source: String,
    /// Requests to wait for
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Where they are saved
    #[arg(long, value_name = "DIR", default_value = ".")]
    directory: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  deskspool capture contako                    then send one from the platform
  deskspool capture contako --count 3          three, each in a file of its own
  deskspool try contako ./contako-1.http       what becomes of what was captured

The file has mode 0600 and holds customer data; secrets in headers and URL are hidden in it. A refused request
is captured too, and its event is not kept. What is accepted is delivered as always.
--json: {\"file\":…,\"bytes\":…,\"verified\":…,\"found\":{…},\"suggested\":{…}} per request.";

/// Waits, saves, prints.
pub fn run(global: &Global, args: &CaptureArgs, screen: &mut Screen) -> Outcome {
    let daemon = global.daemon();
    let name = format!("{}", std::process::id());
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("source", &args.source).append_pair("as", &name);
    let target = format!("/capture?{}", query.finish());
    if !global.quiet {
        eprintln!("Waiting for a POST to /in/{} …  (send one from the platform; Ctrl-C stops)", args.source);
    }
    for _ in 0..args.count {
        let answer = loop {
            if let Some(answer) = daemon.wait(&target, ASK_AGAIN_AFTER)? {
                break answer;
            }
        };
        let captured: Captured = serde_json::from_str(&answer)?;
        one(global, args, &captured, screen)?;
    }
    // It would be forgotten by itself, only later.
    let _ = daemon.delete(&format!("/capture?as={name}"));
    Ok(FINE)
}

fn one(global: &Global, args: &CaptureArgs, captured: &Captured, screen: &mut Screen) -> Result<(), Failure> {
    let body = BASE64_STANDARD.decode(&captured.body).context("the daemon's answer is not understood")?;
    let file = raw(captured, &body);
    let path = save(&args.directory, &captured.source, &file)?;
    let found = suggestion(&TrialRequest::parse(&file));
    if global.json {
        let pairs = |pairs: &[(String, String)]| -> serde_json::Map<String, serde_json::Value> {
            pairs.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect()
        };
        let (leaves, lines) = found.as_ref().map(|(_, one)| (pairs(&one.leaves), pairs(&one.lines))).unzip();
        let object = serde_json::json!({
            "file": path.display().to_string(),
            "bytes": body.len(),
            "verified": captured.verified,
            "found": leaves,
            "suggested": lines,
        });
        screen.line(&object.to_string())?;
        return Ok(());
    }
    screen.line(&format!(
        "got 1 request, {}, saved to {} (contains customer data)",
        bytes(body.len() as u64),
        path.display()
    ))?;
    if captured.verified != "ok" {
        screen.line(&format!("refused  {}; its event is not kept", captured.verified))?;
    }
    let Some((count, found)) = found else {
        screen.line("found    nothing: the body is neither JSON nor a form")?;
        return Ok(());
    };
    if count > 1 {
        screen.line(&format!("events   {count}, of which this is the first:"))?;
    }
    screen.print(&members(&found.leaves))?;
    screen.print(&suggested(&captured.source, &found.found, &found.lines))?;
    screen.line(&format!("what becomes of it: deskspool try {} {}", captured.source, path.display()))?;
    Ok(())
}

/// The request as a `.http` file.
fn raw(captured: &Captured, body: &[u8]) -> Vec<u8> {
    let mut head = format!("POST {} HTTP/1.1\r\n", captured.target);
    let framing = ["content-length", "transfer-encoding", "connection"];
    for (name, value) in &captured.headers {
        if !framing.contains(&name.to_ascii_lowercase().as_str()) && !name.starts_with("X-Deskspool-") {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    let _ =
        write!(head, "{CAPTURED_HEADER}: {}\r\nContent-Length: {}\r\n\r\n", captured.verified, body.len());
    [head.as_bytes(), body].concat()
}

/// Writes `contako-1.http`, or the next number that is free; for nobody else to read.
fn save(directory: &Path, source: &str, file: &[u8]) -> Result<PathBuf, Failure> {
    for number in 1..=FILES_MAX {
        let path = directory.join(format!("{source}-{number}.http"));
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match opened {
            Ok(mut opened) => {
                opened.write_all(file).with_context(|| path.display().to_string())?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(anyhow::Error::new(error).context(path.display().to_string()).into()),
        }
    }
    Err(anyhow::anyhow!("{} is full of {source}-N.http", directory.display()).into())
}

/// `found    message_id "m1"   chat_id "k1"`, as many on a line as fit.
fn members(leaves: &[(String, String)]) -> String {
    let mut text = String::new();
    let mut line = String::new();
    for (path, value) in leaves.iter().take(LISTED_MAX) {
        let member = format!("{} {}", one_line(path, 60), one_line(value, 40));
        if !line.is_empty() && line.chars().count() + member.chars().count() > 100 {
            let _ = writeln!(text, "{:<8} {line}", if text.is_empty() { "found" } else { "" });
            line.clear();
        }
        if !line.is_empty() {
            line.push_str("   ");
        }
        line.push_str(&member);
    }
    let _ = writeln!(text, "{:<8} {line}", if text.is_empty() { "found" } else { "" });
    if leaves.len() > LISTED_MAX {
        let _ = writeln!(text, "         … {} more", leaves.len() - LISTED_MAX);
    }
    text
}

fn suggested(source: &str, found: &[(String, String)], lines: &[(String, String)]) -> String {
    let mut text = String::new();
    let by_itself: Vec<String> = found.iter().map(|(name, path)| format!("{name} in {path}")).collect();
    if !by_itself.is_empty() {
        let _ = writeln!(text, "found by itself: {}", by_itself.join(", "));
    }
    if lines.is_empty() {
        return text;
    }
    let _ = writeln!(text, "try this in [source.{source}]:");
    let width = lines.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
    for (key, value) in lines {
        let _ = writeln!(text, "  {key:width$} = {value}");
    }
    text
}
