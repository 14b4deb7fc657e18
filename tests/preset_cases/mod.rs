//! A case on disk, and its admin's table.

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
    pub dir: PathBuf,
    pub expect: Value,
    pub request: Request,
}

/// A request as intake would see it.
pub struct Request {
    pub kind: String,
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Case {
    /// All cases below `root`, in order.
    pub fn all(root: &Path) -> Vec<Case> {
        let mut cases = Vec::new();
        for platform in directories(root) {
            cases.extend(directories(&platform).iter().map(|dir| Case::read(dir)));
        }
        assert!(!cases.is_empty(), "no cases below {}", root.display());
        cases
    }

    fn read(dir: &Path) -> Case {
        let expect = std::fs::read_to_string(dir.join("expect.json")).expect("a case has expect.json");
        let part = |path: &Path| path.file_name().expect("cases have names").to_string_lossy().into_owned();
        let platform = part(dir.parent().expect("cases are below platforms"));
        Case {
            name: format!("{platform}/{}", part(dir)),
            platform,
            dir: dir.to_owned(),
            expect: serde_json::from_str(&expect).expect("expect.json is JSON"),
            request: Request::parse(
                &std::fs::read(dir.join("request.http")).expect("a case has request.http"),
            ),
        }
    }

    /// The admin's table: the preset, who may post as the case says, the fallback where one is expected.
    pub fn table(&self) -> String {
        if let Ok(table) = std::fs::read_to_string(self.dir.join("source.toml")) {
            return table;
        }
        let mut table = format!("preset = \"{}@1\"\n", self.platform);
        let auth = &self.expect["config"]["auth"];
        let text = |name: &str| auth[name].as_str().unwrap_or_default();
        table += &match text("type") {
            "" => "verify = { scheme = \"none\" }\n".to_owned(),
            "query" => format!("verify = {{ scheme = \"query\", name = \"{}\" }}\n", text("param")),
            "basic" => format!("verify = {{ scheme = \"basic\", user = \"{}\" }}\n", text("user")),
            "bearer" => "verify = { scheme = \"bearer\" }\n".to_owned(),
            scheme => format!(
                "verify = {{ scheme = \"{scheme}\", header = \"{}\", prefix = \"{}\" }}\n",
                text("header"),
                text("prefix")
            ),
        };
        if self.expect.to_string().contains("\"fallback\":true") {
            table += &format!("fallback_requester = {{ name = \"Nobody\", email = \"{FALLBACK_EMAIL}\" }}\n");
        }
        table
    }

    pub fn secret(&self) -> Option<&str> {
        self.expect["config"]["auth"]["secret"].as_str()
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

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).expect("the directory of cases is there");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("entries can be read").path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}
