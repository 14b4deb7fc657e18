//! Freshdesk's error bodies in our words: `freshdesk 400: phone is invalid (requester.phone)`. A code that has no words
//! of ours is told itself.
//!
//! **Invariant:** only names of fields and codes are taken from the answer, and only when they look like
//! names. Freshdesk's `message` is never read: it quotes customers ("no contact matching ana@example.com").

use super::answer::Subject;
use serde_json::Value;

/// More than these are counted, not listed.
const LISTED_MAX: usize = 3;
/// What a code means that is not documented.
const REFUSED: &str = "was refused";

/// One line for a body with `errors` or a `code`, or with nothing useful.
pub(super) fn explain(status: u16, body: Option<&Value>, subject: Subject) -> String {
    let errors = errors(body);
    let listed: Vec<String> = errors.iter().take(LISTED_MAX).map(|error| error.words(subject)).collect();
    let told = match (listed.is_empty(), code(body)) {
        (false, _) if errors.len() > LISTED_MAX => {
            format!("{}, and {} more", listed.join(", "), errors.len() - LISTED_MAX)
        }
        (false, _) => listed.join(", "),
        (true, Some(code)) => format!("{} ({code})", meaning(&code)),
        (true, None) => without_body(status, subject),
    };
    format!("freshdesk {status}: {told}")
}

/// The `code` of a body like `{"code": "access_denied", "message": "…"}`.
pub(super) fn code(body: Option<&Value>) -> Option<String> {
    name(body?.get("code")?)
}

/// Whether the body complains of an invalid value in `field`, and of nothing else.
pub(super) fn is_invalid_value_of(body: Option<&Value>, field: &str) -> bool {
    complains_only_of(body, field, "invalid_value")
}

/// Whether the body complains of the size of `field`, and of nothing else.
pub(super) fn is_about_size_of(body: Option<&Value>, field: &str) -> bool {
    complains_only_of(body, field, "invalid_size")
}

fn complains_only_of(body: Option<&Value>, field: &str, code: &str) -> bool {
    let errors = errors(body);
    let about_it =
        |error: &FieldError| error.field.as_deref() == Some(field) && error.code.as_deref() == Some(code);
    !errors.is_empty() && errors.iter().all(about_it)
}

/// Fields whose value another record has already, and whose record that is (409).
pub(super) fn duplicates(body: Option<&Value>) -> Vec<(String, Option<u64>)> {
    let listed = body.and_then(|body| body.get("errors")).and_then(Value::as_array);
    let read = |error: &Value| {
        let owner = error.pointer("/additional_info/user_id").and_then(Value::as_u64);
        Some((error.get("field").and_then(name)?, owner))
    };
    listed.into_iter().flatten().filter_map(read).collect()
}

/// What a documented code means, in words that go after a field's name or stand alone.
pub(super) fn meaning(code: &str) -> &'static str {
    match code {
        "missing_field" => "is missing",
        "invalid_value" => "is invalid",
        "duplicate_value" => "is in use already",
        "datatype_mismatch" => "has the wrong type",
        "invalid_field" => "is not a field of this form",
        "invalid_size" => "is too large",
        "readonly_field" => "cannot be set",
        "incompatible_field" => "does not go with the other fields",
        "inaccessible_field" => "may not be set by this agent",
        "no_content_required" => "no content was wanted",
        "invalid_json" => "the request is not JSON",
        "inconsistent_state" => "the record is in another state",
        "invalid_credentials" => "the API key is wrong or belongs to a deactivated agent",
        "access_denied" => "the agent of this API key may not do this",
        "require_feature" => "the account's plan does not include this",
        "account_suspended" => "the account is suspended",
        "ssl_required" => "https is required",
        "max_agents_reached" => "the account has no agent seat left",
        "password_lockout" => "the agent of this API key is locked out",
        "password_expired" => "the agent's password has expired",
        _ => REFUSED,
    }
}

struct FieldError {
    field: Option<String>,
    code: Option<String>,
}

impl FieldError {
    fn words(&self, subject: Subject) -> String {
        let code = self.code.as_deref().unwrap_or("no code");
        let meaning = meaning(code);
        let field = self.field.as_deref().unwrap_or("a field");
        let setting = self.field.as_deref().and_then(|field| setting(field, subject));
        let code = (meaning == REFUSED).then(|| code.to_owned());
        match [setting, code].into_iter().flatten().collect::<Vec<_>>().join(", ") {
            nothing if nothing.is_empty() => format!("{field} {meaning}"),
            more => format!("{field} {meaning} ({more})"),
        }
    }
}

fn errors(body: Option<&Value>) -> Vec<FieldError> {
    let listed = body.and_then(|body| body.get("errors")).and_then(Value::as_array);
    let read = |error: &Value| FieldError {
        field: error.get("field").and_then(name),
        code: error.get("code").and_then(name),
    };
    listed.map(|errors| errors.iter().map(read).collect()).unwrap_or_default()
}

/// `value` when it looks like the name of a field or a code, so that nothing else reaches a log.
fn name(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
    let looks_like_one = text.len() <= 64 && text.starts_with(|c: char| c.is_ascii_alphabetic());
    (looks_like_one && text.chars().all(plain)).then(|| text.to_owned())
}

