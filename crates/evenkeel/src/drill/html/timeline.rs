//! The timeline: what clients saw from one tenth of a second to the next, with the harm and what followed.
//!
//! Two plots above each other share one axis of time: how many requests were answered, and how long they took. The harm
//! is a coloured span behind both, stages are numbered marks that the table below explains. Plain SVG with its numbers in
//! a table, so that nothing is only to be seen.

use evenkeel_core::drill::{Outage, Report, Stage, TICK_MS, Tick, in_words};
use maud::{Markup, html};

use super::{Told, prose};
use crate::{
    drill::summary,
    words::{count, plain},
};

/// Of the picture, in its own units; the plots lie between.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 30.0;
/// Top and bottom of the plot of requests, and of that of waits.
const RATE: (f64, f64) = (58.0, 178.0);
const WAIT: (f64, f64) = (224.0, 344.0);
const HEIGHT: f64 = 378.0;
/// The row of numbered marks above the plots, and how far neighbours are apart so that none lies upon another.
const MARK_ROW: f64 = 14.0;
const MARK_WIDTH: f64 = 22.0;

/// From times to places.
struct Axis {
    end_ms: u64,
}

impl Axis {
    fn x(&self, at_ms: u64) -> f64 {
        LEFT + (RIGHT - LEFT) * share(at_ms.min(self.end_ms), self.end_ms)
    }
}

pub(super) fn render(told: &Told<'_>) -> Markup {
    let report = told.report;
    if report.series.is_empty() {
        return html! {};
    }
    let last_tick = ticks(report).last().map_or(0, |tick| tick.at_ms + TICK_MS);
    let last_stage = report.stages.iter().filter(|stage| is_shown(stage)).map(|stage| stage.at_ms).max().unwrap_or(0);
    let axis = Axis { end_ms: last_tick.max(last_stage).max(1) };
    html! {
        section {
            h2 { "What happened when" }
            figure {
                figcaption {
                    "Each bar and point stands for a tenth of a second. Times count from the start of the drill; the harm "
                    "was done at " (moment(report.fault_at_ms)) "."
                    @if report.capacity.is_none() {
                        " Just around that moment test visitors hurry on purpose, so that some requests are on their "
                        "way when it strikes."
                    }
                }
                p.sideways { "The picture goes on to the right: move it sideways." }
                div.scroll tabindex="0" role="group" aria-label="scrolls sideways" { (picture(report, &axis)) }
                (legend(report))
            }
            (stages(report))
            (numbers(report))
        }
    }
}

fn picture(report: &Report, axis: &Axis) -> Markup {
    let per_s = |tick: &Tick| tick.requests * 1000 / TICK_MS;
    let most = nice(tallest(ticks(report).iter().map(per_s).collect()).max(10));
    let slowest_us = ticks(report).iter().filter_map(|tick| tick.worst_us).max().unwrap_or(0);
    let longest_ms = nice(slowest_us.div_ceil(1000).max(5));
    let description = format!(
        "{} requests in {}, {} failed; the longest wait was {}.",
        report.requests,
        in_words(axis.end_ms),
        report.errors,
        in_words(report.worst_ms)
    );
    html! {
        svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-labelledby="plot-title plot-desc" {
            title id="plot-title" { "Timeline of the drill" }
            desc id="plot-desc" { (description) }
            (spans(report, axis))
            (frame(RATE, most, &count))
            (frame(WAIT, longest_ms, &in_words))
            @for tick in ticks(report) { (bar(tick, per_s(tick), most, report.fault_at_ms, axis)) }
            (waits(ticks(report), longest_ms, axis))
            (times(axis))
            (harm(report, axis))
            (marks(report, axis))
            (name("requests a second", RATE))
            (name("wait for an answer", WAIT))
            (beyond(ticks(report), &per_s, most, axis))
            (down(report, axis))
        }
    }
}

/// How far what leaves the plot goes on: beside it, where no mark stands.
fn beyond(series: &[Tick], per_s: &dyn Fn(&Tick) -> u64, most: u64, axis: &Axis) -> Markup {
    let Some(tick) = series.iter().filter(|tick| per_s(tick) > most).max_by_key(|tick| tick.requests) else {
        return html! {};
    };
    let first = series.iter().find(|tick| per_s(tick) > most).unwrap_or(tick);
    html! {
        text.beyond x=(n(axis.x(first.at_ms) - 6.0)) y=(n(RATE.0 + 16.0)) text-anchor="end" {
            "cut off; up to " (count(per_s(tick))) " →"
        }
    }
}

