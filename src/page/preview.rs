//! A mapping tried out: the last real events on one side, the source's tables in the middle, to be edited, and on the
//! other side the ticket as an agent would see it.
//!
//! **Invariants:** nothing is stored, sent or applied. It is for who knows the password, since it may show what
//! customers wrote; even then it shows that only when asked. What is edited comes by POST with our token. Costs are
//! bounded: one thread renders, of a request the first few events, each text with the engine's limits.

use super::html::{self, Form, card, escape};
use super::{PREVIEW, Page, Refusal, act, envelope, page, ticket};
use crate::clock::spell;
use crate::config::{Finding, SourceText};
use crate::control::view::{Filter, Row};
use crate::control::{HIDDEN, Redaction};
use crate::dispatch::mapping::stored;
use crate::source::{self, Source};
use crate::spool::{Entry, Envelope};
use crate::status::listener::{Answer, Asked};
use crate::trial::request::TrialRequest;
use crate::trial::{self, EventTrial};
use base64::Engine;
use serde_json::Value;

/// Events of one request that are looked at.
const EVENTS_MAX: usize = 5;
/// Requests that are offered, and of each state as many envelopes.
const OFFERED: usize = 6;
/// Bytes of an event that are shown.
const SHOWN_BYTES_MAX: usize = 32 << 10;
/// Stands in for the ticket of a conversation that is supposed to have one.
const SUPPOSED_TICKET: u64 = 1;

/// What somebody looks at.
struct Look {
    /// The source's tables.
    text: String,
    /// `r17` a request, `e10419` an envelope, `own` the pasted one; empty: the newest there is.
    pick: String,
    /// A request or a body that was pasted.
    own: String,
    /// What customers wrote may be shown.
    shows: bool,
    /// As if the conversation had a ticket.
    has_ticket: bool,
}

/// An event that can be tried.
struct Offer {
    pick: String,
    label: String,
}

/// What is tried.
enum Event {
    Request(Box<TrialRequest>),
    Envelope(Box<(Entry, Envelope)>),
    None,
}

impl Page {
    /// `/preview/SOURCE`.
    pub(super) fn preview(&self, asked: &Asked) -> Result<Answer, Refusal> {
        let name = asked.path.strip_prefix(PREVIEW).unwrap_or_default();
        if !self.source_names().iter().any(|known| known == name) {
            return Err(Refusal::NotFound);
        }
        if !self.may_act() {
            return Ok(page(200, closed(name)));
        }
        let written = (self.asks.source_text)(name);
        let look = if asked.method == "POST" {
            let form = Form::of(&asked.body);
            if let Err(answer) = self.admit(asked, &form) {
                return Ok(answer);
            }
            Look::of(&form)
        } else if self.is_admin(asked) {
            let text = written.as_ref().map(|written| written.text.clone()).unwrap_or_default();
            let pick = asked.parameter("pick").unwrap_or_default();
            Look { text, pick, own: String::new(), shows: false, has_ticket: false }
        } else {
            return Ok(act::who_are_you());
        };
        let main = self.three_sides(name, look, written)?;
        let title = format!("Preview of {name}");
        let main = format!("{}<main class=preview>{main}</main>", html::head(&escape(&title)));
        Ok(page(200, html::document(&title, false, &main)))
    }

    fn three_sides(
        &self,
        name: &str,
        mut look: Look,
        written: Result<SourceText, Finding>,
    ) -> Result<String, Refusal> {
        let offers = self.offers(name)?;
        if look.pick.is_empty() {
            look.pick = offers.first().map_or_else(|| "own".to_owned(), |offer| offer.pick.clone());
        }
        let event = self.picked(name, &look)?;
        let compiled = (self.asks.compile)(name, &look.text);
        let made = match (&compiled, &event) {
            (Err(_), _) => "<p class=empty>The mapping has mistakes; below it they are told.</p>".to_owned(),
            (Ok(_), Event::None) => self.nothing_yet(name, &look.pick),
            (Ok(source), event) => self.becomes(source, event, &look),
        };
        let mistakes = compiled.as_ref().err().map(|findings| mistakes(findings)).unwrap_or_default();
        let preset = compiled.as_ref().ok().and_then(|source| source.preset());
        let paste = match (&compiled, &written) {
            (Ok(_), Ok(written)) if written.text.trim() != look.text.replace("\r\n", "\n").trim() => {
                to_paste(name, &look.text, written)
            }
            _ => String::new(),
        };
        Ok(format!(
            "<form class=three method=post action=\"{PREVIEW}{name}\" data-live>{}\
             <input type=hidden name=pick value=\"{}\">\
             <section class=\"card events\"><h2>Events</h2>{}</section>\
             <section class=\"card mapping\"><h2>Mapping</h2>{}<div id=paste>{paste}</div>{}</section>\
             <div id=mistakes aria-live=polite>{mistakes}</div>\
             <section class=\"card becomes\"><h2>In Freshdesk</h2><div id=made aria-live=polite>{made}</div></section></form>",
            self.token_field(),
            escape(&look.pick),
            events_side(&offers, (&event, &self.hidden_words()), &look),
            editor(name, &look, &written),
            preset.map(preset_text).unwrap_or_default(),
        ))
    }

