//! Host names of instances: resolved at the start and every few seconds, the last good answer kept.
//!
//! The system's resolver does not tell how long an answer is good for, so it is asked again and again. An answer
//! that still contains the address in use changes nothing: servers rotate their answers, and following that would
//! throw connections away. Results arrive over a channel; the control thread decides what follows.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{stack::UNIX, time::Moment};
use tokio::{
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::timeout,
};

/// Time between two questions for one name.
const INTERVAL: Duration = Duration::from_secs(5);

/// Time between two questions for a name that was never resolved.
const FIRST_INTERVAL: Duration = Duration::from_millis(500);

/// A question that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Questions under way at once. Each of them takes a thread for as long as the system's resolver does, also where
/// nobody waits for it any more; other work of the control thread needs such threads too.
pub(super) const AT_ONCE: usize = 6;

/// The answer for one address.
#[derive(Debug)]
pub(super) struct Resolved {
    /// `host:port`.
    pub(super) address: String,
    /// The addresses, or why there are none.
    pub(super) answer: Result<Vec<SocketAddr>, String>,
}

/// Asks for names again and again.
#[derive(Debug)]
pub(super) struct Resolver {
    names: HashMap<String, Name>,
    send: mpsc::UnboundedSender<Resolved>,
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Name {
    asked: Option<Moment>,
    running: bool,
    known: bool,
    failing: bool,
}

impl Resolver {
    /// Nothing to resolve yet. Answers arrive at the other end of `send`, at most one for each name at a time.
    pub(super) fn new(send: mpsc::UnboundedSender<Resolved>) -> Self {
        Self { names: HashMap::new(), send, room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Exactly these addresses are in use; literal ones need no answer.
    pub(super) fn watch<'a>(&mut self, addresses: impl Iterator<Item = &'a str>) {
        let mut former = std::mem::take(&mut self.names);
        for address in addresses.filter(|address| !address.starts_with(UNIX) && address.parse::<SocketAddr>().is_err())
        {
            let name = former.remove(address);
            self.names.entry(address.to_owned()).or_insert_with(|| name.unwrap_or_default());
        }
    }

    /// Asks for the names whose time has come.
    pub(super) fn tick(&mut self, now: Moment) {
        for (address, name) in &mut self.names {
            let interval = if name.known { INTERVAL } else { FIRST_INTERVAL };
            if name.running || name.asked.is_some_and(|asked| now.since(asked) < interval) {
                continue;
            }
            name.asked = Some(now);
            name.running = true;
            tokio::spawn(ask(address.clone(), Arc::clone(&self.room), self.send.clone()));
        }
    }

    /// Takes note of an answer. Returns whether it is a change from answers to failures or back.
    pub(super) fn answered(&mut self, resolved: &Resolved) -> bool {
        let Some(name) = self.names.get_mut(&resolved.address) else {
            return false;
        };
        name.running = false;
        name.known |= resolved.answer.is_ok();
        std::mem::replace(&mut name.failing, resolved.answer.is_err()) != name.failing
    }
}

async fn ask(address: String, room: Arc<Semaphore>, send: mpsc::UnboundedSender<Resolved>) {
    let answer = match timeout(TIMEOUT, look_up(address.clone(), room)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(words(&error)),
        Err(_) => Err("the resolver did not answer in time".to_owned()),
    };
    let answer = answer.and_then(|found| if found.is_empty() { Err("no address".to_owned()) } else { Ok(found) });
    // Nobody listens any more only when the edge ends.
    let _ = send.send(Resolved { address, answer });
}

async fn look_up(address: String, room: Arc<Semaphore>) -> io::Result<Vec<SocketAddr>> {
    let room = room.acquire_owned().await.map_err(io::Error::other)?;
    let asked = spawn_blocking(move || {
        let found = address.to_socket_addrs().map(Iterator::collect);
        drop(room);
        found
    });
    asked.await.map_err(io::Error::other)?
}

/// The resolver's own words without what wraps them.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.rsplit(": ").next().unwrap_or(&text).to_lowercase()
}
