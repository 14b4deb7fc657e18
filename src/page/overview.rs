//! The first page: the answer in one line, what needs a person, the road with live numbers, the pictures, the
//! sources, and what is dead, waiting and recent.

use super::chart::strip;
use super::html::{self, ago, escape, grouped, list_of, number};
use super::list::{all_of, form, nothing_dead, nothing_waits};
use super::{Page, Refusal, pictures};
use crate::clock::spell;
use crate::control::view::Filter;
use crate::pauses::{DELIVERY, INTAKE};
use crate::status::snapshot::{Need, SourceView};
use crate::status::{Count, Snapshot, Span};

/// Rows of the tables on this page.
const ROWS: usize = 8;
/// Every state, for lists of all that came in.
pub(super) const ALL_STATES: &str = "queued,deferred,in-flight,held,dead,delivered,dropped";

impl Page {
    pub(super) fn overview(&self, span: Span) -> Result<String, Refusal> {
        let snapshot = self.snapshot()?;
        let series = self.rooms.tally.series(span)?;
        let sections = [
            answers(&snapshot),
            needs(&snapshot.needs_you),
            self.road(&snapshot),
            spans(span, &self.stops()),
            pictures::all(&series),
            self.sources(&snapshot, &pictures::strips(&series), span),
            self.tables(&snapshot)?,
            LEGEND.to_owned(),
        ];
        let now = self.rooms.clock.now().to_string();
        let main = format!("{}<main>{}</main>", head(&snapshot, &self.host(), &now), sections.concat());
        let title = match snapshot.needs_you.len() {
            0 => "deskspool".to_owned(),
            needs => format!("({needs}) deskspool"),
        };
        Ok(html::document(&title, true, &main))
    }

    fn host(&self) -> String {
        let daemon = self.rooms.daemon.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let url = daemon.public_url.as_deref().unwrap_or_default();
        url.split("//").nth(1).map(|host| format!(" @{host}")).unwrap_or_default()
    }

    /// Sources, intake, spool, Freshdesk.
    fn road(&self, snapshot: &Snapshot) -> String {
        let sum = |of: fn(&SourceView) -> u64| snapshot.sources.iter().map(of).sum::<u64>();
        let names = snapshot.sources.iter().take(12).map(|view| {
            let link = list_of(&[("source", &view.name), ("state", ALL_STATES), ("since", "24h")]);
            format!("<li><span>{}</span> <b>{}</b></li>", escape(&view.name), number(view.accepted, &link))
        });
        let spool = &snapshot.spool;
        let states = [
            ("queued", spool.queued),
            ("in-flight", spool.in_flight),
            ("deferred", spool.deferred),
            ("held", spool.held),
        ];
        let states = states.map(|(state, count)| {
            format!(
                "<li class={state}><span>{state}</span> <b>{}</b></li>",
                number(count, &list_of(&[("state", state)]))
            )
        });
        let delivered =
            number(sum(|view| view.delivered), &list_of(&[("state", "delivered"), ("since", "24h")]));
        let dead = number(spool.dead, &list_of(&[("state", "dead")]));
        format!(
            "<section class=\"card road\" aria-label=\"the road of an event, last 24 hours\">\
             <div><h2>Sources</h2><ul>{}</ul></div><p class=arrow>{}</p>\
             <div><h2>Intake</h2><ul><li><span>stored</span> <b>{}</b></li><li><span>filtered</span> <b>{}</b></li>\
             <li><span>duplicate</span> <b>{}</b></li><li class=refused><span>refused</span> <b>{}</b></li></ul></div><p class=arrow></p>\
             <div><h2>Spool</h2><ul>{}</ul></div><p class=arrow>{}</p>\
             <div><h2>{}</h2><ul><li class=delivered><span>delivered</span> <b>{delivered}</b></li>\
             <li class=dead><span>dead</span> <b>{dead}</b></li></ul></div></section>",
            names.collect::<String>(),
            per_hour(snapshot.intake.per_hour, ALL_STATES),
            number(sum(|view| view.accepted), &list_of(&[("state", ALL_STATES), ("since", "24h")])),
            number(sum(|view| view.filtered), "/passed?what=filtered"),
            number(sum(|view| view.duplicate), "/passed?what=duplicate"),
            number(sum(|view| view.refused), "/refused"),
            states.concat(),
            per_hour(snapshot.delivery.per_hour, "delivered"),
            escape(&snapshot.freshdesk.account),
        )
    }

