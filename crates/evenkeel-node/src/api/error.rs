//! Errors as the API tells them.

use axum::{
    Json,
    extract::rejection::{JsonRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::node::{NotOrdered, Refused, UnknownSubject};

/// An error with its status.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    body: Body,
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(super) struct Body {
    /// What is wrong.
    error: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    hint: String,
    /// A stack file's faults, rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    diagnostics: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: u16, error: impl Into<String>, hint: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).expect("statuses are written in the code");
        Self { status, body: Body { error: error.into(), hint: hint.into(), diagnostics: None } }
    }

    /// The same with something before the hint.
    pub(super) fn with(mut self, hint: &str) -> Self {
        self.body.hint.insert_str(0, &format!("{hint} "));
        self
    }

    /// The process is about to end.
    pub(super) fn ending() -> Self {
        Self::new(503, "the node process is ending", "Try again in a second.")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<UnknownSubject> for ApiError {
    fn from(UnknownSubject { subject, nearest, known }: UnknownSubject) -> Self {
        let hint = match nearest {
            Some(near) => format!("Did you mean `{near}`?"),
            None => format!("There are: {}.", known.join(", ")),
        };
        Self::new(404, format!("there is no `{subject}`"), hint)
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Stack(faults) => {
                let hint = "Correct the file and apply it again; nothing was changed.";
                let mut error = Self::new(422, format!("{} is not valid", faults.file), hint);
                error.body.diagnostics = Some(faults.to_string());
                error
            }
            Refused::Machine(cause) => {
                let (error, hint) = cause.split();
                Self::new(409, error, hint)
            }
            Refused::Undo(what, fix) => Self::new(409, what, fix),
            Refused::Newer { expected, in_force } => Self::new(
                409,
                format!("the file was made from revision {expected}, and revision {in_force} is in force"),
                "Look at what is in force now, and make the change to that; nothing was changed.",
            ),
            Refused::Stopping => Self::new(409, "keel is being stopped", "Start it again with the new file."),
        }
    }
}

impl From<NotOrdered> for ApiError {
    fn from(not: NotOrdered) -> Self {
        match not {
            NotOrdered::Unknown(unknown) => unknown.into(),
            NotOrdered::Refused(refused) => refused.into(),
            NotOrdered::No { what, fix } => Self::new(409, what, fix),
        }
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(400, rejection.body_text(), "")
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status().as_u16(), rejection.body_text(), "")
    }
}
