//! A run as `JUnit` XML, which build servers read: one test case for each condition of the verdict.
//!
//! The form is the one that the Apache Ant task `junitreport` reads, as written by most tools: `testsuites`,
//! `testsuite`, `testcase`, `failure`.

use std::fmt::Write;

use evenkeel_core::drill::{Conclusion, ErrorSample, Report, Stage, Verdict};

use super::outcome;
use crate::words;

/// The document.
pub(super) fn render(report: &Report, run: &str) -> String {
    // What has no limit decides nothing, and is no test.
    let conditions: Vec<&Conclusion> = report.conditions.iter().filter(|line| line.held.is_some()).collect();
    let failed = conditions.iter().filter(|line| line.held == Some(false)).count();
    let seconds = report.series.last().map_or(0.0, |tick| lasting_s(tick.at_ms));
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let suite = escaped(&format!("keel drill {}", report.drill));
    let class = escaped(&format!("{}.{}", report.subject.service, report.drill));
    let counts = format!("tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\"", conditions.len());
    let _ = writeln!(text, "<testsuites name=\"keel drill\" {counts} time=\"{seconds:.1}\">");
    let time = report.started;
    let _ = writeln!(text, "  <testsuite name=\"{suite}\" {counts} time=\"{seconds:.1}\" timestamp=\"{time}\">");
    let _ = writeln!(text, "    <properties><property name=\"run\" value=\"{}\"/></properties>", escaped(run));
    for line in conditions {
        let name = escaped(&line.what);
        if line.held == Some(false) {
            let _ = writeln!(text, "    <testcase classname=\"{class}\" name=\"{name}\">");
            let message = escaped(&words::plain(&line.text));
            let _ = writeln!(text, "      <failure message=\"{message}\">{}</failure>", escaped(&samples(report)));
            let _ = writeln!(text, "    </testcase>");
        } else {
            let _ = writeln!(text, "    <testcase classname=\"{class}\" name=\"{name}\"/>");
        }
    }
    let _ = writeln!(text, "    <system-out>{}</system-out>", escaped(&stages(report)));
    text.push_str("  </testsuite>\n</testsuites>\n");
    debug_assert!(failed == 0 || report.verdict == Verdict::Fail);
    text
}

#[expect(clippy::cast_precision_loss, reason = "a run has few milliseconds")]
fn lasting_s(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn samples(report: &Report) -> String {
    let line = |sample: &ErrorSample| {
        format!("{} ms: {}: {} ({}x)\n", sample.at_ms, sample.request, sample.seen, sample.count)
    };
    outcome::errors(&report.error_samples).iter().map(line).collect()
}

fn stages(report: &Report) -> String {
    let line = |stage: &Stage| format!("{} ms {}: {}", stage.at_ms, stage.said(report.noticed_by_drill), stage.detail);
    let cautions = report.warnings.iter().map(|text| format!("caution: {text}"));
    report.stages.iter().map(line).chain(cautions).collect::<Vec<_>>().join("\n")
}

/// For text and attributes; characters that XML 1.0 cannot have (section 2.2) become U+FFFD.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::html::tests::some_report;

    #[test]
    fn each_condition_with_a_limit_is_a_test_of_one_name() {
        let (passed, failed) = (some_report(Verdict::Pass), some_report(Verdict::Fail));
        let (passed, failed) = (render(&passed, "1-kill-instance"), render(&failed, "1-kill-instance"));
        for text in [&passed, &failed] {
            assert!(text.contains("tests=\"2\"") && text.contains("name=\"failed requests\""), "{text}");
            assert!(!text.contains("longest wait"), "what has no limit is no test: {text}");
        }
        assert!(passed.contains("failures=\"0\"") && failed.contains("failures=\"1\""));
        assert!(failed.contains("<failure message=\"1 of 600 requests failed; first after 1.0 s: GET /: status 502"));
    }
}
