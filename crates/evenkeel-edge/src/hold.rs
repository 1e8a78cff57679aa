//! Holding: a request waits for an instance while none is healthy or all are at their bound.
//!
//! Each thread has a queue for each service; whoever stands first tries again when health changes, a view
//! arrives or a slot becomes free, and wakes the next one when it succeeds. Over all threads the queue whose
//! first request has waited longest is woken when a slot becomes free. The bound on held requests counts all
//! threads. A client that goes away leaves the queue.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    task::{Context, Poll, ready},
};

use tokio::{io::ReadBuf, net::TcpStream};

use crate::{
    clock,
    local::ServiceLocal,
    messages::{Notice, ToThread},
    pick::{Asks, Flight, Nobody, Tie, Tried, awaits_probe, has_healthy, pick},
    shared::ServiceShared,
    slots::{Signal, Slot},
    thread::Thread,
};

/// Requests of one service held on one thread, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: RefCell<VecDeque<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    slot: Rc<Slot>,
    since_ms: u64,
}

/// Who answers a request.
#[derive(Debug)]
pub(crate) enum Answers {
    /// This instance.
    Instance(Flight),
    /// The edge itself: its service is a page.
    Page,
}

/// Why a request got no instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nobody became available in time, or too many wait already.
    Unavailable,
    /// The client went away.
    ClientGone,
}

/// What is asked for an instance.
pub(crate) struct Seeker<'a> {
    pub(crate) thread: &'a Rc<Thread>,
    pub(crate) slot: &'a Rc<Slot>,
    pub(crate) stream: &'a TcpStream,
    pub(crate) client: IpAddr,
    pub(crate) tried: Tried,
    /// Should it fail, it could be sent elsewhere.
    pub(crate) movable: bool,
    /// Where it belongs.
    pub(crate) tie: Tie,
    /// Who stands in for the service, if its route gave it a part of the main one's requests.
    pub(crate) main: Option<&'a Rc<ServiceLocal>>,
}

/// How many services one request may pass on its way along `fallback`.
const FALLBACKS: usize = 8;

/// An instance for a request, at once if possible, otherwise after a bounded wait. `service` is replaced where
/// another one answers instead.
pub(crate) async fn acquire(seeker: Seeker<'_>, service: &mut Rc<ServiceLocal>) -> Result<Answers, Refused> {
    let mut reason = match attempt(&seeker, service, false) {
        Ok(answers) => return Ok(answers),
        Err(reason) => reason,
    };
    if go_to_main(&seeker, service) {
        // Whoever gets a part only is at its bound: nobody waits for that.
        reason = match attempt(&seeker, service, false) {
            Ok(answers) => return Ok(answers),
            Err(reason) => reason,
        };
    }
    Box::pin(wait(seeker, service, reason)).await
}

/// One attempt to get an instance. Who does not stand first in the queue does not overtake.
fn attempt(seeker: &Seeker<'_>, service: &mut Rc<ServiceLocal>, first: bool) -> Result<Answers, Nobody> {
    // Who got a part only has one try: what failed there is not left to it a second time.
    if seeker.main.is_some() && (!seeker.tried.is_empty() || !has_healthy(service)) {
        go_to_main(seeker, service);
    }
    if let Some(other) = stand_in(seeker.thread, service) {
        *service = other;
    }
    if service.config().page.is_some() {
        return Ok(Answers::Page);
    }
    if !first && !service.queue.waiting.borrow().is_empty() {
        return Err(Nobody::Free);
    }
    let asks = Asks { tried: &seeker.tried, client: seeker.client, movable: seeker.movable, tie: seeker.tie };
    pick(seeker.thread, service, asks).map(Answers::Instance)
}

/// Nobody of a service that gets a part of a route's requests can take this one: the route's own service has it, unless
/// that has nobody either.
fn go_to_main(seeker: &Seeker<'_>, service: &mut Rc<ServiceLocal>) -> bool {
    let is_other = |main: &&Rc<ServiceLocal>| !Arc::ptr_eq(&main.view().shared, &service.view().shared);
    let Some(main) = seeker.main.filter(|main| is_other(main) && has_healthy(main)) else {
        return false;
    };
    *service = Rc::clone(main);
    seeker.thread.refresh(service);
    true
}

/// An instance now or none: for what is not worth waiting, as a datagram.
pub(crate) fn at_once(
    thread: &Rc<Thread>,
    service: &mut Rc<ServiceLocal>,
    client: IpAddr,
    tried: &Tried,
) -> Option<Flight> {
    if let Some(other) = stand_in(thread, service) {
        *service = other;
    }
    let asks = Asks { tried, client, movable: false, tie: Tie::default() };
    pick(thread, service, asks).ok()
}

/// Who answers instead of a service of which no instance is healthy, or which is to stay away: the first one along
/// `fallback` that has a healthy one. Where nobody has, the service keeps its request, and whoever becomes healthy
/// first gets it. An edge that has just started does not fall back before it knows anything.
fn stand_in(thread: &Thread, service: &Rc<ServiceLocal>) -> Option<Rc<ServiceLocal>> {
    service.view().fallback?;
    let config = service.config();
    let stays = config.away && config.prefer.is_none();
    if !stays && (has_healthy(service) || awaits_probe(service)) {
        return None;
    }
    let next = |of: &Rc<ServiceLocal>| thread.service_beside(of, of.view().fallback?);
    std::iter::successors(next(service), next).take(FALLBACKS).find(|other| has_healthy(other))
}

