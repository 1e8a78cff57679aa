//! `/v1/tokens`: making, listing and revoking tokens. A token's text is in one answer only, the one that makes it.

use std::net::SocketAddr;

use axum::{
    Json,
    extract::{Path, State, rejection::JsonRejection},
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
    tokens::{Token, TokenError, Tokens},
};

/// The longest life of a token that has an end, in seconds: a hundred years.
const LONGEST_S: u64 = 100 * 366 * 24 * 3600;

/// The token that is asked for.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    name: String,
    role: Role,
    /// Seconds until it ends; without it, it does not.
    expires_s: Option<u64>,
}

/// A token that was made.
#[derive(Serialize, schemars::JsonSchema)]
pub(super) struct Made {
    #[serde(flatten)]
    token: Token,
    /// Its text, told this once.
    #[serde(rename = "token")]
    text: String,
    /// What to take care of.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// All tokens.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct All {
    tokens: Vec<Token>,
}

/// Makes a token.
pub(super) async fn create(
    State(api): State<Api>,
    who: Who,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Made>, ApiError> {
    let Json(Wanted { name, role, expires_s }) = wanted?;
    let now = wall_now();
    if expires_s.is_some_and(|seconds| seconds > LONGEST_S) {
        return Err(ApiError::new(400, "`expires_s` is at most 100 years", "Leave it out for a token without an end."));
    }
    let end = |seconds: u64| WallTime::from_millis(now.as_millis().saturating_add(seconds.saturating_mul(1000)));
    let expires = expires_s.map(end);
    let status = api.commands.ask(crate::node::Command::Status).await.ok_or_else(ApiError::ending)?;
    let console = status.console.and_then(|address| address.parse::<SocketAddr>().ok());
    let warning = console.filter(|address| !address.ip().is_loopback()).map(|address| in_clear(&address));
    let until = expires.map_or_else(|| "without an end".to_owned(), |end| format!("until {end}"));
    let mut reasons = vec![who.reason(), Reason::seen(until)];
    reasons.extend(warning.iter().map(Reason::rule));
    let level = if warning.is_some() { Level::Warning } else { Level::Info };
    // A name that cannot be had is somebody's mistake, and nothing to remember.
    api.tokens().must_be_free(&name)?;
    let message = format!("token `{name}` is made, with the role {role}");
    let make = move |tokens: &Tokens| tokens.create(&name, role, now, expires);
    let (token, text) = noted(api, who, (level, message, reasons), make).await?;
    Ok(Json(Made { token, text: text.expose().to_owned(), warning }))
}

/// Notes a change, makes it, and notes where it did not come to pass; on a thread that may wait for the disk, and that
/// goes on when whoever asked goes away: a note without its change is as wrong as a change without its note.
async fn noted<T: Send + 'static>(
    api: Api,
    who: Who,
    (level, message, reasons): (Level, String, Vec<Reason>),
    change: impl FnOnce(&Tokens) -> Result<T, TokenError> + Send + 'static,
) -> Result<T, ApiError> {
    let changing = tokio::task::spawn_blocking(move || {
        api.journal.note(level, "tokens", "token", message, reasons);
        change(api.tokens()).inspect_err(|error| {
            let message = format!("nothing was changed about tokens: {error}");
            api.journal.note(Level::Warning, "tokens", "token-refused", message, vec![who.reason()]);
        })
    });
    Ok(changing.await.map_err(|_| ApiError::ending())??)
}

/// All tokens, without their texts.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<All>, ApiError> {
    Ok(Json(All { tokens: api.tokens().list()? }))
}

/// Revokes a token.
pub(super) async fn revoke(
    State(api): State<Api>,
    who: Who,
    Path(name): Path<String>,
) -> Result<Json<serde_json::Value>, ApiError> {
    // Neither is what names no token.
    if !api.tokens().list()?.iter().any(|token| token.name == name) {
        return Err(TokenError::Unknown(name).into());
    }
    let note = (Level::Info, format!("token `{name}` is revoked"), vec![who.reason()]);
    let revoked = serde_json::json!({ "revoked": name });
    noted(api, who, note, move |tokens| tokens.revoke(&name)).await?;
    Ok(Json(revoked))
}

/// That tokens travel in clear text to this address.
pub(crate) fn in_clear(address: &SocketAddr) -> String {
    format!(
        "the console at {address} has no TLS: over a network, whoever listens there reads tokens; use a tunnel, or bind \
         it to 127.0.0.1"
    )
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        let (status, hint) = match &error {
            TokenError::Taken(name) => (409, format!("Revoke it first: keel token revoke {name}")),
            TokenError::Unknown(_) => (404, "See: keel token list".to_owned()),
            TokenError::Name(_) => (422, "A name has letters, digits and -_.@, at most 64 characters.".to_owned()),
            TokenError::Kept { .. } => (409, "Check the disk; nothing was changed.".to_owned()),
            TokenError::Damaged(path) => (409, format!("Remove {} and make the tokens anew.", path.display())),
        };
        Self::new(status, error.to_string(), hint)
    }
}
