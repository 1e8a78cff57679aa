//! `/v1/drills`: what can be rehearsed, what was, and the order to do so.
//!
//! `GET /v1/drills` lists drills with their last run, blackouts and schedules; `GET /v1/drills/plan` says what a drill
//! would do; `POST /v1/drills` starts one; `GET /v1/drills/runs` and below tell of runs, also of the one that goes on.
//! Everything about runs is read from their folders, on another thread, and once for all who ask. What a drill writes is
//! the stack file's, which only admins read: others are told where it goes, not what it says.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Extension, Json,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use evenkeel_core::{
    access::Role::{self, Operator, Viewer},
    drill::{self, Refusal, RunSummary, Wish},
    journal::{Level, Reason},
    stack::{self, ScheduledDrill, Stack, nearest},
    time::WallTime,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Api,
    error::ApiError,
    limits::within,
    openapi::{Table, for_role},
    who::Who,
};
use crate::{
    clock::wall_now,
    console::Standing,
    drills::{self, Details, KEPT_RUNS, NotStarted, Order},
    node::{Command, InForce, scheduled},
};

/// The routes, with what they are for.
pub(super) fn routes(table: Table) -> Table {
    table
        .get("/v1/drills", for_role(Viewer, "Drills, their last runs, and when they run.").answers::<All>(), list)
        .post(
            "/v1/drills",
            for_role(Operator, "Starts a drill.").takes::<Wanted>().status(202).answers::<Started>(),
            start,
        )
        .get(
            "/v1/drills/plan",
            for_role(Viewer, "What a drill would do now, or why it would be refused.")
                .query::<Planned>()
                .answers::<Plan>(),
            plan,
        )
        .get(
            "/v1/drills/runs",
            for_role(Viewer, "Runs of drills, the newest first.").query::<Which>().answers::<Vec<RunSummary>>(),
            runs,
        )
        .get("/v1/drills/runs/{id}", for_role(Viewer, "One run, also while it goes on.").answers::<Details>(), run)
        .get(
            "/v1/drills/runs/{id}/report.html",
            for_role(Viewer, "The report of a run as a page.").answers_as("text/html; charset=utf-8"),
            page,
        )
}

/// All drills.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct All {
    drills: Vec<Listed>,
    /// When drills run by themselves.
    schedule: Vec<Scheduled>,
    /// When none does, UTC.
    blackout: Vec<stack::Blackout>,
    /// Until when the blackout of now lasts; `null` where there is none.
    blackout_until: Option<WallTime>,
}

/// One drill.
#[derive(Debug, Serialize, JsonSchema)]
struct Listed {
    name: &'static str,
    summary: &'static str,
    /// How long it usually takes, in seconds.
    usual_s: (u64, u64),
    /// Its newest run.
    last: Option<RunSummary>,
}

/// A drill that runs by itself.
#[derive(Debug, Serialize, JsonSchema)]
struct Scheduled {
    #[serde(flatten)]
    scheduled: ScheduledDrill,
    /// When it comes next; in the past or present where it is about to.
    next: WallTime,
}

/// Lists the drills.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<All>, ApiError> {
    let stack = stack_of(&api).await?;
    let now = wall_now();
    let runs = api.runs().summaries().await;
    let known = on_disk(&api, |dir| scheduled::read(&dir)).await?;
    let listed = drill::ALL.iter().map(|drill| Listed {
        name: drill.name(),
        summary: drill.summary(),
        usual_s: drill.usual_s(),
        last: runs.iter().find(|run| run.drill == drill.name()).cloned(),
    });
    let schedule = stack.drills.schedule.iter().map(|scheduled| {
        let known = known.get(&scheduled.key()).copied().unwrap_or(drill::Known { since: now, ..Default::default() });
        let next = match drill::turn(scheduled, &stack.drills.blackout, &known, now) {
            drill::Turn::Now => now,
            drill::Turn::At(at) => at,
        };
        Scheduled { scheduled: scheduled.clone(), next }
    });
    Ok(Json(All {
        drills: listed.collect(),
        schedule: schedule.collect(),
        blackout: stack.drills.blackout.clone(),
        blackout_until: drill::in_blackout(&stack.drills.blackout, now).map(|(_, until)| until),
    }))
}