    /// The last requests that came in while this process runs, then what lies in the spool, dead ones first.
    fn offers(&self, name: &str) -> Result<Vec<Offer>, Refusal> {
        let mut offers = Vec::new();
        for (number, captured) in self.rooms.captures.remembered(name).iter().take(OFFERED) {
            let at = captured.received_at.get(11..19).unwrap_or_default();
            let bytes = captured.body.len() / 4 * 3;
            offers
                .push(Offer { pick: format!("r{number}"), label: format!("request of {at}, {bytes} bytes") });
        }
        for state in ["dead", "queued,deferred,held"] {
            let filter = Filter::of_query(&html::query(&[("source", name), ("state", state)]));
            let found = self.find(&filter.map_err(Refusal::Usage)?, OFFERED)?;
            let offer = |row: &Row| Offer {
                pick: format!("e{}", row.id),
                label: format!("envelope {}, {}, {} ago", row.id, row.state, spell(row.age_seconds)),
            };
            offers.extend(found.rows.iter().map(offer));
        }
        Ok(offers)
    }

    fn picked(&self, name: &str, look: &Look) -> Result<Event, Refusal> {
        let number = look.pick.get(1..).and_then(|number| number.parse::<u64>().ok());
        Ok(match (look.pick.get(..1), number) {
            (Some("r"), Some(number)) => {
                let remembered = self.rooms.captures.remembered(name);
                let found = remembered.into_iter().find(|(other, _)| *other == number);
                found.map_or(Event::None, |(_, captured)| {
                    let body = base64::prelude::BASE64_STANDARD.decode(&captured.body).unwrap_or_default();
                    let request = TrialRequest::posted(&captured.target, captured.headers.clone(), body);
                    Event::Request(Box::new(request))
                })
            }
            (Some("e"), Some(id)) => match self.rooms.spool.entry(id)? {
                Some((entry, _)) if entry.source == name => {
                    let envelope = self.rooms.spool.envelope(&entry)?;
                    Event::Envelope(Box::new((entry, envelope)))
                }
                _ => Event::None,
            },
            _ if look.own.trim().is_empty() => Event::None,
            _ => Event::Request(Box::new(TrialRequest::parse(look.own.as_bytes()))),
        })
    }

    fn becomes(&self, source: &Source, event: &Event, look: &Look) -> String {
        let supposed = look.has_ticket.then_some(SUPPOSED_TICKET);
        let events = match event {
            Event::None => Vec::new(),
            Event::Request(request) => {
                let request = TrialRequest { events_max: Some(EVENTS_MAX), ..(**request).clone() };
                let now = self.rooms.clock.now();
                let unchecked = Some("a mapping is tried, not a secret");
                trial::run(source, &request, (now, supposed), unchecked).events
            }
            Event::Envelope(found) => {
                let (entry, envelope) = &**found;
                let ticket = supposed.or(entry.ticket.filter(|_| !entry.opened));
                vec![trial::run_stored(source, &stored(envelope), ticket)]
            }
        };
        if events.is_empty() {
            return "<p class=empty>There are no events in it.</p>".to_owned();
        }
        let words = self.hidden_words();
        let understood = event.understood();
        let shown = |mut event: EventTrial| {
            hide(&mut event, &words, understood.as_ref());
            one_event(&event, look.shows)
        };
        events.into_iter().map(shown).collect()
    }

    /// What nobody is shown, `privacy.redact`.
    fn hidden_words(&self) -> std::sync::Arc<[String]> {
        self.rooms.daemon.read().unwrap_or_else(std::sync::PoisonError::into_inner).redact.clone()
    }

    fn nothing_yet(&self, name: &str, pick: &str) -> String {
        if pick.starts_with(['r', 'e']) {
            return "<p class=empty>This event is not here any more; choose another.</p>".to_owned();
        }
        let daemon = self.rooms.daemon.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let base = daemon.public_url.as_deref().unwrap_or("https://your-host").trim_end_matches('/');
        format!(
            "<p class=empty>Nothing to try the mapping on yet. Let the platform post to <code>{}/in/{}</code>, then load \
             this page again; or paste the body of an example from its documentation under “paste one”.</p>",
            escape(base),
            escape(name)
        )
    }
}

