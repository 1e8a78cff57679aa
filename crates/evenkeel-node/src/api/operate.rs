//! `POST /v1/scale`, `/v1/restart`, `/v1/drain`, `/v1/resume` and `/v1/pause`: orders of an operator.
//!
//! Each answers once the order is in force, with what changed; carrying it out may take longer, which `/v1/status`
//! shows.

use std::time::Duration;

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use serde::Deserialize;

use super::{Api, error::ApiError, who::Who};
use crate::node::{Command, Operation, Ordered};

/// The longest reason, in bytes: it is shown on one line.
const MOST_WORDS: usize = 500;

type Answer = Result<Json<Ordered>, ApiError>;
type Wanted<T> = Result<Json<T>, JsonRejection>;

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Scale {
    service: String,
    /// `null`: as the stack file says.
    replicas: Option<u32>,
}

/// So many instances of a service.
pub(super) async fn scale(State(api): State<Api>, who: Who, wanted: Wanted<Scale>) -> Answer {
    let Json(Scale { service, replicas }) = wanted?;
    order(&api, who, Operation::Scale { service, replicas }).await
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Subject {
    subject: String,
}

/// New processes for a service or an instance.
pub(super) async fn restart(State(api): State<Api>, who: Who, wanted: Wanted<Subject>) -> Answer {
    let Json(Subject { subject }) = wanted?;
    order(&api, who, Operation::Restart { subject }).await
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resume {
    subject: String,
    /// Only a drain that was ordered for this reason ends; another one stays.
    #[serde(default)]
    drained_for: Option<String>,
}

/// The end of a drain or a pause.
pub(super) async fn resume(State(api): State<Api>, who: Who, wanted: Wanted<Resume>) -> Answer {
    let Json(Resume { subject, drained_for }) = wanted?;
    order(&api, who, Operation::Resume { subject, drained_for }).await
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    instance: String,
    #[serde(default)]
    reason: String,
    /// Also where it is the last healthy one.
    #[serde(default)]
    force: bool,
}

/// No new requests for an instance.
pub(super) async fn drain(State(api): State<Api>, who: Who, wanted: Wanted<Drain>) -> Answer {
    let Json(Drain { instance, reason, force }) = wanted?;
    short(&reason)?;
    order(&api, who, Operation::Drain { instance, reason, force }).await
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    subject: String,
    for_ms: u64,
    reason: String,
}

/// No automatic decisions for a time.
pub(super) async fn pause(State(api): State<Api>, who: Who, wanted: Wanted<Pause>) -> Answer {
    let Json(Pause { subject, for_ms, reason }) = wanted?;
    short(&reason)?;
    order(&api, who, Operation::Pause { subject, length: Duration::from_millis(for_ms), reason }).await
}

async fn order(api: &Api, Who(who): Who, operation: Operation) -> Answer {
    let ordered = api.commands.ask(|reply| Command::Operate { operation, who, reply }).await;
    Ok(Json(ordered.ok_or_else(ApiError::ending)??))
}

fn short(reason: &str) -> Result<(), ApiError> {
    if reason.len() <= MOST_WORDS && !reason.contains(char::is_control) {
        return Ok(());
    }
    Err(ApiError::new(400, "the reason is too long or not on one line", format!("Say it in {MOST_WORDS} bytes.")))
}