/// Which drill.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Planned {
    drill: String,
    /// The service to harm. Default: the only one, or the one that `[drills] read` leads to.
    service: Option<String>,
    /// How long a lasting fault lasts, in milliseconds.
    for_ms: Option<u64>,
}

/// What is going to happen.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Plan {
    /// In words, one step a line.
    lines: Vec<String>,
    /// Why it is so, and what it cannot show.
    notes: Vec<String>,
    /// All of it.
    #[serde(rename = "plan")]
    whole: Value,
}

/// Plans a drill without carrying it out.
pub(super) async fn plan(
    State(api): State<Api>,
    standing: Option<Extension<Standing>>,
    wanted: Result<Query<Planned>, QueryRejection>,
) -> Result<Json<Plan>, ApiError> {
    let Query(Planned { drill, service, for_ms }) = wanted?;
    let for_ms = length(for_ms)?;
    let drill = find(&drill)?;
    let stack = stack_of(&api).await?;
    let status = api.commands.ask(Command::Status).await.ok_or_else(ApiError::ending)?;
    let plan = drill::plan(drill, &stack, &status, &Wish { service, for_ms, ..Wish::default() })
        .map_err(|refusal| refused(&refusal))?;
    let (lines, notes) = (plan.lines(), plan.notes.clone());
    let mut whole = serde_json::to_value(plan).expect("a plan is plain data");
    if !may_read_bodies(standing) {
        hide_body(&mut whole);
    }
    Ok(Json(Plan { lines, notes, whole }))
}

/// How long a lasting fault may last, in milliseconds: an hour.
const LONGEST_MS: u64 = 3_600_000;

fn length(for_ms: Option<u64>) -> Result<Option<u64>, ApiError> {
    within("for_ms", for_ms, 1..=LONGEST_MS, "milliseconds")
}

/// What stands in place of what a drill writes.
const HIDDEN: &str = "(it stands in the stack file, which the role admin may read)";

/// Whether somebody may read the stack file; over the control socket everybody may.
fn may_read_bodies(standing: Option<Extension<Standing>>) -> bool {
    standing.is_none_or(|Extension(standing)| standing.role >= Role::Admin)
}

/// Takes what a drill writes out of its plan, whichever version wrote that.
fn hide_body(plan: &mut Value) {
    if let Some(body) = plan.get_mut("writes").and_then(|writes| writes.get_mut("body")) {
        *body = HIDDEN.into();
    }
}

fn refused(refusal: &Refusal) -> ApiError {
    let status = if matches!(refusal, Refusal::NoSuchService { .. }) { 404 } else { 409 };
    ApiError::new(status, refusal.to_string(), "")
}

/// Which drill shall be run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    drill: String,
    /// The service to harm. Default: the only one, or the one that `[drills] read` leads to.
    service: Option<String>,
    /// How long a lasting fault lasts, in milliseconds.
    for_ms: Option<u64>,
    /// Also in a blackout.
    #[serde(default)]
    force: bool,
}

/// A drill that goes on.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Started {
    /// Its run, for `/v1/drills/runs/{id}`.
    run: String,
}

