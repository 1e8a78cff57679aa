//! What every command gets: the global options, and the one way to print.
//!
//! Printing goes through here so that a closed pipe ends a command quietly, `--json` prints nothing but JSON, and
//! the last words of a command (where to look, what to try next) have one form.

use std::{
    future::Future,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::{
    failure::Failure,
    paths::Places,
    remote::Remote,
    running::{self, Running},
    style::{Paint, Stream},
};

/// How often a command that follows looks whether somebody still reads.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// Print JSON, for programs
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// State directory [default: by the stack's name, or the one that runs; also `KEEL_STATE_DIR`]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Ask a stack elsewhere through its console, as `http://127.0.0.1:9400`, with the token in `KEEL_TOKEN`
    #[arg(long, global = true, value_name = "URL", conflicts_with = "state_dir", help_heading = "Global options")]
    pub(crate) url: Option<String>,
    /// File with the token, in place of `KEEL_TOKEN`
    #[arg(long, global = true, value_name = "FILE", requires = "url", help_heading = "Global options")]
    pub(crate) token_file: Option<PathBuf>,
}

/// What a command works with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Print JSON and nothing else on standard output.
    pub(crate) json: bool,
    /// As given by `--state-dir`, or else by `KEEL_STATE_DIR`.
    pub(crate) state_dir: Option<PathBuf>,
    /// As given by `--url`.
    pub(crate) url: Option<String>,
    /// As given by `--token-file`.
    token_file: Option<PathBuf>,
    /// How standard output is coloured.
    pub(crate) paint: Paint,
    /// Whether a person looks at standard output.
    pub(crate) terminal: bool,
    /// Where things lie by default.
    pub(crate) places: Places,
}

impl Context {
    /// From the options and the environment.
    pub(crate) fn new(global: Global) -> Self {
        let from_env = || std::env::var_os("KEEL_STATE_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Self {
            json: global.json,
            state_dir: global.state_dir.or_else(from_env),
            url: global.url,
            token_file: global.token_file,
            paint: Paint::of(Stream::Output),
            terminal: io::stdout().is_terminal(),
            places: Places::from_env(),
        }
    }

    /// The stack that the options mean, or the only one that runs here.
    pub(crate) fn running(&self) -> Result<Running, Failure> {
        match &self.url {
            Some(url) => Remote::new(url, self.token_file.as_deref()).map(Running::elsewhere),
            None => running::find(self.state_dir.as_deref(), &self.places),
        }
    }

    /// Refuses `--url` where a command needs the machine on which the stack runs.
    pub(crate) fn needs_this_machine(&self, command: &str) -> Result<(), Failure> {
        let Some(url) = &self.url else { return Ok(()) };
        let cause = "it works on processes, which an API cannot lend";
        Err(Failure::usage(format!("`keel {command}` works only on the machine of the stack")).at(url).because(cause))
    }

    /// Prints one line, or several.
    #[expect(clippy::unused_self, reason = "printing belongs to the context")]
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_ref().as_bytes()).and_then(|()| out.write_all(b"\n"));
        written.and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
    }

    /// Waits until nobody reads standard output any more: a command that follows would notice only with the next
    /// line it prints, which may be hours away (`POLLERR`, poll(2)).
    pub(crate) async fn reader_gone(&self) -> Failure {
        let gone = PollFlags::ERR | PollFlags::HUP;
        let stdout = io::stdout();
        loop {
            let mut output = [PollFd::new(&stdout, PollFlags::empty())];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut output, Some(&now)).is_ok() && output[0].revents().intersects(gone) {
                return Failure::output_closed();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Prints one JSON document on one line.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::new("cannot write JSON").because(error))?;
        self.line(text)
    }

    /// The last words of a command for a person: where to look and what to try next. Nothing under `--json`.
    pub(crate) fn next(&self, command: &str, why: &str) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        self.line(format!("{} {command}   {}", self.paint.dim("try:"), self.paint.dim(&format!("({why})"))))
    }

    /// `keel ARGS`, with the option that leads to the stack in `state_dir` where it is needed.
    pub(crate) fn command(&self, state_dir: &Path, args: &str) -> String {
        if let Some(url) = &self.url {
            return format!("keel {args} --url {}", shell_word(url));
        }
        let found = running::find(None, &self.places).is_ok_and(|running| running.state_dir == state_dir);
        let from_env = std::env::var_os("KEEL_STATE_DIR").is_some_and(|dir| Path::new(&dir) == state_dir);
        if found || from_env {
            format!("keel {args}")
        } else {
            format!("keel {args} --state-dir {}", shell_word(&state_dir.display().to_string()))
        }
    }
}

/// Quotes a word for a POSIX shell where it needs it.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new("cannot start an async runtime").because(error))?;
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::shell_word;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("/tmp/a-b"), "/tmp/a-b");
        assert_eq!(shell_word("/tmp/a b"), "'/tmp/a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
