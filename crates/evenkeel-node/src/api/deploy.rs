//! `POST /v1/releases`, `/v1/deploy` and `/v1/rollback`, `GET /v1/deploys`: other releases of a service.
//!
//! An artefact is sent first, as it is: its bytes go to a thread that hashes and unpacks them as they come, so that
//! neither memory nor this process's other work feel its size. A deploy names the release that came of it. Deploys are
//! answered once they have begun; `/v1/deploys` shows how far they are.

use std::{collections::BTreeMap, io, io::Read, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
};
use evenkeel_core::stack::{SECRET_NAME_RULE, is_secret_name, secret_reference};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::{Api, error::ApiError, who::Who};
use crate::{
    node::{Command, DeployAsk, History, NotOrdered, Store, Wanted},
    state_dir::StoreError,
};

/// How many pieces of a body wait for the thread that unpacks.
const PIECES: usize = 16;

/// How long a client may send nothing.
const IDLE: Duration = Duration::from_mins(1);

/// The largest share of a canary, in percent.
const MOST_SHARE: u8 = 50;

/// The longest trial, in milliseconds.
const LONGEST_WATCH_MS: u64 = 24 * 3600 * 1000;

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Artefact {
    service: String,
    /// SHA-256 of the body in hexadecimal.
    sha256: Option<String>,
}

/// An artefact that was stored.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct Stored {
    service: String,
    release: u64,
    digest: String,
    files: u64,
    size_bytes: u64,
}

/// Takes an artefact: a tar archive, gzipped or not.
pub(super) async fn store(
    State(api): State<Api>,
    artefact: Result<Query<Artefact>, QueryRejection>,
    body: Body,
) -> Result<Json<Stored>, ApiError> {
    let Query(Artefact { service, sha256 }) = artefact?;
    let store = ask(&api, |reply| DeployAsk::Store { service: service.clone(), reply }).await?;
    let (pieces, waiting) = mpsc::channel(PIECES);
    let (name, Store { dir, most_bytes, above }) = (service.clone(), store);
    let unpacking = tokio::task::spawn_blocking(move || {
        dir.store_release(&name, Pieces::new(waiting), sha256.as_deref(), most_bytes, above)
    });
    send(body, pieces).await;
    let stored = unpacking.await.map_err(|_| ApiError::ending())?.map_err(|error| not_stored(&error))?;
    let crate::state_dir::Stored { number, digest, files, size_bytes, .. } = stored;
    Ok(Json(Stored { service, release: number, digest, files, size_bytes }))
}

fn not_stored(error: &StoreError) -> ApiError {
    let hint = if error.is_ours() {
        "Make room on the disk or check its mode, and deploy again; nothing was kept and nothing changed."
    } else {
        "Pack it again and deploy again; nothing was kept and nothing changed."
    };
    let status = if error.is_ours() { 507 } else { 422 };
    ApiError::new(status, format!("the artefact was not taken: {error}"), hint)
}

/// Hands the body on, piece by piece, until nobody takes it any more or its end, which an empty piece says: where this
/// is given up in the middle, what came until then must not look whole.
async fn send(mut body: Body, pieces: mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let piece = match tokio::time::timeout(IDLE, body.frame()).await {
            Ok(None) => Ok(Bytes::new()),
            Err(_) => Err(io::Error::other(format!("nothing came for {} s", IDLE.as_secs()))),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if !data.is_empty() => Ok(data),
                _ => continue,
            },
            Ok(Some(Err(error))) => Err(io::Error::other(format!("the connection ended: {error}"))),
        };
        let last = piece.as_ref().map_or(true, Bytes::is_empty);
        if pieces.send(piece).await.is_err() || last {
            return;
        }
    }
}

/// What comes over the network, for somebody who reads and may wait.
struct Pieces {
    waiting: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    over: bool,
}

