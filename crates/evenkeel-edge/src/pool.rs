//! Idle connections to one instance, kept by one thread.
//!
//! The newest is used first, so that the others may time out. As long as there are idle ones nobody opens another, so
//! there are never more than were in use at once; and how long one at the bottom has been idle says for how long so many
//! were not needed. That is how a pool grows with its load and shrinks after it. Whether the instance has closed one is
//! noticed without a system call: the runtime has already been told, and a read on a connection of which it was told
//! nothing returns at once.
//!
//! After an answer to HEAD a connection waits aside for a moment. Who treats HEAD as GET sends a body right behind the head,
//! often in another segment, and it would be taken for the answer to somebody else's request.

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

/// So many are kept for that time in any case.
const KEPT: u16 = 128;

/// Those beyond them are closed when they have not been needed for so long, in milliseconds.
const SURPLUS_MS: u64 = 10_000;

/// How long a connection has to be quiet on which something might come that nobody asked for, in milliseconds.
const DOUBTED_MS: u64 = 1000;

/// Most that are closed at once for having been idle: each costs a system call, and requests wait meanwhile.
const CLOSED: usize = 64;

/// The idle connections.
#[derive(Debug)]
pub(crate) struct Pool {
    idle: RefCell<Vec<Idle>>,
    /// Those that wait aside, the longest in front.
    doubted: RefCell<Vec<Idle>>,
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
    /// Something might come that nobody asked for.
    doubtful: bool,
}

impl Pool {
    /// An empty pool of connections to this address.
    pub(crate) fn new(address: Option<SocketAddr>) -> Self {
        let (moved, closed) = (Cell::new(false), Cell::new(false));
        let (idle, doubted, owned) = (RefCell::default(), RefCell::default(), Owned::default());
        Self { idle, doubted, address: Cell::new(address), moved, closed, owned }
    }

