//! What the page may change: retry and drop, when `status_page.actions` is on.
//!
//! **Invariant:** nothing changes without the password and a token that only our own pages show; a page of somebody
//! else has neither, and browsers tell us when one tries.

use super::html::escape;
use super::{Page, Refusal, text, typed};
use crate::control::view::Row;
use crate::spool::{Change, Id, Touched};
use crate::status::listener::{Answer, Asked};
use base64::Engine;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

/// What only pages of this process know.
pub(super) struct Token(String);

impl Token {
    /// A new one. Where chance cannot be had, nobody will ever know it.
    pub fn random() -> Token {
        let mut bytes = [0; 16];
        match SystemRandom::new().fill(&mut bytes) {
            Ok(()) => Token(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
            Err(_) => Token(String::new()),
        }
    }

    fn is(&self, text: &str) -> bool {
        !self.0.is_empty() && bool::from(self.0.as_bytes().ct_eq(text.as_bytes()))
    }
}

/// Asks the browser for the password.
pub(super) fn who_are_you() -> Answer {
    let mut answer = text(401, "the password of status_page.password, with any name\n");
    answer.headers.push(("WWW-Authenticate", "Basic realm=\"deskspool\", charset=\"UTF-8\"".to_owned()));
    answer
}

impl Page {
    /// Whether there are buttons.
    pub(super) fn may_act(&self) -> bool {
        (self.asks.password)().is_some()
    }

    /// Whether whoever asks knows the password.
    pub(super) fn is_admin(&self, asked: &Asked) -> bool {
        let Some(expected) = (self.asks.password)().filter(|password| !password.is_empty()) else {
            return false;
        };
        let Some(header) = asked.header("Authorization") else { return false };
        let is_admin = given_password(header).is_some_and(|given| same(&given, &expected));
        if !is_admin {
            log::warn!("status page: wrong password");
        }
        is_admin
    }

    /// `POST /act` with `token`, `do` and `id`.
    pub(super) fn act(&self, asked: &Asked) -> Result<Answer, Refusal> {
        if !self.may_act() {
            return Ok(text(403, "read-only: status_page.actions is off\n"));
        }
        if !is_of_our_page(asked) {
            return Ok(text(403, "not from this page\n"));
        }
        let form: Vec<(String, String)> = form_urlencoded::parse(&asked.body).into_owned().collect();
        let field =
            |name: &str| form.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value.as_str());
        if !self.token.is(field("token")) {
            return Ok(text(403, "this page is older than the daemon, load it again\n"));
        }
        if !self.is_admin(asked) {
            return Ok(who_are_you());
        }
        let id: Id = field("id").parse().map_err(|_| Refusal::Usage("id: expected a number".to_owned()))?;
        let change = match field("do") {
            "retry" => Change::Retried,
            "drop" => Change::Dropped { at: self.rooms.clock.now() },
            other => return Err(Refusal::Usage(format!("do: there is no {other:?}"))),
        };
        let touched = self.rooms.spool.touch_all(&[id], &change)?;
        self.rooms.spool.nudge();
        log::info!("status page: {} id={id} result={touched:?}", field("do"));
        match touched.first() {
            Some(Touched::InFlight) => Err(Refusal::Conflict(format!("{id} is being sent right now"))),
            Some(Touched::Done) => Ok(back_to(id)),
            Some(Touched::Unknown) | None => Err(Refusal::NotFound),
        }
    }

    /// What may be done with an envelope, as forms; drop only after a second look.
    pub(super) fn buttons(&self, row: &Row) -> String {
        if matches!(row.state.as_str(), "delivered" | "dropped" | "in-flight") {
            return String::new();
        }
        let form = |verb: &str, word: &str| {
            format!(
                "<form method=post action=\"/act\"><input type=hidden name=token value=\"{}\">\
                 <input type=hidden name=id value={}><button name=do value={verb}>{}</button></form>",
                escape(&self.token.0),
                row.id,
                escape(word)
            )
        };
        format!(
            "{}<details><summary>drop…</summary>{}</details>",
            form("retry", "retry"),
            form("drop", &format!("give {} up", row.id))
        )
    }
}

fn back_to(id: Id) -> Answer {
    let mut answer = typed(303, "text/plain; charset=utf-8");
    answer.headers.push(("Location", format!("/envelope/{id}")));
    answer
}

/// Browsers say where a request comes from; what says nothing is no browser.
fn is_of_our_page(asked: &Asked) -> bool {
    let host = asked.header("Host").unwrap_or_default();
    let is_ours = |origin: &str| origin.split_once("://").is_some_and(|(_, authority)| authority == host);
    asked.header("Origin").is_none_or(is_ours)
        && asked.header("Sec-Fetch-Site").is_none_or(|site| matches!(site, "same-origin" | "none"))
}

/// The password of `Basic`, whatever the name.
fn given_password(header: &str) -> Option<Vec<u8>> {
    let (scheme, credentials) = header.split_once(' ')?;
    let decoded = base64::prelude::BASE64_STANDARD.decode(credentials.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| decoded[colon + 1..].to_vec())
}

/// Compared by their digests, so that not even the length shows in the time it takes.
fn same(given: &[u8], expected: &[u8]) -> bool {
    digest(&SHA256, given).as_ref().ct_eq(digest(&SHA256, expected).as_ref()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&str, &str)]) -> Asked {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Asked { headers, ..Asked::default() }
    }

    #[test]
    fn only_our_own_pages_may_post() {
        let check = |headers: &[(&str, &str)], expect: bool| {
            assert_eq!(is_of_our_page(&asked(headers)), expect, "{headers:?}");
        };
        let host = ("Host", "127.0.0.1:8086");
        check(&[host], true);
        check(&[host, ("Origin", "http://127.0.0.1:8086"), ("Sec-Fetch-Site", "same-origin")], true);
        check(&[host, ("Origin", "http://evil.example")], false);
        check(&[host, ("Origin", "null")], false);
        check(&[host, ("Sec-Fetch-Site", "cross-site")], false);
        check(&[host, ("Sec-Fetch-Site", "same-site")], false);
    }

    #[test]
    fn passwords_are_taken_from_basic_authentication() {
        let check = |header: &str, expect: Option<&str>| {
            assert_eq!(given_password(header).as_deref(), expect.map(str::as_bytes), "{header}");
        };
        check("Basic YW5hOnNlY3JldA==", Some("secret"));
        check("basic OmE6Yg==", Some("a:b"));
        check("Bearer YW5hOnNlY3JldA==", None);
        check("Basic ###", None);
        check("Basic YW5h", None);
        assert!(same(b"a", b"a") && !same(b"a", b"ab"));
    }

    #[test]
    fn a_token_is_known_to_nobody_else() {
        let (one, two) = (Token::random(), Token::random());
        assert!(one.is(&one.0) && !one.is(&two.0) && !one.is(""));
        assert!(!Token(String::new()).is(""));
    }
}
