//! The pictures: inline SVG without text in it, stretched to the width there is, with labels beside it in HTML.
//!
//! **Invariant:** pure. A cell nobody looked at stays empty, it is not a zero. No meaning is in a colour alone.

use super::html::escape;
use crate::clock::spell;
use crate::status::Series;
use std::fmt::Write;

/// Height of a picture in its own units; its width is one unit a cell.
const HEIGHT: f64 = 100.0;
/// The bottom of an axis of ages, in seconds.
const AGE_MIN_SECONDS: f64 = 0.1;

/// A picture with what stands around it.
pub struct Figure<'a> {
    /// For links.
    pub id: &'a str,
    /// Its title.
    pub title: &'a str,
    /// What is in it, for those who do not see it.
    pub summary: &'a str,
    /// Pairs of a class and a word.
    pub legend: &'a [(&'a str, &'a str)],
    /// Labels of the vertical axis from top to bottom.
    pub labels: [String; 3],
    /// What is drawn.
    pub shapes: String,
}

/// Draws it.
pub fn figure(figure: &Figure<'_>, series: &Series) -> String {
    let legend: String = figure
        .legend
        .iter()
        .map(|(class, word)| format!("<span><i class=\"key {class}\"></i>{word}</span>"))
        .collect();
    let labels: String = figure.labels.iter().map(|label| format!("<span>{label}</span>")).collect();
    format!(
        "<figure class=\"card chart\" id={}><figcaption><h2>{}</h2><p class=legend>{legend}</p></figcaption>\
         <p class=sum>{}</p><div class=plot><div class=y aria-hidden=true>{labels}</div>{}</div>{}</figure>",
        figure.id,
        figure.title,
        escape(figure.summary),
        svg(figure.summary, series, &format!("{}{}{}", grid(series), figure.shapes, marks(series))),
        times(series)
    )
}

fn grid(series: &Series) -> String {
    let cells = series.cells.len();
    format!("<path class=grid d=\"M0 0H{cells}M0 50H{cells}M0 100H{cells}\"/>")
}

fn svg(summary: &str, series: &Series, shapes: &str) -> String {
    let cells = series.cells.len();
    format!(
        "<svg role=img aria-label=\"{}\" viewBox=\"0 0 {cells} {HEIGHT}\" preserveAspectRatio=none>{shapes}</svg>",
        escape(summary)
    )
}

/// The axis of time, which ends now.
fn times(series: &Series) -> String {
    let whole = series.cell_seconds * series.cells.len() as u64;
    let ago = |seconds: u64| match seconds {
        86_400 => "24h".to_owned(),
        seconds => spell(seconds),
    };
    let ticks = [4, 3, 2, 1].map(|part| format!("<span>−{}</span>", ago(whole * part / 4)));
    format!("<p class=x aria-hidden=true>{}<span>now</span></p>", ticks.concat())
}

/// Upright lines where an admin did something.
fn marks(series: &Series) -> String {
    let mut shapes = String::new();
    for mark in series.cells.iter().flatten().flat_map(|cell| &cell.marks) {
        let at = mark.0.saturating_sub(series.begin) as f64 / series.cell_seconds as f64;
        // Writing to a String cannot fail.
        let _ = write!(
            shapes,
            "<path class=mark d=\"M{at:.2} 0V{HEIGHT}\"><title>{}</title></path>",
            escape(&mark.1)
        );
    }
    shapes
}

/// The next round number, for the top of an axis.
pub fn ceiling(value: f64) -> f64 {
    if value <= 4.0 {
        return 4.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|top| *top >= value).unwrap_or(value)
}

/// Heights of a linear axis from 0 to `top`.
pub fn linear(values: &[Option<f64>], top: f64) -> Vec<Option<f64>> {
    values.iter().map(|value| value.map(|value| HEIGHT - HEIGHT * (value / top).min(1.0))).collect()
}

/// Heights of a logarithmic axis of seconds up to `top`.
pub fn logarithmic(values: &[Option<f64>], top: f64) -> Vec<Option<f64>> {
    let height =
        |seconds: f64| (seconds.max(AGE_MIN_SECONDS) / AGE_MIN_SECONDS).ln() / (top / AGE_MIN_SECONDS).ln();
    values.iter().map(|value| value.map(|value| HEIGHT - HEIGHT * height(value).min(1.0))).collect()
}

/// Labels of a logarithmic axis.
pub fn age_labels(top: f64) -> [String; 3] {
    [seconds(top), seconds((top * AGE_MIN_SECONDS).sqrt()), seconds(AGE_MIN_SECONDS)]
}

/// `0.1s`, `12s`, `1h`.
pub fn seconds(value: f64) -> String {
    if value < 9.95 { format!("{value:.1}s") } else { spell(value.round() as u64) }
}

/// An area from the bottom up to the heights.
pub fn area(class: &str, heights: &[Option<f64>]) -> String {
    let mut path = String::new();
    for (start, run) in runs(heights) {
        let _ = write!(path, "M{start} {HEIGHT}");
        for (index, height) in run.iter().enumerate() {
            let _ = write!(path, "V{}H{}", short(*height), start + index + 1);
        }
        let _ = write!(path, "V{HEIGHT}Z");
    }
    format!("<path class=\"{class}\" d=\"{path}\"/>")
}

