//! Who is at the other end of the control socket (`SO_PEERCRED`, unix(7)).
//!
//! The socket's mode keeps others out already; this does not depend on the directory it lies in.

use axum::{
    extract::{ConnectInfo, Request, connect_info::Connected},
    middleware::Next,
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use tokio::net::UnixListener;

use super::error::ApiError;

/// The user of the other end, if the kernel tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(Option<u32>);

impl Peer {
    /// The user's number.
    pub(super) fn uid(self) -> Option<u32> {
        self.0
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|peer| peer.uid()))
    }
}

/// Lets only our own user and root pass.
pub(super) async fn only_this_user_and_root(
    ConnectInfo(Peer(uid)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let ours = rustix::process::geteuid().as_raw();
    if uid.is_some_and(|uid| uid == ours || uid == 0) {
        next.run(request).await
    } else {
        ApiError::new(403, "this socket answers only to its own user and to root", "").into_response()
    }
}
