//! Plots: lines over time as SVG, made from the history.
//!
//! The drawing is stretched to whatever room there is, so it has lines and areas only; words stand around it, where
//! they keep their size. Where nothing was measured a line is broken rather than drawn through. What is drawn is said
//! too: by a description for those who cannot see it, and by a table of numbers for everybody. Colours and sizes come
//! from classes alone; nothing here knows a clock, and nothing is kept.

mod of_service;
mod scale;

use evenkeel_core::time::WallTime;
use maud::{Markup, html};

pub(crate) use self::of_service::{marks_of, of_service};
use self::scale::Scale;
use super::panels::words;

/// The drawing's own units.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;

/// How far one point may begin after the end of the one before it, in milliseconds, without a gap between them.
const SLACK_MS: u64 = 5_000;

/// The time that a plot shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: WallTime,
    pub(crate) to: WallTime,
}

impl Window {
    /// So long until now. It moves on only as often as there is another point, so that the same history makes the same
    /// text meanwhile.
    pub(crate) fn ending(now: WallTime, length_ms: u64) -> Self {
        let step_ms = if length_ms > 2 * 3_600_000 { 60_000 } else { 10_000 };
        let to_ms = now.as_millis() / step_ms * step_ms;
        Self { from: WallTime::from_millis(to_ms.saturating_sub(length_ms)), to: WallTime::from_millis(to_ms) }
    }

    /// Where a time lies, from the left.
    fn x(self, at: WallTime) -> f64 {
        let length_ms = self.to.as_millis().saturating_sub(self.from.as_millis()).max(1);
        let at_ms = at.as_millis().saturating_sub(self.from.as_millis());
        (WIDTH * real(at_ms) / real(length_ms)).min(WIDTH)
    }

    fn contains(self, at: WallTime) -> bool {
        self.from <= at && at <= self.to
    }

    /// The time that lies so many quarters from the left.
    fn quarter(self, quarters: u64) -> WallTime {
        let length_ms = self.to.as_millis().saturating_sub(self.from.as_millis());
        WallTime::from_millis(self.from.as_millis() + length_ms * quarters / 4)
    }
}

/// One drawing.
#[derive(Clone, Debug)]
pub(crate) struct Plot<'a> {
    /// Its name among all of the page.
    pub(crate) id: String,
    /// What it shows.
    pub(crate) title: &'a str,
    pub(crate) unit: Unit,
    pub(crate) window: Window,
    pub(crate) lines: Vec<Line<'a>>,
    /// What must not be exceeded.
    pub(crate) bound: Option<f64>,
    pub(crate) marks: &'a [Mark],
}

/// One line of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) label: &'a str,
    /// Its class, which colours it.
    pub(crate) class: &'static str,
    /// Whether what is below it is filled.
    pub(crate) filled: bool,
    /// Whether nothing is drawn where the value is zero: of what should not be, a line along the axis would look like some.
    pub(crate) hides_zero: bool,
    /// Oldest first.
    pub(crate) samples: Vec<Sample>,
}

/// A value over the time from `begin` to `end`; `None` where there was none to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) begin: WallTime,
    pub(crate) end: WallTime,
    pub(crate) value: Option<f64>,
}

/// What values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    PerSecond,
    Milliseconds,
    Count,
}

impl Unit {
    fn in_words(self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{}/s", words::rate(value)),
            Self::Milliseconds => words::latency(Some(value)),
            Self::Count => short(value),
        }
    }

    /// The same beside the axis, where the plot's title has said what it is.
    fn on_axis(self, value: f64) -> String {
        match self {
            Self::Milliseconds if value > 0.0 => words::latency(Some(value)).replace(".0 ", " "),
            _ if value >= 1e6 => format!("{}M", short(value / 1e6)),
            _ if value >= 1e4 => format!("{}k", short(value / 1e3)),
            _ if value > 0.0 && value < 1.0 => format!("{value}"),
            _ => short(value),
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) at: WallTime,
    pub(crate) kind: MarkKind,
    pub(crate) title: String,
}

/// Of what kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarkKind {
    Deploy,
    Drill,
    Decision,
}

impl MarkKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Drill => "drill",
            Self::Decision => "decision",
        }
    }
}

