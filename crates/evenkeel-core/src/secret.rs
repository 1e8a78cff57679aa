//! A value that cannot be printed.
//!
//! Whoever holds a [`Secret`] may use it where it is needed, by an explicit call; no format string, log line,
//! serialised status or panic message can show it by accident. Its memory is overwritten when it is dropped.

use std::{fmt, hint::black_box};

use schemars::JsonSchema;
use serde::Deserialize;

/// Text that must not appear in any output: its `Debug` form is a placeholder, and it has neither `Display` nor
/// `Serialize`.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a value into keeping.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        // Otherwise writes to memory that is about to be freed might be left out.
        black_box(&bytes);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatting_shows_nothing() {
        let secret = Secret::new("sk_live_42");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.expose(), "sk_live_42");
    }
}
