//! A run of a drill as a picture over time: what clients saw, the span of the harm, and what happened when.
//!
//! The picture is stretched to whatever room there is, so it has lines and areas only; all words stand around it, where
//! they keep their size. Everything it shows is said by the list of stages too.

use evenkeel_core::drill::{self, RunState, TICK_MS, in_words};
use maud::{Markup, html};

use super::words::{count, latency};
use crate::drills::Run;

/// Height of the picture, in its own units.
const HEIGHT: f64 = 100.0;

/// What is drawn at most, in ticks: longer runs are drawn by several ticks at once.
const MOST_BARS: usize = 240;

/// The bottom of the scale of latencies, in microseconds.
const LEAST_US: u64 = 300;

/// One bar: what clients saw in a few ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bar {
    requests: f64,
    errors: f64,
    p99_us: Option<u64>,
}

/// The timeline of a run.
pub(super) fn timeline(run: &Run) -> Markup {
    let (bars, bar_ms) = bars(run);
    let now = bars.len().max(1);
    // While it runs, what is to come has room, so that the picture fills and does not shrink.
    let room = now.max(usual_ticks(run));
    let length_ms = bar_ms * u64::try_from(room).unwrap_or(u64::MAX);
    let most = bars.iter().map(|bar| bar.requests).fold(1.0, f64::max);
    let slowest = bars.iter().filter_map(|bar| bar.p99_us).max();
    let [width, now] = [room, now].map(|bars| f64::from(u32::try_from(bars).unwrap_or(u32::MAX)));
    let at = |ms: u64| real(ms) / real(bar_ms);
    let noticed_by_drill = drill::find(&run.drill).is_some_and(drill::Drill::silences_the_stack);
    html! {
        figure class="timeline" {
            figcaption {
                span class="key rate" { "requests, at most " b { (count(whole(most * 1000.0 / real(bar_ms)))) } " a second" }
                span class="key errors" { "errors " b { (count(run.ticks.iter().map(|tick| tick.errors).sum())) } }
                span class="key p99" { "p99, at most " b { (latency(slowest.map(|us| real(us) / 1000.0))) } }
                span class="key fault" { "the harm" }
            }
            svg viewBox={ "0 0 " (width) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label={ "What test visitors saw during " (run.drill) "; the stages are listed below" } {
                @if let Some((begin, end)) = run.fault() {
                    @let end = end.map_or(now, |end| at(end).min(now));
                    rect class="fault" x=(round(at(begin))) y="0" width=(round((end - at(begin)).max(width / 300.0))) height=(HEIGHT) {}
                }
                @for (index, bar) in bars.iter().enumerate() {
                    @let height = 60.0 * bar.requests / most;
                    @let bad = 60.0 * bar.errors / most;
                    @if bar.requests > 0.0 { rect class="rate" x=(index) y=(round(HEIGHT - height)) width="0.9" height=(round(height)) {} }
                    @if bar.errors > 0.0 { rect class="errors" x=(index) y=(round(HEIGHT - bad.max(4.0))) width="0.9" height=(round(bad.max(4.0))) {} }
                }
                path class="p99" d=(p99(&bars, slowest.unwrap_or(1))) {}
                @for stage in &run.stages { path class="stage" d={ "M" (round(at(stage.at_ms))) " 0V" (HEIGHT) } {} }
            }
            div class="axis" aria-hidden="true" { span { "0 s" } span { (in_words(length_ms / 2)) } span { (in_words(length_ms)) } }
            ol class="stages" tabindex="0" aria-label="Stages" {
                @for stage in &run.stages {
                    li { span class="number" { (in_words(stage.at_ms)) } b { (stage.said(noticed_by_drill)) } span { (stage.detail) } }
                }
            }
        }
    }
}

/// How many ticks a run that goes on is expected to have; of one that is over, nothing is.
fn usual_ticks(run: &Run) -> usize {
    let usual = drill::find(&run.drill).filter(|_| run.state == RunState::Running);
    let ticks = usual.map_or(0, |drill| drill.usual_s().0 * 1000 / TICK_MS);
    usize::try_from(ticks).unwrap_or(0).min(MOST_BARS)
}

/// Ticks, several at once where there are many, and how long a bar is.
fn bars(run: &Run) -> (Vec<Bar>, u64) {
    let last = run.ticks.iter().map(|tick| tick.at_ms / TICK_MS).max().map_or(0, |last| last + 1);
    let last = usize::try_from(last).unwrap_or(0);
    let each = last.div_ceil(MOST_BARS).max(1);
    let mut bars = vec![Bar::default(); last.div_ceil(each).min(MOST_BARS)];
    for tick in &run.ticks {
        let index = usize::try_from(tick.at_ms / TICK_MS).unwrap_or(usize::MAX) / each;
        let Some(bar) = bars.get_mut(index) else { continue };
        bar.requests += real(tick.requests);
        bar.errors += real(tick.errors);
        bar.p99_us = bar.p99_us.max(tick.p99_us);
    }
    (bars, TICK_MS * u64::try_from(each).unwrap_or(1))
}

/// The line of what was slow, on a logarithmic scale in the upper part: a second and a millisecond both show.
fn p99(bars: &[Bar], slowest_us: u64) -> String {
    use std::fmt::Write;
    let above = |us: u64| (real(us.max(LEAST_US)) / real(LEAST_US)).ln();
    let top = above(slowest_us.max(10 * LEAST_US));
    let mut path = String::new();
    let mut goes_on = false;
    for (index, bar) in bars.iter().enumerate() {
        let Some(us) = bar.p99_us else {
            goes_on = false;
            continue;
        };
        let x = real(u64::try_from(index).unwrap_or(u64::MAX)) + 0.45;
        let y = 94.0 - 90.0 * above(us) / top;
        let _ = write!(path, "{}{} {}", if goes_on { "L" } else { "M" }, round(x), round(y));
        goes_on = true;
    }
    path
}

/// As many digits as a picture needs.
fn round(x: f64) -> String {
    let text = format!("{x:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "a picture is no more exact than that")]
fn real(n: u64) -> f64 {
    n as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are small and not negative")]
fn whole(x: f64) -> u64 {
    x.round() as u64
}

#[cfg(test)]
mod tests {
    use evenkeel_core::drill::{Stage, Tick};

    use super::*;

    fn run(ticks: u64) -> Run {
        let tick =
            |n: u64| Tick { at_ms: n * TICK_MS, requests: 10, errors: n % 2, p99_us: Some(900), ..Tick::default() };
        Run {
            drill: "kill-instance".to_owned(),
            ticks: (0..ticks).map(tick).collect(),
            stages: vec![Stage::new("fault", 1000, "SIGKILL"), Stage::new("recovered", 1900, "well again")],
            ..Run::default()
        }
    }

    #[test]
    fn many_ticks_are_drawn_together_and_none_is_lost() {
        for ticks in [0, 1, 240, 241, 10_000] {
            let (bars, _) = bars(&run(ticks));
            assert!(bars.len() <= MOST_BARS);
            let sum: f64 = bars.iter().map(|bar| bar.requests).sum();
            assert!((sum - real(10 * ticks)).abs() < 0.5, "{ticks}: {sum}");
        }
    }

    #[test]
    fn what_is_to_come_has_room_and_the_harm_ends_now() {
        let mut run = run(12);
        run.stages.truncate(1);
        run.state = RunState::Running;
        let text = timeline(&run).into_string();
        let usual = drill::find("kill-instance").unwrap().usual_s().0 * 1000 / TICK_MS;
        assert!(usual > 12 && text.contains(&format!("viewBox=\"0 0 {usual} 100\"")), "{text}");
        assert!(text.contains("class=\"fault\" x=\"10\" y=\"0\" width=\"2\""), "{text}");
        run.state = RunState::Passed;
        assert!(timeline(&run).into_string().contains("viewBox=\"0 0 12 100\""));
    }

    #[test]
    fn the_harm_and_the_stages_are_drawn_and_said() {
        let text = timeline(&run(30)).into_string();
        for part in ["class=\"fault\" x=\"10\"", "width=\"9\"", "errors <b>15</b>", "well again", "1.9 s"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("style="));
        assert!(timeline(&run(0)).into_string().contains("0 s"));
    }
}
