//! Idle connections to one instance, kept by one thread.
//!
//! The newest is used first, so that the others may time out. Whether the instance has closed one is noticed
//! without a system call: the runtime has already been told, and a read on a connection of which it was told
//! nothing returns at once.

use std::{
    cell::{Cell, RefCell},
    io::ErrorKind,
    net::SocketAddr,
    rc::Rc,
};

use tokio::net::TcpStream;

use crate::stream::{names::Names, owned::Owned};

/// A connection that was idle for longer is closed, in milliseconds: instances close theirs at some time, and
/// one that waits for its request when that happens may lose it.
const IDLE_MS: u64 = 60_000;

/// The idle connections.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: RefCell<Vec<Idle>>,
    address: Cell<Option<SocketAddr>>,
    /// The address was another one before: what comes back may lead there.
    moved: Cell<bool>,
    /// The instance is gone: nothing is kept any more.
    closed: Cell<bool>,
    /// Those that belong to one client each.
    owned: Owned,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    since_ms: u64,
}

impl Pool {
    /// An empty pool of connections to this address.
    pub(crate) fn new(address: Option<SocketAddr>) -> Self {
        let (moved, closed) = (Cell::new(false), Cell::new(false));
        Self { idle: RefCell::default(), address: Cell::new(address), moved, closed, owned: Owned::default() }
    }

    /// A connection that is open as far as is known. `surely` asks the kernel too, at the cost of a system call:
    /// for requests that cannot be sent twice.
    pub(crate) fn take(&self, surely: bool) -> Option<TcpStream> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let Idle { stream, .. } = idle.pop()?;
            if is_quiet(&stream) && (!surely || is_quiet_in_kernel(&stream)) {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection whose last answer is complete, at most `most` of them. One that leads to a former address
    /// is closed.
    pub(crate) fn give(&self, stream: TcpStream, most: u16, now_ms: u64) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < usize::from(most) && self.takes(&stream) {
            idle.push(Idle { stream, since_ms: now_ms });
        }
    }

    /// As [`Self::take`], of the connections that belong to this client.
    pub(crate) fn take_owned(&self, owner: &Rc<Names>, surely: bool) -> Option<TcpStream> {
        self.owned.take(owner, |stream| is_quiet(stream) && (!surely || is_quiet_in_kernel(stream)))
    }

    /// As [`Self::give`], for this client alone.
    pub(crate) fn give_owned(&self, owner: &Rc<Names>, stream: TcpStream, most: u16, now_ms: u64) {
        if self.takes(&stream) {
            self.owned.give(owner, stream, most, now_ms);
        }
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.owned.clear();
        self.idle.borrow_mut().clear();
    }

    /// Closes all, and whatever would be given back: the instance is gone, though there may be requests there.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.clear();
    }

    fn takes(&self, stream: &TcpStream) -> bool {
        !self.closed.get() && (!self.moved.get() || self.leads_here(stream))
    }

    fn leads_here(&self, stream: &TcpStream) -> bool {
        let place = |address: SocketAddr| (address.ip(), address.port());
        stream.peer_addr().ok().map(place) == self.address.get().map(place)
    }

    /// Closes all that lead to a former address.
    pub(crate) fn readdress(&self, address: Option<SocketAddr>) {
        let former = self.address.replace(address);
        if former != address {
            self.moved.set(self.moved.get() || former.is_some());
            self.clear();
        }
    }

    /// Closes what the instance has closed and what was idle for long.
    pub(crate) fn sweep(&self, now_ms: u64) {
        let stays = |stream: &TcpStream, since_ms| now_ms.saturating_sub(since_ms) < IDLE_MS && is_quiet(stream);
        self.idle.borrow_mut().retain(|idle| stays(&idle.stream, idle.since_ms));
        self.owned.sweep(stays);
    }
}

/// Whether nothing has arrived, neither bytes nor the end. An instance that sends without being asked is out of
/// step, so its bytes would be taken for the next answer.
fn is_quiet(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0u8; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

fn is_quiet_in_kernel(stream: &TcpStream) -> bool {
    let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
    let peeked = rustix::net::recv(stream, &mut [0u8; 1][..], flags);
    matches!(peeked, Err(rustix::io::Errno::AGAIN))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_to_a_former_address_does_not_come_back() {
        let former = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let present = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (from, to) = (former.local_addr().expect("bound"), present.local_addr().expect("bound"));
        let pool = Pool::new(None);
        pool.readdress(Some(from));
        let in_use = TcpStream::connect(from).await.expect("it listens");
        pool.readdress(Some(to));
        pool.give(in_use, 8, 1);
        assert!(pool.take(false).is_none());
        pool.give(TcpStream::connect(to).await.expect("it listens"), 8, 1);
        assert!(pool.take(false).is_some());
    }
}
