//! How a snapshot becomes what every thread serves.
//!
//! A snapshot names listeners whose sockets come from the guard, on another channel: it waits for them for a
//! bounded time, then it is refused with what is missing. Then it is compiled, its instances are taken over, every
//! data thread gets the view, and once each of them has said that it serves it, the node process is told. Of
//! several snapshots that wait only the newest is applied. What is refused changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    balance::TokenKey,
    guard::TOKENS_KEY,
    link::ToNode,
    snapshot::{FORMAT, Snapshot},
    time::Moment,
};

use super::{Control, End};
use crate::{
    http::rates::Limit,
    messages::{Ack, Threads, ToThread},
    view::{Registry, View, ViewError},
};

/// How long a snapshot waits for the sockets of its listeners.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest snapshot that is read from a descriptor.
const MAX_SNAPSHOT_BYTES: u64 = 256 << 20;

/// Listener and data thread.
type Place = (String, usize);

/// What the guard holds for us.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// Arrived before there were threads.
    waiting: BTreeMap<Place, OwnedFd>,
    /// Handed to their threads.
    open: BTreeSet<Place>,
    /// The newest snapshot on disk or in memory.
    snapshot: Option<OwnedFd>,
    /// By what tokens of instances are made. It comes once, before any link to the node process.
    tokens: Option<TokenKey>,
}

impl Sockets {
    /// A descriptor arrived. A listener's goes to its thread at once if there is one.
    pub(super) fn hold(&mut self, key: &str, descriptor: OwnedFd, threads: Option<&Threads>) {
        if key == "snapshot" {
            self.snapshot = Some(descriptor);
        } else if key == TOKENS_KEY {
            match read_tokens(&descriptor) {
                Ok(tokens) => self.tokens = Some(tokens),
                Err(error) => tracing::error!(%error, "the key of cookies cannot be read"),
            }
        } else if let Some(place) = place(key) {
            self.waiting.insert(place, descriptor);
            if let Some(threads) = threads {
                self.hand_over(threads);
            }
        } else {
            tracing::warn!(key, "the guard holds something that the edge has no use for");
        }
    }

    /// A descriptor is no longer held: the listener is gone.
    pub(super) fn release(&mut self, key: &str, threads: Option<&Threads>) {
        if key == "snapshot" {
            self.snapshot = None;
        }
        let Some(place) = place(key) else { return };
        self.waiting.remove(&place);
        if self.open.remove(&place)
            && let Some(orders) = threads.and_then(|threads| threads.orders.get(place.1))
        {
            let _ = orders.send(ToThread::Close { name: place.0 });
        }
    }

    /// Hands sockets to their threads. A socket for a thread that does not exist is closed.
    fn hand_over(&mut self, threads: &Threads) {
        for (place, socket) in std::mem::take(&mut self.waiting) {
            let Some(orders) = threads.orders.get(place.1) else {
                continue;
            };
            if self.open.contains(&place) {
                let _ = orders.send(ToThread::Close { name: place.0.clone() });
            }
            let _ = orders.send(ToThread::Open { name: place.0.clone(), socket });
            self.open.insert(place);
        }
    }

    /// Keys of what this snapshot needs and what has not arrived.
    fn missing(&self, snapshot: &Snapshot) -> Vec<String> {
        let places = snapshot
            .listeners
            .iter()
            .flat_map(|listener| (0..usize::from(snapshot.threads)).map(move |thread| (listener.name.clone(), thread)));
        let missing = places.filter(|place| !self.open.contains(place) && !self.waiting.contains_key(place));
        missing.map(|(name, thread)| format!("listener/{name}/{thread}")).collect()
    }
}

fn place(key: &str) -> Option<Place> {
    let (name, thread) = key.strip_prefix("listener/")?.rsplit_once('/')?;
    Some((name.to_owned(), thread.parse().ok()?))
}

