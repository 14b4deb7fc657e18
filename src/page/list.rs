//! Lists of envelopes: what passes a filter, waiting ones in order of arrival, settled ones latest first.
//!
//! **Invariant:** names no requester, no conversation and nothing a customer wrote: whoever reaches the page may read
//! it. What a list looks at is bounded, however full the spool is.

use super::act::suits;
use super::html::{ago, escape, list_of};
use super::{Page, Refusal, html};
use crate::clock::spell;
use crate::control::view::{Filter, Row, STATES};
use crate::spool::{Id, Try};
use crate::status::Snapshot;
use crate::status::refused::RefusedView;

/// Rows of a list of its own.
pub const ROWS_MAX: usize = 200;
/// Refused requests that are shown of a source.
const REFUSED_SHOWN: usize = 20;
/// Envelopes that are looked at for one list.
const LOOKED_AT_MAX: usize = 50_000;

/// Some envelopes, and whether there are more.
#[derive(Default)]
pub struct Found {
    /// Their rows.
    pub rows: Vec<Row>,
    /// There are more than are here.
    pub has_more: bool,
}

impl Page {
    /// At most `most` envelopes that pass.
    pub fn find(&self, filter: &Filter, most: usize) -> Result<Found, Refusal> {
        let mut found = Found::default();
        let mut left = LOOKED_AT_MAX;
        self.find_waiting(filter, most, &mut left, &mut found)?;
        if filter.wants_settled() {
            self.find_settled(filter, most, &mut left, &mut found)?;
        }
        found.has_more |= left == 0;
        Ok(found)
    }

    fn find_waiting(
        &self,
        filter: &Filter,
        most: usize,
        left: &mut usize,
        found: &mut Found,
    ) -> Result<(), Refusal> {
        let mut from: Id = 0;
        while *left > 0 {
            let page = self.rooms.spool.entries(from)?;
            let Some((last, ..)) = page.last() else { break };
            from = last + 1;
            *left = left.saturating_sub(page.len());
            for (id, entry, in_flight) in &page {
                if !filter.may_pass(entry, *in_flight, self.rooms.clock.now()) {
                    continue;
                }
                let row = without_names(self.rooms.row(*id, entry, *in_flight)?);
                if filter.passes(&row) || once_failed(filter, &row, &entry.tries) {
                    if found.rows.len() == most {
                        found.has_more = true;
                        return Ok(());
                    }
                    found.rows.push(row);
                }
            }
        }
        Ok(())
    }

    fn find_settled(
        &self,
        filter: &Filter,
        most: usize,
        left: &mut usize,
        found: &mut Found,
    ) -> Result<(), Refusal> {
        let now = self.rooms.clock.now();
        let mut before = Id::MAX;
        while *left > 0 {
            let page = self.rooms.spool.history_before(before, crate::spool::PAGE)?;
            let Some((last, _)) = page.last() else { break };
            before = *last;
            *left = left.saturating_sub(page.len());
            for (id, settled) in &page {
                let row = without_names(Row::settled(*id, settled, now));
                if filter.passes(&row) || once_failed(filter, &row, &settled.tries) {
                    if found.rows.len() == most {
                        found.has_more = true;
                        return Ok(());
                    }
                    found.rows.push(row);
                }
            }
        }
        Ok(())
    }

    /// `/list?state=dead&source=…`
    pub(super) fn list(&self, query: &str) -> Result<String, Refusal> {
        let filter = Filter::of_query(query).map_err(Refusal::Usage)?;
        let found = self.find(&filter, ROWS_MAX)?;
        let snapshot = self.snapshot()?;
        let more = if found.has_more {
            "<p class=more>There are more; narrow the list down, or: <code>deskspool queue</code></p>"
        } else {
            ""
        };
        let body = if found.rows.is_empty() {
            "<p class=empty>Nothing like that is here. <a href=\"/list\">Everything that waits</a></p>"
                .to_owned()
        } else {
            format!("{}{}", self.verbs(&found, query), self.table(&found.rows, true))
        };
        let main = format!(
            "{}<main>{}<section class=card>{body}{more}</section></main>",
            html::head(&escape(&title(&filter))),
            form(&filter, &snapshot)
        );
        Ok(html::document(&title(&filter), true, &main))
    }

    /// `/refused?source=…`: what was turned away, and why.
    pub(super) fn refused(&self, source: Option<&str>) -> String {
        let views = self.rooms.tally.refused(source);
        let cards: String = views.iter().map(refused_card).collect();
        let cards = if cards.is_empty() {
            "<section class=card><p class=empty>Nothing has been turned away since the last start.</p></section>".to_owned()
        } else {
            cards
        };
        let main = format!("{}<main>{cards}</main>", html::head("Refused"));
        html::document("Refused", true, &main)
    }

