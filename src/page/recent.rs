//! What happened last, whatever it was: delivered, dropped, filtered, here before, turned away. And the events that were
//! passed over, as a list of their own.

use super::html::{self, escape, list_of};
use super::list::state_pill;
use super::{Page, Refusal};
use crate::status::Seen;
use crate::status::listener::Asked;

/// Rows on the overview.
const ROWS: usize = 12;

/// One thing that happened.
struct Happened {
    /// RFC 3339, UTC; sorts as time does.
    at: String,
    row: String,
}

impl Page {
    /// The latest first.
    pub(super) fn recent(&self) -> Result<String, Refusal> {
        let now = self.rooms.clock.now().to_string();
        let mut all: Vec<Happened> = Vec::new();
        for (id, settled) in self.rooms.spool.history_before(crate::spool::Id::MAX, ROWS)? {
            let state = if settled.dropped { "dropped" } else { "delivered" };
            let ticket = settled.ticket.map(|ticket| self.ticket_link(ticket)).unwrap_or_default();
            let event = format!("<a href=\"/envelope/{id}\">{id}</a>");
            all.push(happened(
                &settled.settled_at.to_string(),
                &now,
                (state, &settled.source),
                (&event, &ticket),
            ));
        }
        let passed = self.rooms.tally.recent().passed_over(None);
        all.extend(passed.iter().take(ROWS).map(|passed| {
            happened(&passed.at, &now, (&passed.what, &passed.source), (&escape(&passed.event), &why(passed)))
        }));
        for view in self.rooms.tally.refused(None) {
            let link = format!("/refused?{}", html::query(&[("source", &view.source)]));
            for one in view.last.iter().take(ROWS) {
                let why = format!("<a href=\"{}\">{}</a>", escape(&link), escape(&one.why));
                all.push(happened(&one.at, &now, ("refused", &view.source), ("", &why)));
            }
        }
        all.sort_by(|one, other| other.at.cmp(&one.at));
        let rows: String = all.into_iter().take(ROWS).map(|one| one.row).collect();
        if rows.is_empty() {
            return Ok("<p class=empty>Nothing is settled yet, and nothing was filtered, sent twice or turned away.</p>".to_owned());
        }
        let more = list_of(&[("state", "delivered,dropped")]);
        Ok(format!("{}<p class=more><a href=\"{}\">all that is settled</a></p>", table(&rows), escape(&more)))
    }

    /// `/passed?source=…&what=filtered`
    pub(super) fn passed(&self, asked: &Asked) -> String {
        let source = asked.parameter("source").filter(|source| !source.is_empty());
        let what = asked.parameter("what").unwrap_or_default();
        let now = self.rooms.clock.now().to_string();
        let passed = self.rooms.tally.recent().passed_over(source.as_deref());
        let is_any = what != "filtered" && what != "duplicate";
        let rows = passed.iter().filter(|passed| is_any || passed.what == what).map(|passed| {
            happened(&passed.at, &now, (&passed.what, &passed.source), (&escape(&passed.event), &why(passed)))
                .row
        });
        let rows: String = rows.collect();
        let body = match rows.is_empty() {
            true => "<p class=empty>Nothing like that since the last start.</p>".to_owned(),
            false => table(&rows),
        };
        let of = source.map(|source| format!(" of {source}")).unwrap_or_default();
        let title = format!(
            "{}{of}",
            match what.as_str() {
                "filtered" => "Filtered",
                "duplicate" => "Here before",
                _ => "Passed over",
            }
        );
        let main = format!(
            "{}<main><section class=card><p class=where>Taken with 200 and not stored: filtered as the source wants it, or \
             known from before. The last hundred of each source since the last start.</p>{body}</section></main>",
            html::head(&escape(&title))
        );
        html::document(&title, true, &main)
    }
}

fn why(passed: &Seen) -> String {
    let kind = if passed.kind.is_empty() { String::new() } else { format!("{}: ", passed.kind) };
    escape(&format!("{kind}{}", if passed.what == "duplicate" { "was here before" } else { &passed.reason }))
}

fn happened(at: &str, now: &str, (state, source): (&str, &str), (event, why): (&str, &str)) -> Happened {
    let is_today = at.get(..10) == now.get(..10);
    let short = if is_today { at.get(11..19) } else { at.get(5..16) }.unwrap_or_default().replace('T', " ");
    let row = format!(
        "<tr><td class=n><time title=\"{0}\">{short}</time></td><td>{1}</td><td>{2}</td><td class=event>{event}</td>\
         <td class=why>{why}</td></tr>",
        escape(at),
        state_pill(state),
        escape(source),
    );
    Happened { at: at.to_owned(), row }
}

fn table(rows: &str) -> String {
    format!(
        "<div class=scroll tabindex=0><table class=\"rows recent\"><thead><tr><th class=n>When</th><th>What</th><th>Source</th>\
         <th>Event</th><th>Why, or where to</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
}