/// Snapshots on their way.
#[derive(Debug, Default)]
pub(super) struct Applying {
    /// Waits for sockets until then.
    waiting: Option<(Snapshot, Moment)>,
    registry: Option<Registry>,
    /// What threads serve or are about to.
    view: Option<Arc<View>>,
    /// Those before it that threads may still hold. Kept here, so that whoever lets go of one last is this thread:
    /// to give the memory of a large one back takes longer than a request should wait.
    former: Vec<Arc<View>>,
    /// Counts views.
    number: u64,
    /// Views that not every thread has acknowledged, oldest first.
    unacknowledged: VecDeque<Unacknowledged>,
}

#[derive(Debug)]
struct Unacknowledged {
    version: u64,
    /// Threads that have not acknowledged it.
    threads: BTreeSet<usize>,
}

impl Applying {
    /// The rate limits in use.
    pub(super) fn limits(&self) -> impl Iterator<Item = Arc<Limit>> {
        self.registry.iter().flat_map(Registry::limits)
    }

    /// The newest view.
    pub(super) fn view(&self) -> Option<&View> {
        self.view.as_deref()
    }

    /// The number of the newest view that every thread serves; 0: none.
    pub(super) fn applied(&self) -> u64 {
        self.number - u64::try_from(self.unacknowledged.len()).unwrap_or(u64::MAX)
    }

    /// Lets go of the views that nobody else holds.
    pub(super) fn let_go(&mut self) {
        self.former.retain(|view| Arc::strong_count(view) > 1);
    }

    /// The version of the newest view, once every thread serves it.
    pub(super) fn served(&self) -> Option<u64> {
        let view = self.view.as_ref().filter(|_| self.unacknowledged.is_empty())?;
        Some(view.version)
    }

    fn acknowledged(&mut self, thread: usize, version: u64) -> Option<u64> {
        let waits = |one: &&mut Unacknowledged| one.version == version && one.threads.contains(&thread);
        if let Some(one) = self.unacknowledged.iter_mut().find(waits) {
            one.threads.remove(&thread);
        }
        // Threads acknowledge in order, so the oldest view is the first that all of them serve.
        let done = self.unacknowledged.front().filter(|one| one.threads.is_empty())?.version;
        self.unacknowledged.pop_front();
        Some(done)
    }
}

impl Control {
    /// A snapshot came over the link.
    pub(super) fn takes_snapshot(&mut self, snapshot: Snapshot, now: Moment) -> Result<(), End> {
        if let Some((former, _)) = self.applying.waiting.take() {
            self.refuse(former.version, "a newer one came before the sockets of its listeners".to_owned(), now);
        }
        if snapshot.format != FORMAT {
            let reason = ViewError::Format { found: snapshot.format }.to_string();
            self.refuse(snapshot.version, reason, now);
            return Ok(());
        }
        self.applying.waiting = Some((snapshot, now + PATIENCE));
        self.apply_waiting(now)
    }

    /// Applies the snapshot that waits, if everything that it needs is there.
    pub(super) fn apply_waiting(&mut self, now: Moment) -> Result<(), End> {
        let ready = |(snapshot, _): &mut (Snapshot, Moment)| self.sockets.missing(snapshot).is_empty();
        match self.applying.waiting.take_if(ready) {
            Some((snapshot, _)) => self.apply(snapshot, now),
            None => Ok(()),
        }
    }

    /// Refuses the snapshot that waits, once it has waited long enough.
    pub(super) fn refuse_overdue(&mut self, now: Moment) -> Result<(), End> {
        if let Some((snapshot, _)) = self.applying.waiting.take_if(|(_, until)| *until <= now) {
            let missing = self.sockets.missing(&snapshot);
            if missing.is_empty() {
                return self.apply(snapshot, now);
            }
            let reason = format!("the guard did not hand over {} within {} s", missing.join(", "), PATIENCE.as_secs());
            self.refuse(snapshot.version, reason, now);
        }
        Ok(())
    }