    /// How many there are, and what can be done with all of them.
    fn verbs(&self, found: &Found, query: &str) -> String {
        let count = found.rows.len();
        let count = if found.has_more { format!("the first {count}") } else { count.to_string() };
        let mut line = format!("<p class=verbs><b>{count}</b>");
        for verb in ["retry", "hold", "release", "drop"].into_iter().filter(|_| self.may_act()) {
            let states = suits(verb).unwrap_or_default();
            if found.rows.iter().any(|row| states.contains(&row.state.as_str())) {
                let query = format!("{}&{query}", html::query(&[("do", verb)]));
                line.push_str(&format!(" <a href=\"/act?{}\">{verb} all…</a>", escape(&query)));
            }
        }
        line + "</p>"
    }

    /// Rows as a table; with a column for the state where they may differ.
    pub(super) fn table(&self, rows: &[Row], with_state: bool) -> String {
        let (head, next) = if with_state { ("<th>State</th>", "<th>Next</th>") } else { ("", "") };
        let body: String = rows.iter().map(|row| self.row(row, with_state)).collect();
        let buttons = if self.may_act() { "<th><span class=unseen>Actions</span></th>" } else { "" };
        format!(
            "<div class=scroll tabindex=0><table class=rows><thead><tr><th class=n>Id</th>{head}<th>Source</th><th class=n>Age</th>\
             <th class=n>Tries</th>{next}<th>Why</th>{buttons}</tr></thead><tbody>{body}</tbody></table></div>"
        )
    }

    fn row(&self, row: &Row, with_state: bool) -> String {
        let (state, next) = match with_state {
            true => {
                let next = format!("<td data-label=next>{}</td>", next(row));
                (
                    format!("<td>{}</td>", state_pill(&row.state)),
                    next.replace(" data-label=next></td>", "></td>"),
                )
            }
            false => (String::new(), String::new()),
        };
        let why = match (&row.last_error, row.ticket) {
            (Some(why), _) => escape(why),
            (None, Some(ticket)) => self.ticket_link(ticket),
            (None, None) => String::new(),
        };
        let buttons = if self.may_act() {
            format!("<td class=buttons>{}</td>", self.buttons(row))
        } else {
            String::new()
        };
        format!(
            "<tr><td class=n><a href=\"/envelope/{id}\">{id}</a></td>{state}<td>{}</td><td class=n data-label=age title=\"{}\">{}</td>\
             <td class=n data-label=tries>{}</td>{next}<td class=why>{why}</td>{buttons}</tr>",
            escape(&row.source),
            escape(&row.received_at),
            spell(row.age_seconds),
            row.attempts,
            id = row.id,
        )
    }

    /// The ticket in Freshdesk.
    pub(super) fn ticket_link(&self, ticket: u64) -> String {
        let daemon = self.rooms.daemon.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let url = escape(daemon.freshdesk_url.trim_end_matches('/'));
        // The stand-in has its tickets elsewhere.
        let path = if url.starts_with("http://") { "tickets" } else { "a/tickets" };
        format!("<a href=\"{url}/{path}/{ticket}\" rel=noreferrer>ticket {ticket}</a>")
    }
}

/// What went on may be looked for by what kept it from that.
fn once_failed(filter: &Filter, row: &Row, tries: &[Try]) -> bool {
    let fails = tries.iter().filter(|_| filter.matches.is_some()).filter(|one| !one.reason.is_empty());
    fails.into_iter().any(|one| filter.passes(&Row { last_error: Some(one.reason.clone()), ..row.clone() }))
}

/// Neither shown nor searched: who may see a list may not find out by guessing either.
fn without_names(row: Row) -> Row {
    Row { requester: None, conversation: String::new(), ..row }
}

/// Where requests came from, and why; what they brought is for the command line.
fn refused_card(view: &RefusedView) -> String {
    let rows = view.last.iter().take(REFUSED_SHOWN).map(|one| {
        format!(
            "<tr><td><time>{}</time></td><td>{}</td><td class=why>{}</td><td>{}</td></tr>",
            escape(&one.at),
            escape(&one.from),
            escape(&one.why),
            escape(&one.detail)
        )
    });
    let hint =
        view.hint.as_deref().map(|hint| format!("<p class=more>{}</p>", escape(hint))).unwrap_or_default();
    format!(
        "<section class=card><h2>{} ({} since {})</h2><div class=scroll tabindex=0><table><thead><tr><th>Time</th><th>From</th>\
         <th>Why</th><th>Detail</th></tr></thead><tbody>{}</tbody></table></div>{hint}</section>",
        escape(&view.source),
        view.count,
        escape(&view.since),
        rows.collect::<String>()
    )
}

