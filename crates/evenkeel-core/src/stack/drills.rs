//! `[drills]`: what drills send and check.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[drills]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drills {
    /// Path that drills read all the time.
    pub read: String,
    /// Writes that drills make and count afterwards. Default: none, and drills say nothing about lost writes.
    pub write: Option<Write>,
}

impl Default for Drills {
    fn default() -> Self {
        Self { read: "/".to_owned(), write: None }
    }
}

/// A write that a drill makes with an `Idempotency-Key` of its own each time, and looks for afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// Path that takes the write by `POST`; any 2xx acknowledges it.
    pub post: String,
    /// The JSON body.
    pub body: String,
    /// Path that answers with a JSON array of everything written under `{key}`: none for an acknowledged key is a
    /// lost write, more than one a doubled write.
    pub verify: String,
}
