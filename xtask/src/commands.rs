//! What each command of `cargo xtask` consists of: the order of its steps, and nothing else.
//!
//! The work is in the modules that these functions name; `steps` prints and times each step. A command goes on
//! after a failed step where the next one still says something, and stops where it cannot.

use std::path::Path;

use crate::setup::{self, Need};
use crate::steps::{Steps, cargo};
use crate::{supply, tidy as rules};

/// `setup [--bench]`
pub(crate) fn setup(steps: &mut Steps, root: &Path, arguments: &[String]) {
    setup::packages(steps, if arguments.is_empty() { Need::Tests } else { Need::Benches });
    setup::components(steps, root);
}

/// `test [ARGUMENTS…]`: everything that must hold on a fresh machine with Rust, a C compiler and apt.
pub(crate) fn test(steps: &mut Steps, root: &Path, arguments: &[String]) {
    if !setup::packages(steps, Need::Tests) {
        return;
    }
    let mut command = cargo(root);
    command.arg("test");
    let whole = !arguments.iter().any(|argument| argument == "--package" || argument.starts_with("-p"));
    if whole {
        command.arg("--workspace");
    }
    steps.run("cargo test", command.args(arguments));
    if whole {
        steps.run("instructions", cargo(&root.join("benches")).args(["bench", "--quiet", "--bench", "instructions"]));
    }
    steps.check("tidy", || rules::run(root));
}

/// `lint`: what a reviewer should never have to say.
pub(crate) fn lint(steps: &mut Steps, root: &Path, _: &[String]) {
    if !setup::components(steps, root) {
        return;
    }
    steps.run("format", cargo(root).args(["fmt", "--all", "--check"]));
    for workspace in ["benches", "fuzz"] {
        let manifest = format!("{workspace}/Cargo.toml");
        if root.join(&manifest).exists() {
            let name = format!("format {workspace}");
            steps.run(&name, cargo(root).args(["fmt", "--manifest-path", &manifest, "--check"]));
        }
    }
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    steps.run("clippy", cargo(root).args(clippy));
    let rustdoc = ["doc", "--no-deps", "--workspace", "--document-private-items"];
    // Private items are documented too, for whoever works here, so links to them lead somewhere.
    let flags = "-Dwarnings -Arustdoc::private_intra_doc_links";
    steps.run("rustdoc", cargo(root).args(rustdoc).env("RUSTDOCFLAGS", flags));
    generated_docs(steps, root, true);
    steps.check("licences and bans", || supply::run(root));
    if setup::answers(cargo(root).args(["deny", "--version"])) {
        steps.run("cargo deny", cargo(root).args(["deny", "check", "bans", "licenses", "sources"]));
    }
    steps.check("tidy", || rules::run(root));
}

/// `tidy`
pub(crate) fn tidy(steps: &mut Steps, root: &Path, _: &[String]) {
    steps.check("rules", || rules::run(root));
}

/// `docs [--check]`
pub(crate) fn docs(steps: &mut Steps, root: &Path, arguments: &[String]) {
    generated_docs(steps, root, !arguments.is_empty());
}

/// `sim [--seeds N] [--seed S]`
pub(crate) fn sim(steps: &mut Steps, root: &Path, arguments: &[String]) {
    let simulator = ["run", "--release", "--package", "evenkeel-sim", "--"];
    steps.run("simulator", cargo(root).args(simulator).args(arguments));
}

/// `bench [NAME] [ARGUMENTS…]`: benches are a workspace of their own, built as the product is distributed, and so is the
/// `keel` that they measure; those of single functions, `micro`, as Cargo builds benches.
pub(crate) fn bench(steps: &mut Steps, root: &Path, arguments: &[String]) {
    let (name, rest) = match arguments.split_first() {
        Some((name, rest)) if !name.starts_with('-') => (name.as_str(), rest),
        _ => ("edge", arguments),
    };
    if name == "micro" {
        // Nothing but the edge's own code takes part in these.
        steps.run(name, cargo(&root.join("benches")).args(["bench", "--bench", name, "--"]).args(rest));
    } else if setup::packages(steps, Need::Benches) && (brings_its_own(rest) || build_keel(steps, root)) {
        let command = ["run", "--profile", "dist", "--bin", name, "--"];
        steps.run(name, cargo(&root.join("benches")).args(command).args(rest));
    }
}

/// Whether a bench is told which `keel` to measure, or to measure none.
fn brings_its_own(arguments: &[String]) -> bool {
    arguments.iter().any(|argument| argument == "--keel" || argument == "--from")
}

/// What benches measure is built from what is here now, as it is distributed.
fn build_keel(steps: &mut Steps, root: &Path) -> bool {
    steps.run("keel", cargo(root).args(["build", "--profile", "dist", "--package", "evenkeel", "--bin", "keel"]))
}

/// The reference and the schema come from the documentation of the fields in core, which an example of core
/// prints: so this program needs nothing of core to be built.
fn generated_docs(steps: &mut Steps, root: &Path, check: bool) {
    let mut command = cargo(root);
    command.args(["run", "--quiet", "--package", "evenkeel-core", "--example", "reference", "--"]);
    if check {
        command.arg("--check");
    }
    steps.run("generated docs", &mut command);
}
