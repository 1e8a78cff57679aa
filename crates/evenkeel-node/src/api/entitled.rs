//! Answers that end with the right to read them.
//!
//! Who may ask is found out once a request, but an answer that follows what happens goes on for days. So each piece of
//! an answer is handed on only while the token or the session that was shown is valid; and one that is [`Endless`] only
//! while the address is served at which it was asked for. Whoever follows something is sent a piece a second at least, be it an empty one, so nobody
//! reads for much longer after that ended. Until its end, each answer keeps its connection from being taken for an idle
//! one.

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

use super::seats::Answering;

/// Among the extensions of an answer: it follows what happens and never ends by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endless;

/// Whether an answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Still {
    /// It does.
    GoesOn,
    /// It ends, as if nothing more was to say.
    Over,
    /// It is cut off: who reads it may do so no more.
    Refused,
}

/// An answer to somebody who may read it for as long as `still` says so.
pub(super) struct Entitled<F> {
    pub(super) body: Body,
    pub(super) still: F,
    pub(super) _answering: Option<Answering>,
}

impl<F: Fn() -> Still + Unpin> Pieces for Entitled<F> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if !matches!(polled, Poll::Ready(Some(Ok(_)))) {
            return polled;
        }
        match (self.still)() {
            Still::GoesOn => polled,
            Still::Over => Poll::Ready(None),
            Still::Refused => {
                let ended = io::Error::new(io::ErrorKind::PermissionDenied, "the right to read this has ended");
                Poll::Ready(Some(Err(Error::new(ended))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
