//! `GET /v1/events`: the journal from a position on, waiting for more where asked. `POST`: an entry from outside,
//! as drills make them.

use std::time::Duration;

use axum::{
    Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
};
use evenkeel_core::journal::{Entry, Level, Reason};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Api,
    error::ApiError,
    limits::moment,
    why::{LOOKED_THROUGH, is_about, is_kind_of_work},
};
use crate::journal;

/// The longest wait.
const MAX_WAIT_MS: u64 = 60_000;

/// The most entries of one answer.
const MAX_ENTRIES: u32 = 10_000;

#[derive(Debug, Deserialize, schemars::JsonSchema)]
pub(super) struct Wanted {
    after: Option<u64>,
    limit: Option<u32>,
    subject: Option<String>,
    /// Only entries of this time or later, in milliseconds since the Unix epoch.
    since_ms: Option<u64>,
    /// Only entries of this time or earlier.
    until_ms: Option<u64>,
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct Page {
    entries: Vec<Entry>,
    /// What to ask for next, as `after`.
    next: u64,
}

/// Lists entries, oldest first. Without `after` these are the newest ones.
pub(super) async fn list(
    State(api): State<Api>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Page>, ApiError> {
    let Query(wanted) = wanted?;
    let mut newest = api.journal.newest();
    let subject = wanted.subject.filter(|subject| !subject.is_empty());
    // What was done over time stands under the things that it was done to.
    let work = subject.clone().filter(|subject| is_kind_of_work(subject));
    let limit = wanted.limit.unwrap_or(100).min(MAX_ENTRIES);
    let mut query = journal::Query {
        after: wanted.after,
        since: moment("since_ms", wanted.since_ms)?,
        until: moment("until_ms", wanted.until_ms)?,
        limit: if work.is_some() { limit.max(LOOKED_THROUGH) } else { limit },
        subject: subject.filter(|_| work.is_none()),
    };
    let until = Instant::now() + Duration::from_millis(wanted.wait_ms.min(MAX_WAIT_MS));
    loop {
        let seen = *newest.borrow_and_update();
        let mut entries = api.journal.read(query.clone()).await;
        let read = entries.last().map(|entry| entry.id);
        if entries.is_empty() && query.after.is_some_and(|after| after > *newest.borrow()) {
            // A journal that was begun anew counts from the start; whoever waits for more has seen none of it.
            query.after = Some(0);
            continue;
        }
        if let Some(work) = &work {
            entries.retain(|entry| is_about(entry, work));
            let most = usize::try_from(limit).unwrap_or(usize::MAX);
            match query.after {
                Some(_) => entries.truncate(most),
                None => drop(entries.drain(..entries.len().saturating_sub(most))),
            }
        }
        let over = tokio::time::Instant::now() >= until;
        if !entries.is_empty() || over {
            let last = entries.last().map(|entry| entry.id).or(read);
            // Without a match, what was looked through need not be looked through again.
            let next = last.unwrap_or_else(|| query.after.unwrap_or(0).max(seen));
            return Ok(Json(Page { entries, next }));
        }
        if read.is_some() {
            // More may have been written than is read at once.
            query.after = read;
            continue;
        }
        // Either more was written, or the time is over; both are found out above.
        let _ = tokio::time::timeout_at(until, newest.changed()).await;
    }
}

/// Bounds of an entry from outside. The journal keeps a number of entries, so their size must be bounded too.
const MAX_NAME_BYTES: usize = 256;
const MAX_TEXT_BYTES: usize = 4096;
const MAX_REASONS: usize = 32;

#[derive(Debug, Deserialize, schemars::JsonSchema)]
pub(super) struct Told {
    subject: String,
    kind: String,
    message: String,
    #[serde(default = "info")]
    level: Level,
    #[serde(default)]
    reasons: Vec<Reason>,
}

fn info() -> Level {
    Level::Info
}

/// Writes an entry.
pub(super) async fn record(
    State(api): State<Api>,
    told: Result<Json<Told>, JsonRejection>,
) -> Result<(StatusCode, Json<serde_json::Value>), ApiError> {
    let Json(told) = told?;
    if told.subject.is_empty() || told.kind.is_empty() || told.message.is_empty() {
        return Err(ApiError::new(400, "subject, kind and message must not be empty", ""));
    }
    let texts = || std::iter::once(&told.message).chain(told.reasons.iter().map(|reason| &reason.text));
    if told.subject.len().max(told.kind.len()) > MAX_NAME_BYTES
        || told.reasons.len() > MAX_REASONS
        || texts().any(|text| text.len() > MAX_TEXT_BYTES)
    {
        let hint = format!(
            "Names have at most {MAX_NAME_BYTES} bytes, message and reasons {MAX_TEXT_BYTES} each, and there are at \
             most {MAX_REASONS} reasons."
        );
        return Err(ApiError::new(400, "the entry is too large for the journal", hint));
    }
    api.journal.note(told.level, &told.subject, &told.kind, told.message, told.reasons);
    Ok((StatusCode::CREATED, Json(serde_json::json!({}))))
}
