//! `[drills]`: what drills send and check, what they must hold, and when they are given up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// `[drills]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Drills {
    /// Path that drills read all the time.
    pub read: String,
    /// Writes that drills make and count afterwards. Default: none, and drills say nothing about lost writes.
    pub write: Option<Write>,
    /// What a drill must hold to pass.
    pub objectives: DrillObjectives,
    /// When a drill is given up.
    pub abort: Abort,
}

impl Default for Drills {
    fn default() -> Self {
        Self { read: "/".to_owned(), write: None, objectives: DrillObjectives::default(), abort: Abort::default() }
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

/// What a drill must hold to pass, beside that no acknowledged write is lost and none is there twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrillObjectives {
    /// Requests that may fail.
    pub errors: u64,
    /// How long the slowest request may take. Default: as long as it likes.
    pub worst: Option<Duration>,
    /// How long 99 of 100 requests after the harm may take. Default: as long as they like.
    pub p99: Option<Duration>,
    /// How long the harm may stay unnoticed. Default: as long as recovery.
    pub detection: Option<Duration>,
    /// How long it may take until everything is well again, counted from the end of a harm that lasts.
    pub recovery: Duration,
}

impl Default for DrillObjectives {
    fn default() -> Self {
        Self { errors: 0, worst: None, p99: None, detection: None, recovery: Duration::s(30) }
    }
}

/// When a drill is given up: it takes its harm back and fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Abort {
    /// This share of requests fails, in percent,
    pub errors: u8,
    /// for so long.
    pub after: Duration,
}

impl Default for Abort {
    fn default() -> Self {
        Self { errors: 50, after: Duration::s(5) }
    }
}