/// The drawing, with its axes and what its colours mean.
pub(crate) fn plot(plot: &Plot<'_>) -> Markup {
    let values = plot.lines.iter().flat_map(|line| &line.samples).filter_map(|sample| sample.value);
    let scale = Scale::upto(values.chain(plot.bound).fold(0.0, f64::max), plot.unit == Unit::Count);
    let (title, desc) = (format!("{}-title", plot.id), format!("{}-desc", plot.id));
    let marks = || plot.marks.iter().filter(|mark| plot.window.contains(mark.at));
    html! {
        figure class="plot" {
            figcaption {
                span class="what" { (plot.title) }
                @for line in &plot.lines { span class={ "key " (line.class) } { (line.label) " " b { (newest(plot, line)) } } }
                @if let Some(bound) = plot.bound { span class="key bound" { "objective " b { (plot.unit.in_words(bound)) } } }
            }
            div class="scale" aria-hidden="true" {
                @for tick in scale.ticks() { span { (plot.unit.on_axis(tick)) } }
            }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-labelledby={ (title) " " (desc) } {
                title id=(title) { (plot.title) }
                desc id=(desc) { (description(plot, marks().count())) }
                path class="grid" d={ "M0 " (HEIGHT / 2.0) "H" (WIDTH) "M250 0V" (HEIGHT) "M500 0V" (HEIGHT) "M750 0V" (HEIGHT) } {}
                @for line in &plot.lines {
                    @let runs = runs(plot.window, scale, line);
                    @if line.filled { path class={ "area " (line.class) } d=(area(&runs)) {} }
                    path class={ "line " (line.class) } d=(stroke(&runs)) {}
                }
                @if let Some(bound) = plot.bound { path class="bound" d={ "M0 " (scale.y(bound)) "H" (WIDTH) } {} }
                @for mark in marks() {
                    g class={ "mark-at " (mark.kind.as_str()) } {
                        title { (mark.title) }
                        path d={ "M" (short(plot.window.x(mark.at))) " 0V" (HEIGHT) } {}
                    }
                }
            }
            div class="axis" aria-hidden="true" { @for quarter in [0, 2, 4] { (words::clock(plot.window.quarter(quarter))) } }
        }
    }
}

/// The newest value of a line, if it reaches the end.
fn newest(plot: &Plot<'_>, line: &Line<'_>) -> String {
    let last =
        line.samples.last().filter(|last| last.end.as_millis() + 2 * SLACK_MS + 60_000 > plot.window.to.as_millis());
    last.and_then(|last| last.value).map_or_else(|| "–".to_owned(), |value| plot.unit.in_words(value))
}

/// What can be seen, in words.
fn description(plot: &Plot<'_>, marks: usize) -> String {
    let of_line = |line: &Line<'_>| {
        let values = || line.samples.iter().filter_map(|sample| sample.value);
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        if values().next().is_none() {
            return format!("{}: nothing was measured", line.label);
        }
        let (least, most) = (plot.unit.in_words(least), plot.unit.in_words(most));
        format!("{}: from {least} to {most}, now {}", line.label, newest(plot, line))
    };
    let mut text = plot.lines.iter().map(of_line).collect::<Vec<_>>().join("; ");
    match marks {
        0 => {}
        1 => text.push_str("; one thing happened, which the table below names"),
        marks => text.push_str(&format!("; {marks} things happened, which the table below names")),
    }
    text
}

/// Points of a line without a gap.
type Run = Vec<(f64, f64)>;

/// The line's pieces. A value stands in the middle of its time, and a piece reaches from its first begin to its last
/// end, so that even a single value is seen.
fn runs(window: Window, scale: Scale, line: &Line<'_>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut open: Option<Sample> = None;
    for sample in &line.samples {
        let Some(value) = sample.value.filter(|value| *value > 0.0 || !line.hides_zero) else {
            close(&mut runs, open.take(), window);
            continue;
        };
        let y = scale.y(value);
        let begin = sample.begin.max(window.from);
        if open.is_some_and(|former| sample.begin.as_millis() > former.end.as_millis() + SLACK_MS) {
            close(&mut runs, open.take(), window);
        }
        if open.is_none() {
            runs.push(vec![(window.x(begin), y)]);
        }
        if let Some(run) = runs.last_mut() {
            run.push((f64::midpoint(window.x(begin), window.x(sample.end)), y));
        }
        open = Some(*sample);
    }
    close(&mut runs, open, window);
    runs
}

fn close(runs: &mut [Run], last: Option<Sample>, window: Window) {
    if let (Some(last), Some(run)) = (last, runs.last_mut())
        && let Some((_, y)) = run.last().copied()
    {
        run.push((window.x(last.end), y));
    }
}

fn stroke(runs: &[Run]) -> String {
    runs.iter().flat_map(|run| ["M".to_owned(), joined(run)]).collect()
}

fn area(runs: &[Run]) -> String {
    let piece = |run: &Run| {
        let (first, last) = (run.first()?.0, run.last()?.0);
        Some(format!("M{} {HEIGHT}L{}L{} {HEIGHT}Z", short(first), joined(run), short(last)))
    };
    runs.iter().filter_map(piece).collect()
}

fn joined(run: &Run) -> String {
    run.iter().map(|(x, y)| format!("{} {}", short(*x), short(*y))).collect::<Vec<_>>().join("L")
}

/// As many digits as a drawing needs.
fn short(x: f64) -> String {
    let text = format!("{x:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

#[expect(clippy::cast_precision_loss, reason = "a drawing is no more exact than that")]
fn real(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests;
