//! What can be wrong with secrets, in words with the way out. No message holds a value.

use std::{io, path::PathBuf};

/// Why a secret cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nobody knows it.
    #[error(
        "there is no secret `{name}`{used}\n{}Give it a value with `keel secret set {name}`, or a source in \
         `[secrets.{name}]`.",
        .nearest.as_ref().map_or_else(String::new, |near| format!("Did you mean `{near}`? "))
    )]
    Unknown {
        /// Its name.
        name: String,
        /// Who asks for it, as a clause, or nothing.
        used: String,
        /// The nearest name that there is.
        nearest: Option<String>,
    },
    /// Its source does not give it.
    #[error("the secret `{name}` cannot be had from its source, {place}: {why}\n{fix}")]
    Source {
        /// Its name.
        name: String,
        /// The source in words.
        place: String,
        /// What is in the way.
        why: String,
        /// What to do.
        fix: &'static str,
    },
    /// The value is none.
    #[error("this cannot be the value of a secret: {why}\nA value is text without NUL, from 1 byte to 64 KiB.")]
    Value {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The name is none.
    #[error("`{name}` cannot be the name of a secret\nA name is {}.", evenkeel_core::stack::SECRET_NAME_RULE)]
    Name {
        /// The text.
        name: String,
    },
    /// It is used.
    #[error("the secret `{name}` is used by {by}\nRemove `secret:{name}` from there first; nothing was changed.")]
    Used {
        /// Its name.
        name: String,
        /// By whom, as a clause.
        by: String,
    },
    /// It comes from elsewhere.
    #[error(
        "the secret `{name}` comes from its source, {place}\nChange it there, then run `keel secret rotate {name}`."
    )]
    Sourced {
        /// Its name.
        name: String,
        /// The source in words.
        place: String,
    },
    /// The key is gone.
    #[error(
        "the key of the secrets is not at {path}\nSecrets that are kept already can be read with that key only: put it \
         back from its backup, or name it by KEEL_SECRETS_KEY. Without a backup their values are lost: move {kept} \
         away, and set each secret again."
    )]
    NoKey {
        /// Where it belongs.
        path: PathBuf,
        /// The folder of what it encrypted.
        kept: PathBuf,
    },
    /// The key is another one.
    #[error(
        "the key at {path} is not the one that the secrets in {kept} were encrypted with\nPut the right one back from \
         its backup, or name it by KEEL_SECRETS_KEY. Without a backup their values are lost: move {kept} away, and set \
         each secret again."
    )]
    WrongKey {
        /// Where it lies.
        path: PathBuf,
        /// The folder of what another one encrypted.
        kept: PathBuf,
    },
    /// The key is no key.
    #[error(
        "the file {path} holds no key\nIt must hold a line that begins with AGE-SECRET-KEY-1. Put it back from its \
         backup; keel never overwrites it."
    )]
    BadKey {
        /// The file.
        path: PathBuf,
    },
    /// A file of the store is damaged.
    #[error(
        "the secret `{name}` is damaged: {path} cannot be decrypted ({why})\nSet it again with `keel secret set {name}`, \
         or put the file back from its backup."
    )]
    Damaged {
        /// Its name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What decryption said.
        why: String,
    },
    /// The disk.
    #[error("{what} ({path}): {source}\nCheck the owner, the mode and the disk.")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The stack is being stopped.
    #[error("keel is being stopped\nTry again once it runs.")]
    Stopping,
}

impl SecretError {
    /// For `map_err` on what the disk was asked.
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    /// What is wrong, and what to do about it.
    pub fn split(&self) -> (String, String) {
        let text = self.to_string();
        match text.split_once('\n') {
            Some((error, hint)) => (error.to_owned(), hint.to_owned()),
            None => (text, String::new()),
        }
    }
}