/// The moment of the harm, through both plots; what stands between them stays free.
fn harm(report: &Report, axis: &Axis) -> Markup {
    let x = n(axis.x(report.fault_at_ms));
    html! {
        @for (top, bottom) in [RATE, WAIT] { line.instant x1=(x) x2=(x) y1=(n(top)) y2=(n(bottom)) {} }
    }
}

/// The harm, and the time until what the drill waits for was so again.
fn spans(report: &Report, axis: &Axis) -> Markup {
    let span = |class: &'static str, from: u64, to: u64| {
        let (x, width) = (axis.x(from), axis.x(to) - axis.x(from));
        html! { rect class=(class) x=(n(x)) y=(n(RATE.0)) width=(n(width.max(1.0))) height=(n(WAIT.1 - RATE.0)) {} }
    };
    let began = report.started_by_drill_ms.map(|ms| report.fault_at_ms + ms);
    let recovered = report.recovery_ms.map_or(axis.end_ms, |ms| began.unwrap_or(report.fault_at_ms) + ms);
    html! {
        (span("heal", began.unwrap_or(report.fault_at_ms), recovered))
        @if let Some(began) = began { (span("harm", report.fault_at_ms, began)) }
        @if let Some(released) = report.released_at_ms { (span("harm", report.fault_at_ms, released)) }
    }
}

/// What a plot is about.
fn name(name: &str, (top, _): (f64, f64)) -> Markup {
    html! { text.name x=(n(LEFT)) y=(n(top - 8.0)) { (name) } }
}

/// Lines of a plot with their values.
fn frame((top, bottom): (f64, f64), most: u64, words: &dyn Fn(u64) -> String) -> Markup {
    html! {
        @for (part, value) in [(0.0, 0), (0.5, most / 2), (1.0, most)] {
            @let y = bottom - (bottom - top) * part;
            line.grid x1=(n(LEFT)) x2=(n(RIGHT)) y1=(n(y)) y2=(n(y)) {}
            text x=(n(LEFT - 8.0)) y=(n(y + 4.0)) text-anchor="end" { (words(value)) }
        }
    }
}

fn bar(tick: &Tick, per_s: u64, most: u64, fault_at_ms: u64, axis: &Axis) -> Markup {
    let (top, bottom) = RATE;
    let x = axis.x(tick.at_ms);
    let width = (axis.x(tick.at_ms + TICK_MS) - x - 0.6).max(0.6);
    let height = (bottom - top) * share(per_s.min(most), most);
    let failed = height * share(tick.errors, tick.requests.max(1));
    let leaves = per_s > most;
    html! {
        @if tick.requests > 0 {
            rect.rate x=(n(x)) y=(n(bottom - height)) width=(n(width)) height=(n(height)) {}
        }
        @if leaves {
            // It goes on beyond the plot, and is cut through.
            @let tooth = n((width + 4.0) / 4.0);
            path.cut d=(format!("M{} {} l{tooth} -8 l{tooth} 8 l{tooth} -8 l{tooth} 8", n(x - 2.0), n(top + 20.0))) {}
        }
        @if tick.errors > 0 {
            // At least so high that one among many is seen. No drill does harm while requests fail, so in the tick of the
            // harm they failed after it.
            @let failed = failed.max(4.0);
            @let is_of_harm = (tick.at_ms..tick.at_ms + TICK_MS).contains(&fault_at_ms);
            @let from = if is_of_harm { axis.x(fault_at_ms) } else { x };
            rect.failed x=(n(from)) y=(n(bottom - failed)) width=(n((x + width - from).max(2.0))) height=(n(failed)) {}
        }
    }
}

/// How long nobody was answered, between the plots.
fn down(report: &Report, axis: &Axis) -> Markup {
    let Some(outage) = report.outage.filter(Outage::is_down) else { return html! {} };
    let (from, to) = (axis.x(outage.from_ms), axis.x(outage.until_ms()));
    let (y, middle) = (RATE.1 + 10.0, f64::midpoint(from, to).clamp(LEFT + 220.0, RIGHT - 80.0));
    html! {
        rect.failed x=(n(from)) y=(n(y - 2.5)) width=(n((to - from).max(2.0))) height="5" {}
        text.down x=(n(middle)) y=(n(y + 17.0)) text-anchor="middle" { "nobody answered: " (in_words(outage.lasted_ms)) }
    }
}

