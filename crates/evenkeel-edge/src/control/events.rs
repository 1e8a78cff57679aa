//! What the node process will be told: a bounded queue of events, and what is never dropped.
//!
//! Events wait for a link and for room in it; when there are too many the newest are counted instead of kept, so
//! that the beginning of a story survives. Acknowledgements of snapshots go before events and have a small queue
//! of their own.

use std::{collections::VecDeque, mem, time::Duration};

use evenkeel_core::{
    link::{Event, EventKind, ToNode},
    time::{Moment, WallTime},
};

use super::link::Link;

/// Events kept while nobody takes them.
pub(super) const CAPACITY: usize = 4096;

/// Events that happen together travel together: a first one waits this long for others.
const COALESCE: Duration = Duration::from_millis(4);

/// Acknowledgements kept while nobody takes them.
const ANSWERS: usize = 64;

/// What waits for the link.
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: VecDeque<Event>,
    dropped: u64,
    lost: u64,
    answers: VecDeque<ToNode>,
    due: Option<Moment>,
}

impl Events {
    /// Something happened at `at`; it is sent soon after `now`.
    pub(super) fn push(&mut self, event: Event, now: Moment) {
        if self.waiting.len() < CAPACITY {
            self.waiting.push_back(event);
        } else {
            self.dropped += 1;
        }
        self.due.get_or_insert(now + COALESCE);
    }

    /// Something that concerns a service or the edge itself.
    pub(super) fn of_service(&mut self, service: &str, what: EventKind, at: WallTime, now: Moment) {
        self.push(Event { at, instance: None, service: service.to_owned(), what }, now);
    }

    /// How many notes of data threads found no room so far: events that nobody saw.
    pub(super) fn lost_in_threads(&mut self, total: u64, now: Moment) {
        let more = total.saturating_sub(self.lost);
        if more > 0 {
            self.lost = total;
            self.dropped += more;
            self.due.get_or_insert(now + COALESCE);
        }
    }

    /// An answer to a snapshot.
    pub(super) fn answer(&mut self, answer: ToNode, now: Moment) {
        if self.answers.len() == ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back(answer);
        self.due = Some(now);
    }

    /// When to send.
    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Whether exactly this waits.
    pub(super) fn has(&self, event: &Event) -> bool {
        // Where there is no room it will be counted, not compared.
        self.waiting.len() < CAPACITY && self.waiting.contains(event)
    }

    /// Sends what waits and then this, which would tell less than the truth before it. `false`: there was no room for
    /// everything, and this is not sent.
    pub(super) fn flush_before(&mut self, message: ToNode, link: &Link, now: Moment) -> bool {
        self.flush(Some(link), now);
        self.due.is_none() && link.send(message).is_ok()
    }

    /// Sends what there is room for. Without a link everything waits for the next one.
    pub(super) fn flush(&mut self, link: Option<&Link>, now: Moment) {
        self.due = None;
        let Some(link) = link else { return };
        while let Some(answer) = self.answers.pop_front() {
            if let Err(answer) = link.send(answer) {
                self.answers.push_front(answer);
                self.due = Some(now + COALESCE * 5);
                return;
            }
        }
        if self.waiting.is_empty() && self.dropped == 0 {
            return;
        }
        let batch =
            ToNode::Events { events: mem::take(&mut self.waiting).into(), dropped: mem::take(&mut self.dropped) };
        if let Err(ToNode::Events { events, dropped }) = link.send(batch) {
            self.waiting = events.into();
            self.dropped = dropped;
            self.due = Some(now + COALESCE * 5);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_event_waits_already() {
        let id = Some(evenkeel_core::status::InstanceId { name: "shop/1".into(), generation: 1 });
        let event = |what| Event { at: WallTime::default(), instance: id.clone(), service: "shop".into(), what };
        let health = event(EventKind::Health { health: evenkeel_core::status::Health::Healthy, reason: "x".into() });
        let mut events = Events::default();
        events.push(event(EventKind::Drained), Moment::ORIGIN);
        assert!(!events.has(&health), "another event about the instance does not say it");
        events.push(health.clone(), Moment::ORIGIN);
        assert!(events.has(&health));
    }

    #[tokio::test]
    async fn nothing_overtakes_what_waits() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (link, mut reader) = (Link::new(ours.into()).unwrap(), theirs);
        let mut events = Events::default();
        events.of_service("shop", EventKind::BudgetExhausted, WallTime::default(), Moment::ORIGIN);
        let later = ToNode::Counters(Box::default());
        assert!(events.flush_before(later.clone(), &link, Moment::ORIGIN));
        let read = tokio::task::spawn_blocking(move || [(); 2].map(|()| frame(&mut reader)));
        let [first, second] = read.await.unwrap();
        assert!(matches!(&first, ToNode::Events { events, dropped: 0 } if events.len() == 1), "{first:?}");
        assert_eq!(second, later);
    }

    fn frame(reader: &mut impl std::io::Read) -> ToNode {
        let mut length = [0; 4];
        reader.read_exact(&mut length).unwrap();
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        reader.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn bounded_and_counted() {
        let mut events = Events::default();
        for _ in 0..CAPACITY + 7 {
            events.of_service("shop", EventKind::BudgetExhausted, WallTime::default(), Moment::ORIGIN);
        }
        assert_eq!((events.waiting.len(), events.dropped), (CAPACITY, 7));
        assert_eq!(events.due(), Some(Moment::ORIGIN + COALESCE));
        events.lost_in_threads(3, Moment::ORIGIN);
        events.lost_in_threads(3, Moment::ORIGIN);
        assert_eq!(events.dropped, 10, "each is counted once");
        events.flush(None, Moment::ORIGIN);
        assert_eq!(events.waiting.len(), CAPACITY, "they wait for a link");
        for version in 0..1_000 {
            events.answer(ToNode::Applied { version }, Moment::ORIGIN);
        }
        assert_eq!(events.answers.len(), ANSWERS);
        assert_eq!(events.answers.back(), Some(&ToNode::Applied { version: 999 }));
    }
}