async fn wait(seeker: Seeker<'_>, service: &mut Rc<ServiceLocal>, reason: Nobody) -> Result<Answers, Refused> {
    // Only in the queue of the newest view is somebody found again.
    seeker.thread.refresh(service);
    let hold = &service.config().hold;
    let most = hold.max_requests;
    if hold.max_ms == 0 {
        return Err(Refused::Unavailable);
    }
    let now_ms = clock::millis(seeker.thread.read_clock());
    seeker.thread.slots.arm(seeker.slot, now_ms.saturating_add(hold.max_ms));
    let Some(place) = Place::enter(&seeker, service, most, now_ms, reason) else {
        return Err(Refused::Unavailable);
    };
    let mut watching = true;
    loop {
        let mask = Signal::Turn as u8 | Signal::Expired as u8;
        let gone = |cx: &mut Context<'_>| {
            if watching { poll_gone(seeker.stream, cx) } else { Poll::Pending }
        };
        match seeker.slot.until(mask, gone).await {
            Ok(true) => return Err(Refused::ClientGone),
            // Bytes of a next request are there, so a close behind them cannot be seen.
            Ok(false) => watching = false,
            Err(Signal::Expired) => {
                service.view().shared.expired.fetch_add(1, Relaxed);
                return Err(Refused::Unavailable);
            }
            Err(_) => {
                seeker.thread.read_clock();
                seeker.thread.refresh(service);
                if place.is_first()
                    && let Ok(answers) = attempt(&seeker, service, true)
                {
                    return Ok(answers);
                }
            }
        }
    }
}

/// A request's place in the queue; dropping it leaves the queue and wakes the next one.
struct Place<'a> {
    thread: &'a Rc<Thread>,
    slot: &'a Rc<Slot>,
    queue: Rc<Queue>,
    service: Rc<ServiceLocal>,
}

impl<'a> Place<'a> {
    fn enter(seeker: &Seeker<'a>, service: &Rc<ServiceLocal>, most: u32, now_ms: u64, reason: Nobody) -> Option<Self> {
        let shared = &service.view().shared;
        let before = shared.holding.fetch_add(1, Relaxed);
        if before >= most {
            shared.holding.fetch_sub(1, Relaxed);
            return None;
        }
        shared.held.fetch_add(1, Relaxed);
        service.cell().held.add(1);
        if before == 0 {
            let reason = reason.as_str();
            seeker.thread.notify(Notice::HoldStarted { service: Arc::clone(shared), reason });
        }
        let queue = Rc::clone(&service.queue);
        queue.waiting.borrow_mut().push_back(Waiter { slot: Rc::clone(seeker.slot), since_ms: now_ms });
        let place = Self { thread: seeker.thread, slot: seeker.slot, queue, service: Rc::clone(service) };
        place.publish_oldest();
        // Something may have changed between the attempt and now; whoever stands first looks once more, and a slot
        // that becomes free after that look finds this request.
        fence(SeqCst);
        if place.is_first() {
            place.slot.signal(Signal::Turn);
        }
        Some(place)
    }

    fn is_first(&self) -> bool {
        self.queue.waiting.borrow().front().is_some_and(|waiter| Rc::ptr_eq(&waiter.slot, self.slot))
    }

    fn publish_oldest(&self) {
        let oldest = self.queue.waiting.borrow().front().map_or(0, |waiter| waiter.since_ms);
        self.service.cell().oldest_held_ms.set(oldest);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.waiting.borrow_mut().retain(|waiter| !Rc::ptr_eq(&waiter.slot, self.slot));
        self.publish_oldest();
        let shared = &self.service.view().shared;
        if shared.holding.fetch_sub(1, Relaxed) == 1 {
            let (held, expired) = (shared.held.swap(0, Relaxed), shared.expired.swap(0, Relaxed));
            self.thread.notify(Notice::HoldEnded { service: Arc::clone(shared), held, expired });
        }
        if !self.queue.wake_first() {
            // What this request leaves may be of use on another thread.
            slot_free(self.thread, shared);
        }
    }
}

impl Queue {
    /// Lets the first one look again. Returns whether there is one.
    pub(crate) fn wake_first(&self) -> bool {
        let waiting = self.waiting.borrow();
        waiting.front().inspect(|first| first.slot.signal(Signal::Turn)).is_some()
    }
}

/// A slot at an instance of this service became free: wakes the thread whose first request waits longest.
pub(crate) fn slot_free(thread: &Thread, service: &Arc<ServiceShared>) {
    let waiting = service.threads.iter().map(|cell| cell.0.oldest_held_ms.get()).enumerate();
    let Some((oldest, _)) = waiting.filter(|&(_, since)| since > 0).min_by_key(|&(_, since)| since) else {
        return;
    };
    if oldest == thread.index {
        thread.wake_held(service);
    } else if let Some(peer) = thread.peers.get(oldest) {
        // A thread that has ended holds no requests.
        let _ = peer.send(ToThread::SlotFree(Arc::clone(service)));
    }
}

/// Another thread says that a slot is free for the request that waits longest, which was here. Where it has gone
/// meanwhile, whoever waits longest now gets the offer.
pub(crate) fn slot_offered(thread: &Thread, service: &Arc<ServiceShared>) {
    if !thread.wake_held(service) {
        slot_free(thread, service);
    }
}

/// Ready with `true` when the client has closed its side, with `false` when it has sent something more.
fn poll_gone(stream: &TcpStream, cx: &mut Context<'_>) -> Poll<bool> {
    let mut byte = [0u8; 1];
    let peeked: io::Result<usize> = ready!(stream.poll_peek(cx, &mut ReadBuf::new(&mut byte)));
    Poll::Ready(!matches!(peeked, Ok(1..)))
}