/// A line of what 99 of 100 took, with gaps where nothing was answered, and a bar up to the slowest.
fn waits(series: &[Tick], longest_ms: u64, axis: &Axis) -> Markup {
    let (top, bottom) = WAIT;
    let y = |us: u64| bottom - (bottom - top) * share(us, longest_ms * 1000);
    let middle = |tick: &Tick| axis.x(tick.at_ms + TICK_MS / 2);
    let mut path = String::new();
    let mut pen_down = false;
    for tick in series {
        if let Some(us) = tick.p99_us {
            let pen = if pen_down { 'L' } else { 'M' };
            path.push_str(&format!("{pen}{} {} ", n(middle(tick)), n(y(us))));
        }
        pen_down = tick.p99_us.is_some();
    }
    html! {
        @for tick in series {
            @if let Some(worst) = tick.worst_us {
                @let width = (axis.x(TICK_MS) - axis.x(0) - 0.6).max(0.6);
                rect.worst x=(n(axis.x(tick.at_ms))) y=(n(y(worst))) width=(n(width)) height=(n((bottom - y(worst)).max(0.5))) {}
            }
        }
        path.wait d=(path.trim_end()) {}
    }
}

/// The axis of time.
fn times(axis: &Axis) -> Markup {
    let step = [500, 1000, 2000, 5000, 10_000, 20_000, 60_000]
        .into_iter()
        .find(|step| axis.end_ms / step <= 10)
        .unwrap_or(300_000);
    html! {
        @for second in 0..=axis.end_ms / step {
            @let x = axis.x(second * step);
            line.grid x1=(n(x)) x2=(n(x)) y1=(n(WAIT.1)) y2=(n(WAIT.1 + 6.0)) {}
            text x=(n(x)) y=(n(WAIT.1 + 22.0)) text-anchor="middle" { (seconds(second * step)) }
        }
    }
}

/// Numbered marks of stages.
fn marks(report: &Report, axis: &Axis) -> Markup {
    let balls = side_by_side(shown(report).map(|(_, stage)| axis.x(stage.at_ms)).collect());
    html! {
        @for ((number, stage), ball) in shown(report).zip(balls) {
            @let x = n(axis.x(stage.at_ms));
            path.stage d=(format!(
                "M{} {MARK_ROW} L{x} {} V{} M{x} {} V{}", n(ball), n(RATE.0 - 2.0), n(RATE.1), n(WAIT.0), n(WAIT.1)
            )) fill="none" {}
            circle.ball cx=(n(ball)) cy=(n(MARK_ROW)) r="9" { title { (stage.said(report.noticed_by_drill)) ": " (stage.detail) } }
            text.number x=(n(ball)) y=(n(MARK_ROW + 4.0)) { (number) }
        }
    }
}

/// Moves marks apart: to the right of their neighbours, and back where there is no room to the right.
fn side_by_side(mut places: Vec<f64>) -> Vec<f64> {
    let mut free = LEFT;
    for place in &mut places {
        *place = place.max(free);
        free = *place + MARK_WIDTH;
    }
    let mut room = RIGHT;
    for place in places.iter_mut().rev() {
        *place = place.min(room);
        room = *place - MARK_WIDTH;
    }
    places
}

fn legend(report: &Report) -> Markup {
    let swatch = |class: &'static str, words: &str| {
        html! { li { svg.plot-key viewBox="0 0 22 16" aria-hidden="true" { g.plot { rect class=(class) width="22" height="16" {} } } (words) } }
    };
    html! {
        ul.legend {
            (swatch("rate", "requests with a good answer"))
            (swatch("failed", "requests that failed"))
            (swatch("dot", "line: 99 of 100 good answers came within"))
            (swatch("worst", "bar: the longest wait, for an answer or an error"))
            (swatch("strike", "line: the moment of the harm"))
            @if report.released_at_ms.is_some() { (swatch("harm", "while the harm lasted")) }
            @if report.started_by_drill_ms.is_some() { (swatch("harm", "until the drill itself started everything again")) }
            (swatch("heal", &format!("until {} again", summary::well(report))))
        }
    }
}

/// Stages that are marked: clients that stop and writes that are looked for say nothing about the stack.
fn is_shown(stage: &Stage) -> bool {
    !matches!(stage.name.as_str(), "load" | "stopped" | "verified")
}

fn shown(report: &Report) -> impl Iterator<Item = (usize, &Stage)> {
    report.stages.iter().filter(|stage| is_shown(stage)).enumerate().map(|(index, stage)| (index + 1, stage))
}

fn stages(report: &Report) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label="scrolls sideways" { table.stages {
            thead { tr { th { "mark" } th.n { "at" } th.n { "after the harm" } th { "what" } } }
            tbody { @for (number, stage) in shown(report) { tr {
                td { (number) }
                td.n { (moment(stage.at_ms)) }
                td.n { @if stage.at_ms >= report.fault_at_ms { (in_words(stage.at_ms - report.fault_at_ms)) } @else { "before" } }
                td { b { (stage.said(report.noticed_by_drill)) } ": " (prose(&plain(&stage.detail))) }
            } } }
        } }
    }
}

