//! Charts as SVG text, drawn on the server: pure functions from series to markup.
//!
//! A chart has no `viewBox` of its own. Horizontal places are percentages and vertical ones pixels,
//! so that text has its real size on a phone and on a wide screen alike; only the shapes lie in an
//! inner `<svg viewBox>` that is stretched sideways, their strokes excepted
//! (`vector-effect: non-scaling-stroke`). Labels that only wide charts have room for carry the
//! class `tick-wide`. Colours are classes (`c1` to `c8`) that the style sheet defines for both
//! themes.
//!
//! Everything that comes from outside goes through [`escape`].

use std::fmt::Write;

mod axis;
mod columns;
mod funnel;
mod line;
mod scale;
mod sentence;
mod share;

pub use axis::{Grain, TimeAxis};
pub use columns::columns;
pub use funnel::{FunnelStep, funnel};
pub use line::line;
pub use scale::Scale;
pub use share::{progress_bar, rank_bar, share_bar};

/// How many colours there are. Further series repeat them; legend and table name every one.
pub const COLOURS: usize = 8;

/// Heights in pixels; `.chart-svg` in weir.css has the same total.
const HEIGHT: u32 = 264;
const TOP: u32 = 10;
const BOTTOM: u32 = HEIGHT - 28;

/// The inner drawing is this many units wide, whatever its width on the screen.
const WIDTH: f64 = 1000.0;

/// One line or one colour of columns.
#[derive(Clone, Debug)]
pub struct Series {
    pub label: String,
    /// One a bucket; `None` where the measure has no value.
    pub values: Vec<Option<f64>>,
    /// The same buckets one period earlier.
    pub previous: Option<Vec<Option<f64>>>,
}

/// What [`line`] and [`columns`] draw.
pub struct TimeChart<'a> {
    /// What is measured, as a title: "Persons per day".
    pub name: &'a str,
    pub axis: &'a TimeAxis,
    pub series: &'a [Series],
    /// The last bucket is still running, so its value will grow.
    pub unfinished: bool,
    /// Values are counts, so the axis has no fractions.
    pub whole: bool,
}

impl TimeChart<'_> {
    fn all_values(&self) -> impl Iterator<Item = f64> {
        self.series
            .iter()
            .flat_map(|series| series.values.iter().chain(series.previous.iter().flatten()))
            .filter_map(|value| value.filter(|v| v.is_finite()))
    }

    fn scale(&self) -> Scale {
        let (low, high) =
            self.all_values().fold((0.0, 0.0), |(low, high), value| (value.min(low), value.max(high)));
        Scale::new(low, high, self.whole)
    }

    /// Nothing to draw: no buckets, no series, or only buckets without a value.
    fn is_empty(&self) -> bool {
        self.axis.is_empty() || self.all_values().next().is_none()
    }
}

