//! What the sandbox answers: statuses, headers, and the vendor's shapes of an error.
//!
//! **Invariant:** the shapes are the documented ones: `{"description","errors":[{"field","message","code"}]}` for
//! 400 and 409, `{"code","message"}` for 401, 403 and some 400 and 500, `{"message"}` for 405 and 429, nothing
//! at all for 404.

use serde_json::{Map, Value, json};

/// One answer, before it is framed.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Headers beside the framing and the content type.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Absent for an empty body.
    pub(crate) content_type: Option<&'static str>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// The content type of every API answer with a body.
pub(crate) const JSON: &str = "application/json; charset=utf-8";
/// The content type of pages and of what edges answer.
pub(crate) const HTML: &str = "text/html; charset=utf-8";

impl Answer {
    pub(crate) fn json(status: u16, value: &Value) -> Answer {
        Answer { status, headers: Vec::new(), content_type: Some(JSON), body: value.to_string().into_bytes() }
    }

    pub(crate) fn html(status: u16, page: String) -> Answer {
        Answer { status, headers: Vec::new(), content_type: Some(HTML), body: page.into_bytes() }
    }

    pub(crate) fn empty(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), content_type: None, body: Vec::new() }
    }

    /// `{"code":…,"message":…}`.
    pub(crate) fn coded(status: u16, code: &str, message: &str) -> Answer {
        Answer::json(status, &json!({"code": code, "message": message}))
    }

    /// `{"message":…}`.
    pub(crate) fn message(status: u16, message: &str) -> Answer {
        Answer::json(status, &json!({"message": message}))
    }

    /// What a balancer in front of the service answers.
    pub(crate) fn edge(status: u16) -> Answer {
        let reason = reason(status);
        let page = format!(
            "<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n\
             <center><h1>{status} {reason}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        );
        Answer::html(status, page)
    }

    pub(crate) fn unauthorized() -> Answer {
        let text = "You have to be logged in to perform this action.";
        Answer::coded(401, "invalid_credentials", text)
    }

    pub(crate) fn internal_error() -> Answer {
        Answer::coded(500, "internal_error", "We're sorry, but something went wrong.")
    }

    pub(crate) fn method_not_allowed(method: &str, allowed: &[&str]) -> Answer {
        let list = allowed.join(",");
        let text = format!("{method} method is not allowed. It should be one of these method(s): {list}");
        Answer::message(405, &text).with("Allow", allowed.join(", "))
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }
}

/// One entry of `errors`.
#[derive(Debug)]
struct FieldError {
    field: String,
    message: String,
    code: &'static str,
    user_id: Option<u64>,
}

/// All that is wrong with one request; Freshdesk reports it together.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<FieldError>);

impl Errors {
    pub(crate) fn add(&mut self, field: &str, code: &'static str, message: impl Into<String>) {
        self.0.push(FieldError { field: field.to_owned(), message: message.into(), code, user_id: None });
    }

    /// A value that belongs to the contact or agent `user_id` already.
    pub(crate) fn add_duplicate(&mut self, field: &str, user_id: u64) {
        let message = "It should be a unique value".to_owned();
        let code = "duplicate_value";
        self.0.push(FieldError { field: field.to_owned(), message, code, user_id: Some(user_id) });
    }

    pub(crate) fn add_unexpected(&mut self, field: &str) {
        self.add(field, "invalid_field", "Unexpected/invalid field in request");
    }

    pub(crate) fn has(&self, field: &str) -> bool {
        self.0.iter().any(|error| error.field == field)
    }

    /// Nothing wrong, or the answer with `status` (400, or 409 for duplicates).
    pub(crate) fn finish(self, status: u16) -> Result<(), Answer> {
        if self.0.is_empty() {
            return Ok(());
        }
        let errors: Vec<Value> = self.0.into_iter().map(FieldError::into_json).collect();
        Err(Answer::json(status, &json!({"description": "Validation failed", "errors": errors})))
    }
}

impl FieldError {
    fn into_json(self) -> Value {
        let mut error = Map::new();
        error.insert("field".to_owned(), self.field.into());
        if let Some(id) = self.user_id {
            error.insert("additional_info".to_owned(), json!({"user_id": id}));
        }
        error.insert("message".to_owned(), self.message.into());
        error.insert("code".to_owned(), self.code.into());
        Value::Object(error)
    }
}

/// One field, one error: the answer to it.
pub(crate) fn invalid(field: &str, code: &'static str, message: &str) -> Answer {
    let mut errors = Errors::default();
    errors.add(field, code, message);
    errors.finish(400).expect_err("one error was added")
}

/// The words of a status line.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}
