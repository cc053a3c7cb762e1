//! Columns over time, one beside the other for several series.

use std::fmt::Write;

use super::{TimeChart, WIDTH, colour, empty_figure, figure, hits, line, place, vertical};

/// More columns than this are narrower than the gaps between them.
const COLUMNS_MAX: usize = 240;

/// Columns; lines instead when there would be too many of them to tell apart.
pub fn columns(chart: &TimeChart<'_>) -> String {
    if chart.is_empty() {
        return empty_figure(chart);
    }
    let buckets = chart.axis.len();
    if buckets * chart.series.len() > COLUMNS_MAX {
        return line(chart);
    }
    let scale = chart.scale();
    let position = |index: usize| (index as f64 + 0.5) / buckets as f64;
    let zero = vertical(&scale, 0.0);
    let breadth = WIDTH / buckets as f64 / (chart.series.len() as f64 + 0.25);
    let mut drawing = String::new();
    for bucket in 0..buckets {
        let left = WIDTH * bucket as f64 / buckets as f64 + breadth * 0.125;
        for (index, series) in chart.series.iter().enumerate() {
            let Some(value) = series.values.get(bucket).copied().flatten().filter(|v| v.is_finite()) else {
                continue;
            };
            let y = vertical(&scale, value);
            let running = if chart.unfinished && bucket + 1 == buckets { " unfinished" } else { "" };
            let _ = write!(
                drawing,
                "<rect class=\"column {}{running}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
                colour(index),
                place(left + breadth * index as f64),
                place(y.min(zero)),
                place(breadth),
                place((zero - y).abs()),
            );
        }
    }
    drawing.push_str(&hits(chart, &position, 1.0 / buckets as f64));
    figure(chart, &scale, &drawing, &position)
}