    /// A connection that is open as far as is known. `surely` asks the kernel too, at the cost of a system call:
    /// for requests that cannot be sent twice.
    pub(crate) fn take(&self, surely: bool) -> Option<TcpStream> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let Idle { stream, doubtful, .. } = idle.pop()?;
            if is_quiet(&stream) && (!(surely || doubtful) || is_quiet_in_kernel(&stream)) {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection whose last answer is complete, at most `most` of them. One that leads to a former address
    /// is closed. `doubtful`: its instance might send a body where none may be, so it is used again only once it has been
    /// quiet for a while, and the kernel is asked before that.
    pub(crate) fn give(&self, stream: TcpStream, most: u16, now_ms: u64, doubtful: bool) {
        let (mut idle, mut doubted) = (self.idle.borrow_mut(), self.doubted.borrow_mut());
        if idle.len() + doubted.len() >= usize::from(most) || !self.takes(&stream) {
            return;
        }
        let one = Idle { stream, since_ms: now_ms, doubtful };
        if !doubtful {
            idle.push(one);
        } else if doubted.len() < usize::from(KEPT) {
            doubted.push(one);
        }
    }

    /// As [`Self::take`], of the connections that belong to this client.
    pub(crate) fn take_owned(&self, owner: &Rc<Names>, surely: bool) -> Option<TcpStream> {
        self.owned.take(owner, |stream| is_quiet(stream) && (!surely || is_quiet_in_kernel(stream)))
    }

    /// As [`Self::give`], for this client alone. Each client opens its own, so there may be more than were in use at once.
    pub(crate) fn give_owned(&self, owner: &Rc<Names>, stream: TcpStream, most: u16, now_ms: u64) {
        if self.takes(&stream) {
            self.owned.give(owner, stream, most.min(KEPT), now_ms);
        }
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.owned.clear();
        self.doubted.borrow_mut().clear();
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

    /// Closes what the instance has closed and what was idle for long, of those not needed a part at a time.
    pub(crate) fn sweep(&self, now_ms: u64) {
        let idle_ms = |since_ms| now_ms.saturating_sub(since_ms);
        let mut idle = self.idle.borrow_mut();
        let surplus = idle.len().saturating_sub(usize::from(KEPT));
        let (mut place, mut closed) = (0, 0);
        // The longest idle are in front.
        idle.retain(|one| {
            let most_ms = if place < surplus { SURPLUS_MS } else { IDLE_MS };
            place += 1;
            let leaves = closed < CLOSED && idle_ms(one.since_ms) >= most_ms;
            closed += usize::from(leaves);
            !leaves && is_quiet(&one.stream)
        });
        let mut doubted = self.doubted.borrow_mut();
        let count = doubted.iter().take_while(|one| idle_ms(one.since_ms) >= DOUBTED_MS).count();
        let quiet = doubted.drain(..count).filter(|one| is_quiet_in_kernel(&one.stream));
        idle.extend(quiet.map(|one| Idle { since_ms: now_ms, ..one }));
        if idle.capacity() > 4 * idle.len().max(usize::from(KEPT)) {
            let room = 2 * idle.len();
            idle.shrink_to(room);
        }
        self.owned.sweep(|stream, since_ms| idle_ms(since_ms) < IDLE_MS && is_quiet(stream));
    }

    /// Closes half of them, and those that wait aside: their descriptors and ports are wanted elsewhere.
    pub(crate) fn halve(&self) {
        let mut idle = self.idle.borrow_mut();
        let less = idle.len().div_ceil(2);
        idle.drain(..less);
        self.doubted.borrow_mut().clear();
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
        pool.give(in_use, 8, 1, false);
        assert!(pool.take(false).is_none());
        pool.give(TcpStream::connect(to).await.expect("it listens"), 8, 1, false);
        assert!(pool.take(false).is_some());
    }

    #[tokio::test]
    async fn what_was_needed_at_once_is_kept_and_goes_when_it_is_not_needed_any_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (pool, many) = (Pool::new(Some(address)), usize::from(KEPT) + CLOSED + 20);
        let count = || pool.idle.borrow().len();
        let mut others = Vec::new();
        for _ in 0..many {
            pool.give(TcpStream::connect(address).await.expect("it listens"), u16::MAX, 1, false);
            others.push(listener.accept().await.expect("somebody came"));
        }
        pool.sweep(SURPLUS_MS);
        assert_eq!(count(), many, "they were needed a moment ago");
        let newest = pool.take(false).expect("they are open");
        pool.give(newest, u16::MAX, SURPLUS_MS, false);
        pool.sweep(SURPLUS_MS + 1);
        assert_eq!(count(), many - CLOSED, "not all at once");
        pool.sweep(SURPLUS_MS + 1);
        assert_eq!(count(), usize::from(KEPT));
        pool.sweep(IDLE_MS);
        assert_eq!(count(), usize::from(KEPT), "these stay for longer");
        pool.halve();
        assert_eq!(count(), usize::from(KEPT) / 2);
        pool.sweep(IDLE_MS + 1);
        assert_eq!(count(), 1, "but for the one that was used");
    }

    #[tokio::test]
    async fn one_is_not_used_again_whose_instance_says_what_nobody_asked_for() {
        use std::io::Write;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let pool = Pool::new(None);
        let stream = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        stream.set_nonblocking(true).expect("it is a socket");
        pool.give(TcpStream::from_std(stream).expect("it is a socket"), 8, 1, true);
        let (mut instance, _) = listener.accept().expect("somebody came");
        pool.sweep(DOUBTED_MS);
        assert!(pool.take(false).is_none(), "it may still come");
        pool.sweep(DOUBTED_MS + 1);
        let stream = pool.take(false).expect("nothing came");
        pool.give(stream, 8, 1, true);
        // The runtime gets no turn to hear of it.
        instance.write_all(b"late").expect("it is open");
        pool.sweep(DOUBTED_MS + 1);
        assert!(pool.take(false).is_none());
        assert!(pool.idle.borrow().is_empty() && pool.doubted.borrow().is_empty());
    }
}
