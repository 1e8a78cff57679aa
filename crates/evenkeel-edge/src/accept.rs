//! Accepting: as many connections as a listener's limits allow a thread, spread evenly over the threads.
//!
//! Each thread has a listening socket of its own, over which the kernel spreads connections by a hash, so that few
//! connections may all come to one thread. One that has clearly more of them than the least busy hands a new one over,
//! once, before anything is known of it: what a thread serves stays with it. The numbers are read without a lock and
//! may be a moment old, which a slightly worse choice is all that comes of.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::{SocketAddr, TcpStream as StdStream},
    rc::Rc,
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_local,
    time::{sleep, timeout},
};

use crate::{
    data::share,
    http::{client::Client, connection::Connection},
    messages::ToThread,
    scarce, stream,
    thread::Thread,
};

/// How long a listener pauses when it cannot accept: no descriptor is left, or it does not listen any more.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a connection waits for the view that the thread which accepted it had already: views come to all threads
/// one right after the other.
const LATE: Duration = Duration::from_secs(1);

/// How many connections of a thread wait so at once: no listener's own bound counts them yet. Far more than come while
/// a view is taken over; whoever comes beyond that is closed, as where the listener is gone.
const MOST_LATE: u32 = 1024;

/// How many connections each listener of a thread has open, by its name, and how many wait for theirs to be known.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    open: RefCell<HashMap<String, Rc<Cell<u32>>>>,
    late: Rc<Cell<u32>>,
}

/// A connection that was accepted by one thread and is served by another.
#[derive(Debug)]
pub struct Accepted {
    stream: StdStream,
    peer: SocketAddr,
    listener: String,
}

/// Accepts on one socket for as long as its listener is there.
pub(crate) async fn accept(thread: Rc<Thread>, listener: TcpListener, name: Rc<str>) {
    let open = thread.doors.of(&name);
    loop {
        let Some(share) = share(&thread, &name, false) else {
            let changed = thread.view_changed.notified();
            if self::share(&thread, &name, false).is_none() {
                changed.await;
            }
            continue;
        };
        if open.get() >= share {
            tokio::select! {
                () = thread.connection_closed.notified() => {}
                () = thread.view_changed.notified() => {}
            }
            continue;
        }
        match listener.accept().await {
            Ok((stream, peer)) => match calmer(&thread) {
                Some(other) => hand_over(&thread, other, stream, peer, &name),
                None => admit(&thread, stream, peer, &name),
            },
            Err(error) if scarce::is_met(&thread, &error, None) => sleep(PAUSE).await,
            // The client was faster than we were.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Whatever it is, the guard's end of listening among it: asking again at once would not mend it.
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Serves a connection on this thread.
fn admit(thread: &Rc<Thread>, stream: TcpStream, peer: SocketAddr, listener: &str) {
    // Without it small answers could wait for acknowledgements; with a failure here they merely do.
    let _ = stream.set_nodelay(true);
    let Some(client) = Client::new(Rc::clone(thread), stream, peer, listener) else { return };
    let counted = Counted::new(thread.doors.of(listener));
    if client.place.listener().is_plain() {
        spawn_local(Connection::new(client, counted));
    } else {
        spawn_local(stream::serve(client, counted));
    }
}

/// Another thread accepted a connection for this one.
pub(crate) fn take_over(thread: &Rc<Thread>, accepted: Accepted) {
    let Accepted { stream, peer, listener } = accepted;
    let Ok(stream) = TcpStream::from_std(stream) else {
        thread.cell().coming.fetch_sub(1, Relaxed);
        return;
    };
    let known = share(thread, &listener, false).is_some();
    let Some(late) = thread.doors.wait().filter(|_| !known) else {
        admit(thread, stream, peer, &listener);
        thread.cell().coming.fetch_sub(1, Relaxed);
        return;
    };
    let thread = Rc::clone(thread);
    spawn_local(async move {
        // Gone with a newer view, or still to come with it: then a client that connected would be reset for nothing.
        let _ = timeout(LATE, until_known(&thread, &listener)).await;
        drop(late);
        admit(&thread, stream, peer, &listener);
        thread.cell().coming.fetch_sub(1, Relaxed);
    });
}

/// Returns once this thread's view has a listener.
async fn until_known(thread: &Thread, listener: &str) {
    loop {
        let changed = thread.view_changed.notified();
        if share(thread, listener, false).is_some() {
            return;
        }
        changed.await;
    }
}

fn hand_over(thread: &Rc<Thread>, other: usize, stream: TcpStream, peer: SocketAddr, listener: &str) {
    let Ok(stream) = stream.into_std() else { return };
    let coming = &thread.shared.threads[other].0.coming;
    coming.fetch_add(1, Relaxed);
    let accepted = Accepted { stream, peer, listener: listener.to_owned() };
    if let Err(returned) = thread.peers[other].send(ToThread::Accepted(accepted)) {
        coming.fetch_sub(1, Relaxed);
        // It has ended, so this one serves it after all.
        if let ToThread::Accepted(Accepted { stream, .. }) = returned.0
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            admit(thread, stream, peer, listener);
        }
    }
}

/// The least busy thread, if this one has clearly more connections: by more than one, and by more than a sixteenth.
fn calmer(thread: &Thread) -> Option<usize> {
    let threads = &thread.shared.threads;
    let connections = |place: usize| {
        let cell = &threads[place].0;
        cell.connections.get() + u64::from(cell.coming.load(Relaxed))
    };
    let own = connections(thread.index);
    let enough = own.saturating_sub(1.max(own / 16));
    let others = (0..threads.len()).filter(|&place| place != thread.index && !threads[place].0.ended.load(Relaxed));
    let (least, calmest) = others.map(|place| (connections(place), place)).min()?;
    (least < enough).then_some(calmest)
}

impl Doors {
    fn of(&self, listener: &str) -> Rc<Cell<u32>> {
        let mut open = self.open.borrow_mut();
        if let Some(open) = open.get(listener) {
            return Rc::clone(open);
        }
        Rc::clone(open.entry(listener.to_owned()).or_default())
    }

    /// Room to wait until a listener is known, for as long as what this returns is there; `None` where there is none.
    fn wait(&self) -> Option<Counted> {
        (self.late.get() < MOST_LATE).then(|| Counted::new(Rc::clone(&self.late)))
    }
}

/// Counts a connection for as long as it is there.
#[derive(Debug)]
struct Counted(Rc<Cell<u32>>);

impl Counted {
    fn new(open: Rc<Cell<u32>>) -> Self {
        open.set(open.get() + 1);
        Self(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_connections_wait_for_a_listener() {
        let doors = Doors::default();
        let mut waiting: Vec<Counted> = (0..MOST_LATE).map_while(|_| doors.wait()).collect();
        assert_eq!(waiting.len(), MOST_LATE as usize);
        assert!(doors.wait().is_none(), "beyond the bound");
        waiting.pop();
        assert!(doors.wait().is_some(), "one was admitted");
    }
}
