//! Bars in groups, each with the range from its least to its greatest.

use super::{Anchor, INNER, LEFT, Svg};
use crate::results::Spread;

const TOP: f64 = 84.0;
const BASE: f64 = 270.0;

/// What is compared with one another, in the order of the names; none where nothing was measured.
pub struct Group {
    pub label: String,
    pub bars: Vec<Option<Spread>>,
}

/// `digits` are those after the point in what is written above a bar.
pub fn draw(title: &str, names: &[&str], groups: &[Group], digits: usize) -> String {
    let mut svg = Svg::new(title, names);
    let most = groups.iter().flat_map(|group| group.bars.iter().flatten()).map(|bar| bar.max).fold(0.0, f64::max);
    let y = |value: f64| BASE - (BASE - TOP) * (value / most.max(f64::MIN_POSITIVE));
    svg.line((LEFT, BASE), (LEFT + INNER, BASE), "grid");
    let room = INNER / groups.len().max(1) as f64;
    let width = (room * 0.8 / names.len().max(1) as f64).min(56.0);
    for (at, group) in groups.iter().enumerate() {
        let middle = LEFT + room * (at as f64 + 0.5);
        let start = middle - width * group.bars.len() as f64 / 2.0;
        for (series, bar) in group.bars.iter().enumerate() {
            let Some(bar) = bar else { continue };
            let x = start + width * series as f64;
            let centre = x + width / 2.0;
            svg.bar((x + 1.0, y(bar.median)), (width - 2.0, BASE - y(bar.median)), series);
            svg.line((centre, y(bar.min)), (centre, y(bar.max)), "mark");
            svg.text((centre, y(bar.max) - 5.0), Anchor::Middle, "", &format!("{:.digits$}", bar.median));
        }
        svg.text((middle, BASE + 20.0), Anchor::Middle, "faint", &group.label);
    }
    svg.finish(BASE + 36.0)
}
