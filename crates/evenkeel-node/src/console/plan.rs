//! What a drill would do now, before anybody starts it: the plan that `keel drill run` shows.

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use evenkeel_core::{
    drill::{self, Wish},
    stack,
};
use serde::{Deserialize, Serialize};

use crate::{
    api::Api,
    node::{Command, InForce},
};

/// Which drill.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    drill: String,
    #[serde(default)]
    service: String,
}

/// What it would do, or why it does not start.
#[derive(Debug, Default, Serialize)]
struct Planned {
    summary: &'static str,
    usual_s: (u64, u64),
    lines: Vec<String>,
    notes: Vec<String>,
    refused: Option<String>,
}

/// Plans it.
pub(super) async fn plan(State(api): State<Api>, Query(Wanted { drill, service }): Query<Wanted>) -> Response {
    let Some(drill) = drill::find(&drill) else {
        let unknown = serde_json::json!({ "error": format!("there is no drill `{drill}`") });
        return (StatusCode::NOT_FOUND, Json(unknown)).into_response();
    };
    let commands = api.commands();
    let (Some(status), Some(InForce { file, text, .. })) =
        (commands.ask(Command::Status).await, commands.ask(Command::Stack).await)
    else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let mut planned = Planned { summary: drill.summary(), usual_s: drill.usual_s(), ..Planned::default() };
    let wish = Wish { service: Some(service).filter(|name| !name.is_empty()), ..Wish::default() };
    match stack::parse_leniently(&text, &file) {
        Ok((stack, _)) => match drill::plan(drill, &stack, &status, &wish) {
            Ok(plan) => {
                planned.lines = plan.lines();
                planned.notes = plan.notes;
            }
            Err(refusal) => planned.refused = Some(refusal.to_string()),
        },
        Err(_) => planned.refused = Some("the stack file in force cannot be read".to_owned()),
    }
    Json(planned).into_response()
}
