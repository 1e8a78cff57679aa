//! Clients: writers and readers behind edges, and the ledger of what they were told.

use std::collections::BTreeMap;

use evenkeel_core::{failover::Token, time::Moment};

/// An edge: to whom it sends, by the newest token that it was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Edge {
    /// Which member, with which token.
    pub(super) primary: Option<(usize, Token)>,
    /// New work waits here, for the switchover of this primary.
    pub(super) held: Option<(Token, Moment)>,
}

/// What clients were told.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The next write's number.
    pub(super) next: u64,
    /// Writes that were acknowledged, with the primary's token.
    pub(super) acknowledged: BTreeMap<u64, Token>,
    /// Writes that a reader saw.
    pub(super) seen: BTreeMap<u64, Token>,
    /// When each writer was last answered.
    pub(super) last_answer: Option<Moment>,
}
