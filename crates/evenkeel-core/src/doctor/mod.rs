//! What is wrong with a machine, a state directory or a running stack: findings, each with what was read and where,
//! and with the way out.
//!
//! Pure: the command line reads, these functions judge. One file for each group, one function for each finding. What
//! could not be read is `None` in [`Observed`] and yields no finding: nothing is guessed.

mod disk;
mod file;
mod machine;
mod observed;
mod running;

use serde::Serialize;

use crate::words::counted;

pub use self::observed::{
    Capability, Instance, Machine, Observed, Orphan, OwnProcess, ReleaseFolder, Running, RuntimeDir, StateDir, Unit,
    UnitSetting,
};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Requests fail or will, or something will be lost.
    Error,
    /// One more failure and requests fail.
    Warning,
    /// It works and could be safer.
    Advice,
}

impl Severity {
    /// The word that outputs show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Advice => "advice",
        }
    }
}

/// Something that should be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable word for its kind, as `open-files`.
    pub kind: &'static str,
    /// What it concerns: `machine`, `state`, `unit`, or a subject of `keel why`.
    pub subject: String,
    /// One sentence.
    pub what: String,
    /// What was read, and where.
    pub evidence: Vec<String>,
    /// What to do: commands and settings as they are typed.
    pub fix: Vec<String>,
}

impl Finding {
    fn new(severity: Severity, kind: &'static str, subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { severity, kind, subject: subject.into(), what: what.into(), evidence: Vec::new(), fix: Vec::new() }
    }

    fn seen(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix.push(fix.into());
        self
    }
}

/// All findings, the worst first; within one severity in the order machine, state, stack file, what runs.
pub fn examine(observed: &Observed) -> Vec<Finding> {
    let mut findings = machine::findings(observed);
    findings.extend(disk::findings(observed));
    findings.extend(file::findings(observed));
    findings.extend(running::findings(observed));
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// Bytes as people say them.
fn bytes(n: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, scale)| n >= *scale) {
        Some((unit, scale)) => format!("{}.{} {unit}", n / scale, n % scale * 10 / scale),
        None => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests;
