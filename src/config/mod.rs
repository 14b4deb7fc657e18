//! The configuration: read from its files, checked as a whole, typed.
//!
//! It owns `deskspool.toml` and `conf.d/*.toml`, the secrets they refer to, and every message about
//! them. It stands before the road of an event: all rooms get what they need from [`Config`].
//!
//! **Invariants:** reading has no side effect. All findings come at once, each with its file, line and
//! caret; one error refuses the whole configuration, so a daemon keeps the one it has. No secret is
//! ever shown.

pub mod alert;
pub mod check;
pub mod diff;
pub mod files;
pub mod finding;
mod load;
mod mask;
pub mod page;
mod schema;
pub mod secrets;
pub mod tables;
pub mod units;
mod written;

pub use alert::AlertConfig;
pub use diff::{Diff, diff};
pub use finding::{Excerpt, Finding, Place, Severity};
pub use load::{Loaded, Problem, SourceReport, is_source_name, load, load_with};
pub use page::StatusPageConfig;
pub use secrets::{Secret, Surroundings};
pub use tables::{AfterDead, BackoffConfig, DeliveryConfig, FreshdeskConfig, ServerConfig, SpoolConfig};
pub use written::{WrittenKey, written_for_freshdesk, written_keys};

use crate::source::table::{SourceTable, TicketTable};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A whole configuration, with defaults where the admin was silent.
#[derive(Clone, Debug)]
pub struct Config {
    /// The main file.
    pub path: PathBuf,
    /// All files that were read, the main one first.
    pub files: Vec<PathBuf>,
    /// `[freshdesk]`.
    pub freshdesk: FreshdeskConfig,
    /// `[server]`.
    pub server: ServerConfig,
    /// `[spool]`.
    pub spool: SpoolConfig,
    /// `[delivery]`.
    pub delivery: DeliveryConfig,
    /// `[alert]`.
    pub alert: AlertConfig,
    /// `[status_page]`.
    pub status_page: StatusPageConfig,
    /// `[ticket]`: what every ticket gets unless its source says otherwise.
    pub ticket: TicketTable,
    /// `[source.x]`, in the order of the files.
    pub sources: Vec<SourceConfig>,
    /// Every key that is set, as written; holds inline secrets, so it is not for showing.
    written: Written,
}

/// One `[source.x]`.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// `x`, which is also the path it is posted to: `/in/x`.
    pub name: String,
    /// As the admin wrote it; its spans are places in the configuration's files.
    pub table: SourceTable,
    /// The file its first key is in.
    pub origin: PathBuf,
    /// What the platform may know; two during a rotation.
    pub secrets: Vec<Secret>,
    /// What the platform asks with before it posts.
    pub verify_tokens: Vec<Secret>,
}

/// Every key that is set, with its value as written.
#[derive(Clone, Default, PartialEq)]
struct Written(BTreeMap<String, String>);

impl std::fmt::Debug for Written {
    /// Only how many: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

/// The spool's directory as the main file names it, for finding the control socket; faults of the file are
/// `check`'s business. None when the file cannot be read.
pub fn spool_directory(path: &std::path::Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(path).ok()?;
    let root: toml::Table = text.parse().ok()?;
    let named = root.get("spool").and_then(|spool| spool.get("dir")).and_then(|dir| dir.as_str());
    Some(named.map_or_else(|| SpoolConfig::default().dir, PathBuf::from))
}
