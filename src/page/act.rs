//! What the page may change, when `status_page.actions` is on: the verbs of the command line, for one envelope or for
//! what a list shows, and pauses.
//!
//! **Invariant:** nothing changes without the password and a token that only our own pages show; a page of somebody
//! else has neither, and browsers tell us when one tries.

use super::html::{self, Form, escape};
use super::{Page, Refusal, page, text, typed};
use crate::config::units::parse_duration;
use crate::control::view::{Aside, Done, Filter, Row, Selection};
use crate::spool::Id;
use crate::status::listener::{Answer, Asked};
use base64::Engine;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;

/// Characters of a reason.
const REASON_CHARS_MAX: usize = 200;
/// Envelopes that a verb is applied to at once; while they are found, the page answers nobody else. For more there is
/// the command line.
const SET_MAX: usize = 5_000;

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

    /// Whether a request may change or show something; else what it is answered.
    pub(super) fn admit(&self, asked: &Asked, form: &Form) -> Result<(), Answer> {
        if !self.may_act() {
            return Err(text(403, "read-only: status_page.actions is off\n"));
        }
        if !is_of_our_page(asked) {
            return Err(text(403, "not from this page\n"));
        }
        if !self.token.is(form.get("token")) {
            return Err(text(403, "this page is older than the daemon, load it again\n"));
        }
        if self.is_admin(asked) { Ok(()) } else { Err(who_are_you()) }
    }

    /// The hidden field without which a form does nothing.
    pub(super) fn token_field(&self) -> String {
        format!("<input type=hidden name=token value=\"{}\">", escape(&self.token.0))
    }

    /// `POST /act` with `token`, `do`, and `id`, or `filter` and `upto`, or `what`.
    pub(super) fn act(&self, asked: &Asked) -> Result<Answer, Refusal> {
        let form = Form::of(&asked.body);
        if let Err(answer) = self.admit(asked, &form) {
            return Ok(answer);
        }
        let verb = form.get("do");
        match (verb, form.get("id")) {
            ("pause" | "resume", _) => self.set_pause(&form),
            (verb, _) if suits(verb).is_none() => Err(Refusal::Usage(format!("do: there is no {verb:?}"))),
            (verb, "") => {
                let (filter, upto) = (form.get("filter"), form.get("upto").parse().unwrap_or(Id::MAX));
                let ids: Vec<Id> = self.suited(verb, filter)?.0.iter().map(|row| row.id).collect();
                let ids: Vec<Id> = ids.into_iter().filter(|id| *id <= upto).collect();
                let done = if ids.is_empty() { Done::default() } else { self.carry_out(&form, ids)? };
                Ok(page(200, done_with(verb, &done, filter)))
            }
            (_, id) => {
                let id: Id = id.parse().map_err(|_| Refusal::Usage("id: expected a number".to_owned()))?;
                let done = self.carry_out(&form, vec![id])?;
                match (done.touched, done.in_flight.len(), done.unsuited.len()) {
                    (1.., ..) => Ok(see(&format!("/envelope/{id}"))),
                    (_, 1.., _) => Err(Refusal::Conflict(format!("{id} is being sent right now"))),
                    (.., 1..) => Err(Refusal::Conflict(format!("{id} does not stand so that it could"))),
                    _ => Err(Refusal::NotFound),
                }
            }
        }
    }

    /// What a verb can be applied to of what a list shows, and whether there is more.
    pub(super) fn suited(&self, verb: &str, filter: &str) -> Result<(Vec<Row>, bool), Refusal> {
        let filter = Filter::of_query(filter).map_err(Refusal::Usage)?;
        let states = suits(verb).unwrap_or_default();
        // As the list was found, and no other: what it does not search may not choose either.
        let found = self.find(&filter, SET_MAX)?;
        let suited = found.rows.into_iter().filter(|row| states.contains(&row.state.as_str()));
        Ok((suited.collect(), found.has_more))
    }

    fn carry_out(&self, form: &Form, ids: Vec<Id>) -> Result<Done, Refusal> {
        let (verb, count) = (form.get("do"), ids.len());
        let selection = Selection { ids, ..Selection::default() };
        let done = match verb {
            "retry" => self.rooms.retry(&selection),
            "drop" => self.rooms.give_up(&selection),
            "release" => self.rooms.release(&selection),
            _ => self.rooms.hold(&Aside { selection, ..aside(form)? }),
        }?;
        log::info!("status page: {verb} of={count} touched={}", done.touched);
        Ok(done)
    }

    fn set_pause(&self, form: &Form) -> Result<Answer, Refusal> {
        match form.get("do") {
            "pause" => self.rooms.pause(&aside(form)?, "the status page")?,
            _ => self.rooms.resume(form.get("what"))?,
        };
        Ok(see("/"))
    }

    /// What may be done with an envelope, as forms; what cannot be undone only after a second look.
    pub(super) fn buttons(&self, row: &Row) -> String {
        let button = |verb: &str, word: &str, more: &str| {
            format!(
                "<form method=post action=\"/act\">{}<input type=hidden name=id value={}>{more}\
                 <button name=do value={verb}>{word}</button></form>",
                self.token_field(),
                row.id,
            )
        };
        let may = |verb: &str| suits(verb).is_some_and(|states| states.contains(&row.state.as_str()));
        let mut buttons = String::new();
        if may("release") {
            buttons.push_str(&button("release", "release", ""));
        } else if may("retry") {
            buttons.push_str(&button("retry", "retry", ""));
        }
        if may("hold") {
            let form = button("hold", "hold", &why_fields(row.id));
            buttons.push_str(&format!("<details><summary>hold…</summary>{form}</details>"));
        }
        if may("drop") {
            let form = button("drop", &format!("give {} up", row.id), "");
            buttons.push_str(&format!("<details class=bad><summary>drop…</summary>{form}</details>"));
        }
        buttons
    }
}

