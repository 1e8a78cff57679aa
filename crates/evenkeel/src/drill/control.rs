//! What a drill asks of the stack that it rehearses, over the control socket.
//!
//! It owns nothing but the way to the socket. Recording is attempted once, and its failure never changes a run; a
//! missing answer to the watching question only makes a gap.

use std::{path::Path, sync::Arc, time::Duration};

use evenkeel_core::{
    deploy::DeployStatus,
    drill::NewEntry,
    journal::Entry,
    stack::{self, Stack},
    status::Status,
    time::WallTime,
};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::fault::helper::Helpers;
use crate::{
    api::{Api, Events, read},
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

/// The deploys of a service, as `POST /v1/deploy` answers.
#[derive(Debug, Deserialize)]
struct History {
    deploys: Vec<DeployStatus>,
}

/// The running stack.
pub(super) struct Control {
    api: Api,
    /// Whether what cannot be recorded is said as JSON.
    json: bool,
    helpers: Arc<Helpers>,
}

impl Control {
    /// Through this API, by a run that has these helpers.
    pub(super) fn new(api: Api, json: bool, helpers: Arc<Helpers>) -> Self {
        Self { api, json, helpers }
    }

    /// Whether what is said is JSON.
    pub(super) const fn json(&self) -> bool {
        self.json
    }

    /// The processes that take the harm of the run back.
    pub(super) fn helpers(&self) -> &Arc<Helpers> {
        &self.helpers
    }

    /// The API itself.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// The folder of its sockets.
    pub(super) fn runtime_dir(&self) -> &Path {
        &self.api.running().holder.runtime_dir
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

    /// Deploys a release of a service that runs this command; returns its number.
    pub(super) async fn deploy(&self, service: &str, run: &[String]) -> Result<u64, Failure> {
        let wanted = json!({ "service": service, "run": run });
        let answer = self.api.succeed(Ask::post("/v1/deploy", wanted.to_string().into_bytes())).await?;
        let History { deploys } = read(&answer)?;
        // A number that is not known must not be taken for one: 0 is what the stack file says.
        let deploy = deploys.last().ok_or_else(|| Failure::new(format!("nobody knows of a deploy of {service}")))?;
        Ok(deploy.release)
    }

    /// Where the stack keeps its state.
    pub(super) fn state_dir(&self) -> &Path {
        self.api.state_dir()
    }

    /// Entries of the journal between two moments, oldest first.
    pub(super) async fn entries_between(&self, since: WallTime, until: WallTime) -> Result<Vec<Entry>, Failure> {
        let (since, until) = (since.as_millis(), until.as_millis());
        let target = format!("/v1/events?after=0&limit={HISTORY}&since_ms={since}&until_ms={until}");
        Ok(self.api.get::<Events>(&target).await?.entries)
    }
}
