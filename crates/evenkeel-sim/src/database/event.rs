//! Events: what happens next, and what travels between places.
//!
//! Ordered by moment and, within one moment, by the order in which they were put in, so that a seed has one outcome.

use evenkeel_core::{
    failover::{Record, Report, Revision, Token},
    time::Moment,
};

use super::{instance::Client, network::Place, scenario::Fault};

/// Something that happens at its moment.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Tick { node: usize, life: u64 },
    Read { node: usize, life: u64, question: u64 },
    Held { node: usize, life: u64, question: u64, record: Box<Record>, revision: Revision },
    Swap { node: usize, life: u64, question: u64, record: Box<Record>, expects: Revision },
    Swapped { node: usize, life: u64, question: u64, record: Box<Record>, taken: Result<Revision, Revision> },
    Unanswered { node: usize, life: u64, question: u64 },
    Done { node: usize, life: u64, step: u64 },
    Answered { node: usize, life: u64 },
    Message { from: Place, to: Place, what: Message },
    Started { node: usize, life: u64, primary: Option<Token> },
    Promoted { node: usize, life: u64, token: Token },
    InEffect { node: usize, life: u64 },
    LeftoversGone { node: usize, life: u64 },
    Stopped { node: usize, life: u64 },
    Rebuilt { node: usize, from: usize, token: Token, copy: bool },
    Initialised { node: usize, token: Token },
    Guard { node: usize, armed: Moment },
    Write { writer: usize },
    Over { node: usize },
    Fault(usize),
    Strike(Box<Fault>),
    Mend(Box<Fault>),
    End,
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    Connect { token: Token, connection: u64, offset: usize },
    Log { token: Token, connection: u64, offset: usize, ids: Vec<u64>, histories: Vec<(u64, usize)> },
    Flushed { connection: u64, offset: usize },
    Report(Box<Report>),
    AskPromise { token: Token, asked: Moment },
    Promise { asked: Moment },
    Publish { token: Token },
    Hold { token: Token, until: Moment },
    Write(Client),
    Acknowledged { client: Client, token: Token },
    Read { edge: usize },
    Seen { id: Option<u64>, token: Token },
}

#[derive(Debug)]
pub(super) struct Queued(pub(super) Moment, pub(super) u64, pub(super) Event);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}
