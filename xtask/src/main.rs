//! The project's own commands, reached as `cargo xtask COMMAND`.
//!
//! This file is the table of commands and the choice between them; each command composes steps in
//! `commands`, and `steps` runs, times and reports them. Nothing here is part of the product: no crate of
//! the product depends on this one, and this one depends on none of them, so that it builds in seconds and
//! still works when they do not compile.

mod commands;
mod conformance;
mod metadata;
mod setup;
mod steps;
mod supply;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use steps::Steps;

/// A command of `cargo xtask`.
struct Command {
    name: &'static str,
    takes: Takes,
    about: &'static str,
    run: fn(&mut Steps, &Path, &[String]),
}

/// What may follow a command's name.
#[derive(Clone, Copy)]
enum Takes {
    Nothing,
    /// One flag, which may be left out.
    Flag(&'static str),
    /// Anything, since it is passed through to a program that judges it; shown so in help.
    Anything(&'static str),
}

const COMMANDS: [Command; 8] = [
    Command {
        name: "setup",
        takes: Takes::Flag("--bench"),
        about: "install what tests (or benches) need and this machine lacks",
        run: commands::setup,
    },
    Command {
        name: "test",
        takes: Takes::Anything("[CARGO TEST ARGUMENTS…]"),
        about: "setup, every test of the workspace, tidy",
        run: commands::test,
    },
    Command {
        name: "lint",
        takes: Takes::Nothing,
        about: "formatting, clippy, rustdoc, generated docs, licences and bans, tidy",
        run: commands::lint,
    },
    Command {
        name: "tidy",
        takes: Takes::Nothing,
        about: "the project's own rules: who may use whom, purity of core, vocabulary, lengths",
        run: commands::tidy,
    },
    Command {
        name: "docs",
        takes: Takes::Flag("--check"),
        about: "write the generated reference and schema into docs/, or check that they are current",
        run: commands::docs,
    },
    Command {
        name: "sim",
        takes: Takes::Anything("[--seeds N] [--seed S]"),
        about: "run the simulator over seeds; a failing seed is printed and replays",
        run: commands::sim,
    },
    Command {
        name: "bench",
        takes: Takes::Anything("[edge|micro] [ARGUMENTS…]"),
        about: "setup --bench, then a bench from benches/, built for distribution",
        run: commands::bench,
    },
    Command {
        name: "conformance",
        takes: Takes::Anything("[curl] [load] [smugglex] [slowhttptest] [autobahn]"),
        about: "suites that others wrote, against the built keel; takes minutes",
        run: conformance::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", help());
        return ExitCode::from(2);
    };
    if ["help", "--help", "-h"].contains(&name.as_str()) {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("{}", unknown(name));
        return ExitCode::from(2);
    };
    if let Some(problem) = command.takes.refused(rest) {
        eprintln!("error: {problem}\nusage: cargo xtask {} {}", command.name, command.takes.shown());
        return ExitCode::from(2);
    }
    let mut steps = Steps::of(command.name);
    (command.run)(&mut steps, &root(), rest);
    steps.finish()
}

impl Takes {
    /// What is wrong with the arguments, in words for the person who typed them.
    fn refused(self, arguments: &[String]) -> Option<String> {
        let unknown = match self {
            Takes::Nothing => arguments.first(),
            Takes::Flag(flag) => arguments.iter().find(|argument| *argument != flag),
            Takes::Anything(_) => None,
        };
        unknown.map(|unknown| format!("`{unknown}` is not understood here"))
    }

    fn shown(self) -> String {
        match self {
            Takes::Nothing => String::new(),
            Takes::Flag(flag) => format!("[{flag}]"),
            Takes::Anything(shown) => shown.to_owned(),
        }
    }
}

/// The workspace's folder. Cargo names the package's folder at run time, which stays right where several
/// checkouts share one target folder; the one known at build time serves a binary started by hand.
fn root() -> PathBuf {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().expect("xtask is a folder of the workspace").to_path_buf()
}

fn help() -> String {
    let row = |command: &Command| (format!("{} {}", command.name, command.takes.shown()), command.about);
    let mut rows: Vec<_> = COMMANDS.iter().map(row).collect();
    rows.push(("help".to_owned(), "show this table"));
    let width = rows.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0);
    // The width of `format!` counts characters, which is right for what stands here.
    let lines = rows.iter().map(|(left, about)| format!("  {left:width$}  {about}"));
    format!("usage: cargo xtask COMMAND\n\n{}\n", lines.collect::<Vec<_>>().join("\n"))
}

fn unknown(name: &str) -> String {
    let names = COMMANDS.iter().map(|command| command.name).chain(["help"]);
    let nearest = names
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 2);
    match nearest {
        Some((_, known)) => format!("error: there is no command `{name}`; did you mean `cargo xtask {known}`?"),
        None => format!("error: there is no command `{name}`; `cargo xtask help` lists those there are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_is_answered_with_the_nearest_name() {
        assert!(unknown("tset").contains("`cargo xtask test`"));
        assert!(unknown("tidyy").contains("`cargo xtask tidy`"));
        assert!(unknown("setpu").contains("`cargo xtask setup`"));
        assert!(unknown("publish-everything").contains("cargo xtask help"));
    }

    #[test]
    fn help_lists_every_command_in_aligned_columns() {
        let help = help();
        for command in &COMMANDS {
            let line = help.lines().find(|line| line.trim_start().starts_with(command.name));
            assert!(line.is_some_and(|line| line.ends_with(command.about)), "{}", command.name);
        }
        let starts = COMMANDS.iter().map(|command| {
            let line = help.lines().find(|line| line.ends_with(command.about)).expect("checked above");
            line.chars().count() - command.about.chars().count()
        });
        let starts: Vec<usize> = starts.collect();
        assert!(starts.iter().all(|start| *start == starts[0]), "{starts:?}");
    }

    #[test]
    fn an_argument_that_is_not_understood_is_refused() {
        let given = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(Takes::Flag("--bench").refused(&given(&["--bench"])), None);
        assert_eq!(Takes::Flag("--bench").refused(&[]), None);
        assert!(Takes::Flag("--bench").refused(&given(&["--bench", "--now"])).is_some());
        assert_eq!(Takes::Nothing.refused(&[]), None);
        assert!(Takes::Nothing.refused(&given(&["--fix"])).is_some_and(|problem| problem.contains("--fix")));
    }

    #[test]
    fn the_root_holds_the_workspace_manifest() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
        assert!(manifest.contains("[workspace]"));
    }
}
