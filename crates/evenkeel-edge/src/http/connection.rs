//! The task of a client's connection: small while it waits for a request, with a worker while one is served.
//!
//! Most connections of a busy edge are idle, so what an idle one keeps decides how much memory ten thousand of them
//! take: this future, its slot and the runtime's registration, nothing else. Whatever serving needs belongs to a
//! [`Worker`] of the thread's pool, which is taken with the first byte of a request and given back when the connection
//! is idle again. Nothing is read, decided or counted here.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{
    client::Client,
    workers::{Left, Worker},
};

/// A connection until it ends. Whatever else is to be kept for as long as the connection is open goes along as `K`.
pub(crate) struct Connection<K> {
    state: State,
    _kept: K,
}

enum State {
    /// It waits for the first byte of a request.
    Idle(Box<Client>),
    /// A request is served.
    Busy(Worker),
    Over,
}

impl<K> Connection<K> {
    /// A connection that was just accepted.
    pub(crate) fn new(client: Client, kept: K) -> Self {
        // Behind a PROXY header the first bytes of a request may have come.
        // Boxed, so that it can pass from hand to hand with every request.
        let client = Box::new(client);
        let state = if client.input.is_empty() { State::idle(client) } else { State::Busy(Worker::set_to(client)) };
        Self { state, _kept: kept }
    }
}

impl State {
    fn idle(client: Box<Client>) -> Self {
        if client.begin_idle() { Self::Idle(client) } else { Self::Over }
    }

    /// Takes one step, if there is one to take.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Idle(client) => {
                let arrived = ready!(client.poll_idle(cx));
                if let Self::Idle(client) = mem::replace(self, Self::Over)
                    && arrived
                {
                    *self = Self::Busy(Worker::set_to(client));
                }
            }
            Self::Busy(worker) => {
                let left = ready!(worker.poll(cx));
                if let Self::Busy(worker) = mem::replace(self, Self::Over) {
                    match left {
                        Left::Idle(client) => {
                            worker.rest(&client.thread);
                            *self = Self::idle(client);
                        }
                        Left::Over(thread) => worker.rest(&thread),
                    }
                }
            }
            Self::Over => {}
        }
        Poll::Ready(())
    }
}

impl<K: Unpin> Future for Connection<K> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut self.get_mut().state;
        while !matches!(state, State::Over) {
            ready!(state.poll_step(cx));
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        // The runtime adds 104 bytes and rounds up to a multiple of 128.
        let bytes = size_of::<Connection<std::rc::Rc<()>>>();
        assert!(bytes <= 256 - 104, "a connection's task has {bytes} bytes");
    }
}