/// Text as it may stand in markup and in attributes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Line breaks separate the values in a hit's title.
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// A place in the drawing, short: one decimal, no trailing zero.
fn place(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// A horizontal place in percent.
fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn colour(index: usize) -> String {
    format!("c{}", index % COLOURS + 1)
}

/// The figure around a drawing: legend, then the drawing with its text alternative. Grid, labels
/// and zero line are the same for lines and columns.
fn figure(chart: &TimeChart<'_>, scale: &Scale, drawing: &str, positions: &dyn Fn(usize) -> f64) -> String {
    let mut html = String::with_capacity(drawing.len() + 8192);
    html.push_str("<div class=\"chart\">");
    html.push_str(&legend(chart));
    let mut keys: Vec<String> = Vec::new();
    for (index, series) in chart.series.iter().enumerate() {
        keys.push(colour(index));
        if series.previous.is_some() {
            keys.push("previous".to_owned());
        }
    }
    let _ = write!(
        html,
        "<svg class=\"chart-svg\" role=\"img\" tabindex=\"0\" width=\"100%\" height=\"{HEIGHT}\" aria-label=\"{}\" data-keys=\"{}\" data-top=\"{TOP}\" data-bottom=\"{BOTTOM}\">",
        escape(&sentence::describe(chart)),
        keys.join(" "),
    );
    for (value, label) in scale.ticks() {
        let y = place(vertical(scale, value));
        let class = if value == 0.0 { "zero" } else { "grid" };
        let _ = write!(html, "<line class=\"{class}\" x1=\"0\" x2=\"100%\" y1=\"{y}\" y2=\"{y}\"/>");
        let _ = write!(html, "<text x=\"-8\" y=\"{y}\" dy=\"4\" text-anchor=\"end\">{label}</text>");
    }
    for tick in chart.axis.ticks() {
        let share = positions(tick.index);
        let anchor = match share {
            s if s < 0.03 => "start",
            s if s > 0.97 => "end",
            _ => "middle",
        };
        let class = if tick.wide_only { " class=\"tick-wide\"" } else { "" };
        let _ = write!(
            html,
            "<text{class} x=\"{}%\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            percent(share),
            BOTTOM + 20,
            escape(&tick.label),
        );
    }
    let _ = write!(
        html,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"100%\" height=\"{HEIGHT}\" preserveAspectRatio=\"none\" overflow=\"visible\">{drawing}</svg></svg></div>",
    );
    html
}

fn legend(chart: &TimeChart<'_>) -> String {
    let with_previous = chart.series.iter().any(|series| series.previous.is_some());
    if chart.series.len() < 2 && !with_previous {
        return String::new();
    }
    let mut html = String::from("<ul class=\"legend\">");
    for (index, series) in chart.series.iter().enumerate() {
        let _ = write!(html, "<li><i class=\"key {}\"></i>{}</li>", colour(index), escape(&series.label));
    }
    if with_previous {
        html.push_str("<li><i class=\"key previous\"></i>Previous period</li>");
    }
    if chart.unfinished {
        html.push_str("<li><i class=\"key unfinished\"></i>Still running</li>");
    }
    html.push_str("</ul>");
    html
}

/// A chart's place when there is nothing in it: the same height, so that nothing shifts later.
fn empty_figure(chart: &TimeChart<'_>) -> String {
    format!(
        "<div class=\"chart\"><svg class=\"chart-svg\" role=\"img\" width=\"100%\" height=\"{HEIGHT}\" aria-label=\"{}: no values in this range.\"><line class=\"zero\" x1=\"0\" x2=\"100%\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/><text x=\"50%\" y=\"{}\" text-anchor=\"middle\">No values in this range</text></svg></div>",
        escape(chart.name),
        (TOP + BOTTOM) / 2,
    )
}

/// From a value to its height in the drawing.
fn vertical(scale: &Scale, value: f64) -> f64 {
    f64::from(BOTTOM) - scale.share(value) * f64::from(BOTTOM - TOP)
}

/// The invisible strips that carry each bucket's values: hovered by weir.js, titles without it.
/// Beyond `STRIPS_MAX` buckets a strip stands for several and names the least and the greatest.
fn hits(chart: &TimeChart<'_>, positions: &dyn Fn(usize) -> f64, breadth: f64) -> String {
    const STRIPS_MAX: usize = 400;
    let buckets = chart.axis.len();
    let per_strip = buckets.div_ceil(STRIPS_MAX).max(1);
    let mut markup = String::new();
    for first in (0..buckets).step_by(per_strip) {
        let last = (first + per_strip).min(buckets) - 1;
        let (from, to) = (positions(first), positions(last));
        let left = ((from - breadth / 2.0) * WIDTH).max(0.0);
        let right = ((to + breadth / 2.0) * WIDTH).min(WIDTH);
        let mut title = escape(&chart.axis.full(first));
        if last > first {
            let _ = write!(title, " – {}", escape(&chart.axis.full(last)));
        }
        for series in chart.series {
            let _ = write!(title, "\n{}: {}", escape(&series.label), shown(&series.values, first, last));
            if let Some(previous) = &series.previous {
                let _ = write!(title, "\nPrevious period: {}", shown(previous, first, last));
            }
        }
        let _ = write!(
            markup,
            "<rect class=\"hit\" x=\"{}\" y=\"{TOP}\" width=\"{}\" height=\"{}\" data-x=\"{}\"><title>{title}</title></rect>",
            place(left),
            place((right - left).max(0.1)),
            BOTTOM - TOP,
            percent((from + to) / 2.0),
        );
    }
    markup
}

fn shown(values: &[Option<f64>], first: usize, last: usize) -> String {
    let present: Vec<f64> = (first..=last).filter_map(|at| values.get(at).copied().flatten()).collect();
    let (Some(low), Some(high)) =
        (present.iter().copied().reduce(f64::min), present.iter().copied().reduce(f64::max))
    else {
        return "none".to_owned();
    };
    let number = super::format::number;
    if low == high { number(low) } else { format!("{} to {}", number(low), number(high)) }
}

#[cfg(test)]
mod tests;
