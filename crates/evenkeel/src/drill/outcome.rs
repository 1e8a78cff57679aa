//! A verdict on a terminal: what it amounts to, each limit beside what was measured, what to do next.
//!
//! The same lines after a run and when it is shown again. Pure functions of a report; colour only helps to find words.

use evenkeel_core::drill::{Conclusion, ErrorSample, Report, Stage, Verdict, in_words};

use super::summary::{self, Todo};
use crate::{
    style::{Paint, harmless},
    table::{Cell, Table},
    words,
};

/// Everything from the verdict to what can be done next. `command` makes what is to be typed from what follows `keel`.
pub(super) fn lines(report: &Report, paint: Paint, command: &dyn Fn(&str) -> String) -> Vec<String> {
    let verdict = match report.verdict {
        Verdict::Pass => paint.good("passed"),
        Verdict::Fail => paint.bad("failed"),
    };
    let mut lines = vec![format!("{verdict}  {}", report.drill)];
    if report.shows_nothing {
        lines.push(format!("  {}", summary::NO_VERDICT));
    }
    lines.extend(report.warnings.iter().map(|text| format!("  {} {}", paint.warn("caution:"), harmless(text))));
    if report.capacity.is_none() {
        let told = [Some(summary::outage(report)), Some(summary::lost(report)), Some(summary::recovery(report))];
        let told = told.into_iter().flatten().chain(summary::noticed(report));
        lines.extend(told.chain(summary::budget(report)).map(|text| format!("  {text}")));
    }
    lines.push(String::new());
    lines.extend(conditions(report, paint));
    let samples = errors(&report.error_samples);
    if !samples.is_empty() {
        lines.push("\nwhat failed requests got".to_owned());
        lines.extend(samples.iter().map(|sample| sample_line(sample, paint)));
    }
    let steps = summary::next(report);
    if !steps.is_empty() {
        lines.push("\nnext".to_owned());
    }
    for step in steps {
        lines.push(format!("  {}", paint.dim(&step.why)));
        match step.what {
            Todo::Command(args) => lines.push(format!("    {}", command(&args))),
            Todo::Lines(text) => lines.extend(text.lines().map(|line| format!("    {line}"))),
        }
    }
    lines
}

/// What was measured beside what was allowed. A report of an older version has sentences only.
fn conditions(report: &Report, paint: Paint) -> Vec<String> {
    if report.conditions.is_empty() {
        let seen = report.reasons.iter().filter(|reason| reason.role == evenkeel_core::journal::Role::Seen);
        return seen.map(|reason| format!("  - {}", harmless(&reason.text))).collect();
    }
    let (sentences, measured): (Vec<_>, Vec<_>) =
        report.conditions.iter().partition(|line: &&Conclusion| line.measured.is_empty());
    let mut table = Table::new(&["VERDICT", "WHAT", "MEASURED", "ALLOWED"]);
    for line in measured {
        let held = line.held;
        table.row(vec![
            Cell::painted(verdict(held), move |paint, text| painted(held, paint, text)),
            line.what.as_str().into(),
            line.measured.as_str().into(),
            line.allowed.as_str().into(),
        ]);
    }
    let width = report.conditions.iter().map(|line| verdict(line.held).len()).max().unwrap_or(0);
    let mut lines: Vec<String> = table.render(paint).lines().map(|line| format!("  {line}")).collect();
    lines.extend(sentences.iter().map(|line| {
        let word = format!("{:<width$}", verdict(line.held));
        format!("  {}  {}", painted(line.held, paint, &word), harmless(&line.text))
    }));
    lines
}

fn painted(held: Option<bool>, paint: Paint, text: &str) -> String {
    match held {
        Some(true) => paint.good(text),
        Some(false) => paint.bad(text),
        None => paint.dim(text),
    }
}

/// Whether a condition held, in words.
pub(super) fn verdict(held: Option<bool>) -> &'static str {
    match held {
        Some(true) => "held",
        Some(false) => "did not hold",
        None => "not judged",
    }
}

fn sample_line(sample: &ErrorSample, paint: Paint) -> String {
    let at = paint.dim(&format!("{:>9}", format!("{} ms", words::count(sample.at_ms))));
    let took = in_words(sample.took_ms);
    let often = if sample.count == 1 { "once".to_owned() } else { format!("{} times", words::count(sample.count)) };
    format!("{at}  {}: {} (after {took}; {often})", sample.request, harmless(&sample.seen))
}

/// What failed requests got, in plain words; what is the same in them stands once.
pub(super) fn errors(samples: &[ErrorSample]) -> Vec<ErrorSample> {
    let mut all: Vec<ErrorSample> = Vec::new();
    for sample in samples {
        let seen = words::plain(&sample.seen);
        match all.iter_mut().find(|known| known.request == sample.request && known.seen == seen) {
            Some(known) => known.count += sample.count,
            None => all.push(ErrorSample { seen, ..sample.clone() }),
        }
    }
    all
}

/// One stage, as it is shown while a drill goes on and afterwards.
pub(super) fn stage_line(stage: &Stage, noticed_by_drill: bool, paint: Paint) -> String {
    let time = paint.dim(&format!("{:>9}", format!("{} ms", words::count(stage.at_ms))));
    format!("{time}  {:<17}  {}", stage.said(noticed_by_drill), harmless(&stage.detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::html::tests::some_report;

    #[test]
    fn a_verdict_tells_what_counts_and_each_limit() {
        let mut report = some_report(Verdict::Fail);
        report.warnings.push("nobody but this drill started it".to_owned());
        let text = lines(&report, Paint::plain(), &|args| format!("keel {args} --state-dir s")).join("\n");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn errors_are_told_in_plain_words_and_once() {
        let sample = |seen: &str| ErrorSample {
            at_ms: 1,
            request: "GET /".to_owned(),
            seen: seen.to_owned(),
            took_ms: 1,
            count: 2,
        };
        let seen = [
            "cannot connect: Connection refused (os error 111)",
            "the connection broke before an answer came: connection error",
            "the connection broke before an answer came: connection closed before message completed",
        ];
        let told = errors(&seen.map(sample));
        let told: Vec<_> = told.iter().map(|sample| (sample.seen.as_str(), sample.count)).collect();
        let refused = "cannot connect: nobody accepts connections there (connection refused)";
        assert_eq!(told, [(refused, 2), ("the connection broke before an answer came", 4)]);
    }
}
