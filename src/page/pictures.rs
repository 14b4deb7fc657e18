//! What is drawn of the history: waiting, the oldest, in against out, why not, event to ticket, calls left, and a strip
//! for each source.

use super::chart::{
    Cell, Figure, age_labels, area, band, bar, ceiling, figure, line, linear, logarithmic, mirrored, seconds,
    strip,
};
use super::html::{escape, grouped};
use super::overview::of_all;
use crate::clock::{Timestamp, spell};
use crate::status::period::Mark;
use crate::status::{Count, Gauges, Period, Series};
use std::collections::{BTreeMap, BTreeSet};

/// Past this the oldest that waits is worth a look.
const OLDEST_FINE_SECONDS: f64 = 900.0;
/// Upright lines that are told in words.
const MARKS_SHOWN: usize = 8;
/// Where the history cuts a reason.
const REASON_CUT_CHARS: usize = 80;
/// Reasons that are shown.
const REASONS_SHOWN: usize = 8;

/// A strip for each source.
pub type Strips = BTreeMap<String, String>;

/// All pictures but the strips.
pub fn all(series: &Series) -> String {
    let pictures =
        [waiting(series), oldest(series), in_and_out(series), why_not(series), ages(series), calls(series)];
    format!("<section class=pictures aria-label=pictures>{}</section>{}", pictures.concat(), marks(series))
}

/// What the upright lines are.
fn marks(series: &Series) -> String {
    let marks = series.cells.iter().flatten().flat_map(|cell| &cell.marks);
    let mut all: Vec<&Mark> = marks.collect();
    all.sort_by_key(|mark| std::cmp::Reverse(mark.0));
    let shown = all.iter().take(MARKS_SHOWN).map(|Mark(at, what)| {
        let at = Timestamp(at * 1000).to_string();
        let short = at.get(5..16).unwrap_or_default().replace('T', " ");
        format!("<li><time title=\"{at}\">{short}</time> {}</li>", escape(what))
    });
    let shown: String = shown.collect();
    let more = all.len().saturating_sub(MARKS_SHOWN);
    let more = if more > 0 { format!("<li>and {more} before</li>") } else { String::new() };
    match shown.is_empty() {
        true => shown,
        false => format!("<ul class=marks aria-label=\"what the upright lines are\">{shown}{more}</ul>"),
    }
}

fn gauge(series: &Series, of: impl Fn(&Gauges) -> f64) -> Vec<Option<f64>> {
    series.cells.iter().map(|cell| cell.as_ref()?.gauges.as_ref().map(&of)).collect()
}

fn top(values: &[Option<f64>]) -> f64 {
    values.iter().flatten().copied().fold(0.0, f64::max)
}

fn count(value: f64) -> String {
    grouped(value.round() as u64)
}

fn waiting(series: &Series) -> String {
    let all = gauge(series, |gauges| gauges.waiting() as f64);
    let queued = gauge(series, |gauges| (gauges.queued + gauges.in_flight) as f64);
    let dead = gauge(series, |gauges| gauges.dead as f64);
    let highest = ceiling(top(&all).max(top(&dead)));
    let shapes = [
        area("deferred", &linear(&all, highest)),
        area("queued", &linear(&queued, highest)),
        line("dead", &linear(&dead, highest)),
    ];
    let summary = format!("at most {} waited and {} were dead", count(top(&all)), count(top(&dead)));
    figure(
        &Figure {
            id: "waiting",
            title: "Waiting",
            summary: &summary,
            legend: &[("queued", "queued"), ("deferred", "deferred"), ("dead", "dead")],
            labels: [count(highest), count(highest / 2.0), "0".to_owned()],
            shapes: shapes.concat(),
        },
        series,
    )
}

fn oldest(series: &Series) -> String {
    let ages = gauge(series, |gauges| gauges.oldest_seconds as f64);
    let highest = top(&ages).max(2.0 * OLDEST_FINE_SECONDS);
    // Round minutes, hours or days.
    let unit = [60.0, 3600.0, 86_400.0].into_iter().rfind(|unit| highest >= 2.0 * unit).unwrap_or(60.0);
    let highest = ceiling(highest / unit) * unit;
    let fine = linear(&[Some(OLDEST_FINE_SECONDS)], highest)[0].unwrap_or(0.0);
    let shapes = [band("late", series.cells.len(), fine), line("age", &linear(&ages, highest))];
    let summary = format!("the oldest waited {} at most", spell(top(&ages) as u64));
    figure(
        &Figure {
            id: "oldest",
            title: "Oldest waiting",
            summary: &summary,
            legend: &[("age", "age"), ("late", "over 15m")],
            labels: [spell(highest as u64), spell((highest / 2.0) as u64), "0".to_owned()],
            shapes: shapes.concat(),
        },
        series,
    )
}

