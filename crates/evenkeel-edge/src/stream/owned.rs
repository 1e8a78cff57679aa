//! Idle connections to one instance that belong to one client each, because a PROXY header in front of them names it.
//!
//! What such a connection carries is, for the instance, that client's. So a connection is found again by requests of the
//! same client connection alone, and it is closed within about a second after that one has ended. Bounded like the other
//! idle connections of the instance; where there is no room, the one that has been idle for longest is closed.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
};

use tokio::net::TcpStream;

use super::names::Names;

/// The connections of one instance on one thread, the one idle for longest first.
#[derive(Debug, Default)]
pub(crate) struct Owned(RefCell<Vec<One>>);

#[derive(Debug)]
struct One {
    owner: Weak<Names>,
    stream: TcpStream,
    since_ms: u64,
}

impl Owned {
    /// The newest connection of this client that `is_usable`; those of its own that are not are closed.
    pub(crate) fn take(&self, owner: &Rc<Names>, is_usable: impl Fn(&TcpStream) -> bool) -> Option<TcpStream> {
        let mut all = self.0.borrow_mut();
        loop {
            let place = all.iter().rposition(|one| one.owner.as_ptr() == Rc::as_ptr(owner))?;
            let One { stream, .. } = all.remove(place);
            if is_usable(&stream) {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection, and at most `most` in all.
    pub(crate) fn give(&self, owner: &Rc<Names>, stream: TcpStream, most: u16, now_ms: u64) {
        let mut all = self.0.borrow_mut();
        all.push(One { owner: Rc::downgrade(owner), stream, since_ms: now_ms });
        let surplus = all.len().saturating_sub(usize::from(most));
        all.drain(..surplus);
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Closes those whose client has gone, and those that `stay` is false of: it gets the connection and since when it
    /// is idle.
    pub(crate) fn sweep(&self, stay: impl Fn(&TcpStream, u64) -> bool) {
        self.0.borrow_mut().retain(|one| one.owner.strong_count() > 0 && stay(&one.stream, one.since_ms));
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn each_client_finds_its_own_and_nobody_elses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let names = || Rc::new(Names { source: address, destination: address, nameless: false });
        let (one, other) = (names(), names());
        let owned = Owned::default();
        for owner in [&one, &other, &one] {
            owned.give(owner, TcpStream::connect(address).await.expect("it listens"), 8, 1);
        }
        assert!(owned.take(&names(), |_| true).is_none(), "the same addresses are not the same client");
        assert!(owned.take(&one, |_| true).is_some());
        assert!(owned.take(&one, |_| false).is_none(), "one that was closed meanwhile");
        assert!(owned.take(&one, |_| true).is_none());
        drop(other);
        owned.sweep(|_, _| true);
        assert!(owned.0.borrow().is_empty(), "its client has gone");
        for since_ms in 0..4 {
            owned.give(&one, TcpStream::connect(address).await.expect("it listens"), 3, since_ms);
        }
        assert_eq!(owned.0.borrow().iter().map(|one| one.since_ms).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