/// Where the admin sets what Freshdesk calls `field`.
fn setting(field: &str, subject: Subject) -> Option<String> {
    let bare = field.trim_start_matches("custom_fields.");
    match (subject, bare) {
        (Subject::NewTicket, "email" | "phone" | "name") => Some(format!("requester.{bare}")),
        (Subject::NewTicket, "unique_external_id") => Some("requester.external_id".to_owned()),
        (Subject::NewTicket, custom) if custom.starts_with("cf_") => {
            Some(format!("ticket.custom_fields.{custom}"))
        }
        (Subject::NewTicket, other) => Some(format!("ticket.{other}")),
        (Subject::NoteOn(_), "notify_emails") => Some("note.notify".to_owned()),
        (Subject::NoteOn(_), other) => Some(format!("note.{other}")),
        (Subject::Ticket(_), custom) if custom.starts_with("cf_") => {
            Some(format!("update.custom_fields.{custom}"))
        }
        (Subject::Ticket(_), "tags") => Some("update.tags_add".to_owned()),
        (Subject::Ticket(_), other) => Some(format!("update.{other}")),
        (Subject::Contact, "unique_external_id") => Some("contact.external_id".to_owned()),
        (Subject::Contact, "tags") => Some("contact.tags_add".to_owned()),
        (Subject::Contact, other) => Some(match field.strip_prefix("custom_fields.") {
            Some(custom) => format!("contact.custom_fields.{custom}"),
            None => format!("contact.{other}"),
        }),
        (Subject::Account, _) => None,
    }
}

fn without_body(status: u16, subject: Subject) -> String {
    match (status, subject) {
        (405, Subject::NoteOn(ticket) | Subject::Ticket(ticket)) => {
            format!("ticket {ticket} is spam or deleted, set followup.when_closed")
        }
        (405, _) => "the requester's contact is blocked or deleted".to_owned(),
        (406 | 415, _) => "the request's format was refused, which is a bug in deskspool".to_owned(),
        (409, _) => "it conflicts with what is there".to_owned(),
        (413, _) => "it is too large".to_owned(),
        _ => "refused without a reason".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(status: u16, body: Value, subject: Subject, expect: &str) {
        assert_eq!(explain(status, Some(&body), subject), expect);
    }

    #[test]
    fn fields_and_codes_are_told_in_the_words_of_the_configuration() {
        let one = |field: &str, code: &str, expect: &str| {
            let message = "There is no contact matching the given email ana@example.com";
            let error = json!({"field": field, "message": message, "code": code});
            let body = json!({"description": "Validation failed", "errors": [error]});
            check(400, body, Subject::NewTicket, &format!("freshdesk 400: {expect}"));
        };
        one("phone", "invalid_value", "phone is invalid (requester.phone)");
        one(
            "unique_external_id",
            "datatype_mismatch",
            "unique_external_id has the wrong type (requester.external_id)",
        );
        one("type", "missing_field", "type is missing (ticket.type)");
        one("cf_order", "missing_field", "cf_order is missing (ticket.custom_fields.cf_order)");
        one(
            "custom_fields.cf_x",
            "invalid_field",
            "custom_fields.cf_x is not a field of this form (ticket.custom_fields.cf_x)",
        );
        one("subject", "brand_new_code", "subject was refused (ticket.subject, brand_new_code)");
    }

    #[test]
    fn customer_text_in_an_odd_place_is_not_repeated() {
        let odd = json!({"errors": [{"field": "ana@example.com", "code": "call +57 300 111 2233"}]});
        check(400, odd, Subject::NewTicket, "freshdesk 400: a field was refused (no code)");
        check(
            400,
            json!({"code": "Ana Ruiz", "message": "Ana Ruiz"}),
            Subject::NewTicket,
            "freshdesk 400: refused without a reason",
        );
    }

    #[test]
    fn many_errors_are_counted() {
        let errors: Vec<Value> =
            (1..=5).map(|n| json!({"field": format!("cf_{n}"), "code": "missing_field"})).collect();
        check(
            400,
            json!({"errors": errors}),
            Subject::NoteOn(7),
            "freshdesk 400: cf_1 is missing (note.cf_1), cf_2 is missing (note.cf_2), cf_3 is missing (note.cf_3), and 2 more",
        );
    }

    #[test]
    fn bodies_without_fields_are_told_by_code_or_status() {
        check(
            400,
            json!({"code": "invalid_json", "message": "Request body has invalid json format"}),
            Subject::NewTicket,
            "freshdesk 400: the request is not JSON (invalid_json)",
        );
        let empty = |status, subject, expect: &str| assert_eq!(explain(status, None, subject), expect);
        empty(
            405,
            Subject::NoteOn(8812),
            "freshdesk 405: ticket 8812 is spam or deleted, set followup.when_closed",
        );
        empty(405, Subject::NewTicket, "freshdesk 405: the requester's contact is blocked or deleted");
        empty(413, Subject::NoteOn(1), "freshdesk 413: it is too large");
        empty(422, Subject::NewTicket, "freshdesk 422: refused without a reason");
    }

    #[test]
    fn a_complaint_about_one_filter_is_recognised_without_its_text() {
        let check = |errors: Value, expect| {
            assert_eq!(is_invalid_value_of(Some(&json!({ "errors": errors })), "email"), expect);
        };
        let about = |field: &str, code: &str| json!({"field": field, "code": code, "message": "…"});
        check(json!([about("email", "invalid_value")]), true);
        check(json!([about("email", "datatype_mismatch")]), false);
        check(json!([about("email", "invalid_value"), about("updated_since", "invalid_value")]), false);
        check(json!([]), false);
        assert!(!is_invalid_value_of(None, "email"));
    }
}
