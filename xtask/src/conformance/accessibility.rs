//! axe-core: whether the console and the report of a drill can be used by everybody, looked at in a real browser.
//!
//! The pages, dialogs and windows are those of the test target `accessibility` of the binary, which is run here and
//! nowhere else, since it needs axe-core. It has a stack of its own, so the one of the other suites is left alone.

use std::path::Path;
use std::process::Stdio;

use super::{Verdict, install, stand::Stand};
use crate::steps::cargo;

pub(super) fn run(_: &Stand, home: &Path) -> Verdict {
    let axe = install::axe(home)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let mut command = cargo(root);
    command.args(["test", "--quiet", "--package", "evenkeel", "--test", "accessibility", "--", "--nocapture"]);
    let output = command.env("KEEL_AXE", &axe).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cargo: {error}"))?;
    judge(output.status.success(), &String::from_utf8_lossy(&output.stdout))
}

/// Good if it ended well and says how often it looked; lesser faults are told beside.
fn judge(is_well: bool, report: &str) -> Verdict {
    let looks = report.lines().find(|line| line.ends_with(" looks, 0 faults"));
    match looks.filter(|_| is_well) {
        Some(looks) => {
            let lesser: Vec<&str> = report.lines().filter(|line| is_fault(line)).collect();
            Ok([&[looks], &lesser[..]].concat().join("\n"))
        }
        None => Err(report.to_owned()),
    }
}

/// Whether a line names a fault that is neither serious nor critical.
fn is_fault(line: &str) -> bool {
    line.contains(": moderate: ") || line.contains(": minor: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_good_only_if_it_looked_and_found_nothing() {
        let report = "running 1 test\nhelp, dark: moderate: region: …, 1 times\n    [\"p\"]\n42 looks, 0 faults\n.\n";
        let found = "42 looks, 0 faults\nhelp, dark: moderate: region: …, 1 times";
        assert_eq!(judge(true, report), Ok(found.to_owned()));
        assert!(judge(false, report).is_err(), "it went wrong afterwards");
        assert!(judge(true, "42 looks, 1 faults\n").is_err());
        assert!(judge(true, "running 0 tests\n").is_err());
    }
}
