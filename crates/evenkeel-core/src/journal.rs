//! Events and decisions: what `keel events` lists and `keel why` explains.
//!
//! An entry says what was seen, what was decided and what was ruled out, in words that a person reads without
//! the code beside them. The node process keeps them on disk; this module knows only their shape.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::WallTime;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Entry {
    /// Position in the journal; grows, with gaps where entries expired.
    pub id: u64,
    /// When.
    pub at: WallTime,
    /// How much it matters.
    pub level: Level,
    /// What it concerns: `shop/1`, `shop`, `edge`, `node`, `stack`, `listeners.web`, `drill`.
    pub subject: String,
    /// A stable word for the kind of entry, as `exited`, `restarting`, `healthy`, `gave-up`, `applied`.
    pub kind: String,
    /// One sentence.
    pub message: String,
    /// What led to it, most important first; empty for a plain observation.
    pub reasons: Vec<Reason>,
}

/// One reason of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Reason {
    /// Whether it speaks for what was done or says what was ruled out.
    pub role: Role,
    /// One clause, as "exit code 1 after 0.4 s" or "restart at once: third exit within 10 s".
    pub text: String,
}

impl Reason {
    /// Something that was observed.
    pub fn seen(text: impl Into<String>) -> Self {
        Self { role: Role::Seen, text: text.into() }
    }

    /// The rule or setting that decided.
    pub fn rule(text: impl Into<String>) -> Self {
        Self { role: Role::Rule, text: text.into() }
    }

    /// An alternative that was not taken, and why.
    pub fn ruled_out(text: impl Into<String>) -> Self {
        Self { role: Role::RuledOut, text: text.into() }
    }
}

/// What a reason does in a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// An observation.
    Seen,
    /// The rule or setting that decided.
    Rule,
    /// An alternative that was not taken.
    RuledOut,
}

/// How much an entry matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Something changed as planned.
    Info,
    /// Something failed and was dealt with.
    Warning,
    /// Somebody should look.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}
