//! `GET /v1/why`: how a subject is, or was at some time, and the decisions that led there, newest first.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use evenkeel_core::{
    journal::{Entry, Level},
    time::WallTime,
    why,
};
use serde::{Deserialize, Serialize};

use super::{Api, error::ApiError, limits::moment};
use crate::{clock::wall_now, journal, node::Command};

/// Entries that are shown.
const SHOWN: u32 = 20;

/// Entries that are looked through for a subject that is a kind of work rather than a thing.
pub(super) const LOOKED_THROUGH: u32 = 2000;

#[derive(Debug, Deserialize, schemars::JsonSchema)]
pub(super) struct Wanted {
    #[serde(default)]
    subject: String,
    /// The moment that is asked about, in milliseconds since the Unix epoch; without it the present.
    at_ms: Option<u64>,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct Why {
    subject: String,
    /// The moment, where it is not the present.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<WallTime>,
    /// How it is, or was then.
    now: String,
    /// Newest first.
    entries: Vec<Entry>,
}

/// Explains.
pub(super) async fn explain(
    State(api): State<Api>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Why>, ApiError> {
    let Query(Wanted { subject, at_ms }) = wanted?;
    let at = moment("at_ms", at_ms)?;
    let subject = if subject.is_empty() { "stack".to_owned() } else { subject };
    let asked = subject.clone();
    let now = api.commands.ask(|reply| Command::Now { subject: asked, reply }).await.ok_or_else(ApiError::ending)?;
    let entries = entries(&api, &subject, at).await;
    let now = match (now, at) {
        // It is gone, but there is something to tell about it.
        (Err(unknown), _) if entries.is_empty() => return Err(unknown.into()),
        (_, Some(at)) => why::then(&subject, &entries, at),
        (Ok(sentence), None) if is_kind_of_work(&subject) => why::newest(&entries).unwrap_or(sentence),
        (Ok(sentence), None) => why::with_entries(&subject, sentence, &entries, wall_now()),
        (Err(_), None) => {
            why::then(&subject, &entries, wall_now()).replacen("at ", "it does not exist any more; at ", 1)
        }
    };
    Ok(Json(Why { subject, at, now, entries }))
}

async fn entries(api: &Api, subject: &str, at: Option<WallTime>) -> Vec<Entry> {
    let kind_of_work = is_kind_of_work(subject);
    let query = journal::Query {
        limit: if kind_of_work { LOOKED_THROUGH } else { SHOWN },
        subject: (!kind_of_work && subject != "stack").then(|| subject.to_owned()),
        until: at,
        ..journal::Query::default()
    };
    let query = if subject == "stack" { journal::Query { limit: LOOKED_THROUGH, ..query } } else { query };
    let mut entries = api.journal.read(query).await;
    entries.reverse();
    match subject {
        // What went wrong anywhere concerns the stack.
        "stack" => entries.retain(|entry| entry.subject == "stack" || entry.level != Level::Info),
        _ if kind_of_work => entries.retain(|entry| is_about(entry, subject)),
        _ => {}
    }
    entries.truncate(SHOWN as usize);
    entries
}

/// Whether a subject is not a thing with a state but what was done over time.
pub(super) fn is_kind_of_work(subject: &str) -> bool {
    matches!(subject, "deploy" | "secrets" | "tokens")
}

/// Whether an entry belongs to a kind of work.
pub(super) fn is_about(entry: &Entry, work: &str) -> bool {
    let singular = work.trim_end_matches('s');
    let kinds: &[&str] = match work {
        "deploy" => &["deploy", "rollback", "rolled-back", "rolling-back", "release", "before", "trial", "canary"],
        _ => &[singular],
    };
    let named = entry.subject == work || entry.subject.starts_with(&format!("{work}/"));
    named || entry.subject.starts_with(&format!("{work}.")) || kinds.iter().any(|kind| entry.kind.starts_with(kind))
}