    fn sources(&self, snapshot: &Snapshot, strips: &pictures::Strips, span: Span) -> String {
        if snapshot.sources.iter().all(|view| view.last_event_seconds.is_none() && view.refused == 0) {
            return self.no_events_yet(snapshot);
        }
        let paused: Vec<String> = self.rooms.pauses.all().into_keys().collect();
        let links = |view: &SourceView| self.source_links(&view.name, paused.contains(&view.name));
        let rows: String =
            snapshot.sources.iter().map(|view| source_row(view, strips, &links(view))).collect();
        format!(
            "<section class=card id=sources><h2>Sources</h2><div class=scroll tabindex=0><table class=sources><thead><tr>\
             <th>Name</th><th class=n>Last event</th><th class=wide>Last {}</th><th class=n>In 24h</th>\
             <th class=n>Delivered</th><th class=n>Filtered</th><th class=n>Again</th><th class=n>Refused</th>\
             <th class=n>Waiting</th><th class=n>Dead</th><th><span class=unseen>More</span></th></tr></thead><tbody>{rows}</tbody></table></div>\
             <p class=legend>{}</p></section>",
            span.word(),
            STRIP_LEGEND
        )
    }

    /// Its mapping, and its pause.
    fn source_links(&self, name: &str, is_paused: bool) -> String {
        // Requests to no source of ours are counted, too.
        if !self.source_names().iter().any(|known| known == name) {
            return String::new();
        }
        let verb = if is_paused { "resume" } else { "pause" };
        let pause = html::query(&[("do", verb), ("what", name)]);
        let pause = format!(" <a href=\"/act?{}\">{verb}</a>", escape(&pause));
        let pause = if self.may_act() { pause } else { String::new() };
        format!("<a href=\"/preview/{}\">mapping</a>{pause}", escape(name))
    }

    /// What an admin can stop as a whole.
    fn stops(&self) -> String {
        if !self.may_act() {
            return String::new();
        }
        let pauses = self.rooms.pauses.all();
        let link = |what: &str| {
            let verb = if pauses.contains_key(what) { "resume" } else { "pause" };
            format!(
                "<a href=\"/act?{}\">{verb} {what}</a>",
                escape(&html::query(&[("do", verb), ("what", what)]))
            )
        };
        format!("<span class=stops>{} {}</span>", link(INTAKE), link(DELIVERY))
    }

    fn no_events_yet(&self, snapshot: &Snapshot) -> String {
        let daemon = self.rooms.daemon.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let base = daemon.public_url.as_deref().unwrap_or("https://your-host");
        let lines: String = snapshot
            .sources
            .iter()
            .map(|view| {
                let name = escape(&view.name);
                format!(
                    "<li>{name}: <code>{}/in/{name}</code> <a href=\"/preview/{name}\">mapping</a></li>",
                    escape(base)
                )
            })
            .collect();
        format!(
            "<section class=card id=sources><h2>Sources</h2><p class=empty>No events yet. Point the platforms here, with \
             their secrets, then watch this page:</p><ul class=urls>{lines}</ul></section>"
        )
    }

    fn tables(&self, snapshot: &Snapshot) -> Result<String, Refusal> {
        let spool = &snapshot.spool;
        let of = |query: &str| Filter::of_query(query).map_err(Refusal::Usage);
        let dead = if spool.dead == 0 {
            nothing_dead(snapshot)
        } else {
            let found = self.find(&of("state=dead")?, ROWS)?;
            format!("{}{}", self.table(&found.rows, false), all_of("dead", spool.dead, found.rows.len()))
        };
        let waiting_count = spool.queued + spool.in_flight + spool.deferred;
        let waiting = if waiting_count == 0 {
            nothing_waits(snapshot)
        } else {
            let found = self.find(&of("state=queued,deferred,in-flight")?, ROWS)?;
            let all = all_of("queued,deferred,in-flight", waiting_count, found.rows.len());
            format!("{}{all}", self.table(&found.rows, true))
        };
        let recent = self.recent()?;
        let find = form(&Filter::default(), snapshot);
        Ok(format!(
            "<section class=card id=find><h2>Find</h2>{find}</section>\
             <section class=card id=dead><h2>Dead ({})</h2>{dead}</section>\
             <section class=card id=waiting-now><h2>Waiting ({})</h2>{waiting}</section>\
             <section class=card id=recent><h2>Recent</h2>{recent}</section>",
            number(spool.dead, &list_of(&[("state", "dead")])),
            number(waiting_count, &list_of(&[("state", "queued,deferred,in-flight")])),
        ))
    }
}

