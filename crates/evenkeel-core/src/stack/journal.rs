//! `[journal]`: how much of what happened and was decided is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Size;

/// `[journal]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    /// What the journal may take on disk, everything included; at least 4MiB. The oldest entries go first.
    pub size: Size,
}

impl Journal {
    /// The least size: below it hardly anything would be kept.
    pub const LEAST: Size = Size::mib(4);
}

impl Default for Journal {
    fn default() -> Self {
        Self { size: Size::mib(64) }
    }
}
