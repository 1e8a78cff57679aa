//! What a command says when it cannot do what was asked: what, where, the likely cause and the fix.
//!
//! Modules below have errors of their own; here they become words for a person, or one JSON object on standard
//! error under `--json`. Each kind of failure has an exit code, which `keel --help` and
//! `docs/command-line.md` list. Failures are made where they occur and printed once, by `main`.

use std::{
    fmt::{self, Write},
    io,
    path::Path,
    process::ExitCode,
};

use serde::Serialize;

use crate::style::{Paint, Stream};

/// Why the process ends, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was done. Also where nobody reads our output any more.
    Done = 0,
    /// It was not done, or a drill did not pass.
    Failed = 1,
    /// The arguments or the stack file are wrong; nothing was changed.
    Usage = 2,
    /// No stack runs here.
    NothingRuns = 3,
    /// The stack has nothing of that name.
    Unknown = 4,
    /// The stack is not well enough to be harmed by a drill; nothing was.
    NotWell = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure in words.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// The exit code that follows.
    #[serde(skip)]
    pub(crate) exit: Exit,
    /// What could not be done.
    #[serde(rename = "error")]
    what: String,
    /// Where: a path, an address, a subject.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// The likely cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// What to do about it.
    #[serde(rename = "hint", skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
    /// Text that was rendered elsewhere and stands alone, as diagnostics of a file.
    #[serde(skip)]
    verbatim: bool,
}

impl Failure {
    /// It could not be done.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, what: what.into(), place: None, cause: None, fix: None, verbatim: false }
    }

    /// The arguments are wrong.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(what).exit(Exit::Usage)
    }

    /// The stack file is wrong: what `rendered` shows in place.
    pub(crate) fn bad_file(rendered: impl fmt::Display) -> Self {
        Self { verbatim: true, ..Self::usage(rendered.to_string().trim_end()) }
    }

    /// Nobody reads our output any more, as in `keel logs | head`: not a failure, and nothing to say.
    pub(crate) fn output_closed() -> Self {
        Self::new("").exit(Exit::Done)
    }

    /// Whether it is only that nobody reads our output any more.
    pub(crate) fn is_output_closed(&self) -> bool {
        self.what.is_empty()
    }

    /// Writing output failed.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::output_closed(),
            _ => Self::new("cannot write to standard output").because(error.to_string()),
        }
    }

    /// What could not be done.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// The same, and the likely cause, in one line.
    pub(crate) fn in_short(&self) -> String {
        self.cause.as_ref().map_or_else(|| self.what.clone(), |cause| format!("{}: {cause}", self.what))
    }

    /// With another exit code.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Where it happened.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.place = Some(place.to_string());
        self
    }

    /// Where it happened: a file or folder.
    pub(crate) fn at_path(self, path: &Path) -> Self {
        self.at(path.display())
    }

    /// The likely cause.
    pub(crate) fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// What to do about it.
    pub(crate) fn fix(mut self, fix: impl fmt::Display) -> Self {
        self.fix = Some(fix.to_string());
        self
    }

    /// Prints it on standard error: for a person, or as one JSON object.
    pub(crate) fn print(&self, json: bool) {
        let text = if self.is_output_closed() {
            return;
        } else if json {
            let mut text = serde_json::to_string(self).expect("strings serialise");
            text.push('\n');
            text
        } else {
            self.render(Paint::of(Stream::Error))
        };
        // Nobody is left to be told that standard error is closed.
        let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
    }

    /// For a person.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let mut text =
            if self.verbatim { format!("{}\n", self.what) } else { format!("{} {}\n", paint.bad("error:"), self.what) };
        let parts = [("where", &self.place), ("cause", &self.cause), ("fix", &self.fix)];
        for (label, part) in parts {
            if let Some(part) = part {
                let indented = part.replace('\n', "\n         ");
                let _ = writeln!(text, "  {} {indented}", paint.dim(&format!("{label:>5}:")));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Failure {
        Failure::new("port 8080 is taken")
            .at("127.0.0.1:8080")
            .because("process 4711 (node) listens there")
            .fix("stop it, or choose another port:\nkeel demo --port 8081")
    }

    #[test]
    fn says_what_where_cause_and_fix() {
        insta::assert_snapshot!(sample().render(Paint::plain()), @r"
        error: port 8080 is taken
          where: 127.0.0.1:8080
          cause: process 4711 (node) listens there
            fix: stop it, or choose another port:
                 keel demo --port 8081
        ");
    }

    #[test]
    fn is_one_object_for_programs() {
        let json = serde_json::to_string(&sample()).unwrap();
        insta::assert_snapshot!(json, @r#"{"error":"port 8080 is taken","where":"127.0.0.1:8080","cause":"process 4711 (node) listens there","hint":"stop it, or choose another port:\nkeel demo --port 8081"}"#);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit, Exit::Done);
        let full = Failure::output(&io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(full.exit, Exit::Failed);
    }
}