impl Pieces {
    fn new(waiting: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { waiting, current: Bytes::new(), over: false }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() && !self.over {
            let gone = || io::Error::other("whoever sent it went away in the middle");
            self.current = self.waiting.blocking_recv().ok_or_else(gone)??;
            self.over = self.current.is_empty();
        }
        let length = self.current.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Deploy {
    service: String,
    /// The number of a stored artefact.
    release: Option<u64>,
    run: Option<Vec<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    canary_percent: Option<u8>,
    watch_ms: Option<u64>,
}

/// Begins a deploy.
pub(super) async fn deploy(
    State(api): State<Api>,
    Who(who): Who,
    wanted: Result<Json<Deploy>, JsonRejection>,
) -> Result<Json<History>, ApiError> {
    let Json(Deploy { service, release, run, env, canary_percent, watch_ms }) = wanted?;
    if run.as_ref().is_some_and(|run| run.first().is_none_or(String::is_empty)) {
        return Err(ApiError::new(422, "the command names no program", ""));
    }
    if let Some(name) = env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(ApiError::new(422, format!("`{name}` cannot be an environment variable"), ""));
    }
    let mut words = run.iter().flatten().chain(env.values());
    if words.any(|word| word.contains('\0')) {
        return Err(ApiError::new(422, "neither the command nor a variable may hold a zero byte", ""));
    }
    let wrong =
        |value: &String| secret_reference(value).is_some_and(|name| !is_secret_name(name)) || value.contains('\0');
    if let Some((name, _)) = env.iter().find(|(_, value)| wrong(value)) {
        // Somebody may have written the value itself there, so it is not repeated.
        let hint = format!("After `secret:` stands a name: {SECRET_NAME_RULE}. No value holds a NUL.");
        return Err(ApiError::new(422, format!("the value of `{name}` cannot be in an environment"), hint));
    }
    if canary_percent.is_some_and(|share| share == 0 || share > MOST_SHARE) {
        return Err(ApiError::new(422, format!("a canary gets from 1 % to {MOST_SHARE} % of the requests"), ""));
    }
    if watch_ms.is_some_and(|watch| watch > LONGEST_WATCH_MS) {
        return Err(ApiError::new(422, "a trial may last a day at most", ""));
    }
    let wanted = Wanted { service, release, run, env, canary_percent, watch_ms };
    ask(&api, |reply| DeployAsk::Begin { wanted, who, reply }).await.map(Json)
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    service: String,
    to: Option<u64>,
}

/// Puts a former release in force, or ends the deploy under way.
pub(super) async fn rollback(
    State(api): State<Api>,
    Who(who): Who,
    wanted: Result<Json<Rollback>, JsonRejection>,
) -> Result<Json<History>, ApiError> {
    let Json(Rollback { service, to }) = wanted?;
    ask(&api, |reply| DeployAsk::Rollback { service, to, who, reply }).await.map(Json)
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
pub(super) struct Of {
    service: String,
}

/// What there was and is.
pub(super) async fn history(
    State(api): State<Api>,
    of: Result<Query<Of>, QueryRejection>,
) -> Result<Json<History>, ApiError> {
    let Query(Of { service }) = of?;
    ask(&api, |reply| DeployAsk::History { service, reply }).await.map(Json)
}

async fn ask<T>(
    api: &Api,
    about: impl FnOnce(oneshot::Sender<Result<T, NotOrdered>>) -> DeployAsk,
) -> Result<T, ApiError> {
    let answer = api.commands.ask(|reply| Command::Deploy(about(reply))).await;
    Ok(answer.ok_or_else(ApiError::ending)??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_in_the_middle_is_not_taken_for_the_whole() {
        let read = |pieces: Vec<io::Result<Bytes>>| {
            let (send, waiting) = mpsc::channel(PIECES);
            for piece in pieces {
                send.try_send(piece).unwrap();
            }
            drop(send);
            let mut all = String::new();
            Pieces::new(waiting).read_to_string(&mut all).map(|_| all)
        };
        let piece = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
        assert_eq!(read(vec![piece("ab"), piece("c"), piece("")]).unwrap(), "abc");
        assert!(read(vec![piece("ab"), piece("c")]).unwrap_err().to_string().contains("went away"));
        assert!(read(vec![piece("ab"), Err(io::Error::other("x"))]).is_err());
    }
}