/// The states that a verb can be applied to; none when there is no such verb.
pub(super) fn suits(verb: &str) -> Option<&'static [&'static str]> {
    match verb {
        "retry" | "drop" => Some(&["queued", "deferred", "held", "dead"]),
        "hold" => Some(&["queued", "deferred"]),
        "release" => Some(&["held"]),
        _ => None,
    }
}

/// Why, and for how long; both may stay empty. `id` tells the labels of several such forms apart.
pub(super) fn why_fields(id: Id) -> String {
    format!(
        "<label for=reason{id}>reason</label> <input id=reason{id} name=reason size=16 maxlength={REASON_CHARS_MAX}> \
         <label for=for{id}>for</label> <input id=for{id} name=for size=5 placeholder=2h> "
    )
}

/// What a form says of setting something aside.
fn aside(form: &Form) -> Result<Aside, Refusal> {
    let time = form.get("for").trim();
    let seconds = parse_duration(time).map(|duration| duration.as_secs()).filter(|seconds| *seconds > 0);
    if !time.is_empty() && seconds.is_none() {
        let wrong = format!("for {time}: expected a duration such as 90s, 15m, 2h or 30d");
        return Err(Refusal::Usage(wrong));
    }
    let reason = form.get("reason").split_whitespace().collect::<Vec<_>>().join(" ");
    let reason = reason.chars().take(REASON_CHARS_MAX).collect();
    Ok(Aside { what: form.get("what").to_owned(), reason, for_seconds: seconds, ..Aside::default() })
}

/// What became of a verb that was applied to many.
fn done_with(verb: &str, done: &Done, filter: &str) -> String {
    let word = match verb {
        "retry" => "due now, at Freshdesk's pace",
        "hold" => "held",
        "release" => "released, due now",
        _ => "dropped; they stay in history",
    };
    let sources = done.by_source.iter().map(|(name, count)| format!("<li>{} {count}</li>", escape(name)));
    let mut lines =
        format!("<p><b>{}</b> {word}</p><ul class=urls>{}</ul>", done.touched, sources.collect::<String>());
    if !done.in_flight.is_empty() {
        lines.push_str(&format!("<p>{} not: being sent right now</p>", done.in_flight.len()));
    }
    let gone = done.unknown.len() + done.unsuited.len();
    if gone > 0 {
        lines.push_str(&format!("<p>{gone} not: they have left, or stand otherwise by now</p>"));
    }
    let back = format!("<p class=more><a href=\"/list?{}\">back to the list</a></p>", escape(filter));
    let main = format!("{}<main><section class=card>{lines}{back}</section></main>", html::head("Done"));
    html::document("Done", false, &main)
}

/// Go and look there.
fn see(place: &str) -> Answer {
    let mut answer = typed(303, "text/plain; charset=utf-8");
    answer.headers.push(("Location", place.to_owned()));
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
