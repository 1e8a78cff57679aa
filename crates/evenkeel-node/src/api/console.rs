//! `POST /v1/console/links`: a link to sign in to the console with. `GET` and `DELETE /v1/console/sessions`: who is
//! signed in, and that nobody is any more.

use axum::{
    Extension, Json,
    extract::{State, rejection::JsonRejection},
};
use evenkeel_core::{
    access::Role,
    journal::{Level, Reason},
    time::WallTime,
};
use serde::{Deserialize, Serialize};

use super::{Api, error::ApiError, who::Who};
use crate::{
    clock::wall_now,
    console::{SIGN_IN, Session, Signed, Standing},
    node::Command,
};

/// The link that is asked for.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// What whoever opens it may do; without it, everything.
    #[serde(default = "admin")]
    role: Role,
}

fn admin() -> Role {
    Role::Admin
}

/// A link that was made.
#[derive(Serialize, schemars::JsonSchema)]
pub(super) struct Made {
    /// Where the console is bound.
    address: String,
    /// What follows the address in the link, with the code, which is told this once.
    path: String,
    role: Role,
    /// Until when it works, once.
    ends: WallTime,
}

/// Makes a link. Whoever signs in by it stands for whoever made it.
pub(super) async fn link(
    State(api): State<Api>,
    Who(who): Who,
    standing: Option<Extension<Standing>>,
    signed: Option<Signed>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Made>, ApiError> {
    let Json(Wanted { role }) = wanted?;
    let status = api.commands.ask(Command::Status).await.ok_or_else(ApiError::ending)?;
    let address = status.console.ok_or_else(|| {
        let hint = "`keel status` says why; its address is `bind` of [console], which can be changed while keel runs.";
        ApiError::new(409, "the console is not served now", hint)
    })?;
    let standing = match standing {
        Some(Extension(standing)) => Standing { role, ..standing },
        None => Standing { who, role, token: None },
    };
    let by = Reason::seen(format!("by {}", standing.who));
    let session = signed.and_then(|signed| signed.session);
    let (code, ends) = api.door.make_link(standing, session, wall_now());
    let message = format!("a link to sign in to the console as {role} was made; it works once, until {ends}");
    api.journal.note(Level::Info, "tokens", "link", message, vec![by]);
    Ok(Json(Made { address, path: format!("{SIGN_IN}?code={}", code.expose()), role, ends }))
}

/// All sessions.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct All {
    /// Oldest first.
    sessions: Vec<Session>,
}

/// Who is signed in.
pub(super) async fn sessions(State(api): State<Api>) -> Json<All> {
    Json(All { sessions: api.door.sessions.list(wall_now()) })
}

/// How many sessions were ended.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct Ended {
    ended: usize,
}

/// Signs everybody out, and lets no link that is about work any more.
pub(super) async fn end_all(State(api): State<Api>, who: Who) -> Json<Ended> {
    let there = api.door.sessions.list(wall_now()).len();
    let message = format!("everybody is signed out of the console ({there})");
    api.journal.note(Level::Info, "tokens", "sign-out", message, vec![who.reason()]);
    api.door.links.forget();
    let ended = api.door.sessions.end_all(wall_now()).await;
    Json(Ended { ended })
}