/// Starts a drill; answers once it has been planned.
pub(super) async fn start(
    State(api): State<Api>,
    who: Who,
    standing: Option<Extension<Standing>>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<(StatusCode, Json<Started>), ApiError> {
    let Json(Wanted { drill, service, for_ms, force }) = wanted?;
    let for_ms = length(for_ms)?;
    // Blackouts stand in the stack file, which is the administrators'.
    if force && standing.is_some_and(|Extension(standing)| standing.role < Role::Admin) {
        return Err(ApiError::new(403, "only the role admin may rehearse in a blackout", ""));
    }
    let drill = find(&drill)?.name().to_owned();
    let bare = |name: &str| name.starts_with('-');
    if service.as_deref().is_some_and(bare) {
        return Err(ApiError::new(404, "there is no such service", ""));
    }
    let order = Order { drill, service, for_ms, force, unattended: false };
    // First of all: whoever asks may go away, and the drill goes on.
    let message = format!("{} was ordered", order.drill);
    api.journal.note(Level::Info, "drill", "ordered", message, vec![who.reason()]);
    match drills::start(api.state_dir(), &order).await {
        Ok(run) => Ok((StatusCode::ACCEPTED, Json(Started { run }))),
        Err(NotStarted { what, cause, fix }) => {
            let error = if cause.is_empty() { what } else { format!("{what}: {cause}") };
            let reasons = vec![who.reason(), Reason::seen(error.clone())];
            api.journal.note(Level::Warning, "drill", "refused", format!("{} was refused", order.drill), reasons);
            Err(ApiError::new(409, error, fix))
        }
    }
}

/// Which runs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Only of this drill.
    drill: Option<String>,
    /// At most so many.
    limit: Option<usize>,
}

/// Lists runs.
pub(super) async fn runs(
    State(api): State<Api>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<RunSummary>>, ApiError> {
    let Query(Which { drill, limit }) = which?;
    let mut runs = api.runs().summaries().await;
    runs.retain(|run| drill.as_ref().is_none_or(|drill| run.drill == *drill));
    runs.truncate(limit.unwrap_or(KEPT_RUNS));
    Ok(Json(runs))
}

/// Tells of one run.
pub(super) async fn run(
    State(api): State<Api>,
    standing: Option<Extension<Standing>>,
    Path(id): Path<String>,
) -> Result<Json<Details>, ApiError> {
    let others = api.runs().summaries().await;
    let details = on_disk(&api, move |dir| drills::details_among(&dir, &id, &others)).await?;
    let mut details = details.ok_or_else(no_such_run)?;
    if !may_read_bodies(standing) {
        hide_body(&mut details.plan);
    }
    Ok(Json(details))
}

/// What a report may do in a browser: nothing but look as it does.
const REPORT_POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
                             form-action 'none'; frame-ancestors 'none'";

/// Shows a report.
pub(super) async fn page(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let html = on_disk(&api, move |dir| drills::report_page(&dir, &id)).await?.ok_or_else(no_such_run)?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, REPORT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, html).into_response())
}

fn no_such_run() -> ApiError {
    ApiError::new(404, "there is no such run, or it has no report", "GET /v1/drills/runs lists them.")
}

fn find(name: &str) -> Result<&'static dyn drill::Drill, ApiError> {
    drill::find(name).ok_or_else(|| {
        let names = || drill::ALL.iter().map(|drill| drill.name());
        let hint = match nearest(name, names()) {
            Some(near) => format!("Did you mean `{near}`?"),
            None => format!("There are: {}.", names().collect::<Vec<_>>().join(", ")),
        };
        ApiError::new(404, format!("there is no drill `{name}`"), hint)
    })
}

/// The stack file in force.
async fn stack_of(api: &Api) -> Result<Stack, ApiError> {
    let InForce { file, text, .. } = api.commands.ask(Command::Stack).await.ok_or_else(ApiError::ending)?;
    let parsed = stack::parse_leniently(&text, &file);
    parsed.map(|(stack, _)| stack).map_err(|faults| ApiError::new(500, faults.to_string(), ""))
}

/// What a function finds in the state directory, on a thread that may wait for it.
async fn on_disk<T: Send + 'static>(
    api: &Api,
    read: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let dir = api.state_dir().to_owned();
    let turn = Arc::clone(&api.readers).acquire_owned().await.map_err(|_| ApiError::ending())?;
    // Whoever asked may go away while the disk does not answer: the turn is over when the reading is.
    let reading = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        read(dir)
    });
    reading.await.map_err(|_| ApiError::ending())
}
