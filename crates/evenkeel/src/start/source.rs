//! Where the stack of `keel up` comes from: a file, or a command that stands for one.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use evenkeel_core::stack::{self, Diagnostics, Stack};

use super::Inline;
use crate::{
    command::validate,
    failure::Failure,
    stack_file::{self, Purpose},
};

/// The file in the state directory that holds the stack made from a command.
pub(crate) const COMMAND_FILE: &str = "command.toml";

/// Where a stack comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file, absolute.
    File(PathBuf),
    /// The text made for a command.
    Command(String),
}

impl Source {
    /// From a stack file, which must be valid; with what its writer should be told.
    pub(crate) fn from_file(file: &Path) -> Result<(Self, Stack, Diagnostics), Failure> {
        let text = validate::read(file)?;
        let (stack, warnings) = stack_file::understand(file, &text, Purpose::Start).map_err(Failure::bad_file)?;
        let file = std::fs::canonicalize(file);
        let file = file.map_err(|error| Failure::usage("the stack file cannot be found").because(error))?;
        Ok((Self::File(file), stack, warnings))
    }

    /// From a command.
    pub(crate) fn from_command(inline: &Inline) -> Result<(Self, Stack, Diagnostics), Failure> {
        let text = inline.text();
        let (stack, warnings) = stack::parse_with_warnings(&text, "the command line").map_err(Failure::bad_file)?;
        Ok((Self::Command(text), stack, warnings))
    }

    /// Writes what the node process must be able to read again when it is restarted.
    pub(super) fn keep(&self, state_dir: &Path) -> Result<(), Failure> {
        let Self::Command(text) = self else { return Ok(()) };
        let file = state_dir.join(COMMAND_FILE);
        std::fs::write(&file, text).map_err(|error| {
            Failure::new("cannot write to the state directory")
                .at_path(&file)
                .because(error)
                .fix("free some space, or choose another place with --state-dir")
        })
    }

    /// The node process's option that leads to it.
    pub(super) fn argument(&self) -> (&'static str, OsString) {
        match self {
            Self::File(file) => ("--file", file.clone().into()),
            Self::Command(_) => {
                let dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
                ("--command-dir", dir.into())
            }
        }
    }
}