fn in_and_out(series: &Series) -> String {
    let of = |what: Count| -> Vec<Option<f64>> {
        series.cells.iter().map(|cell| cell.as_ref().map(|cell| cell.total(what) as f64)).collect()
    };
    let (received, delivered) = (of(Count::Accepted), of(Count::Delivered));
    let highest = ceiling(top(&received).max(top(&delivered)));
    let share = |values: &[Option<f64>]| {
        values.iter().map(|value| value.map(|value| value / highest)).collect::<Vec<_>>()
    };
    let sum = |values: &[Option<f64>]| count(values.iter().flatten().sum());
    let summary = format!("{} received, {} delivered", sum(&received), sum(&delivered));
    let title = format!("In and out per {}", spell(series.cell_seconds));
    figure(
        &Figure {
            id: "in-and-out",
            title: &title,
            summary: &summary,
            legend: &[("in", "received"), ("out", "delivered")],
            labels: [count(highest), "0".to_owned(), count(highest)],
            shapes: mirrored(&share(&received), &share(&delivered)),
        },
        series,
    )
}

fn why_not(series: &Series) -> String {
    let mut reasons: Vec<(String, u32)> = series.total().reasons.into_iter().collect();
    reasons.sort_by(|one, two| two.1.cmp(&one.1).then_with(|| one.0.cmp(&two.0)));
    let most = f64::from(reasons.first().map_or(1, |(_, count)| *count));
    let rows = reasons.iter().take(REASONS_SHOWN).map(|(reason, count)| {
        let share = f64::from(*count) / most;
        let link = super::html::list_of(&[
            ("state", super::overview::ALL_STATES),
            ("match", &reason.chars().take(40).collect::<String>()),
        ]);
        format!(
            "<tr><td class=why>{}</td><td class=share>{}</td><td class=n><a href=\"{}\">{}</a></td></tr>",
            escape(&if reason.chars().count() < REASON_CUT_CHARS {
                reason.clone()
            } else {
                format!("{reason}…")
            }),
            bar(share),
            escape(&link),
            grouped(u64::from(*count))
        )
    });
    let body = if reasons.is_empty() {
        "<p class=empty>No attempt failed.</p>".to_owned()
    } else {
        format!(
            "<table class=reasons><thead class=unseen><tr><th>Reason</th><th>Share</th><th>Attempts</th></tr></thead>\
             <tbody>{}</tbody></table>",
            rows.collect::<String>()
        )
    };
    format!(
        "<figure class=\"card chart\" id=why-not><figcaption><h2>Why not</h2></figcaption>\
         <p class=sum>attempts that failed, by reason</p>{body}</figure>"
    )
}

fn ages(series: &Series) -> String {
    let quantile = |share: f64| -> Vec<Option<f64>> {
        let of = |cell: &Period| cell.ages.quantile(share).map(|age| age.as_secs_f64());
        series.cells.iter().map(|cell| cell.as_ref().and_then(of)).collect()
    };
    let (half, most) = (quantile(0.5), quantile(0.95));
    let highest = [10.0, 60.0, 600.0, 3600.0, 36_000.0, 86_400.0, 604_800.0];
    let highest = highest.into_iter().find(|limit| *limit >= top(&most)).unwrap_or(604_800.0);
    let shapes =
        [line("p95", &logarithmic(&most, highest)), line("p50", &logarithmic(&half, highest))].concat();
    let total = series.total().ages;
    let summary = match (total.quantile(0.5), total.quantile(0.95)) {
        (Some(half), Some(most)) => {
            format!(
                "half within {}, 95 % within {}",
                seconds(half.as_secs_f64()),
                seconds(most.as_secs_f64())
            )
        }
        _ => "no deliveries".to_owned(),
    };
    figure(
        &Figure {
            id: "ages",
            title: "Event to ticket",
            summary: &summary,
            legend: &[("p50", "half within"), ("p95", "95 % within")],
            labels: age_labels(highest),
            shapes,
        },
        series,
    )
}

