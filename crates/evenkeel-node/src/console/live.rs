//! What keeps the page up to date: server-sent events (HTML Living Standard, section 9.2), made by one task for all
//! who look.
//!
//! Once a second the task renders the panels and sends those whose text changed, each to everybody; who comes later is
//! first sent all as they are. The task begins with the first who looks and ends with the last, so that nothing is
//! computed for nobody. Each second ends with a beat, by which the page knows that it is up to date, and the server
//! that somebody still reads. State lives in [`Live`]; a reader that is too slow is sent everything anew, not waited for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Query, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use http_body_util::channel::{Channel, Sender};
use serde::Deserialize;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{MissedTickBehavior, interval},
};

use super::{
    panels::{self, Panel},
    view::{Range, View},
};
use crate::api::{Api, Endless};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);

/// Events that a reader may lag behind.
const WAITING: usize = 64;

/// Whose text it is: a panel's, and of which range where it depends on that.
type Key = (&'static str, Option<Range>);

/// An event, and who wants it: those of a range, or everybody.
#[derive(Clone, Debug)]
struct Event {
    of: Option<Range>,
    text: Bytes,
}

/// Everybody who looks. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    shared: Arc<Mutex<Shared>>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How many look, by range.
    looking: BTreeMap<Range, usize>,
    /// Whether the task runs.
    is_made: bool,
    /// The newest text of each panel.
    latest: BTreeMap<Key, Bytes>,
}

impl Default for Live {
    fn default() -> Self {
        Self { shared: Arc::default(), events: broadcast::channel(WAITING).0 }
    }
}

impl Live {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many look.
    #[cfg(test)]
    fn looking(&self) -> usize {
        self.shared().looking.values().sum()
    }

    /// Somebody more looks; whether the task has to begin.
    fn enter(&self, range: Range) -> (Reader, bool) {
        let mut shared = self.shared();
        *shared.looking.entry(range).or_default() += 1;
        let begins = !std::mem::replace(&mut shared.is_made, true);
        let events = self.events.subscribe();
        (Reader { live: self.clone(), range, events }, begins)
    }

    /// What readers of a range have before them, as events.
    fn latest(&self, range: Range) -> Vec<Bytes> {
        let shared = self.shared();
        let wanted = shared.latest.iter().filter(|((_, of), _)| of.is_none_or(|of| of == range));
        wanted.map(|(_, text)| text.clone()).collect()
    }

    /// The ranges that somebody looks at; `None`, and the task is over, where nobody looks.
    fn wanted(&self) -> Option<Vec<Range>> {
        let mut shared = self.shared();
        let ranges: Vec<Range> =
            shared.looking.iter().filter(|(_, readers)| **readers > 0).map(|(range, _)| *range).collect();
        if ranges.is_empty() {
            shared.is_made = false;
            shared.latest.clear();
            return None;
        }
        shared.latest.retain(|(_, of), _| of.is_none_or(|of| ranges.contains(&of)));
        Some(ranges)
    }

    /// Sends what changed.
    fn publish(&self, rendered: Vec<(Key, Bytes)>) {
        let mut shared = self.shared();
        for (key, text) in rendered {
            if shared.latest.get(&key) != Some(&text) {
                // Nobody may be left to read it, which is found out above.
                let _ = self.events.send(Event { of: key.1, text: text.clone() });
                shared.latest.insert(key, text);
            }
        }
    }
}

/// Somebody who looks, until it is dropped.
struct Reader {
    live: Live,
    range: Range,
    events: broadcast::Receiver<Event>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut shared = self.live.shared();
        if let Some(readers) = shared.looking.get_mut(&self.range) {
            *readers = readers.saturating_sub(1);
        }
    }
}

/// What of the page is wanted.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    range: String,
}

/// Streams what changes.
pub(super) async fn stream(State(api): State<Api>, Query(Wanted { range }): Query<Wanted>) -> Response {
    let live = api.live().clone();
    let (reader, begins) = live.enter(Range::named(&range));
    if begins {
        tokio::spawn(make(api, live));
    }
    let (sender, body) = Channel::<Bytes>::new(16);
    tokio::spawn(send(reader, sender));
    (Extension(Endless), [(CONTENT_TYPE, "text/event-stream")], Body::new(body)).into_response()
}

