//! `POST /v1/apply`: another revision.

use std::path::{Path, PathBuf};

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use serde::Deserialize;

use super::{Api, error::ApiError};
use crate::node::{Applied, Command};

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    text: String,
    /// Its name in messages; its folder, where it is an absolute path, is where instances run.
    file: String,
}

/// Puts a stack file's text in force.
pub(super) async fn apply(
    State(api): State<Api>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Applied>, ApiError> {
    let Json(Wanted { text, file }) = wanted?;
    let dir: Option<PathBuf> =
        Some(Path::new(&file)).filter(|path| path.is_absolute()).and_then(Path::parent).map(Path::to_owned);
    let applied = api.commands.ask(|reply| Command::Apply { text, file, dir, reply }).await;
    Ok(Json(applied.ok_or_else(ApiError::ending)??))
}