/// Up to the last one in which anything happened: while writes are looked for nobody visits.
fn ticks(report: &Report) -> &[Tick] {
    let last = report.series.iter().rposition(|tick| tick.requests > 0).map_or(0, |last| last + 1);
    &report.series[..last]
}

/// How high the plot of rates must be: visitors that hurry for a moment must not make a line of everything else.
fn tallest(mut rates: Vec<u64>) -> u64 {
    rates.retain(|rate| *rate > 0);
    rates.sort_unstable();
    let most = rates.last().copied().unwrap_or(0);
    let usual = rates.get((rates.len() * 9 / 10).saturating_sub(1)).copied().unwrap_or(most);
    if most > 2 * usual { usual + usual / 2 } else { most }
}

fn numbers(report: &Report) -> Markup {
    let ms = |us: Option<u64>| us.map_or_else(|| "–".to_owned(), milliseconds);
    let longest = |us: Option<u64>| us.map_or_else(|| "–".to_owned(), |us| in_words(us.div_ceil(1000)));
    let sum = |of: fn(&Tick) -> u64| ticks(report).iter().map(of).sum();
    html! {
        details {
            summary { "The numbers behind the picture" }
            div.scroll tabindex="0" role="group" aria-label="scrolls sideways" { table {
                thead { tr { th.n { "from" } th.n { "requests" } th.n { "failed" } th.n { "half of the answers within" } th.n { "99 of 100 within" } th.n { "longest wait" } } }
                tfoot { tr {
                    th { "in all" }
                    td.n { (count(sum(|tick| tick.requests))) } td.n { (count(sum(|tick| tick.errors))) } td {} td {}
                    td.n { (longest(ticks(report).iter().filter_map(|tick| tick.worst_us).max())) }
                } }
                tbody { @for tick in ticks(report) { tr {
                    td.n { (seconds(tick.at_ms)) } td.n { (tick.requests) } td.n { (tick.errors) }
                    td.n { (ms(tick.p50_us)) } td.n { (ms(tick.p99_us)) } td.n { (longest(tick.worst_us)) }
                } } }
            } }
        }
    }
}

/// Rounded up like every wait of a report; short ones to tenths.
fn milliseconds(us: u64) -> String {
    let tenths = us.div_ceil(100);
    if tenths < 100 { format!("{}.{} ms", tenths / 10, tenths % 10) } else { in_words(us.div_ceil(1000)) }
}

/// Of the axis and of ticks, which begin at whole tenths.
fn seconds(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{}.{} s", ms / 1000, ms % 1000 / 100) }
}

/// A moment of the run, finer than the tenths that bars stand for: the harm strikes within one.
fn moment(ms: u64) -> String {
    let hundredths = ms.saturating_add(5) / 10;
    format!("{}.{:02} s", hundredths / 100, hundredths % 100)
}

/// The next number of two digits at most that divides well by two, times a power of ten: a scale that fits.
fn nice(value: u64) -> u64 {
    let mut scale = 1_u64;
    loop {
        if let Some(found) =
            [10, 12, 16, 20, 24, 30, 40, 50, 60, 80].into_iter().map(|digit| digit * scale).find(|nice| *nice >= value)
        {
            return found;
        }
        scale = scale.saturating_mul(10);
        if scale > u64::MAX / 10 {
            return value;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// A place in the picture, with one decimal.
fn n(place: f64) -> String {
    format!("{place:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_side_by_side_and_in_the_picture() {
        let marks = side_by_side(vec![LEFT, LEFT + 1.0, 400.0, 401.0, 402.0, RIGHT - 3.0, RIGHT - 1.0, RIGHT]);
        assert!(marks.windows(2).all(|pair| pair[1] - pair[0] >= MARK_WIDTH - 0.001), "{marks:?}");
        assert!(marks[0] >= LEFT && marks[7] <= RIGHT, "{marks:?}");
        assert_eq!(side_by_side(vec![300.0, 500.0]), [300.0, 500.0], "where there is room each stands above its line");
    }

    #[test]
    fn waits_are_rounded_up_and_moments_to_the_nearest() {
        assert_eq!(
            (milliseconds(310), milliseconds(9_900), milliseconds(9_901)),
            ("0.4 ms".into(), "9.9 ms".into(), "10 ms".into())
        );
        assert_eq!((milliseconds(179_100), milliseconds(2_100_000)), ("180 ms".into(), "2.1 s".into()));
        assert_eq!((moment(1084), moment(1085), moment(999)), ("1.08 s".into(), "1.09 s".into(), "1.00 s".into()));
    }
}
