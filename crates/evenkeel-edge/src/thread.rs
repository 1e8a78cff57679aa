//! One data thread's own state: everything its connections share.
//!
//! Single-threaded: cells and reference counts, no lock. Its orders come from the control thread and are
//! carried out in [`crate::data`].

use std::{
    cell::{Cell, RefCell},
    hash::{BuildHasher, Hasher, RandomState},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use evenkeel_core::{
    ambiguity::{Ambiguity, Named},
    balance::{TokenKey, client_hash, hash_bytes},
    link::ProxyFault,
    retry::{Answer, Event},
    time::Moment,
};
use tokio::sync::{Notify, mpsc};

use crate::{
    accept::Doors,
    buffers::Buffers,
    clock,
    http::workers::Workers,
    local::{LocalView, ServiceLocal},
    messages::{Notice, ToThread},
    pipes::Pipes,
    shared::{EdgeShared, REJECTED_STATUSES, ServiceShared, ThreadCell},
    slots::Slots,
};

/// How often a client is named whose requests are ambiguous, and how many are in that time.
const NAMED_EVERY: Duration = Duration::from_mins(1);
const MOST_NAMED: usize = 256;

/// Instances that are tidied up at once.
const TIDIED: usize = 4_096;

/// The state.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) index: usize,
    pub(crate) slots: Slots,
    pub(crate) doors: Doors,
    pub(crate) buffers: Buffers,
    pub(crate) workers: Workers,
    pub(crate) pipes: Pipes,
    pub(crate) ids: RequestIds,
    pub(crate) shared: Arc<EdgeShared>,
    pub(crate) peers: Vec<mpsc::UnboundedSender<ToThread>>,
    pub(crate) view_changed: Notify,
    pub(crate) connection_closed: Notify,
    pub(crate) terminating: Cell<bool>,
    notices: mpsc::Sender<Notice>,
    view: RefCell<Option<Rc<LocalView>>>,
    now: Cell<Moment>,
    /// When idle connections were last closed to make room for others.
    pub(crate) room_made_ms: Cell<u64>,
    rejected_ms: Cell<u64>,
    /// By listener, ambiguity and client.
    named: RefCell<Named<(u64, Ambiguity, u64)>>,
    proxy_faults_ms: [Cell<u64>; ProxyFault::ALL.len()],
}

impl Thread {
    /// The state of a thread that has no view yet.
    pub(crate) fn new(
        index: usize,
        shared: Arc<EdgeShared>,
        peers: Vec<mpsc::UnboundedSender<ToThread>>,
        notices: mpsc::Sender<Notice>,
    ) -> Self {
        Self {
            index,
            slots: Slots::default(),
            doors: Doors::default(),
            buffers: Buffers::default(),
            workers: Workers::default(),
            pipes: Pipes::new(peers.len()),
            ids: RequestIds::default(),
            shared,
            peers,
            view_changed: Notify::new(),
            connection_closed: Notify::new(),
            terminating: Cell::new(false),
            notices,
            view: RefCell::new(None),
            now: Cell::new(clock::now()),
            room_made_ms: Cell::new(0),
            rejected_ms: Cell::new(0),
            named: RefCell::new(Named::new(NAMED_EVERY, MOST_NAMED)),
            proxy_faults_ms: Default::default(),
        }
    }

    /// The time as last read on this thread: good enough for deadlines.
    pub(crate) fn now(&self) -> Moment {
        self.now.get()
    }

    /// Reads the clock.
    pub(crate) fn read_clock(&self) -> Moment {
        let now = clock::now();
        self.now.set(now);
        now
    }

    /// The deadline that lies this far ahead.
    pub(crate) fn deadline_ms(&self, after_ms: u64) -> u64 {
        clock::millis(self.now()).saturating_add(after_ms)
    }

    /// The newest view.
    pub(crate) fn view(&self) -> Option<Rc<LocalView>> {
        self.view.borrow().clone()
    }

    /// Whether `view` is the newest one.
    pub(crate) fn is_newest(&self, view: &Rc<LocalView>) -> bool {
        self.view.borrow().as_ref().is_some_and(|newest| Rc::ptr_eq(newest, view))
    }

    /// Serves new requests by this view.
    pub(crate) fn set_view(&self, view: LocalView) {
        *self.view.borrow_mut() = Some(Rc::new(view));
    }

    /// Replaces a service by what the newest view says of it, if it still knows it.
    pub(crate) fn refresh(&self, service: &mut Rc<ServiceLocal>) {
        let view = self.view.borrow();
        if let Some(newest) = view.as_ref().and_then(|view| view.same_service(service)) {
            *service = Rc::clone(newest);
        }
    }

    /// The service at this place of the view that `service` belongs to, if that view is still the newest one.
    pub(crate) fn service_beside(&self, service: &Rc<ServiceLocal>, place: usize) -> Option<Rc<ServiceLocal>> {
        let view = self.view.borrow();
        let newest = view.as_ref()?;
        newest.services.has(service).then(|| newest.services.get(place).cloned())?
    }

    /// By what tokens of instances are made and read.
    pub(crate) fn tokens(&self) -> TokenKey {
        *self.shared.tokens.get_or_init(random_key)
    }

    /// Its own counters.
    pub(crate) fn cell(&self) -> &ThreadCell {
        &self.shared.threads[self.index].0
    }

    /// For what tells the control thread something by itself.
    pub(crate) fn notices(&self) -> mpsc::Sender<Notice> {
        self.notices.clone()
    }

