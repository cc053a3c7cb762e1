//! Lines over time.

use std::fmt::Write;

use super::{TimeChart, WIDTH, colour, empty_figure, figure, hits, place, vertical};

/// Above this many buckets a line is drawn through the least and the greatest value of each group,
/// so that no peak is lost.
const POINTS_MAX: usize = 400;

/// Lines, with an area below a single one, the previous period in thin grey, and the last bucket
/// dashed while it is still running.
pub fn line(chart: &TimeChart<'_>) -> String {
    if chart.is_empty() {
        return empty_figure(chart);
    }
    let scale = chart.scale();
    let buckets = chart.axis.len();
    let position = |index: usize| if buckets < 2 { 0.5 } else { index as f64 / (buckets - 1) as f64 };
    let points = |values: &[Option<f64>]| -> Vec<Option<(f64, f64)>> {
        thinned(values, buckets)
            .into_iter()
            .map(|(index, value)| value.map(|value| (position(index) * WIDTH, vertical(&scale, value))))
            .collect()
    };

    let mut drawing = String::new();
    for series in chart.series {
        if let Some(previous) = &series.previous {
            drawing.push_str(&stroke("line previous", &points(previous)));
        }
    }
    let zero = vertical(&scale, 0.0);
    for (index, series) in chart.series.iter().enumerate() {
        let colour = colour(index);
        let mut solid = points(&series.values);
        if chart.series.len() == 1 {
            drawing.push_str(&area(&colour, &solid, zero));
        }
        if chart.unfinished && solid.len() >= 2 {
            let tail = solid.split_off(solid.len() - 1);
            let dashed = [solid[solid.len() - 1], tail[0]];
            drawing.push_str(&stroke(&format!("line unfinished {colour}"), &dashed));
        }
        drawing.push_str(&stroke(&format!("line {colour}"), &solid));
    }
    let breadth = if buckets < 2 { 1.0 } else { 1.0 / (buckets - 1) as f64 };
    drawing.push_str(&hits(chart, &position, breadth));
    figure(chart, &scale, &drawing, &position)
}

/// The values with their buckets; of many, the extremes of each group and the very last.
fn thinned(values: &[Option<f64>], buckets: usize) -> Vec<(usize, Option<f64>)> {
    let all: Vec<(usize, Option<f64>)> =
        (0..buckets).map(|at| (at, values.get(at).copied().flatten().filter(|v| v.is_finite()))).collect();
    if buckets <= POINTS_MAX {
        return all;
    }
    let (last, body) = all.split_last().expect("there are more than POINTS_MAX buckets");
    let mut kept = Vec::with_capacity(POINTS_MAX + 3);
    for group in body.chunks(body.len().div_ceil(POINTS_MAX / 2)) {
        let least = group.iter().filter(|(_, v)| v.is_some()).min_by(|a, b| by_value(a, b));
        let greatest = group.iter().filter(|(_, v)| v.is_some()).max_by(|a, b| by_value(a, b));
        match (least, greatest) {
            (Some(a), Some(b)) if a.0 < b.0 => kept.extend([*a, *b]),
            (Some(a), Some(b)) if a.0 > b.0 => kept.extend([*b, *a]),
            (Some(a), _) => kept.push(*a),
            // A group without values is a gap in the line.
            (None, _) => kept.push(group[0]),
        }
    }
    kept.push(*last);
    kept
}

fn by_value(a: &(usize, Option<f64>), b: &(usize, Option<f64>)) -> std::cmp::Ordering {
    a.1.unwrap_or(0.0).total_cmp(&b.1.unwrap_or(0.0))
}

/// The runs of points without a gap.
fn runs(points: &[Option<(f64, f64)>]) -> impl Iterator<Item = Vec<(f64, f64)>> {
    points
        .split(Option::is_none)
        .filter(|run| !run.is_empty())
        .map(|run| run.iter().flatten().copied().collect())
}

fn stroke(class: &str, points: &[Option<(f64, f64)>]) -> String {
    let (mut path, mut dots) = (String::new(), String::new());
    for run in runs(points) {
        let into = if run.len() == 1 { &mut dots } else { &mut path };
        for (number, (x, y)) in run.iter().enumerate() {
            let _ = write!(into, "{}{} {}", if number == 0 { 'M' } else { 'L' }, place(*x), place(*y));
        }
        if run.len() == 1 {
            // A line of no length with round ends is a dot that no stretching deforms.
            into.push_str("h0");
        }
    }
    let mut markup = String::new();
    if !path.is_empty() {
        let _ = write!(markup, "<path class=\"{class}\" d=\"{path}\"/>");
    }
    if !dots.is_empty() {
        let _ = write!(markup, "<path class=\"{class} dot\" d=\"{dots}\"/>");
    }
    markup
}

fn area(colour: &str, points: &[Option<(f64, f64)>], zero: f64) -> String {
    let mut path = String::new();
    for run in runs(points).filter(|run| run.len() > 1) {
        let _ = write!(path, "M{} {}", place(run[0].0), place(zero));
        for (x, y) in &run {
            let _ = write!(path, "L{} {}", place(*x), place(*y));
        }
        let _ = write!(path, "L{} {}Z", place(run[run.len() - 1].0), place(zero));
    }
    if path.is_empty() { String::new() } else { format!("<path class=\"area {colour}\" d=\"{path}\"/>") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_points_keep_their_extremes() {
        let mut values: Vec<Option<f64>> = (0..5_000).map(|n| Some(f64::from(n % 7))).collect();
        values[1_234] = Some(1e9);
        values[4_321] = Some(-1e9);
        values[2_000..2_300].fill(None);
        let kept = thinned(&values, values.len());
        assert!(kept.len() <= POINTS_MAX + 3, "{}", kept.len());
        assert!(kept.contains(&(1_234, Some(1e9))));
        assert!(kept.contains(&(4_321, Some(-1e9))));
        assert!(kept.iter().any(|(_, value)| value.is_none()), "the gap stays a gap");
        assert_eq!(kept.last().unwrap().0, 4_999);
        assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
