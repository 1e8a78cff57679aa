//! Steps of a command: each is announced, run, timed, and counted in one closing line.
//!
//! A step is a child process, whose output goes straight through, or a check inside this process. Steps go
//! on after a failure, so that one run shows everything that is wrong; a caller that cannot go on looks at
//! the returned verdict. Nothing here decides what to run.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// The steps of one command so far.
pub(crate) struct Steps {
    command: &'static str,
    started: Instant,
    done: Vec<Step>,
}

struct Step {
    name: String,
    took: Duration,
    passed: bool,
}

impl Steps {
    /// Starts the clock of `cargo xtask COMMAND`.
    pub(crate) fn of(command: &'static str) -> Self {
        Self { command, started: Instant::now(), done: Vec::new() }
    }

    /// Runs a child process to its end with this process's own input and output. Returns whether it
    /// succeeded.
    pub(crate) fn run(&mut self, name: &str, command: &mut Command) -> bool {
        println!("$ {}", shown(command));
        let started = Instant::now();
        let outcome = match command.status() {
            Ok(status) if status.success() => Ok(String::new()),
            Ok(status) => Err(status.to_string()),
            Err(error) => Err(format!("cannot start `{}`: {error}", command.get_program().display())),
        };
        self.record(name, started, &outcome)
    }

    /// Runs a check inside this process: `Ok` says in a few words what was found good, `Err` everything that
    /// was not. Returns whether it passed.
    pub(crate) fn check(&mut self, name: &str, check: impl FnOnce() -> Result<String, String>) -> bool {
        println!("$ cargo xtask {}: {name}", self.command);
        let started = Instant::now();
        let outcome = check();
        self.record(name, started, &outcome)
    }

    /// Prints the closing line and gives the exit status that belongs to it.
    pub(crate) fn finish(self) -> ExitCode {
        println!("{}", summary(self.command, self.started.elapsed(), &self.done));
        if self.done.iter().all(|step| step.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn record(&mut self, name: &str, started: Instant, outcome: &Result<String, String>) -> bool {
        let took = started.elapsed();
        match outcome {
            Ok(note) if note.is_empty() => println!("  {name}: ok in {}", seconds(took)),
            Ok(note) => println!("  {name}: ok in {} ({note})", seconds(took)),
            Err(problem) => {
                eprintln!("{problem}");
                println!("  {name}: FAILED after {}", seconds(took));
            }
        }
        let passed = outcome.is_ok();
        self.done.push(Step { name: name.to_owned(), took, passed });
        passed
    }
}

/// `cargo` in the workspace's folder, the same one that started this process.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// A command as one would type it, without the folder that its program lies in.
fn shown(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let _ = write!(line, "{}={} ", name.display(), quoted(&value.to_string_lossy()));
        }
    }
    let program = Path::new(command.get_program());
    line += &program.file_name().unwrap_or(command.get_program()).to_string_lossy();
    for argument in command.get_args() {
        line.push(' ');
        line += &quoted(&argument.to_string_lossy());
    }
    line
}

/// A word as a shell would need it.
fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./=:,@%+".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn summary(command: &str, took: Duration, steps: &[Step]) -> String {
    let failed: Vec<&str> = steps.iter().filter(|step| !step.passed).map(|step| step.name.as_str()).collect();
    if failed.is_empty() {
        let parts: Vec<String> = steps.iter().map(|step| format!("{} {}", step.name, seconds(step.took))).collect();
        format!("cargo xtask {command}: passed in {} ({})", seconds(took), parts.join(", "))
    } else {
        format!("cargo xtask {command}: FAILED after {}: {}", seconds(took), failed.join(", "))
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, passed: bool) -> Step {
        Step { name: name.to_owned(), took: Duration::from_millis(1500), passed }
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/lib/cargo");
        command.args(["test", "--", "a b", "it's"]).env("RUSTDOCFLAGS", "-Dwarnings");
        assert_eq!(shown(&command), r"RUSTDOCFLAGS=-Dwarnings cargo test -- 'a b' 'it'\''s'");
    }

    #[test]
    fn the_closing_line_names_what_failed() {
        let took = Duration::from_secs(3);
        let good = summary("lint", took, &[step("format", true), step("tidy", true)]);
        assert_eq!(good, "cargo xtask lint: passed in 3.0 s (format 1.5 s, tidy 1.5 s)");
        let bad = summary("lint", took, &[step("format", false), step("clippy", true), step("tidy", false)]);
        assert_eq!(bad, "cargo xtask lint: FAILED after 3.0 s: format, tidy");
    }

    #[test]
    fn a_process_that_fails_or_does_not_start_fails_its_step() {
        let mut steps = Steps::of("test");
        assert!(steps.run("true", &mut Command::new("true")));
        assert!(!steps.run("false", &mut Command::new("false")));
        assert!(!steps.run("absent", &mut Command::new("/nonexistent/program")));
        assert!(!steps.check("check", || Err("no".to_owned())));
        assert_eq!(steps.done.iter().filter(|step| step.passed).count(), 1);
    }
}