impl Event {
    /// As JSON, where it can be read.
    fn understood(&self) -> Option<Value> {
        match self {
            Event::None => None,
            Event::Request(request) => trial::understood(request),
            Event::Envelope(found) => serde_json::from_slice(&found.1.body).ok(),
        }
    }
}

/// Hides what `privacy.redact` chooses in what becomes of an event.
fn hide(trial: &mut EventTrial, words: &[String], event: Option<&Value>) {
    let bodies: Vec<&Value> = trial.calls.iter().map(|call| &call.body).collect();
    let Some(redaction) = Redaction::of_calls(words, event, &bodies) else { return };
    trial.calls.iter_mut().for_each(|call| redaction.json(&mut call.body));
    trial.why = trial.why.take().map(|why| redaction.text(&why));
    for (name, value) in trial.explanation.asked.iter_mut().flat_map(|asked| &mut asked.values) {
        *value = if redaction.hides(name) { HIDDEN.to_owned() } else { redaction.text(value) };
    }
}

impl Look {
    fn of(form: &Form) -> Look {
        let is_set = |name: &str| !form.get(name).is_empty();
        Look {
            text: form.get("text").replace("\r\n", "\n"),
            pick: form.get("pick").to_owned(),
            own: form.get("own").to_owned(),
            shows: is_set("shows"),
            has_ticket: is_set("has_ticket"),
        }
    }
}

fn checked(is_set: bool) -> &'static str {
    if is_set { " checked" } else { "" }
}

fn events_side(offers: &[Offer], (event, words): (&Event, &[String]), look: &Look) -> String {
    let buttons = offers.iter().map(|offer| {
        let pressed = if offer.pick == look.pick { " aria-current=true" } else { "" };
        format!("<li><button name=pick value={}{pressed}>{}</button></li>", offer.pick, escape(&offer.label))
    });
    let buttons: String = buttons.collect();
    let buttons = match buttons.is_empty() {
        true => "<p class=empty>None has come in since the start, and none lies in the spool.</p>".to_owned(),
        false => format!("<ul class=offers>{buttons}</ul>"),
    };
    let body: &[u8] = match event {
        Event::None => &[],
        Event::Request(request) => &request.body,
        Event::Envelope(found) => &found.1.body,
    };
    let is_own = look.pick == "own";
    let text = if is_own || body.is_empty() { String::new() } else { said((body, event), words, look.shows) };
    let text = if text.is_empty() { text } else { format!("<pre tabindex=0>{}</pre>", escape(&text)) };
    let open = if is_own { " open" } else { "" };
    format!(
        "{buttons}<p><label><input type=checkbox name=shows value=1{}> show what customers wrote</label></p>\
         <p><label><input type=checkbox name=has_ticket value=1{}> the conversation has a ticket already</label></p>\
         <div id=event>{text}</div><details{open}><summary>paste one</summary>\
         <label for=own>a body, or a whole request with its head</label>\
         <textarea id=own name=own rows=8 spellcheck=false>{}</textarea>\
         <p><button name=pick value=own>try this one</button></p></details>",
        checked(look.shows),
        checked(look.has_ticket),
        escape(&look.own)
    )
}

/// Where nobody may see what customers wrote.
fn closed(name: &str) -> String {
    let main = format!(
        "<p>Here a mapping can be edited and tried on real events. That shows what customers wrote, so it needs</p>\
         <pre>[status_page]\nactions = true\npassword = {{ credential = \"status_page\" }}</pre>\
         <p>On the command line: <code>deskspool try {} FILE</code>, and <code>deskspool capture {0}</code> for a real request.</p>",
        escape(name)
    );
    let title = format!("Preview of {name}");
    let main = format!("{}<main>{}</main>", html::head(&escape(&title)), card("Switched off", &main));
    html::document(&title, false, &main)
}

fn editor(name: &str, look: &Look, written: &Result<SourceText, Finding>) -> String {
    let told = match written {
        Err(finding) => format!("<pre class=mistakes>{}</pre>", escape(&finding.to_string())),
        Ok(written) if written.file.is_empty() => String::new(),
        Ok(written) => format!("<p class=where>[source.{}] of {}</p>", escape(name), escape(&written.file)),
    };
    let rows = (look.text.lines().count() + 2).clamp(12, 40);
    format!(
        "{told}<label class=unseen for=text>tables of the source, TOML</label>\
         <textarea id=text name=text rows={rows} spellcheck=false autocapitalize=off wrap=off>{}</textarea>\
         <p><button>render</button> <span class=where>Nothing is saved.</span></p>",
        escape(&look.text)
    )
}

