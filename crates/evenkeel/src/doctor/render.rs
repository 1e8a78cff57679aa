//! The findings as a person reads them, and as JSON.

use std::fmt::Write;

use evenkeel_core::doctor::{Finding, Severity};
use serde::Serialize;

use super::Looked;
use crate::style::{Paint, harmless};

/// Everything that `keel doctor` says.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The worst first.
    pub(crate) findings: Vec<Finding>,
    /// What was looked at.
    pub(crate) looked_at: Looked,
}

/// For a person.
pub(crate) fn render(report: &Report, paint: Paint) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let word = format!("{:<7}", finding.severity.as_str());
        let word = match finding.severity {
            Severity::Error => paint.bad(&word),
            Severity::Warning => paint.warn(&word),
            Severity::Advice => paint.dim(&word),
        };
        let (subject, what) = (harmless(&finding.subject), harmless(&finding.what));
        let _ = writeln!(text, "{word}  {subject}: {}", paint.bold(&what));
        for (label, lines) in [("seen", &finding.evidence), ("fix", &finding.fix)] {
            for (index, line) in lines.iter().enumerate() {
                let label = if index == 0 { format!("{label:>13}: ") } else { " ".repeat(15) };
                let _ = writeln!(text, "{}{}", paint.dim(&label), harmless(line));
            }
        }
        text.push('\n');
    }
    let _ = writeln!(text, "{}", paint.dim("looked at:"));
    for each in &report.looked_at {
        let _ = writeln!(text, "  {}", paint.dim(&harmless(each)));
    }
    let _ = write!(text, "\n{}", summary(&report.findings));
    text
}

fn summary(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let words = [
        (Severity::Error, "error", "errors"),
        (Severity::Warning, "warning", "warnings"),
        (Severity::Advice, "piece of advice", "pieces of advice"),
    ];
    let parts: Vec<String> = words
        .into_iter()
        .map(|(severity, one, many)| (count(severity), one, many))
        .filter(|(n, ..)| *n > 0)
        .map(|(n, one, many)| format!("{n} {}", if n == 1 { one } else { many }))
        .collect();
    if parts.is_empty() { "nothing to mend was found".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::doctor::{Machine, Observed, StateDir, examine};

    use super::*;

    #[test]
    fn findings_stand_with_their_evidence_and_the_way_out() {
        let state = StateDir {
            path: "/var/lib/keel/shop".to_owned(),
            room_bytes: Some((10 << 30, 512 << 10)),
            mode: 0o755,
            set_aside: vec!["journal.db.damaged".to_owned()],
            ..StateDir::default()
        };
        let machine = Machine { somaxconn: Some(128), ..Machine::default() };
        let observed = Observed { machine, state: Some(state), ..Observed::default() };
        let report = Report {
            findings: examine(&observed),
            looked_at: vec!["the state directory /var/lib/keel/shop".to_owned()],
        };
        insta::assert_snapshot!(render(&report, Paint::plain()));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["findings"][0]["severity"], "error");
        assert_eq!(json["findings"][0]["kind"], "disk-full");
    }

    #[test]
    fn nothing_to_mend_is_said() {
        let report = Report { findings: Vec::new(), looked_at: vec!["the machine".to_owned()] };
        assert!(render(&report, Paint::plain()).ends_with("nothing to mend was found"));
    }
}
