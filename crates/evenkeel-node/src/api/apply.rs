//! `POST /v1/apply`: another revision. `POST /v1/diff`: what that would change.

use std::path::{Path, PathBuf};

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use serde::Deserialize;

use super::{Api, error::ApiError, who::Who};
use crate::node::{Applied, Command, Difference, File};

#[derive(Debug, Deserialize, schemars::JsonSchema)]
pub(super) struct Wanted {
    text: String,
    /// Its name in messages; its folder, where it is an absolute path, is where instances run.
    file: String,
    /// Whether the file takes the place of what commands changed of it.
    #[serde(default)]
    reset: bool,
}

impl From<Wanted> for File {
    fn from(Wanted { text, file, reset }: Wanted) -> Self {
        let dir: Option<PathBuf> =
            Some(Path::new(&file)).filter(|path| path.is_absolute()).and_then(Path::parent).map(Path::to_owned);
        Self { text, name: file, dir, reset }
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
    Ok(Json(applied.ok_or_else(ApiError::ending)??))
}

/// Says what a stack file's text would change.
pub(super) async fn diff(
    State(api): State<Api>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Difference>, ApiError> {
    let file = wanted?.0.into();
    let difference = api.commands.ask(|reply| Command::Diff { file, reply }).await;
    Ok(Json(difference.ok_or_else(ApiError::ending)??))
}