fn calls(series: &Series) -> String {
    let left = series.cells.iter().map(|cell| cell.as_ref()?.gauges.as_ref()?.calls);
    let left: Vec<Option<f64>> = left.map(|calls| calls.map(|(left, _)| left as f64)).collect();
    let total =
        series.cells.iter().flatten().filter_map(|cell| cell.gauges?.calls).map(|(_, total)| total).max();
    let highest = ceiling(total.unwrap_or(50) as f64);
    let fewest = left.iter().flatten().copied().reduce(f64::min);
    let summary = match fewest {
        Some(fewest) => format!("at the worst moment {} calls were left", count(fewest)),
        None => "Freshdesk was not asked".to_owned(),
    };
    let shapes = [area("calls", &linear(&left, highest)), line("calls", &linear(&left, highest))].concat();
    figure(
        &Figure {
            id: "calls",
            title: "Freshdesk calls left per minute",
            summary: &summary,
            legend: &[("calls", "fewest left")],
            labels: [count(highest), count(highest / 2.0), "0".to_owned()],
            shapes,
        },
        series,
    )
}

/// A strip for each source: one glance finds the platform that stopped calling.
pub fn strips(series: &Series) -> Strips {
    let names: BTreeSet<&String> =
        series.cells.iter().flatten().flat_map(|cell| cell.counts.keys()).collect();
    names
        .into_iter()
        .map(|name| {
            let cells: Vec<Option<Cell>> =
                series.cells.iter().map(|cell| cell.as_ref().map(|cell| look_of(cell, name))).collect();
            let of = |what: Count| of_all(series, name, what);
            let summary = format!(
                "{name}: {} in, {} delivered, {} attempts failed, {} dead, {} refused",
                of(Count::Accepted),
                of(Count::Delivered),
                of(Count::Deferred),
                of(Count::Dead),
                of(Count::Refused)
            );
            (name.clone(), strip(&summary, &cells))
        })
        .collect()
}

/// Worse stands higher.
fn look_of(cell: &Period, source: &str) -> Cell {
    let Some(counts) = cell.counts.get(source) else { return ("quiet", 0.12) };
    let some = |what: Count| counts.of(what) > 0;
    if some(Count::Dead) || some(Count::Refused) {
        ("refused", 1.0)
    } else if some(Count::Deferred) || some(Count::Unavailable) {
        ("deferred", 0.8)
    } else if some(Count::Accepted) || some(Count::Delivered) {
        ("delivered", 0.6)
    } else {
        ("filtered", 0.3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(cells: Vec<Option<Period>>) -> Series {
        Series { begin: 0, cell_seconds: 60, cells }
    }

    #[test]
    fn a_history_without_anybody_there_is_drawn_empty() {
        let text = all(&series(vec![None; 60]));
        assert!(text.contains("No attempt failed."), "{text}");
        assert!(text.contains("<path class=\"deferred\" d=\"\"/>"), "{text}");
        assert!(!text.contains("NaN"), "{text}");
    }

    #[test]
    fn what_is_worse_stands_higher_in_a_strip() {
        let period = |counts: &[(Count, usize)]| {
            let mut period = Period::default();
            counts.iter().for_each(|(what, times)| period.count("a", *what, *times));
            period
        };
        let check = |counts: &[(Count, usize)], expect: Cell| {
            assert_eq!(look_of(&period(counts), "a"), expect, "{counts:?}");
        };
        check(&[], ("quiet", 0.12));
        check(&[(Count::Filtered, 1)], ("filtered", 0.3));
        check(&[(Count::Accepted, 5)], ("delivered", 0.6));
        check(&[(Count::Accepted, 5), (Count::Deferred, 1)], ("deferred", 0.8));
        check(&[(Count::Accepted, 5), (Count::Refused, 1)], ("refused", 1.0));
    }

    #[test]
    fn reasons_are_escaped_and_lead_to_their_envelopes() {
        let mut period = Period::default();
        period.reason("freshdesk 400: <phone> is invalid");
        let text = why_not(&series(vec![Some(period)]));
        assert!(text.contains("freshdesk 400: &lt;phone&gt; is invalid"), "{text}");
        assert!(text.contains("match=freshdesk+400%3A+%3Cphone%3E+is+invalid"), "{text}");
    }
}
