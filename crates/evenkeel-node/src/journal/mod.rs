//! The journal: events and decisions on disk within a size, on a thread of its own.
//!
//! Entries go through a bounded channel, so that a slow disk delays nobody. What cannot be written waits in memory
//! within a bound; what finds no room is dropped and counted, `keel status` says so, and the count is written as
//! soon as anything can be. The oldest entries go when the size is used up. Ids only grow, whatever becomes of the
//! clock. Readers ask the same thread, so that they see what was written before they asked.

mod clock_step;
mod keeper;
mod store;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use evenkeel_core::{
    journal::{Entry, Level, Reason},
    supervise::Decision,
    time::WallTime,
};
use tokio::sync::{oneshot, watch};

use self::{
    clock_step::ClockStep,
    keeper::{Condition, Keeper},
};
use crate::{
    clock::{since_boot, wall_now},
    secrets::Mask,
};

/// Entries that may wait for the thread.
const WAITING: usize = 8192;

/// What one text of an entry may have; the rest is cut off, so that the bound on entries bounds bytes too.
const TEXT_BYTES: usize = 8 << 10;
const REASONS: usize = 64;

/// How long the thread sleeps while the disk refuses what waits.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Writes to and reads from the journal. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    requests: mpsc::SyncSender<Request>,
    /// Entries that found no room in the channel and are not accounted for yet.
    missed: Arc<AtomicU64>,
    /// Entries that were lost since the start, as far as the thread knows.
    lost: Arc<AtomicU64>,
    newest: watch::Receiver<u64>,
    condition: Condition,
    mask: Mask,
}

/// Which entries to read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// Only entries with a greater id.
    pub(crate) after: Option<u64>,
    /// At most so many; the newest ones where `after` is not given.
    pub(crate) limit: u32,
    /// Only this subject and what lies below it: `shop` includes `shop/1`.
    pub(crate) subject: Option<String>,
    /// Only entries of this time or later, by the clock of their time.
    pub(crate) since: Option<WallTime>,
    /// Only entries of this time or earlier.
    pub(crate) until: Option<WallTime>,
}

impl Query {
    fn wants(&self, entry: &Entry) -> bool {
        let about = |subject: &String| {
            entry.subject.strip_prefix(subject.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        entry.id > self.after.unwrap_or(0)
            && self.subject.as_ref().is_none_or(about)
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at <= until)
    }
}

#[derive(Debug)]
enum Request {
    Append(Entry, Duration),
    Read(Query, oneshot::Sender<Vec<Entry>>),
    Size(u64),
}

impl Journal {
    /// Opens the journal at `path`, on its thread. A file that cannot be used is no error here: entries wait in
    /// memory meanwhile, and [`Journal::problems`] says so. `size_bytes` bounds what lies on disk.
    pub(crate) fn open(path: &Path, size_bytes: u64) -> std::io::Result<Self> {
        let (requests, inbox) = mpsc::sync_channel(WAITING);
        let (newest_in, newest) = watch::channel(0);
        let journal = Self {
            requests,
            missed: Arc::default(),
            lost: Arc::default(),
            newest,
            condition: Condition::default(),
            mask: Mask::default(),
        };
        let (path, condition): (PathBuf, _) = (path.to_owned(), journal.condition.clone());
        let (missed, lost) = (Arc::clone(&journal.missed), Arc::clone(&journal.lost));
        thread::Builder::new().name("keel-journal".to_owned()).spawn(move || {
            let keeper = Keeper::new(&path, size_bytes, condition);
            serve(keeper, &inbox, &newest_in, &missed, &lost);
        })?;
        Ok(journal)
    }

    /// The same with these values masked in everything that is written.
    pub(crate) fn masked_by(self, mask: Mask) -> Self {
        Self { mask, ..self }
    }

    /// Writes a plain observation or decision.
    pub(crate) fn note(&self, level: Level, subject: &str, kind: &str, message: String, reasons: Vec<Reason>) {
        tracing::debug!(subject, kind, message);
        let (subject, kind) = (subject.to_owned(), kind.to_owned());
        let message = self.mask.text(message);
        let masked = |reason: Reason| Reason { text: self.mask.text(reason.text), ..reason };
        let reasons = reasons.into_iter().map(masked).collect();
        let entry = bounded(Entry { id: 0, at: wall_now(), level, subject, kind, message, reasons });
        if self.requests.try_send(Request::Append(entry, since_boot())).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a decision of the core.
    pub(crate) fn decision(&self, subject: &str, decision: Decision) {
        let Decision { level, kind, message, reasons } = decision;
        self.note(level, subject, kind, message, reasons);
    }

    /// Reads entries, oldest first. Empty when the journal's thread does not keep up.
    pub(crate) async fn read(&self, query: Query) -> Vec<Entry> {
        let (reply, answer) = oneshot::channel();
        if self.requests.try_send(Request::Read(query, reply)).is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Bounds what lies on disk from the next entry on.
    pub(crate) fn set_size(&self, size_bytes: u64) {
        // Where there is no room for this, the former bound holds until the next start.
        let _ = self.requests.try_send(Request::Size(size_bytes));
    }

    /// The newest id, to be awaited.
    pub(crate) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }

    /// Entries that were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.missed.load(Ordering::Relaxed) + self.lost.load(Ordering::Relaxed)
    }

    /// What is wrong with it now, in words.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.condition.problems()
    }
}

/// The thread: takes what waits, writes it, then answers.
fn serve(
    mut keeper: Keeper,
    inbox: &mpsc::Receiver<Request>,
    newest: &watch::Sender<u64>,
    missed: &AtomicU64,
    lost: &AtomicU64,
) {
    const BATCH: usize = 512;
    let mut clock = ClockStep::default();
    newest.send_replace(keeper.newest());
    loop {
        let first = if keeper.waits() {
            match inbox.recv_timeout(LOOK_AGAIN) {
                Err(mpsc::RecvTimeoutError::Disconnected) => return keeper.flush(wall_now()),
                first => first.ok(),
            }
        } else {
            let Ok(first) = inbox.recv() else { return };
            Some(first)
        };
        let mut questions = Vec::new();
        for request in first.into_iter().chain(inbox.try_iter().take(BATCH)) {
            match request {
                Request::Append(entry, boot) => {
                    clock.look(entry.at, boot).into_iter().chain([entry]).for_each(|entry| keeper.take(entry));
                }
                Request::Read(query, reply) => questions.push((query, reply)),
                Request::Size(size_bytes) => keeper.set_size(size_bytes),
            }
        }
        keeper.missed(missed.swap(0, Ordering::Relaxed));
        if keeper.waits() {
            keeper.flush(wall_now());
            newest.send_replace(keeper.newest());
        }
        lost.store(keeper.lost(), Ordering::Relaxed);
        for (query, reply) in questions {
            // Whoever asked may have gone away.
            let _ = reply.send(keeper.read(&query));
        }
    }
}

/// Cuts off what no reader needs.
fn bounded(mut entry: Entry) -> Entry {
    entry.reasons.truncate(REASONS);
    let texts = entry.reasons.iter_mut().map(|reason| &mut reason.text);
    for text in texts.chain([&mut entry.message, &mut entry.subject, &mut entry.kind]) {
        if text.len() > TEXT_BYTES {
            text.truncate(text.floor_char_boundary(TEXT_BYTES));
            text.push('…');
        }
    }
    entry
}

#[cfg(test)]
mod tests;
