//! The `keel up` that a demo starts.
//!
//! It is in a process group of its own, so that a Ctrl-C reaches only the front, which ends it in order. What it
//! says goes to `logs/keel.log`. It ends when the front ends, however that happens: see `--ends-with`. One that was
//! killed is started again, as a service manager would: its listening sockets were kept, and instances go on.

use std::{
    fs::{self, File},
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child as Process, Command};

use super::{keeper::Keeper, own_binary, stack::FILE};
use crate::failure::{Exit, Failure};

/// One that was started again and lived so long is started again when it is killed.
const LONG_LIFE: Duration = Duration::from_secs(1);
/// Lines of its log that a failure shows.
const TAIL_LINES: usize = 8;

/// A running `keel up`.
pub(super) struct Child {
    process: Process,
    pid: u32,
    dir: PathBuf,
    runtime_dir: PathBuf,
    log: PathBuf,
    exit: Option<ExitStatus>,
    /// When it was last started again.
    again: Option<Instant>,
    keeper: Keeper,
}

impl Child {
    /// Writes the stack file and starts it.
    pub(super) fn start(dir: &Path, runtime_dir: &Path, stack: &str) -> Result<Self, Failure> {
        let log = dir.join("logs/keel.log");
        let written = fs::create_dir_all(dir.join("logs")).and_then(|()| fs::write(dir.join(FILE), stack));
        let output = written.and_then(|()| File::create(&log)).map_err(|error| cannot_write(dir, &error))?;
        let keeper = Keeper::new(runtime_dir).map_err(|error| cannot_write(runtime_dir, &error))?;
        let process = spawn(dir, &keeper, output)?;
        let pid = process.id().expect("it was not awaited yet");
        let (dir, runtime_dir) = (dir.to_owned(), runtime_dir.to_owned());
        Ok(Self { process, pid, dir, runtime_dir, log, exit: None, again: None, keeper })
    }

    /// Starts it once more if it was killed; what is to be said of that. One that dies as soon as it lives is not
    /// started for ever.
    pub(super) fn start_again(&mut self, exit: ExitStatus) -> Result<String, Failure> {
        let Some(signal) = exit.signal().filter(|_| self.again.is_none_or(|again| again.elapsed() >= LONG_LIFE)) else {
            // Stubs that nobody can find any more end what they run.
            let _ = fs::remove_dir_all(&self.runtime_dir);
            return Err(self.failed(exit));
        };
        let output = File::options().append(true).open(&self.log).map_err(|error| cannot_write(&self.log, &error))?;
        let former = self.pid;
        self.process = spawn(&self.dir, &self.keeper, output)?;
        self.pid = self.process.id().expect("it was not awaited yet");
        (self.exit, self.again) = (None, Some(Instant::now()));
        let signal = evenkeel_core::status::ExitStatus::Signal(signal);
        let now = self.pid;
        Ok(format!("`keel up` (the guard, process {former}) was killed by {signal} and started again, process {now}"))
    }

    /// Waits for its end.
    pub(super) async fn exited(&mut self) -> ExitStatus {
        if let Some(exit) = self.exit {
            return exit;
        }
        // Nobody else awaits our child; an error would mean that it is gone.
        let exit = self.process.wait().await.unwrap_or_else(|_| ExitStatus::from_raw(1 << 8));
        self.exit = Some(exit);
        exit
    }

    /// Whether its end was seen.
    pub(super) fn has_exited(&self) -> bool {
        self.exit.is_some()
    }

    /// Asks it to stop everything; a second time, to kill everything.
    pub(super) fn terminate(&self) {
        if self.exit.is_some() {
            return;
        }
        // It was not awaited yet, so the number is its own; it may have ended, which is as good.
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// It ended although nobody asked it to.
    pub(super) fn failed(&self, exit: ExitStatus) -> Failure {
        if let Some(signal) = exit.signal() {
            return killed(self.pid, signal);
        }
        let tail = self.tail();
        let failure = Failure::new(format!("the stack ended: {exit}")).at_path(&self.log);
        let failure = if tail.is_empty() { failure } else { failure.because(tail) };
        let failure =
            failure.fix("the whole log lies there; another port is chosen with --port, another place with --state-dir");
        if exit.code() == Some(2) { failure.exit(Exit::Usage) } else { failure }
    }

    /// It does not get up.
    pub(super) fn stuck(&self, waited: Duration) -> Failure {
        let tail = self.tail();
        let cause = if tail.is_empty() { "its log says nothing about it".to_owned() } else { tail };
        Failure::new(format!("the shop was not up after {} s", waited.as_secs()))
            .at_path(&self.log)
            .because(cause)
            .fix("see that log, and the files beside it for what instances print")
    }

    /// The last lines that it wrote.
    fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

fn spawn(dir: &Path, keeper: &Keeper, output: File) -> Result<Process, Failure> {
    let errors = output.try_clone().map_err(|error| cannot_write(dir, &error))?;
    let cannot_start = |error| Failure::new("cannot start `keel up`").because(error);
    let mut command = Command::new(own_binary()?);
    command
        .arg("up")
        .arg(dir.join(FILE))
        .args(["--quiet", "--outlived", "--ends-with", &std::process::id().to_string()])
        .arg("--state-dir")
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0);
    keeper.equip(&mut command).map_err(cannot_start)?;
    command.spawn().map_err(cannot_start)
}

/// Its log says nothing about that: a process that is killed has no time for last words.
fn killed(pid: u32, signal: i32) -> Failure {
    let signal = evenkeel_core::status::ExitStatus::Signal(signal);
    Failure::new(format!("`keel up` (the guard, process {pid}) was killed by {signal}"))
        .because(
            "somebody sent that signal, or the kernel did because memory ran short (`dmesg` says so), as soon as it had \
             been started",
        )
        .fix("start it again: keel demo")
}

fn cannot_write(dir: &Path, error: &io::Error) -> Failure {
    Failure::new("cannot write to the state directory")
        .at_path(dir)
        .because(error)
        .fix("free some space, or choose another place with --state-dir")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::Paint;

    #[test]
    fn a_killed_guard_is_named_and_no_old_lines() {
        let text = killed(4711, 9).render(Paint::plain());
        assert!(text.starts_with("error: `keel up` (the guard, process 4711) was killed by SIGKILL\n"), "{text}");
        assert!(!text.contains("--port"), "{text}");
    }
}
