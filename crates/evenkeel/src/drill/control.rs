//! What a drill asks of the stack that it rehearses, over the control socket.
//!
//! It owns nothing but the way to the socket. Recording is attempted once, and its failure never changes a run; a
//! missing answer to the watching question only makes a gap.

use std::time::Duration;

use evenkeel_core::{
    drill::NewEntry,
    journal::Entry,
    stack::{self, Stack},
    status::Status,
};
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    api::{Api, Events},
    failure::Failure,
    http::Ask,
};

/// How long an answer to the watching question may take: an old one is of no use, and a freeze must end in time.
const WATCH_WAIT: Duration = Duration::from_secs(1);
/// More entries about drills than anybody looks back to.
const HISTORY: u32 = 1000;

/// The file of the revision in force, as `GET /v1/stack` answers.
#[derive(Debug, Deserialize)]
struct StackFile {
    file: String,
    text: String,
}

/// The running stack.
pub(super) struct Control {
    api: Api,
    /// Whether what cannot be recorded is said as JSON.
    json: bool,
}

impl Control {
    /// Through this API.
    pub(super) fn new(api: Api, json: bool) -> Self {
        Self { api, json }
    }

    /// The stack file in force.
    pub(super) async fn stack(&self) -> Result<Stack, Failure> {
        let StackFile { file, text } = self.api.get("/v1/stack").await?;
        stack::parse_leniently(&text, &file).map(|(stack, _)| stack).map_err(Failure::bad_file)
    }

    /// How the stack is.
    pub(super) async fn status(&self) -> Result<Status, Failure> {
        self.api.status().await
    }

    /// How the stack is; `None` if nobody answers at once.
    pub(super) async fn status_now(&self) -> Option<Status> {
        timeout(WATCH_WAIT, self.api.status_now()).await.ok()?.ok()
    }

    /// Writes an entry to the journal. One that cannot be written must not change a verdict: it is said, that is all.
    pub(super) async fn record(&self, entry: &NewEntry) {
        if let Err(failure) = self.try_record(entry).await {
            failure.print(self.json);
        }
    }

    async fn try_record(&self, entry: &NewEntry) -> Result<(), Failure> {
        let body = serde_json::to_vec(entry).map_err(|error| Failure::new("cannot write JSON").because(error))?;
        self.api.succeed(Ask::post("/v1/events", body)).await.map(|_| ())
    }

    /// The newest entries about drills.
    pub(super) async fn history(&self) -> Result<Vec<Entry>, Failure> {
        let page: Events = self.api.get(&format!("/v1/events?limit={HISTORY}&subject=drill")).await?;
        Ok(page.entries)
    }
}
