//! The page of a run, as its parts.

use evenkeel_core::time::WallTime;
use evenkeel_core::{
    drill::{ErrorSample, Report, Stage, TICK_MS, Tick},
    journal::{Level, Reason},
};

use super::*;
use crate::drill::tests::some_plan;

/// A killed instance of three seconds, with one failed request.
pub(crate) fn some_report(verdict: Verdict) -> Report {
    let plan = some_plan();
    let failed = verdict == Verdict::Fail;
    let drill = evenkeel_core::drill::find("kill-instance").unwrap();
    let mut observed = evenkeel_core::drill::Observed {
        started: WallTime::from_millis(1_700_000_000_000),
        fault_at_ms: 1000,
        detected_at_ms: Some(1040),
        recovered_at_ms: Some(1900),
        ..evenkeel_core::drill::Observed::default()
    };
    observed.traffic.requests = 600;
    observed.traffic.errors = u64::from(failed);
    observed.traffic.worst_ms = 212;
    observed.traffic.series = (0..30)
        .map(|n| Tick {
            at_ms: n * TICK_MS,
            requests: 20,
            errors: u64::from(failed && n == 10),
            p50_us: Some(900),
            p99_us: Some(if n == 10 { 200_000 } else { 2_100 }),
            worst_us: Some(if n == 10 { 212_000 } else { 3_000 }),
        })
        .collect();
    observed.traffic.samples = if failed {
        let (request, seen) = ("GET /".to_owned(), "status 502: <script>alert(1)</script>".to_owned());
        vec![ErrorSample { at_ms: 1010, request, seen, took_ms: 3, count: 1 }]
    } else {
        Vec::new()
    };
    observed.stages = vec![
        Stage::new("load", 0, "clients have started"),
        Stage::new("fault", 1000, "SIGKILL to shop/1, process 1"),
        Stage::new("detected", 1040, "the process of shop/1 is gone"),
        Stage::new("replaced", 1041, "shop/1 has process 2"),
        Stage::new("recovered", 1900, "all 3 instances are healthy"),
        Stage::new("stopped", 2950, "every request on its way has come to its end"),
    ];
    evenkeel_core::drill::judge(drill, &plan, &observed)
}

fn page(verdict: Verdict) -> String {
    let (report, plan) = (some_report(verdict), some_plan());
    let entry = Entry {
        id: 1,
        at: WallTime::from_millis(1_700_000_001_040),
        level: Level::Warning,
        subject: "shop/1".to_owned(),
        kind: "exited".to_owned(),
        message: "SIGKILL & nothing else".to_owned(),
        reasons: vec![Reason::seen("it ended")],
    };
    let run = "1700000000000-kill-instance";
    render(&Told { report: &report, plan: &plan, run, stack: "shop", events: &[entry], earlier: None })
}

#[test]
fn the_verdict_is_one_sentence_at_the_top() {
    let passed = page(Verdict::Pass);
    assert!(passed.contains("The drill passed."));
    assert!(passed.contains("No client saw an error, and everything was well again after 900 ms."), "{passed}");
    let failed = page(Verdict::Fail);
    assert!(failed.contains("The drill failed."));
    assert!(failed.contains("1 of 600 requests failed (0.17 %)"), "{failed}");
}

#[test]
fn it_needs_nothing_else_and_runs_nothing() {
    let page = page(Verdict::Fail);
    for no in ["<script", "http://", "https://", "src=", "@import", "url(", "style=\"", "javascript:", "onload"] {
        assert!(!page.contains(no), "{no}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)"), "what a service answers is text");
}

#[test]
fn the_picture_has_its_numbers_beside_it() {
    let page = page(Verdict::Fail);
    assert!(page.contains("role=\"img\"") && page.contains("plot-desc"));
    assert_eq!(page.matches("class=\"failed\"").count(), 2, "one bar and its key");
    assert!(page.contains("The numbers behind the picture") && page.contains("200 ms"));
    assert_eq!(page.matches("<circle").count(), 4, "clients that start and stop are no stages of the stack");
}
