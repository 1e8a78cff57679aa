//! What the journal does when its disk does not: entries wait in memory, within a bound, and are written once they
//! can be; what found no room is counted, and the count becomes an entry. A damaged file is set aside, never
//! removed. Owned by the journal's thread; what others may know of it is in [`Condition`].

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use evenkeel_core::{
    journal::{Entry, Level, Reason},
    time::WallTime,
};

use super::{Query, store::Store};
use crate::{
    sqlite::{Cause, Refusal, with_suffix},
    words::counted,
};

/// Entries that wait in memory while they cannot be written, and their text.
const WAITING: usize = 4096;
const WAITING_BYTES: usize = 4 << 20;

/// Text of one transaction.
const BATCH_BYTES: usize = 256 << 10;

/// How often a disk that refused is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How the journal is, for those who ask.
#[derive(Clone, Debug, Default)]
pub(super) struct Condition(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// A damaged file was set aside, since the start.
    aside: Option<String>,
    /// Why nothing can be written now.
    failure: Option<Cause>,
    waiting: usize,
    lost: u64,
}

impl Condition {
    /// What needs attention, in words.
    pub(super) fn problems(&self) -> Vec<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = state.failure.as_ref().map(|Cause { what, fix }| {
            let waiting = counted(state.waiting, "entry waits", "entries wait");
            let lost = match state.lost {
                0 => String::new(),
                lost => format!(", {} dropped", counted(lost, "was", "were")),
            };
            let then = if fix.is_empty() { "" } else { "; " };
            format!("the journal cannot be written ({what}): {waiting} in memory{lost}{then}{fix}")
        });
        state.aside.iter().cloned().chain(failure).collect()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Keeps entries.
pub(super) struct Keeper {
    path: PathBuf,
    size_bytes: u64,
    store: Option<Store>,
    waiting: VecDeque<Entry>,
    waiting_bytes: usize,
    newest: u64,
    /// Since when and why nothing can be written.
    trouble: Option<(WallTime, Cause)>,
    again_at: Instant,
    /// Entries that found no room since the last that was written, and all of them.
    unsaid: u64,
    lost: u64,
    condition: Condition,
}

impl Keeper {
    pub(super) fn new(path: &Path, size_bytes: u64, condition: Condition) -> Self {
        let mut keeper = Self {
            path: path.to_owned(),
            size_bytes,
            store: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            newest: 0,
            trouble: None,
            again_at: Instant::now(),
            unsaid: 0,
            lost: 0,
            condition,
        };
        keeper.open();
        keeper
    }

    /// The newest id given.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether something waits for the disk, or the disk refused.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty() || self.trouble.is_some()
    }

