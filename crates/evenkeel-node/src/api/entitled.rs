//! Answers that end with the right to read them.
//!
//! Who may ask is found out once a request, but an answer that follows what happens goes on for days. So each piece of
//! an answer is handed on only while the token or the session that was shown is valid. Whoever follows something is sent a piece a
//! second at least, be it an empty one, so nobody reads for much longer after it was revoked or has ended.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Error,
    body::{Body, Bytes},
};
use hyper::body::{Body as Pieces, Frame, SizeHint};

/// An answer to somebody who may read it for as long as `lasts` says so.
pub(super) struct Entitled<F> {
    pub(super) body: Body,
    pub(super) lasts: F,
}

impl<F: Fn() -> bool + Unpin> Pieces for Entitled<F> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) && !(self.lasts)() {
            let ended = io::Error::new(io::ErrorKind::PermissionDenied, "the right to read this has ended");
            return Poll::Ready(Some(Err(Error::new(ended))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
