//! The page of a run, as its parts.

use evenkeel_core::time::WallTime;
use evenkeel_core::{
    drill::{ErrorSample, Fault, Outage, Report, Stage, TICK_MS, Target, Tick},
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
            ..Tick::default()
        })
        .collect();
    observed.traffic.samples = if failed {
        let (request, seen) = ("GET /".to_owned(), "status 502: <script>alert(1)</script>".to_owned());
        vec![ErrorSample { at_ms: 1010, request, seen, took_ms: 3, count: 1 }]
    } else {
        Vec::new()
    };
    observed.stages = vec![
        Stage::new("load", 0, "test visitors have started"),
        Stage::new("fault", 1000, "SIGKILL to shop/1, process 1"),
        Stage::new("detected", 1040, "the process of shop/1 is gone"),
        Stage::new("replaced", 1041, "shop/1 has process 2"),
        Stage::new("recovered", 1900, "all 3 instances are healthy"),
        Stage::new("stopped", 2950, "every request on its way has come to its end"),
    ];
    evenkeel_core::drill::judge(drill, &plan, &observed)
}

fn page(verdict: Verdict) -> String {
    page_of(&some_report(verdict))
}

fn page_of(report: &Report) -> String {
    let plan = some_plan();
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
    render(&Told { report, plan: &plan, run, stack: "shop", events: &[entry], earlier: None })
}

#[test]
fn the_verdict_is_one_sentence_at_the_top() {
    let passed = page(Verdict::Pass);
    assert!(passed.contains("The drill passed."));
    let told = "None of 600 requests failed. Lost data: not tested. Every copy of shop was healthy again 900 ms after the harm.";
    assert!(passed.contains(told), "{passed}");
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

/// A reboot that took three seconds, after which the drill had to start everything itself.
fn long_outage() -> Report {
    let mut report = some_report(Verdict::Pass);
    (report.drill, report.fault, report.subject.target) = ("reboot".to_owned(), Fault::Reboot, Target::Stack);
    (report.started_by_drill_ms, report.recovery_ms, report.noticed_by_drill) = (Some(3100), Some(900), true);
    report.warnings = vec!["nobody but this drill started `keel up` again".to_owned()];
    (report.requests, report.errors, report.unavoidable_errors) = (600, 40, 40);
    report.outage = Some(Outage { from_ms: 1000, lasted_ms: 3200, failed: 40, ended: true, usual_ms: 5 });
    let seen = "cannot connect: Connection refused (os error 111)".to_owned();
    report.error_samples = vec![ErrorSample { at_ms: 1010, request: "GET /".to_owned(), seen, took_ms: 1, count: 40 }];
    report
}

#[test]
fn what_to_beware_of_stands_under_the_verdict() {
    let page = page_of(&long_outage());
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}: {page}"));
    assert!(at("The drill passed.") < at("Nobody but this drill started <code>keel up</code> again."));
    assert!(
        at("Nobody but this drill started") < at("What was done") && at("What to do next") < at("What happened when")
    );
    assert!(at("keel doctor") > at("What to do next"));
}

#[test]
fn an_outage_and_whether_data_was_lost_are_at_the_top() {
    let page = page_of(&long_outage());
    let top = page.split("What was done").next().unwrap();
    for told in [
        "Down for 3.2 s: all 40 requests of that time failed; before and after it none did (600 requests in all).",
        "Lost data: not tested.",
        "The drill started it again after 3.1 s; from then on it took 900 ms until every copy of every service was healthy again.",
        "keel was down itself",
    ] {
        assert!(top.contains(told), "{told}: {top}");
    }
    assert!(page.contains("nobody answered: 3.2 s"), "in the picture too");
    assert!(page.contains("nobody accepts connections there") && !page.contains("os error"), "{page}");
}

#[test]
fn words_that_occur_are_explained_and_no_others() {
    let page = page(Verdict::Pass);
    assert!(page.contains("<dt>SIGKILL</dt>") && page.contains("<dt>test visitors</dt>"));
    assert!(!page.contains("<dt>error budget</dt>") && !page.contains("<dt>SIGSTOP</dt>"));
    let told = page.split("<body>").nth(1).unwrap().to_lowercase();
    for other in ["clients", "fault", "users"] {
        assert!(!told.contains(other), "one name for one thing: {other} in {told}");
    }
}

#[test]
fn limits_stand_beside_what_was_measured_and_sums_are_the_total() {
    let page = page(Verdict::Fail);
    assert!(page.contains(">1 of 600</td>") && page.contains(">30.0 s</td>") && page.contains("no limit set"));
    assert!(page.contains("<tr><th>in all</th><td class=\"n\">600</td><td class=\"n\">1</td>"), "{page}");
}

#[test]
fn visitors_that_hurry_do_not_make_a_line_of_everything_else() {
    let mut report = some_report(Verdict::Pass);
    report.series[10].requests = 130;
    report.series.extend((30..90).map(|n| Tick { at_ms: n * TICK_MS, ..Tick::default() }));
    let page = page_of(&report);
    assert!(
        page.contains(">cut off; up to 1,300 →</text>") && page.contains("class=\"cut\""),
        "what leaves the plot has its number"
    );
    assert!(page.contains(">300</text>") && !page.contains(">2000</text>"), "the scale is that of all others");
    assert!(!page.contains(">8 s</text>"), "what comes after the last visitor is left out");
}

#[test]
fn a_run_that_shows_nothing_says_so_and_its_journal_is_open() {
    let mut report = some_report(Verdict::Fail);
    report.shows_nothing = true;
    report.reasons[0].text = "nothing was shown: no request reached it".to_owned();
    let page = page_of(&report);
    let told = "The drill failed. No verdict about the protection: nothing was shown.</strong> No request reached it.";
    assert!(page.contains(told), "{page}");
    assert!(page.contains("<details open>") && !page.contains("change what did not hold"), "{page}");
}

#[test]
fn what_keel_did_with_a_frozen_instance_is_the_story() {
    let mut report = some_report(Verdict::Pass);
    report.fault = Fault::Freeze { for_ms: 3000 };
    report.released_at_ms = Some(1050);
    let story = "keel noticed the hanging copy after 40 ms and sent it no more requests; it killed that copy, and had started \
                 another one after 41 ms.";
    let page = page_of(&report);
    assert_eq!(page.matches(story).count(), 2, "in the verdict, and in what was done: {page}");
    assert!(!page.contains("took the harm back"));
    report.stages.retain(|stage| stage.name != "replaced");
    assert!(page_of(&report).contains("The drill took the harm back after 50 ms."));
}

#[test]
fn failures_are_drawn_from_the_harm_on() {
    let mut report = some_report(Verdict::Fail);
    report.fault_at_ms = 1080;
    let page = page_of(&report);
    let x_of = |class: &str| {
        let (_, after) = page.split_once(class).unwrap_or_else(|| panic!("{class}: {page}"));
        after.split('"').next().unwrap().parse::<f64>().unwrap()
    };
    assert!((x_of("class=\"failed\" x=\"") - x_of("class=\"instant\" x1=\"")).abs() < 0.11, "{page}");
    assert!(page.contains("the harm was done at 1.08 s."), "{page}");
}

#[test]
fn who_started_everything_again_is_named_where_it_is_known() {
    let mut report = long_outage();
    (report.started_by_drill_ms, report.started_by) = (None, Some("systemd".to_owned()));
    assert!(page_of(&report).contains("Then <code>systemd</code>, which watches over keel here, started it again."));
    report.started_by = None;
    assert!(page_of(&report).contains("what it was is not known"));
}
