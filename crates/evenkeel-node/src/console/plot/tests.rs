//! Plots of a few points: words, gaps, marks and axes.

use evenkeel_core::journal::{Entry, Level, Reason};

use super::*;
use crate::history::Point;

const NOW_MS: u64 = 1_800_000_000_000;

fn at(ms: u64) -> WallTime {
    WallTime::from_millis(NOW_MS - 900_000 + ms)
}

fn window() -> Window {
    Window::ending(WallTime::from_millis(NOW_MS + 4_321), 900_000)
}

fn point(end_ms: u64, requests: u32) -> Point {
    let p99_ms = (requests > 0).then_some(12.5);
    Point { at: at(end_ms), span_ms: 10_000, requests, p99_ms, healthy: 2, wanted: 3, ..Point::default() }
}

/// The `d` of the path of a class.
fn path<'a>(text: &'a str, class: &str) -> Vec<&'a str> {
    let lead = format!("<path class=\"{class}\" d=\"");
    text.split(&lead).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

fn plots(points: &[Point], marks: &[Mark]) -> String {
    of_service("shop", points, window(), marks, Some(250)).into_string()
}

#[test]
fn a_window_moves_only_when_there_is_another_point() {
    assert_eq!(window(), Window { from: at(0), to: at(900_000) });
    assert_eq!(Window::ending(WallTime::from_millis(NOW_MS + 9_999), 900_000), window());
    assert_ne!(Window::ending(WallTime::from_millis(NOW_MS + 10_000), 900_000), window());
}

#[test]
fn a_line_is_broken_where_nothing_was_measured() {
    let points: Vec<Point> = [10_000, 20_000, 30_000, 600_000, 610_000].map(|end| point(end, 50)).into();
    let text = plots(&points, &[]);
    let requests = path(&text, "line requests");
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].matches('M').count(), 2, "{requests:?}");
    // 50 requests in ten seconds are five a second, and so is the scale.
    assert!(requests[0].starts_with("M0 0L5.6 0L16.7 0"), "{requests:?}");
    assert_eq!(path(&text, "area requests")[0].matches('Z').count(), 2);
    // A second without requests has no latency, which is a gap in one plot only.
    let quiet: Vec<Point> = [(10_000, 50), (20_000, 0), (30_000, 50)].map(|(end, n)| point(end, n)).into();
    let text = plots(&quiet, &[]);
    assert_eq!(path(&text, "line p99")[0].matches('M').count(), 2);
    assert_eq!(path(&text, "line requests")[0].matches('M').count(), 1);
}

#[test]
fn nothing_is_drawn_without_being_said() {
    let text = plots(&[point(890_000, 40), point(900_000, 50)], &[]);
    for part in [
        "role=\"img\" aria-labelledby=\"plot-shop-traffic-title plot-shop-traffic-desc\"",
        "<title id=\"plot-shop-latency-title\">Latency</title>",
        "requests: from 4.0/s to 5.0/s, now 5.0/s",
        "p50: nothing was measured",
        "wanted: from 3 to 3, now 3",
        "objective <b>250 ms</b>",
        "<summary>The same in numbers</summary>",
        "<td>2/3</td>",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("style=") && !text.contains("NaN") && !text.contains("inf"));
    assert_eq!(path(&text, "line errors"), [""], "no line where there was no error");
    let nothing = plots(&[], &[]);
    assert!(nothing.contains("nothing was measured") && path(&nothing, "line requests") == [""]);
}

#[test]
fn the_table_is_short_and_counts_everything() {
    let points: Vec<Point> = (1..=90).map(|n| Point { errors: 1, ..point(n * 10_000, 10) }).collect();
    let text = plots(&points, &[]);
    let rows = text.matches("<th scope=\"row\">").count();
    assert!((20..=24).contains(&rows), "{rows}");
    assert!(text.contains("<td>4</td>") && text.contains("<td>1.0</td>"));
}

#[test]
fn marks_are_what_concerns_the_service() {
    let entry = |ms, subject: &str, kind: &str, level, why: bool| Entry {
        id: ms,
        at: at(ms),
        level,
        subject: subject.to_owned(),
        kind: kind.to_owned(),
        message: format!("{kind} <b>"),
        reasons: why.then(|| Reason::seen("it was seen")).into_iter().collect(),
    };
    let events = [
        entry(500_000, "shop/1", "restarting", Level::Warning, true),
        entry(400_000, "shop", "deploying", Level::Info, false),
        entry(450_000, "drill", "drill", Level::Info, false),
        entry(460_000, "shop/1", "healthy", Level::Info, true),
        entry(470_000, "shopping", "restarting", Level::Warning, true),
        entry(2_000_000, "shop", "deploying", Level::Info, false),
    ];
    let marks = marks_of("shop", &events, window());
    let kinds: Vec<MarkKind> = marks.iter().map(|mark| mark.kind).collect();
    assert_eq!(kinds, [MarkKind::Deploy, MarkKind::Drill, MarkKind::Decision]);
    let text = plots(&[], &marks);
    assert!(text.contains("<g class=\"mark-at deploy\"><title>shop: deploying &lt;b&gt;</title>"), "{text}");
    assert!(text.contains("3 things happened"));
}

#[test]
fn numbers_beside_the_axis_are_short() {
    let said = |unit: Unit, value: f64| unit.on_axis(value);
    for (value, text) in [(0.0, "0"), (0.5, "0.5"), (2.5, "2.5"), (50.0, "50"), (20_000.0, "20k"), (1.5e6, "1.5M")] {
        assert_eq!(said(Unit::PerSecond, value), text);
    }
    for (value, text) in [(0.0, "0"), (0.5, "0.5 ms"), (5.0, "5 ms"), (100.0, "100 ms"), (2000.0, "2 s")] {
        assert_eq!(said(Unit::Milliseconds, value), text);
    }
    assert_eq!(said(Unit::Count, 3.0), "3");
}
