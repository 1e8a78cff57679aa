//! Who may do what over the API: roles, and the role that each route asks for.
//!
//! The control socket belongs to root and the stack's own user, who may do everything. Over TCP a token has a role, and
//! so has a session of the console.
//! A route that the table does not name asks for the highest role, so that one which was forgotten is closed rather
//! than open. Nothing here knows a token or a connection.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What the name of a session's cookie begins with. Browsers do not tell ports apart where cookies are concerned (RFC 6265,
/// section 8.5), so one for the console goes to every application on its host as well: the edge takes it out.
pub const SESSION_COOKIE: &str = "keel_session";

/// What a token may do; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Reads: status, events, logs, reasons.
    Viewer,
    /// Runs what is there: deploys, scales, restarts, drains, pauses, rehearses.
    Operator,
    /// Everything: the stack file, secrets and tokens too.
    Admin,
}

impl Role {
    /// All roles, the lowest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No role has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the roles are viewer, operator and admin")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// Routes that only read (`GET`) and hide nothing from a viewer.
const READ_BY_VIEWERS: &[&str] = &[
    "/v1/status",
    "/v1/events",
    "/v1/why",
    "/v1/logs",
    "/v1/deploys",
    "/v1/scale",
    "/v1/history",
    "/v1/drills",
    "/v1/openapi.json",
    "/console/live",
    "/console/plan",
];

/// Routes about whoever asks: ending one's own session.
const ABOUT_ONESELF: &[&str] = &["/console/sign-out"];

/// Routes that change what runs, without changing what the stack is.
const OPERATED: &[&str] = &[
    "/v1/scale",
    "/v1/restart",
    "/v1/drain",
    "/v1/resume",
    "/v1/pause",
    "/v1/deploy",
    "/v1/deploys",
    "/v1/releases",
    "/v1/rollback",
    "/v1/events",
    "/v1/drills",
    "/v1/doctor",
];

/// Routes that only an admin may use, whatever the method. The stack file may hold values that an author took for
/// harmless, so reading it is among them.
const ADMINISTERED: &[&str] = &["/v1/stack", "/v1/apply", "/v1/diff", "/v1/secrets", "/v1/tokens", "/v1/console"];

/// The role that a request needs. `path` is without its query.
pub fn required(method: &str, path: &str) -> Role {
    let on = |routes: &[&str]| {
        routes.iter().any(|route| path.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let reads = matches!(method, "GET" | "HEAD");
    if (reads && on(READ_BY_VIEWERS)) || on(ABOUT_ONESELF) {
        Role::Viewer
    } else if on(OPERATED) {
        Role::Operator
    } else {
        Role::Admin
    }
}

/// Whether the tables name a route, so that its role was a decision.
pub fn is_known(path: &str) -> bool {
    let tables = [READ_BY_VIEWERS, ABOUT_ONESELF, OPERATED, ADMINISTERED];
    let names = |route: &&str| path.strip_prefix(*route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    tables.into_iter().any(|table| table.iter().any(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_what_those_before_it_may() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert_eq!("root".parse::<Role>(), Err(UnknownRole));
    }

    #[test]
    fn reading_operating_and_administering() {
        for (method, path, role) in [
            ("GET", "/v1/status", Role::Viewer),
            ("HEAD", "/v1/status", Role::Viewer),
            ("GET", "/v1/events", Role::Viewer),
            ("POST", "/v1/events", Role::Operator),
            ("POST", "/v1/scale", Role::Operator),
            ("GET", "/v1/deploys", Role::Viewer),
            ("POST", "/v1/deploy", Role::Operator),
            ("POST", "/v1/apply", Role::Admin),
            ("GET", "/v1/stack", Role::Admin),
            ("GET", "/v1/secrets", Role::Admin),
            ("DELETE", "/v1/secrets/stripe", Role::Admin),
            ("POST", "/v1/tokens", Role::Admin),
            ("GET", "/v1/drills/runs/1-kill-instance", Role::Viewer),
            ("POST", "/v1/drills", Role::Operator),
            ("GET", "/v1/openapi.json", Role::Viewer),
            ("POST", "/v1/console/links", Role::Admin),
            ("GET", "/console/live", Role::Viewer),
            ("POST", "/console/sign-out", Role::Viewer),
            ("POST", "/v1/status", Role::Admin),
            ("GET", "/v1/statuses", Role::Admin),
            ("GET", "/v1/nothing", Role::Admin),
        ] {
            assert_eq!(required(method, path), role, "{method} {path}");
        }
        assert!(is_known("/v1/secrets/stripe") && !is_known("/v1/statuses"));
    }
}
