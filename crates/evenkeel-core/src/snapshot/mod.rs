//! The snapshot: what the edge needs to know, immutable and versioned.
//!
//! The node process makes one from a revision and from what it observes, and the edge serves it until the next
//! one comes, whatever happens to the rest. It is complete: an edge that starts with nothing but a snapshot and
//! its listeners can serve. It holds no key material. Durations are milliseconds and sizes bytes, so that the
//! file on disk reads without this code.

mod check;
mod listener;
mod redirect;
mod route;
mod service;
pub mod template;

use serde::{Deserialize, Serialize};

pub use self::{
    check::{Check, Probe},
    listener::{ClientLimits, Listener, Network, Protocol, ProxyHeader, Strictness},
    redirect::{BadRedirect, RedirectPart},
    route::{Actions, FieldChanges, Mirror, Rate, RateKey, Redirect, Rewrite, Route, Split, SplitBy},
    service::{
        Answers, Balance, Choice, Compress, Duty, Ejection, Encoding, ErrorPage, FastCgi, HashBy, Hold, Instance, Page,
        Retry, Service, ServiceLimits, Sticky, Wire,
    },
};

/// The version of this format. An edge refuses a snapshot of another one and keeps what it serves.
pub const FORMAT: u32 = 1;

/// Everything the edge serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Must equal [`FORMAT`].
    pub format: u32,
    /// Grows by one with each snapshot of this stack; the edge acknowledges it with `Applied`.
    pub version: u64,
    /// The revision of the stack that it was made from.
    pub revision: u64,
    /// The stack's name.
    pub stack: String,
    /// How many threads serve; fixed from the edge's start on.
    pub threads: u16,
    /// Bound addresses. Their sockets come from the guard under the same names.
    pub listeners: Vec<Listener>,
    /// In order of precedence as the file has them; the edge sorts by host and path.
    pub routes: Vec<Route>,
    /// Destinations that routes name.
    pub services: Vec<Service>,
}
