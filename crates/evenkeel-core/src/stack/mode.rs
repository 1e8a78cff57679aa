//! `stack.mode`: whether decisions are carried out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether decisions are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// What is decided is done.
    #[default]
    Act,
    /// What would be decided without an order is written to the journal and not done: restarts, kills, ejections,
    /// elastic scaling. What an operator orders is done.
    Observe,
}

impl Mode {
    /// As a stack file spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Observe => "observe",
        }
    }
}