    /// Everything that was held when this edge started is here. Without a node process so far, the snapshot that the
    /// guard holds is served, with whatever listeners there are: some are better than none.
    pub(super) fn start_from_descriptor(&mut self, now: Moment) -> Result<(), End> {
        let Some(descriptor) = self.sockets.snapshot.as_ref().filter(|_| self.applying.view.is_none()) else {
            return Ok(());
        };
        if self.applying.waiting.is_some() {
            return Ok(());
        }
        match read_snapshot(descriptor) {
            Ok(snapshot) => {
                let missing = self.sockets.missing(&snapshot);
                if !missing.is_empty() {
                    tracing::error!(missing = missing.join(", "), "serving the held snapshot without these listeners");
                }
                self.apply(snapshot, now)
            }
            Err(reason) => {
                tracing::error!(%reason, "cannot use the held snapshot; waiting for the node process");
                Ok(())
            }
        }
    }

    fn apply(&mut self, snapshot: Snapshot, now: Moment) -> Result<(), End> {
        if self.threads.is_none() {
            self.start_threads(usize::from(snapshot.threads.max(1)))?;
        }
        let Some(threads) = &self.threads else { return Ok(()) };
        self.sockets.hand_over(threads);
        let registry = self.applying.registry.get_or_insert_with(|| Registry::new(threads.orders.len()));
        let (version, revision) = (snapshot.version, snapshot.revision);
        let view = match registry.compile_owned(snapshot) {
            Ok(view) => Arc::new(view),
            Err(reason) => {
                self.refuse(version, reason.to_string(), now);
                return Ok(());
            }
        };
        self.applying.number += 1;
        self.applying.former.extend(self.applying.view.replace(Arc::clone(&view)));
        let threads = (0..threads.orders.len()).collect();
        self.applying.unacknowledged.push_back(Unacknowledged { version, threads });
        self.fleet.apply(&view, self.applying.number, &mut self.hands, now);
        self.hands.tell(|| ToThread::View(Arc::clone(&view)));
        let instances = view.services.iter().flat_map(|service| &service.instances);
        self.resolver.watch(instances.map(|instance| instance.shared.address.as_str()));
        self.resolver.tick(now);
        tracing::info!(version, revision, "a snapshot is being applied");
        Ok(())
    }

    fn start_threads(&mut self, count: usize) -> Result<(), End> {
        let threads = crate::data::spawn(count).map_err(End::Thread)?;
        match self.sockets.tokens {
            Some(tokens) => drop(threads.shared.tokens.set(tokens)),
            None => {
                tracing::warn!("the guard holds no key of cookies: those of this edge mean nothing to the next one");
            }
        }
        self.hands.orders.clone_from(&threads.orders);
        self.threads = Some(threads);
        Ok(())
    }

    /// A data thread has done as told.
    pub(super) fn acknowledged(&mut self, ack: &Ack, now: Moment) {
        if let &Ack::Serving { thread, version } = ack
            && let Some(version) = self.applying.acknowledged(thread, version)
        {
            self.hands.events.answer(ToNode::Applied { version }, now);
        }
    }

    fn refuse(&mut self, version: u64, reason: String, now: Moment) {
        tracing::error!(version, reason, "a snapshot is refused; serving the former one");
        self.hands.events.answer(ToNode::Refused { version, reason }, now);
    }
}

/// Reads a whole snapshot without moving the descriptor's offset, which other processes share.
fn read_tokens(descriptor: &OwnedFd) -> io::Result<TokenKey> {
    let mut bytes = [0; TokenKey::BYTES];
    let read = rustix::io::pread(descriptor, &mut bytes[..], 0)?;
    if read == bytes.len() { Ok(TokenKey::new(bytes)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn read_snapshot(descriptor: &OwnedFd) -> io::Result<Snapshot> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let offset = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match rustix::io::pread(descriptor, &mut chunk[..], offset)? {
            0 => return serde_json::from_slice(&bytes).map_err(Into::into),
            _ if offset > MAX_SNAPSHOT_BYTES => return Err(io::Error::other("the held snapshot is too large")),
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}
