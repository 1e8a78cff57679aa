//! What the control thread and the data threads say to each other.
//!
//! Orders go down over an unbounded channel that only the control thread fills (and data threads for `SlotFree` and `Accepted`);
//! acknowledgements come back over an unbounded one, at most one for each order; notices come back over a bounded
//! one, and what finds no room there is counted and dropped, so that a stuck control thread never stops a request.

use std::{net::IpAddr, os::fd::OwnedFd, sync::Arc};

use evenkeel_core::{ambiguity::Ambiguity, link::ProxyFault, scarcity::Scarcity};
use tokio::sync::mpsc;

use crate::{
    accept::Accepted,
    shared::{EdgeShared, InstanceShared, ServiceShared},
    view::View,
};

/// Room for notices that the control thread has not read yet.
pub const NOTICES: usize = 1024;

/// An order to a data thread.
#[derive(Debug)]
pub enum ToThread {
    /// Serve new requests by this view; acknowledged by [`Ack::Serving`]. Requests under way keep theirs.
    View(Arc<View>),
    /// Accept on this listening socket, which is this thread's own, once a view names its listener.
    Open {
        /// The listener's name.
        name: String,
        /// The socket.
        socket: OwnedFd,
    },
    /// Accept no more on a listener and close its socket; its connections finish.
    Close {
        /// The listener's name.
        name: String,
    },
    /// Its health or resolved address changed: wake held requests, drop idle connections that lead to an
    /// instance which is not healthy or to a former address.
    Changed(Arc<InstanceShared>),
    /// It is silent or known dead: send its idempotent requests that wait for an answer elsewhere, except for those that
    /// have waited far longer than it is silent, and drop its idle connections. Said again while that lasts and requests
    /// wait there. Its health must have been written before. Answered by [`Notice::Moved`] if there were any.
    Abandon(Arc<InstanceShared>),
    /// It is no longer part of its service, and does not answer: send all of its idempotent requests that wait for an
    /// answer elsewhere. Answered by [`Notice::Moved`] if there were any.
    Removed(Arc<InstanceShared>),
    /// Requests in flight at an instance of this service fell below the bound, and this thread holds the oldest
    /// request. Sent by data threads.
    SlotFree(Arc<ServiceShared>),
    /// Serve a connection that another thread accepted, since this one has fewer. Sent by data threads.
    Accepted(Accepted),
    /// Accept nothing more, finish requests for at most `grace_ms`, then end with [`Ack::Ended`].
    Terminate {
        /// Milliseconds.
        grace_ms: u64,
    },
}

/// A data thread has done as told.
#[derive(Debug, PartialEq, Eq)]
pub enum Ack {
    /// New requests on this thread are served by this view.
    Serving {
        /// Which thread.
        thread: usize,
        /// [`View::version`].
        version: u64,
    },
    /// The thread is done and ends.
    Ended {
        /// Which thread.
        thread: usize,
    },
}

/// Something a data thread saw. Only what is rare is said so; the rest is counted in [`crate::shared`].
#[derive(Debug)]
pub enum Notice {
    /// A try failed. Already counted in the instance's cell.
    Failed {
        /// Where.
        instance: Arc<InstanceShared>,
        /// How.
        failure: Failure,
    },
    /// A request was refused.
    Rejected {
        /// With which status.
        status: u16,
        /// What was wrong with it.
        reason: &'static str,
    },
    /// There is nothing left for one more connection. Once, until that has been over for a while.
    Scarce {
        /// Of what.
        what: Scarcity,
        /// What the kernel said.
        reason: String,
    },
    /// A connection was closed, since it had to begin with a PROXY header. At most one a second by thread and fault.
    ProxyHeader {
        /// The listener's name.
        listener: String,
        /// Whoever connected.
        peer: IpAddr,
        /// What was wrong.
        fault: ProxyFault,
        /// The same in words.
        reason: &'static str,
    },
    /// A request was ambiguous: put right and forwarded, or something of it left out. Once in a while for each kind of
    /// each client of a listener.
    Ambiguous {
        /// The listener's name.
        listener: String,
        /// Who sent it.
        client: IpAddr,
        /// Its method and target.
        request: String,
        /// What was wrong with it.
        kind: Ambiguity,
        /// The listener lets such requests pass.
        reported: bool,
    },
    /// The first request of a service is held, over all threads.
    HoldStarted {
        /// Which service.
        service: Arc<ServiceShared>,
        /// Why no instance could take it.
        reason: &'static str,
    },
    /// The last held request of a service went on or gave up.
    HoldEnded {
        /// Which service.
        service: Arc<ServiceShared>,
        /// How many were held.
        held: u64,
        /// How many of those got 503.
        expired: u64,
    },
    /// Requests in flight were sent elsewhere, because of [`ToThread::Abandon`] or [`ToThread::Removed`].
    Moved {
        /// From where.
        instance: Arc<InstanceShared>,
        /// How many.
        requests: u64,
    },
    /// A request was tried again: a sample, at most one a second by service.
    Retried {
        /// Which service.
        service: Arc<ServiceShared>,
        /// Method and path of the request, and what failed.
        reason: String,
        /// Where it failed.
        instance: Arc<InstanceShared>,
        /// Where it goes next.
        next: Arc<InstanceShared>,
        /// How many more were tried again since the last sample.
        others: u64,
    },
    /// An application wrote to the standard error of its request (FastCGI section 5.3). About ten times a second by thread.
    Complained {
        /// Whose.
        instance: Arc<InstanceShared>,
        /// The beginning of it, as it came: it may hold secrets.
        text: String,
        /// There was more of it.
        cut: bool,
        /// How many more requests came with something since the last one that was told.
        unsaid: u64,
    },
    /// A retry was refused because the budget is used up. At most one a second by service.
    BudgetExhausted {
        /// Which service.
        service: Arc<ServiceShared>,
    },
}

/// How a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection could be opened (refused, unreachable, no address).
    Connect,
    /// No connection within `connect_timeout_ms`.
    ConnectTimeout,
    /// The connection ended before or within the answer.
    CutOff,
    /// No head of an answer in time, or an idle body.
    Timeout,
    /// The answer was not HTTP or could be read in more than one way.
    Malformed,
    /// A 500, 502, 503 or 504, which only counts where the service says so (`Ejection::count_5xx`). It is
    /// counted as answered, not as failed.
    Status,
}

impl Failure {
    /// In words, for events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "cannot connect",
            Self::ConnectTimeout => "connecting took too long",
            Self::CutOff => "connection cut off",
            Self::Timeout => "no answer in time",
            Self::Malformed => "malformed answer",
            Self::Status => "it answered 5xx",
        }
    }
}

/// The control thread's hold on its data threads.
#[derive(Debug)]
pub struct Threads {
    /// One sender for each, in order.
    pub orders: Vec<mpsc::UnboundedSender<ToThread>>,
    /// Acknowledgements of all.
    pub acks: mpsc::UnboundedReceiver<Ack>,
    /// Notices of all.
    pub notices: mpsc::Receiver<Notice>,
    /// Counters of all.
    pub shared: Arc<EdgeShared>,
    /// To wait for their end.
    pub joins: Vec<std::thread::JoinHandle<()>>,
}

impl Threads {
    /// Sends an order to every thread. A thread that has ended is skipped.
    pub fn tell(&self, make: impl Fn() -> ToThread) {
        for orders in &self.orders {
            // A receiver that is gone belongs to a thread that has ended, which needs no orders.
            let _ = orders.send(make());
        }
    }
}
