//! What a verb would meet, before it is carried out: how many envelopes, of which sources; what a pause means.
//!
//! **Invariant:** changes nothing. Its form names the newest envelope that was there when somebody looked, so that
//! what came in since is not touched unseen.

use super::act::{suits, why_fields};
use super::html::{self, escape, grouped};
use super::{Page, Refusal, page, text, without_blanks};
use crate::pauses::{DELIVERY, INTAKE};
use crate::status::listener::{Answer, Asked};
use std::collections::BTreeMap;

impl Page {
    /// `GET /act?do=drop&state=dead`, `GET /act?do=pause&what=intake`.
    pub(super) fn confirm(&self, asked: &Asked) -> Result<Answer, Refusal> {
        if !self.may_act() {
            return Ok(text(403, "read-only: status_page.actions is off\n"));
        }
        let verb = asked.parameter("do").unwrap_or_default();
        let (title, form) = match verb.as_str() {
            "pause" | "resume" => self.about_pause(&verb, &asked.parameter("what").unwrap_or_default())?,
            verb if suits(verb).is_some() => self.about_set(verb, &filter_of(&asked.query))?,
            _ => return Err(Refusal::Usage(format!("do: there is no {verb:?}"))),
        };
        let main = format!(
            "{}<main><section class=\"card confirm\"><form method=post action=\"/act\">{}\
             <input type=hidden name=do value=\"{}\">{form}</form></section></main>",
            html::head(&escape(&title)),
            self.token_field(),
            escape(&verb)
        );
        Ok(page(200, html::document(&title, false, &main)))
    }

    fn about_set(&self, verb: &str, filter: &str) -> Result<(String, String), Refusal> {
        let (rows, has_more) = self.suited(verb, filter)?;
        let title = format!("{}{}", verb[..1].to_uppercase(), &verb[1..]);
        let back = format!("<a href=\"/list?{}\">back to the list</a>", escape(filter));
        let Some(newest) = rows.iter().map(|row| row.id).max() else {
            let word = match verb {
                "retry" => "retried",
                "hold" => "held: only what waits can",
                "release" => "released: nothing of it is held",
                _ => "dropped",
            };
            return Ok((title, format!("<p class=empty>Nothing of this list can be {word}. {back}</p>")));
        };
        let mut by_source: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        rows.iter().for_each(|row| *by_source.entry((&row.source, &row.state)).or_default() += 1);
        let lines = by_source.iter().map(|((source, state), count)| {
            format!("<li>{} {} of {}</li>", grouped(*count), escape(state), escape(source))
        });
        let effect = match verb {
            "retry" => "They are due now and go out at Freshdesk's pace.",
            "hold" => {
                "They wait until somebody releases them; what follows them in their conversations waits, too."
            }
            "release" => "They are due now.",
            _ => "Nothing will be written for them. They stay in history for a while.",
        };
        let more = if has_more {
            "<p>There are more, which are left alone: at most so many at once. <code>deskspool</code> on the command line takes all.</p>"
        } else {
            ""
        };
        let why = if verb == "hold" { format!("<p>{}</p>", why_fields(0)) } else { String::new() };
        let count = grouped(rows.len() as u64);
        let form = format!(
            "<input type=hidden name=filter value=\"{}\"><input type=hidden name=upto value={newest}>\
             <ul class=urls>{}</ul>{more}<p>{effect}</p>{why}<p><button>{verb} {count}</button> {back}</p>",
            escape(filter),
            lines.collect::<String>()
        );
        Ok((format!("{title} {count}?"), form))
    }

    fn about_pause(&self, verb: &str, what: &str) -> Result<(String, String), Refusal> {
        let is_known =
            [INTAKE, DELIVERY].contains(&what) || self.source_names().iter().any(|name| name == what);
        if !is_known {
            return Err(Refusal::NotFound);
        }
        let (effect, why) = match (verb, what) {
            ("resume", _) => ("It goes on at once, with what has waited.", String::new()),
            (_, INTAKE) => ("Platforms get 503 and keep their events.", why_fields(0)),
            (_, DELIVERY) => ("Events are taken and wait; nothing is asked of Freshdesk.", why_fields(0)),
            _ => ("Its events are taken and held.", why_fields(0)),
        };
        let field = format!("<input type=hidden name=what value=\"{}\">", escape(what));
        let form = format!(
            "{field}<p>{effect} A pause survives a restart.</p><p>{why}</p><p><button>{verb} {0}</button> <a href=\"/\">back</a></p>",
            escape(what)
        );
        let title = format!("{}{} {what}?", verb[..1].to_uppercase(), &verb[1..]);
        Ok((title, if verb == "resume" { form.replace(" A pause survives a restart.", "") } else { form }))
    }
}

/// The filters of a query, without the verb.
fn filter_of(query: &str) -> String {
    let query = without_blanks(query);
    let pairs = form_urlencoded::parse(query.as_bytes()).into_owned().filter(|(name, _)| name != "do");
    let pairs: Vec<(String, String)> = pairs.collect();
    html::query(&pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_what_the_verb_leaves() {
        assert_eq!(filter_of("do=drop&state=dead&source=&match=a+b"), "state=dead&match=a+b");
        assert_eq!(filter_of("do=retry"), "");
    }
}