    /// All entries that found no room.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn set_size(&mut self, size_bytes: u64) {
        self.size_bytes = size_bytes;
        if let Some(store) = &mut self.store {
            store.set_size(size_bytes);
        }
    }

    /// Counts entries that did not come as far as here.
    pub(super) fn missed(&mut self, entries: u64) {
        self.unsaid += entries;
        self.lost += entries;
    }

    /// Takes an entry and gives it its id. It is written by [`Keeper::flush`].
    pub(super) fn take(&mut self, entry: Entry) {
        self.newest += 1;
        let entry = Entry { id: self.newest, ..entry };
        self.waiting_bytes += size_of(&entry);
        self.waiting.push_back(entry);
        while self.waiting.len() > WAITING || self.waiting_bytes > WAITING_BYTES && self.waiting.len() > 1 {
            self.pop();
            self.missed(1);
        }
    }

    fn pop(&mut self) {
        if let Some(entry) = self.waiting.pop_front() {
            self.waiting_bytes -= size_of(&entry);
        }
    }

    /// Writes what waits, as far as the disk permits. Where it refused a moment ago, it is left alone for a while.
    pub(super) fn flush(&mut self, now: WallTime) {
        if self.trouble.is_some() && Instant::now() < self.again_at {
            return self.tell();
        }
        if self.store.is_none() {
            self.open();
            if self.store.is_some() {
                self.recovered(now);
            }
        }
        while !self.waiting.is_empty() {
            match self.write_some() {
                Ok(()) => self.recovered(now),
                Err(error) => {
                    let damaged = is_damage(&error);
                    self.refused(&error, now);
                    if !damaged || !self.set_aside(&error) {
                        break;
                    }
                }
            }
        }
        self.tell();
    }

    fn write_some(&mut self) -> Result<(), Refusal> {
        let store = self.store.as_mut().ok_or(rusqlite::Error::InvalidQuery)?;
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += size_of(entry);
            first || bytes <= BATCH_BYTES
        };
        let batch = self.waiting.iter().take_while(fits).count();
        store.append(self.waiting.iter().take(batch))?;
        for _ in 0..batch {
            self.pop();
        }
        Ok(())
    }

    /// Entries can be written again: says what became of those that could not.
    fn recovered(&mut self, now: WallTime) {
        let trouble = self.trouble.take();
        let lost = std::mem::take(&mut self.unsaid);
        if trouble.is_none() && lost == 0 {
            return;
        }
        let lost = match lost {
            0 => "no entry was lost".to_owned(),
            lost => format!("{} lost", counted(lost, "entry was", "entries were")),
        };
        let (message, reasons) = if let Some((since, why)) = trouble {
            (format!("the journal could not be written from {since} to {now}: {lost}"), vec![Reason::seen(why.what)])
        } else {
            let reasons = vec![Reason::seen("more happened at once than the disk took")];
            (format!("the journal did not keep up: {lost}"), reasons)
        };
        self.take(note(now, Level::Warning, message, reasons));
    }

    fn refused(&mut self, error: &Refusal, now: WallTime) {
        self.again_at = Instant::now() + AGAIN_AFTER;
        if self.trouble.is_none() {
            tracing::warn!(%error, "the journal cannot be written");
            self.trouble = Some((now, error.cause()));
        }
    }

    fn open(&mut self) {
        match Store::open(&self.path, self.size_bytes) {
            Ok(store) => self.opened(store),
            Err(error) if is_damage(&error) && self.set_aside(&error) => {}
            Err(error) => self.refused(&error, crate::clock::wall_now()),
        }
    }

    fn opened(&mut self, store: Store) {
        // What was taken before the file could be opened comes after what it holds.
        let base = store.newest().max(self.newest - self.waiting.len() as u64);
        for (id, entry) in (base + 1..).zip(&mut self.waiting) {
            entry.id = id;
        }
        self.newest = base + self.waiting.len() as u64;
        self.store = Some(store);
    }

    /// Renames a damaged file and begins another one. False where that is not possible either.
    fn set_aside(&mut self, error: &Refusal) -> bool {
        self.store = None;
        let Some(aside) = free_name(&self.path) else { return false };
        if fs::rename(&self.path, &aside).is_err() {
            return false;
        }
        // Its log belongs to it: with another table it would be damage itself.
        for suffix in ["-wal", "-shm"] {
            let _ = fs::rename(with_suffix(&self.path, suffix), with_suffix(&aside, suffix));
        }
        let Ok(store) = Store::open(&self.path, self.size_bytes) else { return false };
        self.opened(store);
        self.trouble = None;
        let message = format!("the journal was damaged and a new one was begun; the old one is {}", aside.display());
        self.condition.change(|state| state.aside = Some(message.clone()));
        let reasons = vec![
            Reason::seen(error.to_string()),
            Reason::ruled_out("removing it: what it holds may still be read with `sqlite3 FILE .recover`"),
        ];
        self.take(note(crate::clock::wall_now(), Level::Warning, message, reasons));
        true
    }

    fn tell(&self) {
        self.condition.change(|state| {
            state.failure = self.trouble.as_ref().map(|(_, why)| why.clone());
            state.waiting = self.waiting.len();
            state.lost = self.unsaid;
        });
    }

    /// Entries, oldest first, those that wait included.
    pub(super) fn read(&mut self, query: &Query) -> Vec<Entry> {
        let mut found = match self.store.as_ref().map(|store| store.read(query)) {
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                tracing::warn!(%error, "the journal cannot be read");
                let error = Refusal::from(error);
                if is_damage(&error) {
                    self.set_aside(&error);
                }
                Vec::new()
            }
            None => Vec::new(),
        };
        found.extend(self.waiting.iter().filter(|entry| query.wants(entry)).cloned());
        let beyond = found.len().saturating_sub(query.limit as usize);
        if query.after.is_some() {
            found.truncate(query.limit as usize);
        } else {
            found.drain(..beyond);
        }
        found
    }

    #[cfg(test)]
    pub(super) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    #[cfg(test)]
    pub(super) fn try_again_now(&mut self) {
        self.again_at = Instant::now();
    }
}

fn note(at: WallTime, level: Level, message: String, reasons: Vec<Reason>) -> Entry {
    Entry { id: 0, at, level, subject: "node".to_owned(), kind: "journal".to_owned(), message, reasons }
}

fn is_damage(refusal: &Refusal) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(refusal.error.sqlite_error_code(), Some(NotADatabase | DatabaseCorrupt))
}

/// A name that nothing has yet: `journal.db.damaged`, `journal.db.damaged-2` and so on.
fn free_name(path: &Path) -> Option<PathBuf> {
    let names = std::iter::once(".damaged".to_owned()).chain((2..1000).map(|n| format!(".damaged-{n}")));
    names.map(|suffix| with_suffix(path, &suffix)).find(|name| !name.exists())
}

/// Roughly what an entry takes on disk.
fn size_of(entry: &Entry) -> usize {
    let reasons: usize = entry.reasons.iter().map(|reason| reason.text.len() + 32).sum();
    entry.subject.len() + entry.kind.len() + entry.message.len() + reasons + 64
}
