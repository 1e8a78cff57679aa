//! The journal: events and decisions on disk, on a thread of its own.
//!
//! Entries go through a bounded channel, so that a slow disk delays nobody; what finds no room or cannot be
//! written is dropped and counted, and the count is a problem that `keel status` shows. The oldest entries go
//! when there are too many. Ids only grow. Readers ask the same thread, so that they see what was written before
//! they asked.

mod store;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use evenkeel_core::{
    journal::{Entry, Level, Reason},
    supervise::Decision,
};
use tokio::sync::{oneshot, watch};

use self::store::Store;
use crate::clock::wall_now;

/// Entries that may wait for the disk.
const WAITING: usize = 8192;

/// Entries kept by default.
pub(crate) const KEPT: u64 = 100_000;

/// Writes to and reads from the journal. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    requests: mpsc::SyncSender<Request>,
    dropped: Arc<AtomicU64>,
    newest: watch::Receiver<u64>,
    problem: Arc<Option<String>>,
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
}

#[derive(Debug)]
enum Request {
    Append(Entry),
    Read(Query, oneshot::Sender<Vec<Entry>>),
}

impl Journal {
    /// Opens the journal at `path`. It never fails: where the disk does not permit one, it is kept in memory, and
    /// [`Journal::problem`] says so.
    pub(crate) fn open(path: &Path, kept: u64) -> std::io::Result<Self> {
        let (store, problem) = Store::open(path, kept);
        let (requests, inbox) = mpsc::sync_channel(WAITING);
        let (newest_in, newest) = watch::channel(store.newest());
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        thread::Builder::new()
            .name("keel-journal".to_owned())
            .spawn(move || serve(store, &inbox, &newest_in, &count))?;
        Ok(Self { requests, dropped, newest, problem: Arc::new(problem) })
    }

    /// Writes a plain observation or decision.
    pub(crate) fn note(&self, level: Level, subject: &str, kind: &str, message: String, reasons: Vec<Reason>) {
        tracing::debug!(subject, kind, message);
        let (subject, kind) = (subject.to_owned(), kind.to_owned());
        let entry = Entry { id: 0, at: wall_now(), level, subject, kind, message, reasons };
        if self.requests.try_send(Request::Append(entry)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
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

    /// The newest id, to be awaited.
    pub(crate) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }

    /// Entries that were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Why it is not kept where it should be.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }
}

/// The thread: takes what waits, writes it as one transaction, then answers.
fn serve(mut store: Store, inbox: &mpsc::Receiver<Request>, newest: &watch::Sender<u64>, dropped: &AtomicU64) {
    const BATCH: usize = 512;
    while let Ok(first) = inbox.recv() {
        let mut entries = Vec::new();
        let mut questions = Vec::new();
        for request in std::iter::once(first).chain(inbox.try_iter().take(BATCH)) {
            match request {
                Request::Append(entry) => entries.push(entry),
                Request::Read(query, reply) => questions.push((query, reply)),
            }
        }
        if !entries.is_empty() {
            match store.append(&entries) {
                Ok(id) => {
                    newest.send_replace(id);
                }
                Err(error) => {
                    dropped.fetch_add(entries.len() as u64, Ordering::Relaxed);
                    tracing::warn!(%error, entries = entries.len(), "journal entries were dropped");
                }
            }
        }
        for (query, reply) in questions {
            let found = store.read(&query).unwrap_or_else(|error| {
                tracing::warn!(%error, "the journal cannot be read");
                Vec::new()
            });
            // Whoever asked may have gone away.
            let _ = reply.send(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(journal: &Journal, subject: &str, message: &str) {
        let reasons = vec![Reason::seen("a"), Reason::ruled_out("b")];
        journal.note(Level::Info, subject, "test", message.to_owned(), reasons);
    }

    async fn messages(journal: &Journal, query: Query) -> Vec<String> {
        journal.read(query).await.into_iter().map(|entry| entry.message).collect()
    }

    #[tokio::test]
    async fn entries_survive_and_ids_grow() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal.db");
        let journal = Journal::open(&path, 100).unwrap();
        note(&journal, "shop/1", "one");
        note(&journal, "shop", "two");
        note(&journal, "shopping", "three");
        let all = journal.read(Query { limit: 10, ..Query::default() }).await;
        assert_eq!(all.iter().map(|e| e.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(all[0].reasons.len(), 2);
        let shop = Query { limit: 10, subject: Some("shop".to_owned()), after: None };
        assert_eq!(messages(&journal, shop).await, ["one", "two"]);
        drop(journal);

        let journal = Journal::open(&path, 100).unwrap();
        let mut newest = journal.newest();
        newest.mark_unchanged();
        note(&journal, "node", "four");
        newest.changed().await.unwrap();
        assert_eq!(*newest.borrow(), 4);
        assert_eq!(messages(&journal, Query { limit: 2, ..Query::default() }).await, ["three", "four"]);
        let later = Query { limit: 1, after: Some(1), subject: None };
        assert_eq!(messages(&journal, later).await, ["two"]);
        assert_eq!((journal.dropped(), journal.problem()), (0, None));
    }

    #[tokio::test]
    async fn the_oldest_entries_go() {
        let temp = tempfile::tempdir().unwrap();
        let journal = Journal::open(&temp.path().join("journal.db"), 50).unwrap();
        for i in 0..400 {
            note(&journal, "node", &i.to_string());
            if i % 40 == 0 {
                // Reading waits for what was written, so that entries come in several batches.
                journal.read(Query::default()).await;
            }
        }
        let kept = journal.read(Query { limit: 1000, ..Query::default() }).await;
        assert!(kept.len() >= 50 && kept.len() <= 150, "{}", kept.len());
        assert_eq!(kept.last().unwrap().id, 400);
    }

    #[tokio::test]
    async fn a_damaged_file_is_set_aside_and_an_impossible_place_is_said() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal.db");
        std::fs::write(&path, vec![7_u8; 8192]).unwrap();
        let journal = Journal::open(&path, 50).unwrap();
        assert!(journal.problem().unwrap().contains("set aside"), "{:?}", journal.problem());
        note(&journal, "node", "kept");
        assert_eq!(messages(&journal, Query { limit: 5, ..Query::default() }).await, ["kept"]);

        let journal = Journal::open(&temp.path().join("no/such/journal.db"), 50).unwrap();
        assert!(journal.problem().unwrap().contains("memory"));
        note(&journal, "node", "in memory");
        assert_eq!(messages(&journal, Query { limit: 5, ..Query::default() }).await, ["in memory"]);
    }
}
