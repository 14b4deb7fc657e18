//! Cases on disk, and the admin's table of each.
//!
//! A case of the corpus is `tests/corpus/<platform>/<case>.http` with its `.expect.json`; its golden, if it has one, is
//! in `tests/presets/<platform>/<case>/`. Cases of our own are there altogether.

// Two tests include this; each leaves something of it unused.
#![allow(dead_code)]

pub mod compare;
pub mod golden;
pub mod world;

use serde_json::Value;
use std::path::{Path, PathBuf};

/// The requester that stands in where a case expects the configured fallback.
pub const FALLBACK_EMAIL: &str = "nobody@acme.example";

pub struct Case {
    /// `generic/flat-minimal`.
    pub name: String,
    pub platform: String,
    /// Where its golden and its table are.
    pub dir: PathBuf,
    pub is_corpus: bool,
    pub expect: Value,
    /// The bytes as they were sent.
    pub raw: Vec<u8>,
    pub request: Request,
    /// It, or one before it, expects the configured fallback.
    pub has_fallback: bool,
}

/// A request as intake would see it.
pub struct Request {
    pub kind: String,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Case {
    /// All cases of the project, in order.
    pub fn all() -> Vec<Case> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (corpus, goldens) = (root.join("tests/corpus"), root.join("tests/presets"));
        let mut cases = Vec::new();
        for platform in entries(&corpus, Path::is_dir) {
            let is_request = |path: &Path| path.extension().is_some_and(|extension| extension == "http");
            for request in entries(&platform, is_request) {
                let dir = goldens.join(name_of(&platform)).join(request.file_stem().expect("it has a name"));
                cases.push(Case::read(dir, (&request, &request.with_extension("expect.json")), true));
            }
        }
        for platform in entries(&goldens, Path::is_dir) {
            let is_whole = |path: &Path| path.join("request.http").exists();
            for dir in entries(&platform, is_whole) {
                let files = (dir.join("request.http"), dir.join("expect.json"));
                cases.push(Case::read(dir, (&files.0, &files.1), false));
            }
        }
        let names = |case: &Case| -> Vec<String> {
            case.before(&cases).iter().map(|before| before.name.clone()).chain([case.name.clone()]).collect()
        };
        let expects = |name: &String| {
            let case = cases.iter().find(|case| case.name == *name);
            case.is_some_and(|case| case.expect.to_string().contains("\"fallback\":true"))
        };
        let fallbacks: Vec<bool> = cases.iter().map(|case| names(case).iter().any(expects)).collect();
        for (case, has_fallback) in cases.iter_mut().zip(fallbacks) {
            case.has_fallback = has_fallback;
        }
        cases
    }

    fn read(dir: PathBuf, (request, expect): (&Path, &Path), is_corpus: bool) -> Case {
        let text = |path: &Path| {
            std::fs::read(path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
        };
        let platform = name_of(dir.parent().expect("cases are below platforms"));
        let raw = text(request);
        let expect = serde_json::from_slice(&text(expect));
        Case {
            name: format!("{platform}/{}", name_of(&dir)),
            platform,
            dir,
            is_corpus,
            expect: expect.unwrap_or_else(|error| panic!("{}: {error}", request.display())),
            request: Request::parse(&raw),
            raw,
            has_fallback: false,
        }
    }

    /// The cases that are posted before this one, in order.
    pub fn before<'a>(&self, cases: &'a [Case]) -> Vec<&'a Case> {
        let names = self.expect["after"].as_array().into_iter().flatten();
        let find = |name: &Value| {
            let name = format!("{}/{}", self.platform, name.as_str().expect("after lists names"));
            cases.iter().find(|other| other.name == name).expect("after names a case")
        };
        names.map(find).collect()
    }

    /// The admin's table: the preset, who may post as the case says, the fallback where one is expected.
    pub fn table(&self) -> String {
        if let Ok(table) = std::fs::read_to_string(self.dir.join("source.toml")) {
            return table;
        }
        let mut table = format!("preset = \"{}@1\"\n", preset_of(&self.platform));
        let config = &self.expect["config"];
        let auth = &config["auth"];
        let text = |name: &str| auth[name].as_str().unwrap_or_default();
        table += &match text("type") {
            "" => "verify = { scheme = \"none\", insecure = true }\n".to_owned(),
            "query" => format!("verify = {{ scheme = \"query\", name = \"{}\" }}\n", text("param")),
            "basic" => format!("verify = {{ scheme = \"basic\", user = \"{}\" }}\n", text("user")),
            scheme => {
                let keys = ["header", "prefix", "signed"].map(|key| (key, text(key)));
                let keys = keys.iter().filter(|(_, value)| !value.is_empty());
                let keys: String = keys.map(|(key, value)| format!(", {key} = {value:?}")).collect();
                let tolerance = auth["tolerance_s"].as_u64();
                let tolerance =
                    tolerance.map(|seconds| format!(", tolerance = \"{seconds}s\"")).unwrap_or_default();
                format!("verify = {{ scheme = \"{scheme}\"{keys}{tolerance} }}\n")
            }
        };
        if let Some(token) = config["verify_token"].as_str() {
            table += &format!("verify_token = {token:?}\n");
        }
        if self.has_fallback {
            table += &format!("fallback_requester = {{ name = \"Nobody\", email = \"{FALLBACK_EMAIL}\" }}\n");
        }
        table
    }

    pub fn secret(&self) -> Option<&str> {
        self.expect["config"]["auth"]["secret"].as_str()
    }

    /// The time at which it was sent, in seconds since 1970, when it matters.
    pub fn clock(&self) -> Option<u64> {
        self.expect["config"]["clock"].as_u64()
    }

    /// What platforms call, without the path, when the signature covers it.
    pub fn public_url(&self) -> Option<&str> {
        let url = self.expect["config"]["auth"]["public_url"].as_str()?;
        Some(url.split("/in/").next().unwrap_or(url))
    }

    /// How long after the ones before it.
    pub fn delay_seconds(&self) -> Option<u64> {
        self.expect["delay_s"].as_u64()
    }
}

/// The corpus calls platforms by one word.
fn preset_of(platform: &str) -> &str {
    match platform {
        "htmlform" => "html-form",
        "standardwebhooks" => "standard-webhooks",
        "gforms" => "google-forms",
        same => same,
    }
}

impl Request {
    fn parse(bytes: &[u8]) -> Request {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a request has a head");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let target =
            lines.next().and_then(|line| line.split(' ').nth(1)).expect("a request has a target").to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let headers = lines.filter_map(|line| line.split_once(':'));
        Request {
            kind: path.split('/').nth(3).unwrap_or_default().to_owned(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect(),
            body: bytes[end + 4..].to_vec(),
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().expect("it has a name").to_string_lossy().into_owned()
}

fn entries(path: &Path, is_wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).expect("the directory of cases is there");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("entries can be read").path())
        .filter(|path| is_wanted(path))
        .collect();
    found.sort();
    found
}