    /// Tells the control thread something, or counts that there was no room for it.
    pub(crate) fn notify(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            self.cell().dropped_notices.add(1);
        }
    }

    /// Counts a refused request; a sample of them, at most one a second, is told to the control thread.
    pub(crate) fn rejected(&self, status: u16, reason: &'static str) {
        if let Some(place) = REJECTED_STATUSES.iter().position(|&known| known == status) {
            self.cell().rejected[place].add(1);
        }
        let now_ms = clock::millis(self.now());
        if self.rejected_ms.get() == 0 || now_ms >= self.rejected_ms.get() + 1000 {
            self.rejected_ms.set(now_ms);
            self.notify(Notice::Rejected { status, reason });
        }
    }

    /// Counts a connection that was closed at once; samples are told as those of refused requests.
    pub(crate) fn turned_away(&self) {
        self.cell().turned_away.add(1);
        self.rejected(429, "too many connections of one client: closed without an answer");
    }

    /// Counts a connection that did not begin with a PROXY header although it had to; a sample of each fault, at most one
    /// a second, is told to the control thread.
    pub(crate) fn proxy_fault(&self, fault: ProxyFault, sample: impl FnOnce() -> Notice) {
        let place = fault as usize;
        self.cell().proxy_faults[place].add(1);
        let (now_ms, said_ms) = (clock::millis(self.now()), &self.proxy_faults_ms[place]);
        if said_ms.get() == 0 || now_ms >= said_ms.get() + 1000 {
            said_ms.set(now_ms);
            self.notify(sample());
        }
    }

    /// Counts an ambiguity of a request; each client is named to the control thread now and then, by each of its own.
    pub(crate) fn ambiguous(&self, kind: Ambiguity, listener: &str, client: IpAddr, sample: impl FnOnce() -> Notice) {
        self.cell().ambiguities[kind.place()].add(1);
        let who = (hash_bytes(listener.as_bytes()), kind, client_hash(client));
        if self.named.borrow_mut().is_due(who, self.now()) {
            self.notify(sample());
        }
    }

    /// Lets the first held request of a service look again. Returns whether there is one on this thread.
    pub(crate) fn wake_held(&self, service: &Arc<ServiceShared>) -> bool {
        let Some(view) = self.view() else { return false };
        view.services.same(service).is_some_and(|local| local.queue.wake_first())
    }

    /// Asks the retry budget of a service for a second try beside a first one, which is not missed.
    pub(crate) fn may_hedge(&self, service: &ServiceLocal) -> bool {
        let now = self.read_clock();
        let retry = &service.config().retry;
        let answer = service.view().shared.with_budget(|budget| {
            budget.on(Event::Requests(service.unreported.take()), retry, now);
            budget.on(Event::Retry, retry, now)
        });
        answer == Answer::Granted
    }

    /// Asks the retry budget of a service. Says so where it is used up.
    pub(crate) fn may_spend(&self, service: &ServiceLocal) -> bool {
        if self.may_hedge(service) {
            return true;
        }
        let (now, shared) = (self.now(), &service.view().shared);
        let now_ms = clock::millis(now);
        let last = shared.exhausted_ms.swap(now_ms, std::sync::atomic::Ordering::Relaxed);
        if last == 0 || now_ms >= last + 1000 {
            self.notify(Notice::BudgetExhausted { service: Arc::clone(shared) });
        } else {
            shared.exhausted_ms.store(last, std::sync::atomic::Ordering::Relaxed);
        }
        false
    }

    /// What has to happen now and then: budgets learn of requests, pools lose dead connections. Where there are many,
    /// it is done in portions.
    pub(crate) fn tidy(&self) {
        let (Some(view), now) = (self.view(), self.read_clock()) else {
            return;
        };
        for service in view.services.some(TIDIED) {
            let requests = service.unreported.take();
            if requests > 0 {
                let retry = &service.config().retry;
                service.view().shared.with_budget(|budget| budget.on(Event::Requests(requests), retry, now));
            }
            for instance in &service.instances {
                instance.pool.sweep(clock::millis(now));
            }
        }
        view.services.rewind();
    }
}

/// Makes identities for requests: a counter from a random start, mixed by a bijection, so that they do not
/// repeat on a thread and do not show how many there were.
#[derive(Debug)]
pub(crate) struct RequestIds(Cell<u64>);

impl Default for RequestIds {
    fn default() -> Self {
        Self(Cell::new(RandomState::new().build_hasher().finish()))
    }
}

impl RequestIds {
    /// Sixteen hexadecimal digits.
    pub(crate) fn next(&self) -> [u8; 16] {
        let count = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(count);
        let mut mixed = count;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let mut digits = [0u8; 16];
        digits[..8].copy_from_slice(&hex(mixed >> 32));
        digits[8..].copy_from_slice(&hex(mixed & 0xffff_ffff));
        digits
    }
}

/// What nobody else knows, for as long as this process lives.
fn random_key() -> TokenKey {
    let mut bytes = [0; TokenKey::BYTES];
    for word in bytes.chunks_exact_mut(8) {
        word.copy_from_slice(&RandomState::new().build_hasher().finish().to_le_bytes());
    }
    TokenKey::new(bytes)
}

/// Eight hexadecimal digits of a number of 32 bits, all at once.
fn hex(number: u64) -> [u8; 8] {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    // One half byte in each byte, the highest in front.
    let spread = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let spread = (spread | spread << 4) & (EACH * 0x0f);
    let letters = (spread + EACH * 6) >> 4 & EACH;
    (spread + EACH * u64::from(b'0') + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_hexadecimal_digits() {
        for number in [0, 9, 10, 0x0123_4567, 0x89ab_cdef, 0xffff_ffff] {
            assert_eq!(hex(number), format!("{number:08x}").as_bytes());
        }
    }
}
