//! What peers are told, and how it is sent: one text for each answer, nothing of theirs but a challenge.

use crate::decode::DecodeError;
use tiny_http::{Header, Request, Response};

/// What a platform is told when it should come again, in seconds.
const RETRY_AFTER_FULL: &str = "60";
const RETRY_AFTER_STOPPING: &str = "10";

/// What a peer is told. One body for all that was taken: a platform must not learn more.
pub(super) struct Reply {
    pub(super) status: u16,
    body: &'static str,
    content_type: &'static str,
    header: Option<(&'static str, &'static str)>,
}

pub(super) const TAKEN: Reply = Reply::json(200, "{\"ok\":true}");
/// For platforms that take a body for something to do.
pub(super) const NOTHING: Reply = Reply::text(200, "");
pub(super) const HELLO: Reply = Reply::text(200, "deskspool: POST events here\n");
pub(super) const PONG: Reply = Reply::text(204, "");
pub(super) const UNAUTHORIZED: Reply = Reply::text(401, "unauthorized\n");
pub(super) const UNKNOWN: Reply = Reply::text(404, "not found\n");
pub(super) const NOT_ALLOWED: Reply = Reply::text(405, "POST events here\n").with("Allow", "POST, GET, HEAD");
pub(super) const FORBIDDEN: Reply = Reply::text(403, "forbidden\n");
pub(super) const TOO_LARGE: Reply = Reply::text(413, "the body is too large\n");
pub(super) const BAD_CODING: Reply = Reply::text(415, "send it plain, or as gzip or deflate\n");
pub(super) const DAMAGED: Reply = Reply::text(400, "the compressed body is broken\n");
pub(super) const CUT_SHORT: Reply = Reply::text(400, "the body was cut short\n");
pub(super) const BROKEN: Reply = Reply::text(503, "try again later\n").with("Retry-After", RETRY_AFTER_FULL);
pub(super) const PAUSED: Reply = Reply::text(503, "try again later\n").with("Retry-After", RETRY_AFTER_FULL);
pub(super) const STOPPING: Reply = Reply::text(503, "restarting\n").with("Retry-After", RETRY_AFTER_STOPPING);

impl Reply {
    const fn text(status: u16, body: &'static str) -> Reply {
        Reply { status, body, content_type: "text/plain; charset=utf-8", header: None }
    }

    const fn json(status: u16, body: &'static str) -> Reply {
        Reply { status, body, content_type: "application/json", header: None }
    }

    const fn with(self, name: &'static str, value: &'static str) -> Reply {
        Reply { header: Some((name, value)), ..self }
    }
}

/// What a platform is told of what is kept, understood or not. 200 where sending the same again would change
/// nothing; what can be sent in another way, or whole, is asked for.
pub(super) fn answer_to(error: Option<&DecodeError>) -> &'static Reply {
    match error {
        Some(DecodeError::UnknownCoding) => &BAD_CODING,
        Some(DecodeError::Damaged(_)) => &DAMAGED,
        _ => &TAKEN,
    }
}

pub(super) fn reply(request: Request, reply: &Reply) {
    let content_type = [("Content-Type", reply.content_type)].into_iter().filter(|_| !reply.body.is_empty());
    respond(request, (reply.status, reply.body), content_type.chain(reply.header));
}

/// 200 with a text that somebody else chose: no browser may take it for anything but text.
pub(super) fn reply_text(request: Request, text: &str) {
    let headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")];
    respond(request, (200, text), headers.into_iter());
}

fn respond(
    request: Request,
    (status, body): (u16, &str),
    headers: impl Iterator<Item = (&'static str, &'static str)>,
) {
    let mut response = Response::from_string(body).with_status_code(status);
    for (name, value) in headers {
        response.add_header(Header::from_bytes(name, value).expect("our own headers are well formed"));
    }
    if let Err(error) = request.respond(response) {
        log::debug!("answer not sent error={error}");
    }
}
