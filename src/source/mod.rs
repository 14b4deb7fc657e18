//! A compiled source: one platform's preset with the admin's overlay, ready to say what a request contains
//! ([`Source::events`], at intake) and what becomes of an event in Freshdesk ([`Source::plan`], at delivery).
//!
//! **Invariants:** both are pure (no I/O, no clock, no randomness): the same input gives the same output, so a
//! retry plans the writes that were planned before, and a mended template mends what waits. Platform knowledge
//! is in `presets/*.toml`, in the schema of [`table`]; Rust holds primitives only. No error tells customer text.
//!
//! | module | owns |
//! |---|---|
//! | `table` | the schema of a source, shared with the configuration |
//! | `presets` | the shipped files |
//! | `compile`, `layers`, `problem` | tables to a source, and what is wrong with them |
//! | `entry` | who may post: the tables' schemes, addresses and handshakes |
//! | `template`, `filters`, `facts`, `scan` | the template engine, its limits, its filters, its mistakes |
//! | `find`, `fold` | finders: fields by paths and by synonyms |
//! | `answers` | the questions and answers of forms |
//! | `value`, `html`, `plain`, `words` | JSON, HTML and text as templates and agents need them |
//! | `transcript`, `times` | conversations as agents read them |
//! | `requester`, `phone`, `rating` | who asks, and how content he is |
//! | `event` | requests to event drafts: split, filter, ids, conversation |
//! | `view` | one event as templates see it |
//! | `rule` | which of them becomes what |
//! | `plan`, `fields` | an event to its Freshdesk writes, and what they carry |
//! | `suggest` | what an unknown event probably means, for people |
//! | `explain` | why it becomes what it becomes, for people |

mod answers;
mod compile;
mod entry;
mod event;
mod explain;
mod facts;
mod fields;
mod filters;
mod find;
mod fold;
mod html;
mod layers;
mod phone;
mod plain;
mod plan;
mod presets;
mod problem;
mod rating;
mod requester;
mod rule;
mod scan;
mod suggest;
pub mod table;
mod template;
mod times;
mod transcript;
mod value;
mod view;
mod words;

pub use entry::Credentials;
pub use event::{EVENTS_MAX, EventDraft, RequestContext, Verdict};
pub use explain::{Asked, Empty, Explanation};
pub use plan::MappingError;
pub use presets::{Preset, preset, presets};
pub use problem::{Layer, Origin, Problem, Within};
pub use suggest::{Suggestion, suggest};
pub use view::StoredEvent;
pub use words::ticket_number;

use crate::verify::Verifier;
use answers::Answers;
use compile::{Texts, Windows};
use find::Finders;
use layers::RequesterMap;
use rule::{Effects, Rule};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use template::Engine;

/// A configured sender, compiled by [`Source::compile`].
pub struct Source {
    name: String,
    preset: Option<&'static str>,
    certainty: Option<&'static str>,
    verifier: Verifier,
    country: Option<&'static phone::Country>,
    texts: Texts,
    windows: Windows,
    finders: Arc<Finders>,
    answers: Option<Answers>,
    requester: RequesterMap,
    fallback: Option<RequesterMap>,
    effects: Effects,
    rules: Vec<Rule>,
    origins: BTreeMap<String, Origin>,
    engine: Engine,
}

/// Configured senders by name.
pub type Sources = BTreeMap<String, Arc<Source>>;

impl Source {
    /// Its name in the configuration and in its URL.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The preset it builds on, with its version.
    pub fn preset(&self) -> Option<&'static str> {
        self.preset
    }

    /// How sure the preset's field names are: `documented`, `seen` or `draft`.
    pub fn certainty(&self) -> Option<&'static str> {
        self.certainty
    }

    /// Who may post.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Does any rule choose between events? Without one, every event becomes a ticket or a note.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty() || self.texts.keep_if.is_some()
    }

    /// Where each effective key was written: `ticket.subject`, `keep_if`, `find` excepted.
    pub fn origins(&self) -> &BTreeMap<String, Origin> {
        &self.origins
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("preset", &self.preset)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
