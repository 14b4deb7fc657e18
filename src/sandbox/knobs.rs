//! The points of the API that nobody could find out, as switches.
//!
//! Each member is one open point of the vendor's documentation; the default is what seems likeliest, or the
//! stricter of two when both were seen. A client that is right works with every setting.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is switchable; `Knobs::default()` is the account that tests and the demo meet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// What `GET /tickets?email=` answers for an address nobody has.
    pub unknown_requester_filter: UnknownRequester,
    /// Whether rows of the ticket list carry `tags`.
    pub list_includes_tags: bool,
    /// What becomes of a ticket whose requester is blocked or deleted.
    pub blocked_requester: BlockedRequester,
    /// Seconds until a new ticket is seen by the list.
    pub list_delay_s: u64,
    /// Seconds until a new ticket is seen by the search ("a few minutes").
    pub search_delay_s: u64,
    /// What becomes of characters outside the basic plane (emoji).
    pub four_byte: FourByte,
    /// Longest description in characters; 0 is no limit.
    pub description_limit: usize,
    /// Longest subject in characters.
    pub subject_limit: usize,
    /// Longest tag in characters.
    pub tag_limit: usize,
    /// Most tags of one ticket.
    pub tags_max: usize,
    /// Whether a tag may contain a comma.
    pub tags_allow_comma: bool,
    /// All attachments of a ticket with its notes and replies together (20 MB; older accounts 15 MB).
    pub attachment_limit_bytes: u64,
    /// Whether `GET /contacts?unique_external_id=` exists (undocumented, in wide use).
    pub contacts_filter_unique_external_id: bool,
    /// Whether a PUT that does not touch a required field fails when the ticket lacks it.
    pub enforce_required_on_update: bool,
    /// How answers are framed.
    pub response_mode: ResponseMode,
    /// Whether 406, 415 and unreadable JSON are answered without a body.
    pub bare_media_errors: bool,
    /// Whether a request that got 429 is charged too.
    pub count_rejected_429: bool,
    /// Whether a request that got 401 is charged.
    pub count_unauthorized: bool,
    /// Calls of each minute that other applications of the account use up.
    pub used_by_others: u64,
    /// Which identifier decides when a ticket names several.
    pub identifier_order: Vec<String>,
    /// Whether `description_text` and `body_text` lose line ends and repeated spaces.
    pub text_collapses_whitespace: bool,
    /// Whether the key belongs to an administrator; else `/groups` and the like answer 403.
    pub admin_key: bool,
    /// Whether `GET /tickets/{id}` of a deleted ticket answers 403 instead of showing it.
    pub deleted_ticket_forbidden: bool,
    /// Tickets the sandbox holds at most, because they live in memory.
    pub tickets_max: usize,
}

impl Default for Knobs {
    fn default() -> Knobs {
        let order = ["requester_id", "email", "unique_external_id", "phone", "twitter_id"];
        Knobs {
            unknown_requester_filter: UnknownRequester::Error,
            list_includes_tags: true,
            blocked_requester: BlockedRequester::Spam,
            list_delay_s: 0,
            search_delay_s: 180,
            four_byte: FourByte::Keep,
            description_limit: 0,
            subject_limit: 255,
            tag_limit: 32,
            tags_max: 30,
            tags_allow_comma: false,
            attachment_limit_bytes: 20 * 1024 * 1024,
            contacts_filter_unique_external_id: true,
            enforce_required_on_update: true,
            response_mode: ResponseMode::Chunked,
            bare_media_errors: false,
            count_rejected_429: false,
            count_unauthorized: true,
            used_by_others: 0,
            identifier_order: order.map(str::to_owned).to_vec(),
            text_collapses_whitespace: true,
            admin_key: true,
            deleted_ticket_forbidden: false,
            tickets_max: 100_000,
        }
    }
}

impl Knobs {
    /// These knobs with the members of `changes` set; the error is one line for the admin.
    pub fn changed(&self, changes: &Map<String, Value>) -> Result<Knobs, String> {
        let mut all = serde_json::to_value(self).expect("knobs are plain data");
        let members = all.as_object_mut().expect("knobs are a struct");
        for (name, value) in changes {
            members.insert(name.clone(), value.clone());
        }
        serde_json::from_value(all).map_err(|error| error.to_string())
    }
}

/// What a list filtered by an unknown requester answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownRequester {
    /// 400 `invalid_value`, "There is no contact matching the given email".
    Error,
    /// 200 and an empty list.
    Empty,
}

/// What becomes of a blocked requester's ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockedRequester {
    /// It is created and marked as spam.
    Spam,
    /// 400 `invalid_value`.
    Reject,
}

/// What becomes of characters that take four bytes in UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FourByte {
    /// They are stored.
    Keep,
    /// They become question marks.
    Replace,
    /// 400 `invalid_value`.
    Reject,
}

/// How an answer says where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseMode {
    /// `Transfer-Encoding: chunked`, as seen on the real service.
    Chunked,
    /// `Content-Length`.
    Length,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_touch_only_what_they_name() {
        let changes = json!({"list_delay_s": 7, "blocked_requester": "reject"});
        let changed = Knobs::default().changed(changes.as_object().unwrap()).unwrap();
        let expect =
            Knobs { list_delay_s: 7, blocked_requester: BlockedRequester::Reject, ..Knobs::default() };
        assert_eq!(changed, expect);
    }

    #[test]
    fn an_unknown_knob_is_named() {
        let changes = json!({"list_delay": 7});
        let error = Knobs::default().changed(changes.as_object().unwrap()).unwrap_err();
        assert!(error.contains("list_delay") && error.contains("list_delay_s"), "{error}");
    }
}
