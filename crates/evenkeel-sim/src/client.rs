//! Clients: requests that come whether or not earlier ones were answered, and the ledger of what became of them.

use evenkeel_core::{retry::is_idempotent, time::Moment};

use crate::{fact::Failure, rng::Rng};

/// One request of one client.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// When it was sent.
    pub arrived: Moment,
    /// Whether twice means the same as once.
    pub idempotent: bool,
    /// How it ended; `None`: not yet.
    pub ended: Option<Ended>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer of an instance.
    Answered,
    /// Without one.
    Failed(Failure),
}

/// All requests.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
}

impl Ledger {
    /// The next client sends a request: its number and its method.
    pub fn arrive(&mut self, rng: &mut Rng, now: Moment) -> (u64, &'static str) {
        let method = rng.pick(&["GET", "GET", "HEAD", "PUT", "POST", "POST", "PATCH", "GET"]);
        self.entries.push(Entry { arrived: now, idempotent: is_idempotent(method.as_bytes()), ended: None });
        (self.entries.len() as u64 - 1, method)
    }

    /// This request.
    pub fn get(&self, request: u64) -> &Entry {
        &self.entries[usize::try_from(request).expect("a request's number is an index")]
    }

    /// It is over.
    pub fn end(&mut self, request: u64, failed: Option<Failure>) {
        let entry = &mut self.entries[usize::try_from(request).expect("a request's number is an index")];
        assert!(entry.ended.is_none(), "request {request} ended twice");
        entry.ended = Some(failed.map_or(Ended::Answered, Ended::Failed));
    }

    /// All of them by number.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
