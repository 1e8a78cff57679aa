//! Who asks: what the journal says of it beside each thing that somebody ordered.
//!
//! On the control socket that is the user at the other end, whom the kernel names. Whoever authenticates requests in
//! another way puts a [`Who`] into the request's extensions, and that one counts.

use std::convert::Infallible;

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::request::Parts,
};
use evenkeel_core::journal::Reason;

use super::peer::Peer;
use crate::users;

/// Somebody, as `root (uid 0)` or `token ci`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who(pub(super) String);

impl Who {
    /// As a reason of what was done.
    pub(super) fn reason(&self) -> Reason {
        Reason::seen(format!("by {}", self.0))
    }
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        if let Some(who) = parts.extensions.get::<Self>() {
            return Ok(who.clone());
        }
        let uid = parts.extensions.get::<ConnectInfo<Peer>>().and_then(|ConnectInfo(peer)| peer.uid());
        Ok(Self(uid.map_or_else(|| "somebody".to_owned(), named)))
    }
}

fn named(uid: u32) -> String {
    match users::name_of(uid) {
        Some(name) => format!("{name} (uid {uid})"),
        None => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names() {
        assert_eq!(named(0), "root (uid 0)");
        assert_eq!(named(4_000_000_001), "uid 4000000001");
    }
}