fn head(snapshot: &Snapshot, host: &str, now: &str) -> String {
    format!(
        "<header class=top><h1>deskspool<span class=host>{}</span></h1><p>{} · up {} · configuration from {} ago · \
         <time id=now title=\"{now}\">{} UTC</time><span class=gone> · <b>no answer, what follows is old</b></span></p></header>",
        escape(host),
        escape(&snapshot.version),
        spell(snapshot.up_seconds),
        spell(snapshot.config_age_seconds),
        now.get(11..19).unwrap_or_default(),
    )
}

/// The top line is the answer; the words say it, the colour repeats it.
fn answers(snapshot: &Snapshot) -> String {
    let (intake, delivery, freshdesk) = (&snapshot.intake, &snapshot.delivery, &snapshot.freshdesk);
    let received = list_of(&[("state", ALL_STATES), ("since", "1h")]);
    let first = match &intake.refusing {
        None => chip(
            "ok",
            &format!("receiving {}/h", grouped(intake.per_hour)),
            &last_event(intake.last_event_seconds),
            &received,
        ),
        Some(reason) => {
            chip("bad", &format!("refusing: {reason}"), "platforms get 503 and keep their events", "#needs")
        }
    };
    let delivered = list_of(&[("state", "delivered"), ("since", "1h")]);
    let waits = freshdesk.trouble_seconds.is_some();
    let second = match (waits, delivery.paused_seconds, delivery.median_seconds) {
        _ if delivery.paused.is_some() => {
            let said = delivery.paused.as_deref().unwrap_or_default();
            chip("warn", "delivery is paused", said, "#needs")
        }
        (true, ..) => chip("bad", "delivery waits", "nothing is lost", "#waiting-now"),
        (_, 0, median) => {
            let median =
                median.map(|seconds| format!("{} from event to ticket", super::chart::seconds(seconds)));
            let text = format!("delivering {}/h", grouped(delivery.per_hour));
            let silence =
                if delivery.per_hour == 0 { "none in the last hour" } else { "none since the start" };
            chip("ok", &text, &median.unwrap_or_else(|| silence.to_owned()), &delivered)
        }
        (_, seconds, _) => {
            chip("warn", &format!("paused for {}", spell(seconds)), "Freshdesk asked us to wait", "#calls")
        }
    };
    let success = format!("last success {}", ago(freshdesk.last_success_seconds));
    let third = match freshdesk.state.as_str() {
        "reachable" => chip("ok", "Freshdesk answers", &success, "#calls"),
        "not asked yet" => {
            chip("idle", "Freshdesk not asked yet", "it is asked when there is something to write", "#calls")
        }
        state => {
            let since = freshdesk
                .trouble_seconds
                .map(|seconds| format!(" for {}", spell(seconds)))
                .unwrap_or_default();
            let why = freshdesk.reason.as_deref().unwrap_or_default();
            chip("bad", &format!("Freshdesk {state}{since}"), why, "#why-not")
        }
    };
    let needs = &snapshot.needs_you;
    let fourth = if needs.is_empty() {
        chip("ok", "nothing needs you", "no dead letters, nothing refused", "#recent")
    } else {
        let mut sums: Vec<(&str, u64)> = Vec::new();
        for need in needs {
            match sums.iter_mut().find(|(what, _)| *what == need.what) {
                Some((_, sum)) => *sum += need.count,
                None => sums.push((&need.what, need.count)),
            }
        }
        let words = sums.iter().map(|(what, sum)| {
            let href = list_behind(what).unwrap_or_else(|| "#needs".to_owned());
            format!("<a href=\"{}\">{} {}</a>", escape(&href), grouped(*sum), escape(what))
        });
        let words = words.collect::<Vec<_>>().join(" · ");
        format!(
            "<div class=\"chip warn\"><b><span aria-hidden=true>▲</span> {words}</b><span><a href=\"#needs\">what to do</a></span></div>"
        )
    };
    format!("<section class=answers aria-label=\"how it stands\">{first}{second}{third}{fourth}</section>")
}

/// `41/h`, and the list of them.
fn per_hour(count: u64, states: &str) -> String {
    format!("{}/h", number(count, &list_of(&[("state", states), ("since", "1h")])))
}

fn last_event(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "no event yet".to_owned(), |seconds| format!("last event {} ago", spell(seconds)))
}

fn chip(class: &str, text: &str, more: &str, href: &str) -> String {
    let sign = match class {
        "ok" => "●",
        "bad" => "✗",
        "warn" => "▲",
        _ => "○",
    };
    format!(
        "<a class=\"chip {class}\" href=\"{}\"><b><span aria-hidden=true>{sign}</span> {}</b><span>{}</span></a>",
        escape(href),
        escape(text),
        escape(more)
    )
}

