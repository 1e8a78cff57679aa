//! A run as `JUnit` XML, which build servers read: one test case for each condition of the verdict.
//!
//! The form is the one that the Apache Ant task `junitreport` reads, as written by most tools: `testsuites`,
//! `testsuite`, `testcase`, `failure`.

use std::fmt::Write;

use evenkeel_core::{
    drill::{Report, Verdict},
    journal::Role,
};

/// The document.
pub(super) fn render(report: &Report, run: &str) -> String {
    let conditions: Vec<&str> =
        report.reasons.iter().filter(|reason| reason.role == Role::Seen).map(|reason| reason.text.as_str()).collect();
    // What failed stands first; how many of them there are the verdict alone does not say.
    let failed = report.failed_conditions;
    let seconds = report.series.last().map_or(0.0, |tick| lasting_s(tick.at_ms));
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let suite = escaped(&format!("keel drill {}", report.drill));
    let class = escaped(&format!("{}.{}", report.subject.service, report.drill));
    let counts = format!("tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\"", conditions.len());
    let _ = writeln!(text, "<testsuites name=\"keel drill\" {counts} time=\"{seconds:.1}\">");
    let time = report.started;
    let _ = writeln!(text, "  <testsuite name=\"{suite}\" {counts} time=\"{seconds:.1}\" timestamp=\"{time}\">");
    let _ = writeln!(text, "    <properties><property name=\"run\" value=\"{}\"/></properties>", escaped(run));
    for (index, condition) in conditions.iter().enumerate() {
        let name = escaped(condition);
        if index < failed {
            let _ = writeln!(text, "    <testcase classname=\"{class}\" name=\"{name}\">");
            let _ = writeln!(text, "      <failure message=\"{name}\">{}</failure>", escaped(&samples(report)));
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
    let line = |sample: &evenkeel_core::drill::ErrorSample| {
        format!("{} ms: {}: {} ({}x)\n", sample.at_ms, sample.request, sample.seen, sample.count)
    };
    report.error_samples.iter().map(line).collect()
}

fn stages(report: &Report) -> String {
    let line = |stage: &evenkeel_core::drill::Stage| format!("{} ms {}: {}", stage.at_ms, stage.name, stage.detail);
    report.stages.iter().map(line).collect::<Vec<_>>().join("\n")
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