/// A line of steps at the heights.
pub fn line(class: &str, heights: &[Option<f64>]) -> String {
    let mut path = String::new();
    for (start, run) in runs(heights) {
        for (index, height) in run.iter().enumerate() {
            let joint = if index == 0 { format!("M{start} ") } else { "V".to_owned() };
            let _ = write!(path, "{joint}{}H{}", short(*height), start + index + 1);
        }
    }
    format!("<path class=\"line {class}\" d=\"{path}\"/>")
}

/// Bars up from the middle, and others down from it; both between 0 and 1.
pub fn mirrored(up: &[Option<f64>], down: &[Option<f64>]) -> String {
    let half = HEIGHT / 2.0;
    let bars = |values: &[Option<f64>], sign: f64| {
        let mut path = String::new();
        for (index, value) in values.iter().enumerate() {
            if let Some(value) = value.filter(|value| *value > 0.0) {
                let tip = half - sign * half * value.clamp(0.02, 1.0);
                let _ = write!(path, "M{index}.1 {half}V{}h.8V{half}Z", short(tip));
            }
        }
        path
    };
    format!("<path class=in d=\"{}\"/><path class=out d=\"{}\"/>", bars(up, 1.0), bars(down, -1.0))
}

/// A band from the top down to a height.
pub fn band(class: &str, cells: usize, height: f64) -> String {
    format!("<path class=\"{class}\" d=\"M0 0H{cells}V{}H0Z\"/>", short(height))
}

/// One cell of a strip: how it looks, and how high it stands (0 to 1), so that colour is not all.
pub type Cell = (&'static str, f64);

/// A strip of cells; equal neighbours are drawn as one.
pub fn strip(summary: &str, cells: &[Option<Cell>]) -> String {
    let mut shapes = String::new();
    let mut from = 0;
    while from < cells.len() {
        let until =
            cells[from..].iter().position(|cell| *cell != cells[from]).map_or(cells.len(), |at| from + at);
        if let Some((class, height)) = cells[from] {
            let top = HEIGHT - HEIGHT * height;
            let _ = write!(
                shapes,
                "<rect class={class} x={from} y={} width={} height={} />",
                short(top),
                until - from,
                short(HEIGHT - top)
            );
        }
        from = until;
    }
    format!(
        "<svg class=strip role=img aria-label=\"{}\" viewBox=\"0 0 {} {HEIGHT}\" preserveAspectRatio=none>{shapes}</svg>",
        escape(summary),
        cells.len().max(1)
    )
}

/// A bar in a table; `share` is between 0 and 1.
pub fn bar(share: f64) -> String {
    let width = (share.clamp(0.0, 1.0) * 100.0).max(1.0);
    format!(
        "<svg class=bar aria-hidden=true viewBox=\"0 0 100 10\" preserveAspectRatio=none>\
         <rect width={width:.1} height=10 /></svg>"
    )
}

/// Neighbours that have a value, with the place of their first.
fn runs(heights: &[Option<f64>]) -> Vec<(usize, Vec<f64>)> {
    let mut runs: Vec<(usize, Vec<f64>)> = Vec::new();
    let mut is_open = false;
    for (index, height) in heights.iter().enumerate() {
        match height {
            Some(height) if is_open => runs.last_mut().expect("a run is open").1.push(*height),
            Some(height) => runs.push((index, vec![*height])),
            None => {}
        }
        is_open = height.is_some();
    }
    runs
}

fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_stay_gaps() {
        let heights = [Some(10.0), Some(20.5), None, Some(0.0)];
        assert_eq!(line("a", &heights), "<path class=\"line a\" d=\"M0 10H1V20.5H2M3 0H4\"/>");
        assert_eq!(area("a", &heights), "<path class=\"a\" d=\"M0 100V10H1V20.5H2V100ZM3 100V0H4V100Z\"/>");
        assert_eq!(line("a", &[]), "<path class=\"line a\" d=\"\"/>");
    }

    #[test]
    fn axes_end_in_round_numbers() {
        let check = |value: f64, expect: f64| assert!((ceiling(value) - expect).abs() < 1e-9, "{value}");
        check(0.0, 4.0);
        check(4.0, 4.0);
        check(5.0, 6.0);
        check(61.0, 80.0);
        check(1000.0, 1000.0);
        check(1001.0, 2000.0);
    }

    #[test]
    fn a_logarithmic_axis_has_its_ends_where_they_belong() {
        let heights = logarithmic(&[Some(0.01), Some(0.1), Some(10.0), Some(1000.0), None], 1000.0);
        assert_eq!(heights, [Some(100.0), Some(100.0), Some(50.0), Some(0.0), None]);
    }

    #[test]
    fn equal_neighbours_of_a_strip_are_one_shape() {
        let cells = [Some(("ok", 0.5)), Some(("ok", 0.5)), None, Some(("bad", 1.0))];
        let text = strip("<b>", &cells);
        assert_eq!(text.matches("<rect").count(), 2);
        assert!(text.contains("<rect class=ok x=0 y=50 width=2 height=50 />"), "{text}");
        assert!(text.contains("aria-label=\"&lt;b&gt;\""), "{text}");
    }
}