fn needs(needs: &[Need]) -> String {
    if needs.is_empty() {
        return String::new();
    }
    let rows: String = needs
        .iter()
        .map(|need| {
            let count = match list_behind_one(need) {
                Some(href) => number(need.count, &href),
                None => grouped(need.count),
            };
            format!(
                "<tr><td class=n>{count}</td><td>{}</td><td class=why>{}</td><td><code>{}</code></td></tr>",
                escape(&need.what),
                escape(&need.why),
                escape(&need.next)
            )
        })
        .collect();
    format!(
        "<section class=\"card needs\" id=needs><h2>Needs you</h2><div class=scroll tabindex=0><table><thead class=unseen><tr>\
         <th>Count</th><th>What</th><th>Why</th><th>What to type</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )
}

/// Where what needs somebody is listed.
fn list_behind(what: &str) -> Option<String> {
    match what {
        "dead" | "held" => Some(list_of(&[("state", what)])),
        "refused" => Some("/refused".to_owned()),
        _ => None,
    }
}

/// The same of one line, which names a source and a reason.
fn list_behind_one(need: &Need) -> Option<String> {
    let (source, why) = need.why.split_once(": ").unwrap_or((&need.why, ""));
    match need.what.as_str() {
        "dead" | "held" => Some(list_of(&[("state", &need.what), ("source", source), ("match", why)])),
        "refused" => Some(format!("/refused?{}", html::query(&[("source", source)]))),
        _ => None,
    }
}

fn spans(chosen: Span, stops: &str) -> String {
    let links: String = Span::ALL
        .into_iter()
        .map(|span| {
            let current = if span == chosen { " aria-current=page" } else { "" };
            format!("<a href=\"/?span={0}\"{current}>{0}</a>", span.word())
        })
        .collect();
    format!("<nav class=spans aria-label=\"how much of the past\"><span>last</span>{links}{stops}</nav>")
}

fn source_row(view: &SourceView, strips: &pictures::Strips, links: &str) -> String {
    let name = view.name.as_str();
    let of = |state: &str, since: &str| list_of(&[("state", state), ("source", name), ("since", since)]);
    let passed = |what: &str| format!("/passed?{}", html::query(&[("what", what), ("source", name)]));
    // One that has never been heard of has an empty strip.
    let strip = strips.get(name).cloned().unwrap_or_else(|| strip(&format!("{name}: nothing yet"), &[]));
    format!(
        "<tr><th scope=row><a href=\"{}\">{}</a></th><td class=n data-label=last>{}</td><td class=wide>{strip}</td>\
         <td class=n data-label=in>{}</td><td class=n data-label=delivered>{}</td><td class=n data-label=filtered>{}</td>\
         <td class=n data-label=again>{}</td><td class=\"n{}\" data-label=refused>{}</td><td class=n data-label=waiting>{}</td>\
         <td class=n data-label=dead>{}</td><td class=links>{links}</td></tr>",
        escape(&of("", "")),
        escape(name),
        ago(view.last_event_seconds),
        number(view.accepted, &of(ALL_STATES, "24h")),
        number(view.delivered, &of("delivered", "24h")),
        number(view.filtered, &passed("filtered")),
        number(view.duplicate, &passed("duplicate")),
        if view.refused > 0 { " bad" } else { "" },
        number(view.refused, &format!("/refused?{}", html::query(&[("source", name)]))),
        number(view.waiting, &of("queued,deferred,in-flight,held", "")),
        number(view.dead, &of("dead", "")),
    )
}

const STRIP_LEGEND: &str = "<span><i class=\"key delivered\"></i>delivered</span> <span><i class=\"key deferred\"></i>failed, tried again</span> \
    <span><i class=\"key refused\"></i>dead or refused</span> <span><i class=\"key filtered\"></i>filtered</span> \
    <span><i class=\"key quiet\"></i>quiet</span> <span>empty: nobody looked</span>";

const LEGEND: &str = "<p class=foot>queued = due now · in-flight = being sent · deferred = waits for the next try · \
    held = set aside · dead = needs you · upright lines in pictures = reload, pause, restart. Numbers for machines: <a href=\"/metrics\">/metrics</a>, \
    <a href=\"/status.json\">/status.json</a>, <a href=\"/healthz\">/healthz</a>, <a href=\"/readyz\">/readyz</a>. \
    Times are ages, moments are UTC.</p>";

/// A count that is part of a strip's summary.
pub(super) fn of_all(series: &crate::status::Series, source: &str, what: Count) -> u64 {
    let cells = series.cells.iter().flatten();
    cells.filter_map(|cell| cell.counts.get(source)).map(|counts| counts.of(what)).sum()
}