/// As `deskspool check` tells them.
fn mistakes(findings: &[Finding]) -> String {
    let all: Vec<String> = findings.iter().map(|finding| escape(&finding.to_string())).collect();
    format!(
        "<section class=card><h2>Mistakes</h2><pre class=mistakes tabindex=0>{}</pre></section>",
        all.join("\n\n")
    )
}

fn to_paste(name: &str, text: &str, written: &SourceText) -> String {
    let file = if written.file.is_empty() { "the configuration" } else { &written.file };
    let secret = match written.lacks_secret {
        true => "<p>Your secret stands in the file itself and is not shown here: keep that line.</p>",
        false => "",
    };
    format!(
        "<h3>To keep it</h3><p>put this in the place of [source.{}] in <code>{}</code>, then \
         <code>deskspool check &amp;&amp; deskspool reload</code></p>{secret}<pre tabindex=0>{}</pre>",
        escape(name),
        escape(file),
        escape(&format!("{}\n", text.trim()))
    )
}

fn preset_text(name: &str) -> String {
    let text = source::preset(name).map_or("", |preset| preset.text);
    format!(
        "<details><summary>what {} says; any key of it can be said anew above</summary><pre tabindex=0>{}</pre></details>",
        escape(name),
        escape(text)
    )
}

/// What came, without what nobody is shown; or its shape.
fn said((body, event): (&[u8], &Event), words: &[String], shows: bool) -> String {
    let understood = event.understood();
    let redaction = Redaction::of_calls(words, understood.as_ref(), &[]);
    let text = match (serde_json::from_slice::<Value>(body), shows) {
        (Ok(mut event), true) => {
            redaction.inspect(|redaction| redaction.json(&mut event));
            envelope::pretty(&event)
        }
        (Ok(event), false) => envelope::pretty(&envelope::redacted(&event)),
        // Nobody can say where in it what is.
        (Err(_), true) if redaction.is_some() => HIDDEN.to_owned(),
        (Err(_), true) => String::from_utf8_lossy(body).into_owned(),
        (Err(_), false) => format!("{} bytes that are not JSON", body.len()),
    };
    match text.char_indices().find(|(at, _)| *at >= SHOWN_BYTES_MAX) {
        Some((at, _)) => format!("{}\n… {} bytes more", &text[..at], text.len() - at),
        None => text,
    }
}

fn one_event(event: &EventTrial, shows: bool) -> String {
    let (class, word) = match event.result {
        "delivered" => ("delivered", "becomes this"),
        "dead" => ("dead", "would be dead"),
        "filtered" => ("filtered", "filtered: nothing is written"),
        other => ("filtered", other),
    };
    let kind = if event.kind.is_empty() {
        String::new()
    } else {
        format!(" kind <code>{}</code>", escape(&event.kind))
    };
    let why = event.why.as_deref().map(|why| format!("<p class=why>{}</p>", escape(why))).unwrap_or_default();
    let calls: String = event.calls.iter().map(|call| ticket::made(call, shows)).collect();
    let empty: Vec<String> = event.explanation.empty.iter().map(|empty| escape(&empty.key)).collect();
    let empty = match empty.is_empty() {
        true => String::new(),
        false => format!("<p class=why>rendered empty: {}</p>", empty.join(", ")),
    };
    format!(
        "<p><span class=\"pill {class}\">{word}</span>{kind}</p>{why}{calls}{empty}{}",
        asked(event, shows)
    )
}

/// Which conditions decided.
fn asked(event: &EventTrial, shows: bool) -> String {
    let rows = event.explanation.asked.iter().map(|asked| {
        let sign = match asked.holds {
            Some(true) => "✓ yes",
            Some(false) => "– no",
            None => "✗ cannot be decided",
        };
        let values: Vec<String> =
            asked.values.iter().map(|(name, value)| format!("{name} is {value}")).collect();
        let values = if shows { values.join(", ") } else { String::new() };
        format!(
            "<li><b>{}</b> <code>{}</code> {sign} <span class=where>{}</span></li>",
            escape(&asked.name),
            escape(asked.condition.as_deref().unwrap_or("always")),
            escape(&[asked.fault.clone().unwrap_or_default(), values].join(" "))
        )
    });
    let rows: String = rows.collect();
    if rows.is_empty() {
        return "<p class=where>No rule was asked: a ticket, or a note where there is one.</p>".to_owned();
    }
    format!("<details><summary>what was asked of it</summary><ul class=asked>{rows}</ul></details>")
}
