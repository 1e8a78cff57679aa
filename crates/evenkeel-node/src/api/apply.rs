//! `POST /v1/apply`: another revision. `POST /v1/diff`: what that would change.

use std::path::{Path, PathBuf};

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use evenkeel_core::journal::Entry;
use serde::Deserialize;

use super::{Api, error::ApiError, who::Who, why::LOOKED_THROUGH};
use crate::{
    journal,
    node::{Applied, Command, Difference, File, Refused, in_force_message},
};

#[derive(Debug, Deserialize, schemars::JsonSchema)]
pub(super) struct Wanted {
    text: String,
    /// Its name in messages; its folder, where it is an absolute path, is where instances run.
    file: String,
    /// Whether the file takes the place of what commands changed of it.
    #[serde(default)]
    reset: bool,
    /// The revision that the text was made from. Where another one is in force by now, nothing is done.
    expect: Option<u64>,
}

impl From<Wanted> for File {
    fn from(Wanted { text, file, reset, expect }: Wanted) -> Self {
        let dir: Option<PathBuf> =
            Some(Path::new(&file)).filter(|path| path.is_absolute()).and_then(Path::parent).map(Path::to_owned);
        Self { text, name: file, dir, reset, expect }
    }
}

/// Puts a stack file's text in force.
pub(super) async fn apply(
    State(api): State<Api>,
    Who(who): Who,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Applied>, ApiError> {
    let file = wanted?.0.into();
    let applied = api.commands.ask(|reply| Command::Apply { file, who, reply }).await;
    told(&api, applied.ok_or_else(ApiError::ending)?).await
}

/// Says what a stack file's text would change.
pub(super) async fn diff(
    State(api): State<Api>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Difference>, ApiError> {
    let file = wanted?.0.into();
    let difference = api.commands.ask(|reply| Command::Diff { file, reply }).await;
    told(&api, difference.ok_or_else(ApiError::ending)?).await
}

/// What came of it; where another revision came first, with who put that in force and when.
async fn told<T>(api: &Api, answer: Result<T, Refused>) -> Result<Json<T>, ApiError> {
    let refused = match answer {
        Ok(answer) => return Ok(Json(answer)),
        Err(refused) => refused,
    };
    let Refused::Newer { in_force, .. } = refused else { return Err(refused.into()) };
    let query =
        journal::Query { limit: LOOKED_THROUGH, subject: Some("stack".to_owned()), ..journal::Query::default() };
    let entries = api.journal.read(query).await;
    let message = in_force_message(in_force);
    let came = entries.iter().rev().find(|entry| entry.kind == "applied" && entry.message == message);
    let said = came.map(|Entry { at, reasons, .. }| {
        // How it came, and by whom where the first does not say that.
        let how: Vec<&str> = reasons.iter().take(2).map(|reason| reason.text.as_str()).collect();
        format!("It came at {at}: {}.", how.join("; "))
    });
    let refused = ApiError::from(refused);
    Err(match said {
        Some(said) => refused.with(&said),
        None => refused,
    })
}