fn next(row: &Row) -> String {
    match (row.state.as_str(), row.due_seconds, row.waits_for) {
        ("in-flight", ..) => "now".to_owned(),
        (_, _, Some(head)) => format!("after <a href=\"/envelope/{head}\">{head}</a>"),
        (_, Some(0), _) => "due".to_owned(),
        (_, Some(seconds), _) => format!("in {}", spell(seconds)),
        _ => String::new(),
    }
}

/// The state with a sign before it, so that its colour says nothing new.
pub fn state_pill(state: &str) -> String {
    let sign = match state {
        "delivered" => "✓",
        "dead" | "rejected" => "✗",
        "unknown" => "?",
        "deferred" => "↻",
        "held" => "‖",
        "in-flight" => "▶",
        "dropped" => "–",
        "filtered" => "↷",
        "duplicate" => "=",
        "refused" => "✗",
        _ => "•",
    };
    format!(
        "<span class=\"pill {}\"><span aria-hidden=true>{sign}</span> {}</span>",
        escape(state),
        escape(state)
    )
}

fn title(filter: &Filter) -> String {
    let mut words = Vec::new();
    words.push(if filter.states.is_empty() {
        "waiting, held and dead".to_owned()
    } else {
        filter.states.join(", ")
    });
    words.extend(filter.source.as_ref().map(|source| format!("from {source}")));
    words.extend(filter.since_seconds.map(|seconds| format!("of the last {}", spell(seconds))));
    words.extend(filter.until_seconds.map(|seconds| format!("older than {}", spell(seconds))));
    words.extend(filter.matches.as_ref().map(|text| format!("with “{text}”")));
    let text = words.join(" ");
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The same filters as the command line's.
pub(super) fn form(filter: &Filter, snapshot: &Snapshot) -> String {
    let state = filter.states.join(",");
    let mut choices = vec![("", "waiting, held and dead")];
    choices.extend(STATES.iter().map(|state| (*state, *state)));
    let known = choices.iter().any(|(value, _)| *value == state);
    let mut states: String =
        choices.iter().map(|(value, word)| option(value, word, *value == state)).collect();
    if !known {
        states.push_str(&option(&state, &state, true));
    }
    let source = filter.source.clone().unwrap_or_default();
    let names = snapshot.sources.iter().map(|view| view.name.as_str());
    let sources: String = names.map(|name| option(name, name, name == source)).collect();
    let since = filter.since_seconds.map(spell).unwrap_or_default().replace(' ', "");
    format!(
        "<form class=filter action=\"/list\"><label>State <select name=state>{states}</select></label>\
         <label>Source <select name=source>{}{sources}</select></label>\
         <label>Since <input name=since size=6 value=\"{}\" placeholder=2h></label>\
         <label>Text <input name=match size=18 value=\"{}\" placeholder=\"id, event or error\"></label>\
         <button>Show</button></form>",
        option("", "all", source.is_empty()),
        escape(&since),
        escape(filter.matches.as_deref().unwrap_or_default())
    )
}

fn option(value: &str, word: &str, is_chosen: bool) -> String {
    let chosen = if is_chosen { " selected" } else { "" };
    format!("<option value=\"{}\"{chosen}>{}</option>", escape(value), escape(word))
}

/// What an empty spool says.
pub(super) fn nothing_dead(snapshot: &Snapshot) -> String {
    let last = match snapshot.freshdesk.last_success_seconds {
        Some(seconds) => format!("Last delivery {}.", ago(Some(seconds))),
        None => "Nothing has been delivered since the start.".to_owned(),
    };
    format!("<p class=empty>Nothing is dead. {last}</p>")
}

/// The same of those that wait.
pub(super) fn nothing_waits(snapshot: &Snapshot) -> String {
    match snapshot.intake.last_event_seconds {
        Some(seconds) => format!(
            "<p class=empty>The spool is empty: everything that came in is settled. Last event {}.</p>",
            ago(Some(seconds))
        ),
        None => "<p class=empty>The spool is empty: nothing has come in yet.</p>".to_owned(),
    }
}

/// A link to all of a list, when it is longer than what is shown.
pub(super) fn all_of(state: &str, count: u64, shown: usize) -> String {
    if count <= shown as u64 {
        return String::new();
    }
    format!("<p class=more><a href=\"{}\">all {count}</a></p>", escape(&list_of(&[("state", state)])))
}
