//! Slots: one for each client connection of a thread, by which its task can be found, timed and woken.
//!
//! A wait sets a deadline by a plain store; nothing is registered with a timer and nothing is cancelled when the
//! wait ends early. One ticker task for each thread looks over all slots when the earliest deadline it knows of
//! is due, and at least once a second while there are connections. Signals reach a task the same way: a bit in its
//! slot and its waker. Everything here belongs to one thread.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use crate::shared::InstanceShared;

/// Deadlines are kept with this granularity, in milliseconds.
const TICK_MS: u64 = 5;
/// The ticker looks over the slots at least this often while there are any.
const SCAN_MS: u64 = 1000;
/// A request that has waited for more than so many times as long as its instance has been quiet stays there.
const STAYS: u64 = 4;
/// No deadline.
pub(crate) const NEVER_MS: u64 = u64::MAX;

/// Why a wait ended without what was waited for. The values are bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The deadline passed.
    Expired = 1,
    /// The instance was abandoned while this request may be sent elsewhere.
    Abandoned = 2,
    /// The edge is ending and the connection is idle.
    Close = 4,
    /// Look again: it may be this request's turn.
    Turn = 8,
}

/// One connection, as its thread sees it. Every connection has one for as long as it is open, so it is kept small.
pub(crate) struct Slot {
    place: Cell<u32>,
    deadline_ms: Cell<u64>,
    signals: Cell<u8>,
    /// The instance whose answer is awaited, while the request may be sent elsewhere. Only compared.
    movable_from: Cell<*const InstanceShared>,
    /// Since when, in milliseconds of [`crate::clock`].
    movable_since_ms: Cell<u64>,
    idle: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("place", &self.place)
            .field("deadline_ms", &self.deadline_ms)
            .finish_non_exhaustive()
    }
}

impl Slot {
    /// Polls until ready, or until one of the signals in `mask` is there.
    pub(crate) async fn until<T>(
        &self,
        mask: u8,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Signal> {
        poll_fn(|cx| match poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => self.poll_signal(mask, cx).map(Err),
        })
        .await
    }

    /// Takes one of the signals in `mask`, or asks to be woken.
    pub(crate) fn poll_signal(&self, mask: u8, cx: &mut Context<'_>) -> Poll<Signal> {
        let there = self.signals.get() & mask;
        if there != 0 {
            let signals = [Signal::Expired, Signal::Abandoned, Signal::Close, Signal::Turn];
            let first = signals.into_iter().find(|&signal| there & signal as u8 != 0);
            let first = first.expect("every bit is a signal's");
            self.signals.set(self.signals.get() & !(first as u8));
            return Poll::Ready(first);
        }
        let former = self.waker.take().filter(|waker| waker.will_wake(cx.waker()));
        self.waker.set(Some(former.unwrap_or_else(|| cx.waker().clone())));
        Poll::Pending
    }

    /// From now on a request waits for this instance's answer and may be sent elsewhere.
    pub(crate) fn set_movable_from(&self, instance: *const InstanceShared, now_ms: u64) {
        self.movable_since_ms.set(now_ms);
        self.set_movable(instance);
    }

    /// The request may not be sent elsewhere any more.
    pub(crate) fn set_immovable(&self) {
        self.set_movable(std::ptr::null());
    }

    fn set_movable(&self, instance: *const InstanceShared) {
        self.movable_from.set(instance);
        self.signals.set(self.signals.get() & !(Signal::Abandoned as u8));
    }

    /// Whether the connection waits for the first byte of a request.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.idle.set(idle);
    }

    /// Sends a signal and wakes the task.
    pub(crate) fn signal(&self, signal: Signal) {
        self.signals.set(self.signals.get() | signal as u8);
        if let Some(waker) = self.waker.take() {
            waker.wake_by_ref();
            self.waker.set(Some(waker));
        }
    }
}

/// All slots of one thread.
#[derive(Debug)]
pub(crate) struct Slots {
    all: RefCell<Vec<Rc<Slot>>>,
    next_scan_ms: Cell<u64>,
    ticker: tokio::sync::Notify,
}

impl Default for Slots {
    fn default() -> Self {
        Self { all: RefCell::default(), next_scan_ms: Cell::new(NEVER_MS), ticker: tokio::sync::Notify::new() }
    }
}

impl Slots {
    /// A slot for a new connection.
    pub(crate) fn open(&self, now_ms: u64) -> Rc<Slot> {
        let mut all = self.all.borrow_mut();
        let slot = Rc::new(Slot {
            place: Cell::new(u32::try_from(all.len()).expect("descriptors are fewer")),
            deadline_ms: Cell::new(NEVER_MS),
            signals: Cell::new(0),
            movable_from: Cell::new(std::ptr::null()),
            movable_since_ms: Cell::new(0),
            idle: Cell::new(false),
            waker: Cell::new(None),
        });
        all.push(Rc::clone(&slot));
        self.scan_by(now_ms + SCAN_MS);
        slot
    }

