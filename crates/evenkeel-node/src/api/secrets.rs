//! `/v1/secrets`: names, sources and users of secrets, and changing them. No answer holds a value.

use axum::{
    Json,
    body::Bytes,
    extract::{ConnectInfo, State},
    http::Extensions,
};
use evenkeel_core::secret::Secret;
use serde::{Deserialize, Serialize};

use super::{Api, auth::Caller, error::ApiError, who::Who};
use crate::{
    node::{Command, SecretOrder, SecretsChanged},
    secrets::{Listed, SecretError},
};

/// What is asked.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Wanted {
    Set { name: String, value: Secret },
    Rotate { name: String, value: Option<Secret> },
    Remove { name: String },
    RotateKey {},
}

/// All secrets.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct All {
    secrets: Vec<Listed>,
}

/// Names, where each comes from and who uses it.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<All>, ApiError> {
    let listed = api.commands.ask(Command::Secrets).await.ok_or_else(ApiError::ending)?;
    Ok(Json(All { secrets: listed? }))
}

/// Sets, rotates or removes a secret, or makes another key.
pub(super) async fn change(
    State(api): State<Api>,
    who: Who,
    extensions: Extensions,
    body: Bytes,
) -> Result<Json<SecretsChanged>, ApiError> {
    // What the parser has to say might repeat the value.
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|_| {
        let hint = "As {\"set\": {\"name\": …, \"value\": …}}, or with \"rotate\", \"remove\" or \"rotate-key\".";
        ApiError::new(400, "this is no order about secrets", hint)
    })?;
    let order = match wanted {
        Wanted::Set { name, value } => SecretOrder::Set { name, value },
        Wanted::Rotate { name, value } => SecretOrder::Rotate { name, value },
        Wanted::Remove { name } => SecretOrder::Remove { name },
        Wanted::RotateKey {} => SecretOrder::RotateKey,
    };
    let has_value = matches!(order, SecretOrder::Set { .. } | SecretOrder::Rotate { value: Some(_), .. });
    let far = extensions.get::<ConnectInfo<Caller>>().is_some_and(|ConnectInfo(caller)| !caller.is_local());
    if has_value && far {
        let hint = "Set it on the machine itself, or through a tunnel (ssh -L).";
        return Err(ApiError::new(403, "a secret is not taken over a connection that is not encrypted", hint));
    }
    let who = who.reason();
    let changed = api.commands.ask(|reply| Command::Secret { order, who, reply }).await;
    Ok(Json(changed.ok_or_else(ApiError::ending)??))
}

impl From<SecretError> for ApiError {
    fn from(error: SecretError) -> Self {
        let status = match error {
            SecretError::Unknown { .. } => 404,
            SecretError::Value { .. } | SecretError::Name { .. } => 422,
            SecretError::Stopping => 503,
            _ => 409,
        };
        let (error, hint) = error.split();
        Self::new(status, error, hint)
    }
}
