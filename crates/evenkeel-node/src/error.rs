//! Why the node process cannot go on.
//!
//! Each message says what is wrong, where, the likely cause and the fix, since it is all that somebody who typed
//! `keel up` gets to see.

use std::{io, net::SocketAddr, path::PathBuf};

use evenkeel_core::stack::Diagnostics;

/// Why the node process cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Descriptor 3 is not the guard's channel.
    #[error(
        "the guard's channel (descriptor 3) cannot be used: {source}\nThis process is started by `keel up`; run that \
         instead."
    )]
    Channel {
        /// What the system said.
        source: io::Error,
    },
    /// The guard speaks another version of the protocol.
    #[error(
        "the guard speaks version {theirs} of its protocol and this process version {ours}\nThe binary was replaced \
         while it ran: stop `keel up` and start it again."
    )]
    Version {
        /// The guard's version.
        theirs: u16,
        /// Ours.
        ours: u16,
    },
    /// The guard is gone.
    #[error("the guard is gone, so this node process ends")]
    GuardGone,
    /// The stack cannot be read.
    #[error(
        "the stack file {path} cannot be read: {source}\nGive the path of a stack file, or make one with `keel init`."
    )]
    ReadStack {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The stack is wrong.
    #[error("{0}")]
    Stack(Box<Diagnostics>),
    /// The state directory cannot be used.
    #[error("{what} ({path}): {source}\n{fix}")]
    StateDir {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do.
        fix: &'static str,
    },
    /// The state directory was written by another version or is damaged.
    #[error("the state directory {path} cannot be used: {why}\n{fix}")]
    State {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        fix: &'static str,
    },
    /// A listener cannot be bound.
    #[error("listener `{name}` cannot be bound to {address}: {why}\n{fix}")]
    Listener {
        /// The listener.
        name: String,
        /// The address.
        address: SocketAddr,
        /// What is in the way.
        why: String,
        /// What to do.
        fix: String,
    },
    /// The console cannot be bound to the address that is asked for.
    #[error(
        "the console cannot be bound to {address}: {why}\nGive `[console] bind` another address; nothing was changed."
    )]
    Console {
        /// The address.
        address: SocketAddr,
        /// What is in the way.
        why: String,
    },
    /// A service wants a user that it cannot have.
    #[error("service `{service}` cannot run as user `{user}`: {why}\n{fix}")]
    User {
        /// The service.
        service: String,
        /// The user.
        user: String,
        /// What is in the way.
        why: String,
        /// What to do.
        fix: &'static str,
    },
    /// The file of a page cannot be used.
    #[error("the page of `{service}` cannot be read: {path}: {why}\nGive a file of UTF-8 text of at most 64 KiB.")]
    Page {
        /// The service, or the place of an error page in the stack file.
        service: String,
        /// The file.
        path: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// A secret that the stack uses cannot be had.
    #[error("{0}")]
    Secret(Box<crate::secrets::SecretError>),
    /// The API's socket cannot be made.
    #[error(
        "the control socket {path} cannot be made: {source}\nThe directory must exist, be writable, and its path be \
         shorter than 100 characters."
    )]
    Control {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused something that has no likely cause.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl NodeError {
    /// The exit code of `keel up` after this error: 2 for a wrong stack, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Stack(_) | Self::ReadStack { .. } => 2,
            _ => 1,
        }
    }

    /// The message without its last lines, and those lines: what is wrong, and what to do about it.
    pub(crate) fn split(&self) -> (String, String) {
        let text = self.to_string();
        match text.split_once('\n') {
            Some((error, hint)) => (error.to_owned(), hint.to_owned()),
            None => (text, String::new()),
        }
    }
}