    /// The connection is over.
    pub(crate) fn close(&self, slot: &Slot) {
        let mut all = self.all.borrow_mut();
        let place = slot.place.get() as usize;
        all.swap_remove(place);
        if let Some(moved) = all.get(place) {
            moved.place.set(slot.place.get());
        }
    }

    /// How many connections there are.
    pub(crate) fn count(&self) -> usize {
        self.all.borrow().len()
    }

    /// Sets a slot's deadline; a former one is forgotten, also where it has passed.
    pub(crate) fn arm(&self, slot: &Slot, deadline_ms: u64) {
        slot.deadline_ms.set(deadline_ms);
        slot.signals.set(slot.signals.get() & !(Signal::Expired as u8));
        self.scan_by(deadline_ms);
    }

    /// Ends every wait whose deadline passed. Returns when to look again.
    pub(crate) fn scan(&self, now_ms: u64) -> u64 {
        let all = self.all.borrow();
        let mut next = if all.is_empty() { NEVER_MS } else { now_ms + SCAN_MS };
        for slot in all.iter() {
            let deadline = slot.deadline_ms.get();
            if deadline <= now_ms {
                slot.deadline_ms.set(NEVER_MS);
                slot.signal(Signal::Expired);
            } else {
                next = next.min(deadline);
            }
        }
        let next = next.max(now_ms + TICK_MS);
        self.next_scan_ms.set(next);
        next
    }

    /// When the next scan is due; [`NEVER_MS`] while there are no connections.
    pub(crate) fn next_scan_ms(&self) -> u64 {
        self.next_scan_ms.get()
    }

    /// Waits until a scan became due earlier than it was.
    pub(crate) async fn hurried(&self) {
        self.ticker.notified().await;
    }

    /// Tells every request that waits for this instance and may go elsewhere to do so, unless it has waited far longer
    /// than the instance has been quiet: that one takes long, an instance that was stopped for a moment may be about to
    /// answer it, and elsewhere it would begin anew. Returns how many were told.
    pub(crate) fn abandon(&self, instance: *const InstanceShared, now_ms: u64, quiet_ms: u64) -> u64 {
        let mut moved = 0;
        let oldest_ms = quiet_ms.saturating_mul(STAYS);
        let leaves = |slot: &&Rc<Slot>| {
            slot.movable_from.get() == instance && now_ms.saturating_sub(slot.movable_since_ms.get()) <= oldest_ms
        };
        for slot in self.all.borrow().iter().filter(leaves) {
            slot.signal(Signal::Abandoned);
            moved += 1;
        }
        moved
    }

    /// Tells every idle connection to close.
    pub(crate) fn close_idle(&self) {
        for slot in self.all.borrow().iter().filter(|slot| slot.idle.get()) {
            slot.signal(Signal::Close);
        }
    }

    fn scan_by(&self, at_ms: u64) {
        if at_ms < self.next_scan_ms.get() {
            self.next_scan_ms.set(at_ms);
            self.ticker.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_fire_once_and_late_ones_wait() {
        let slots = Slots::default();
        let (a, b) = (slots.open(0), slots.open(0));
        slots.arm(&a, 10);
        slots.arm(&b, 500);
        assert_eq!(slots.next_scan_ms(), 10);
        assert_eq!(slots.scan(10), 500);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(a.poll_signal(1, &mut cx), Poll::Ready(Signal::Expired));
        assert_eq!(a.poll_signal(1, &mut cx), Poll::Pending);
        assert_eq!(b.poll_signal(1, &mut cx), Poll::Pending);
        slots.scan(500);
        slots.arm(&b, 900);
        assert_eq!(b.poll_signal(1, &mut cx), Poll::Pending, "a passed deadline is forgotten with the next one");
    }

    #[test]
    fn who_has_waited_for_long_is_not_moved_for_a_short_silence() {
        let slots = Slots::default();
        let (old, new) = (slots.open(0), slots.open(0));
        let instance = std::ptr::dangling::<InstanceShared>();
        old.set_movable_from(instance, 0);
        new.set_movable_from(instance, 39_600);
        assert_eq!(slots.abandon(instance, 40_000, 400), 1, "a request of forty seconds is not begun anew");
        new.set_immovable();
        assert_eq!(slots.abandon(instance, 50_000, 10_400), 0);
        assert_eq!(slots.abandon(instance, 53_300, 13_700), 1, "in the end it goes too");
    }

    #[test]
    fn places_stay_right_when_connections_close() {
        let slots = Slots::default();
        let (a, b, c) = (slots.open(0), slots.open(0), slots.open(0));
        slots.close(&a);
        slots.close(&c);
        slots.close(&b);
        assert_eq!(slots.count(), 0);
        assert_eq!(slots.scan(7), NEVER_MS);
    }
}
