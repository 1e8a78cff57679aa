//! `cargo xtask conformance`: suites that nobody here wrote, run against the built `keel`, each judged by this command.
//!
//! The suites come from the registries and are installed once into `target/conformance`. A stack of three services is
//! started for them; every suite is a step, and a table at the end says what each found. This is outside of the tests,
//! since it takes minutes and needs the network once. Nothing here decides what is right: the suites do.

mod accessibility;
mod autobahn;
mod clients;
mod install;
mod slow;
mod smuggle;
mod stand;

use std::path::Path;

use crate::setup::{self, Need};
use crate::steps::{Steps, cargo};
use stand::Stand;

/// What a suite found: `Ok` in a few words what was good, `Err` everything that was not.
type Verdict = Result<String, String>;

/// A suite, by the name that selects it.
struct Suite {
    name: &'static str,
    run: fn(&Stand, &Path) -> Verdict,
}

const SUITES: [Suite; 6] = [
    Suite { name: "curl", run: clients::curl },
    Suite { name: "load", run: clients::load },
    Suite { name: "smugglex", run: smuggle::run },
    Suite { name: "slowhttptest", run: slow::run },
    Suite { name: "autobahn", run: autobahn::run },
    Suite { name: "accessibility", run: accessibility::run },
];

/// `conformance [SUITE…]`
pub(crate) fn run(steps: &mut Steps, root: &Path, arguments: &[String]) {
    let known = |name: &String| SUITES.iter().any(|suite| suite.name == *name);
    if let Some(unknown) = arguments.iter().find(|name| !known(name)) {
        let names = SUITES.map(|suite| suite.name).join(", ");
        steps.check("arguments", || Err(format!("there is no suite `{unknown}`; there are: {names}")));
        return;
    }
    if !setup::packages(steps, Need::Conformance)
        || !steps.run("keel", cargo(root).args(["build", "--package", "evenkeel", "--bin", "keel"]))
    {
        return;
    }
    let home = target(root).join("conformance");
    let mut stand = None;
    steps.check("stack", || {
        stand = Some(Stand::start(&target(root).join("debug/keel"), &home)?);
        Ok("three services answer".to_owned())
    });
    let Some(stand) = stand else { return };
    let chosen = |suite: &&Suite| arguments.is_empty() || arguments.iter().any(|name| name == suite.name);
    let mut rows = Vec::new();
    for suite in SUITES.iter().filter(chosen) {
        steps.check(suite.name, || {
            // What one suite has done to it must not be taken for what the next one does.
            let verdict = (suite.run)(&stand, &home).and_then(|found| stand.still_answers().map(|()| found));
            rows.push((suite.name, verdict.clone()));
            verdict
        });
    }
    println!("\n{}", table(&rows));
}

/// Cargo's own variable names the folder where it is not the usual one.
fn target(root: &Path) -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}

fn table(rows: &[(&str, Verdict)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, verdict): &(&str, Verdict)| {
        let (word, rest) = match verdict {
            Ok(found) => ("passed", found.as_str()),
            Err(found) => ("FAILED", found.as_str()),
        };
        rest.lines().enumerate().fold(String::new(), |so_far, (index, rest)| match index {
            0 => format!("{name:width$}  {word}  {rest}\n"),
            _ => format!("{so_far}{:width$}          {rest}\n", ""),
        })
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_each_suite_found() {
        let rows = [("curl", Ok("12 cases".to_owned())), ("autobahn", Err("1.1.1\n1.1.2".to_owned()))];
        let expected = "curl      passed  12 cases\nautobahn  FAILED  1.1.1\n                  1.1.2\n";
        assert_eq!(table(&rows), expected);
    }
}
