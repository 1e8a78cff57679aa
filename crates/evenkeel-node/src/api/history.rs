//! `GET /v1/history`: what was counted of a service over the last day, as points to be drawn.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use evenkeel_core::{stack::nearest, time::WallTime};
use serde::{Deserialize, Serialize};

use super::{
    Api,
    error::ApiError,
    limits::{moment, within},
};
use crate::{clock::wall_now, history::Point, node::Command};

/// How far back an answer goes where nothing else is asked for, in milliseconds.
const BACK_MS: u64 = 3_600_000;

/// How many points there are at most, where nothing else is asked for and at all.
const POINTS: usize = 360;
const MOST_POINTS: u64 = 2_000;

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    service: String,
    /// Only points that ended later, in milliseconds since the Unix epoch. Default: an hour before `to`.
    from: Option<u64>,
    /// Only points that had ended by then. Default: now.
    to: Option<u64>,
    /// At most so many, up to 2000: neighbours become one.
    most: Option<u64>,
}

/// What was counted.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct History {
    service: String,
    /// Oldest first. A point begins `span_ms` before its `at`; where that is well after the one before it, nothing was
    /// measured between.
    points: Vec<Point>,
}

/// Lists the points of a service.
pub(super) async fn read(
    State(api): State<Api>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<History>, ApiError> {
    let Query(Wanted { service, from, to, most }) = wanted?;
    let to = moment("to", to)?.unwrap_or_else(wall_now);
    let back = || WallTime::from_millis(to.as_millis().saturating_sub(BACK_MS));
    let from = moment("from", from)?.unwrap_or_else(back);
    let most = within("most", most, 1..=MOST_POINTS, "points")?.and_then(|most| usize::try_from(most).ok());
    let most = most.unwrap_or(POINTS);
    if from >= to {
        return Err(ApiError::new(400, "`from` is not before `to`", "Both are milliseconds since the Unix epoch."));
    }
    let points = api.history().read(&service, from, to, most);
    if points.is_empty() {
        must_exist(&api, &service).await?;
    }
    Ok(Json(History { service, points }))
}

/// One that is gone may still have points; one that has none must at least be there.
async fn must_exist(api: &Api, service: &str) -> Result<(), ApiError> {
    let status = api.commands.ask(Command::Status).await.ok_or_else(ApiError::ending)?;
    let names = || status.services.iter().map(|service| service.name.as_str());
    if names().any(|name| name == service) {
        return Ok(());
    }
    let hint = nearest(service, names()).map(|near| format!("Did you mean `{near}`?")).unwrap_or_default();
    Err(ApiError::new(404, format!("there is no service `{service}`"), hint))
}
