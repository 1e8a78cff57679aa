//! Spans over a logarithmic scale of time, each with the dots of what it spans: a line for each contender in each group.

use super::{Anchor, INNER, LEFT, Svg, WIDTH};

const TOP: f64 = 76.0;
const ROW: f64 = 20.0;
const GAP: f64 = 14.0;
/// What the names of the groups and the last dot's number need beside the scale.
const NAMES: f64 = 130.0;
const NUMBERS: f64 = 70.0;

/// Points in microseconds, ascending, in the order of the names.
pub struct Group {
    pub label: String,
    pub spans: Vec<Vec<f64>>,
}

/// `show` writes the last point of a span.
pub fn draw(title: &str, names: &[&str], groups: &[Group], show: fn(f64) -> String) -> String {
    let mut svg = Svg::new(title, names);
    let points = || groups.iter().flat_map(|group| group.spans.iter().flatten()).map(|point| point.max(1.0));
    let low = points().fold(f64::MAX, f64::min).log10().floor();
    let high = points().fold(10.0, f64::max).log10().ceil();
    let (left, width) = (LEFT + NAMES, INNER - NAMES - NUMBERS);
    let x = |us: f64| left + width * (us.max(1.0).log10() - low) / (high - low).max(1.0);
    let rows: usize = groups.iter().map(|group| group.spans.len()).sum();
    let bottom = TOP + rows as f64 * ROW + groups.len() as f64 * GAP;
    let mut decade = low;
    while decade <= high {
        let us = 10f64.powf(decade);
        svg.line((x(us), TOP), (x(us), bottom), "grid");
        svg.text((x(us), bottom + 18.0), Anchor::Middle, "faint", &show(us));
        decade += 1.0;
    }
    let mut y = TOP + GAP;
    for group in groups {
        let middle = y + ROW * (group.spans.len() as f64 - 1.0) / 2.0;
        svg.text((left - 12.0, middle + 4.0), Anchor::End, "faint", &group.label);
        for (series, span) in group.spans.iter().enumerate() {
            if let (Some(&first), Some(&last)) = (span.first(), span.last()) {
                svg.bar((x(first), y - 1.5), (x(last) - x(first), 3.0), series);
                for &point in span {
                    svg.dot((x(point), y), series);
                }
                svg.text((x(last).min(WIDTH - NUMBERS) + 9.0, y + 4.0), Anchor::Start, "", &show(last));
            }
            y += ROW;
        }
        y += GAP;
    }
    svg.finish(bottom + 34.0)
}
