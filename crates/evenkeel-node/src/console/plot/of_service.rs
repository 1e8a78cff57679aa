//! The plots of one service: what came, how long it took, who was there; and the same as a table.

use std::ops::RangeInclusive;

use evenkeel_core::{
    journal::{Entry, Level},
    time::WallTime,
};
use maud::{Markup, html};

use super::{Line, Mark, MarkKind, Plot, Sample, Unit, Window, plot};
use crate::{console::panels::words, history::Point};

/// Rows of the table; each is of several points where there are more.
const ROWS: usize = 24;

/// Marks of one plot; of more the newest are drawn.
const MARKS: usize = 40;

/// The plots of a service over its points, oldest first. `p99_ms` is the bound of its objective.
pub(crate) fn of_service(
    service: &str,
    points: &[Point],
    window: Window,
    marks: &[Mark],
    p99_ms: Option<u64>,
) -> Markup {
    let line = |label, class, filled, value: fn(&Point) -> Option<f64>| {
        let sample = |point: &Point| Sample { begin: point.begin(), end: point.at, value: value(point) };
        Line { label, class, filled, hides_zero: class == "errors", samples: points.iter().map(sample).collect() }
    };
    let of = |id: &str, title, unit, lines, bound| {
        let id = format!("plot-{service}-{id}");
        plot(&Plot { id, title, unit, window, lines, bound, marks })
    };
    let requests = line("requests", "requests", true, |point| Some(point.requests_per_s()));
    let errors = line("errors", "errors", true, |point| Some(point.errors_per_s()));
    let p50 = line("p50", "p50", false, |point| point.p50_ms.map(f64::from));
    let p99 = line("p99", "p99", false, |point| point.p99_ms.map(f64::from));
    let wanted = line("wanted", "wanted", false, |point| Some(f64::from(point.wanted)));
    let healthy = line("healthy", "healthy", true, |point| Some(f64::from(point.healthy)));
    let bound = p99_ms.map(super::real);
    html! {
        div class="plots" {
            (of("traffic", "Requests a second", Unit::PerSecond, vec![requests, errors], None))
            (of("latency", "Latency", Unit::Milliseconds, vec![p50, p99], bound))
            (of("instances", "Instances", Unit::Count, vec![wanted, healthy], None))
        }
        details class="plot-numbers" id={ "plot-" (service) "-numbers" } {
            summary { "The same in numbers" }
            (table(points))
            @let shown: Vec<&Mark> = marks.iter().filter(|mark| window.contains(mark.at)).collect();
            @if !shown.is_empty() {
                ul class="marks" {
                    @for mark in shown { li class=(mark.kind.as_str()) { (words::clock(mark.at)) " " (mark.title) } }
                }
            }
        }
    }
}

/// What is drawn, newest first.
fn table(points: &[Point]) -> Markup {
    let rows = points.chunks(points.len().div_ceil(ROWS).max(1));
    let rows = rows.filter_map(|chunk| chunk.iter().copied().reduce(Point::with));
    let or_dash = |ms: Option<f32>| words::latency(ms.map(f64::from));
    html! {
        div class="scroll" tabindex="0" role="group" aria-label="Numbers of the plots" {
            table {
                thead { tr {
                    @for head in ["Until", "Requests/s", "Errors", "p50", "p99", "Retries", "Held", "Healthy"] { th scope="col" { (head) } }
                } }
                tbody {
                    @for point in rows.rev() {
                        tr {
                            th scope="row" { (words::clock(point.at)) }
                            td { (words::rate(point.requests_per_s())) }
                            td { (words::count(point.errors.into())) }
                            td { (or_dash(point.p50_ms)) }
                            td { (or_dash(point.p99_ms)) }
                            td { (words::count(point.retries.into())) }
                            td { (words::count(point.held.into())) }
                            td { (point.healthy) "/" (point.wanted) }
                        }
                    }
                }
            }
        }
    }
}

/// What of the journal is worth a mark on a service's plots: its deploys, drills, and what was decided about it or its
/// instances. Entries may come in any order; marks are in that of time.
pub(crate) fn marks_of(service: &str, events: &[Entry], window: Window) -> Vec<Mark> {
    let times: RangeInclusive<WallTime> = window.from..=window.to;
    let about = |entry: &Entry| {
        entry.subject.strip_prefix(service).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mark = |entry: &Entry| {
        let kind = match entry.kind.as_str() {
            "drill" => MarkKind::Drill,
            // One mark for each run: where its harm began.
            "started" if entry.subject == "drill" => MarkKind::Drill,
            _ if entry.subject == "drill" => return None,
            kind if kind.contains("deploy") || kind.starts_with("roll") || kind.contains("release") => MarkKind::Deploy,
            _ if entry.level != Level::Info && !entry.reasons.is_empty() => MarkKind::Decision,
            _ => return None,
        };
        let concerns = about(entry) || kind == MarkKind::Drill && entry.subject == "drill";
        let mark = || Mark { at: entry.at, kind, title: format!("{}: {}", entry.subject, entry.message) };
        (concerns && times.contains(&entry.at)).then(mark)
    };
    let mut marks: Vec<Mark> = events.iter().filter_map(mark).collect();
    marks.sort_by_key(|mark| mark.at);
    marks.drain(..marks.len().saturating_sub(MARKS));
    marks
}