async fn send(mut reader: Reader, mut to: Sender<Bytes>) {
    let mut waiting = reader.live.latest(reader.range);
    loop {
        for text in waiting.drain(..) {
            if to.send_data(text).await.is_err() {
                return;
            }
        }
        match reader.events.recv().await {
            Ok(Event { of, text }) => waiting.extend(of.is_none_or(|of| of == reader.range).then_some(text)),
            Err(RecvError::Lagged(_)) => waiting = reader.live.latest(reader.range),
            Err(RecvError::Closed) => return,
        }
    }
}

/// The task. However it ends, the next who looks begins another one.
async fn make(api: Api, live: Live) {
    let mut over = Over { live: live.clone(), is_said: false };
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let Some(ranges) = live.wanted() else {
            // It is said already, and somebody may have come since, with a task of their own.
            over.is_said = true;
            return;
        };
        let Some(look) = api.views().look(&api).await else { return };
        let mut view = look.view.clone();
        live.publish(rendered(&mut view, &ranges));
        let beat = format!("event: beat\ndata: {}\n\n", view.now.as_millis());
        let _ = live.events.send(Event { of: None, text: beat.into() });
    }
}

/// Says that there is no task any more, unless that was said.
struct Over {
    live: Live,
    is_said: bool,
}

impl Drop for Over {
    fn drop(&mut self) {
        if !self.is_said {
            self.live.shared().is_made = false;
        }
    }
}

/// The panels that change, as events.
fn rendered(view: &mut View, ranges: &[Range]) -> Vec<(Key, Bytes)> {
    let mut all = Vec::new();
    for panel in panels::ALL.into_iter().filter(|panel| !panel.is_still()) {
        if !panel.is_ranged() {
            all.push(((panel.id(), None), event(panel, view)));
            continue;
        }
        for range in ranges {
            view.range = *range;
            all.push(((panel.id(), Some(*range)), event(panel, view)));
        }
    }
    all
}

/// A panel as an event. JSON has no line break outside of its strings, and none inside either.
fn event(panel: &dyn Panel, view: &View) -> Bytes {
    let data = serde_json::json!({ "id": panel.id(), "html": panel.render(view).into_string() });
    format!("event: panel\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn text(of: &str) -> Bytes {
        Bytes::from(of.to_owned())
    }

    #[tokio::test]
    async fn only_what_changed_is_sent_and_only_to_who_wants_it() {
        let live = Live::default();
        let (mut day, begins) = live.enter(Range::Day);
        let (mut hours, again) = live.enter(Range::Hours);
        assert!(begins && !again, "one task for all");
        assert_eq!(live.wanted(), Some(vec![Range::Hours, Range::Day]));
        let all = || vec![(("events", None), text("a")), (("traffic", Some(Range::Day)), text("b"))];
        live.publish(all());
        live.publish(all());
        let heard = |reader: &mut Reader| {
            let mut texts = Vec::new();
            while let Ok(Event { of, text }) = reader.events.try_recv() {
                texts.extend(of.is_none_or(|of| of == reader.range).then_some(text));
            }
            texts
        };
        assert_eq!(heard(&mut day), [text("a"), text("b")], "each once");
        assert_eq!(heard(&mut hours), [text("a")]);
        assert_eq!(live.latest(Range::Hours), [text("a")]);
        drop(day);
        assert_eq!(live.wanted(), Some(vec![Range::Hours]));
        assert_eq!(live.shared().latest.len(), 1, "what nobody looks at is forgotten");
    }

    #[tokio::test]
    async fn nothing_is_made_for_nobody() {
        let live = Live::default();
        let (reader, _) = live.enter(Range::Quarter);
        live.publish(vec![(("events", None), text("a"))]);
        drop(reader);
        assert_eq!((live.looking(), live.wanted()), (0, None));
        assert!(live.shared().latest.is_empty());
        let (_reader, begins) = live.enter(Range::Quarter);
        assert!(begins, "who comes later begins it anew");
    }

    #[tokio::test]
    async fn who_comes_later_is_sent_everything_and_who_left_is_forgotten() {
        let live = Live::default();
        live.publish(vec![(("events", None), text("a"))]);
        let (reader, _) = live.enter(Range::Quarter);
        let (sender, mut body) = Channel::<Bytes>::new(16);
        let sending = tokio::spawn(send(reader, sender));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, text("a"));
        drop(body);
        let _ = live.events.send(Event { of: None, text: text("beat") });
        tokio::time::timeout(Duration::from_secs(20), sending).await.expect("it ends").unwrap();
        assert_eq!(live.looking(), 0);
    }
}
