//! What panels are made from: one look at everything that the page shows.
//!
//! [`Sources`] asks the owner of the world for what changes all the time, and keeps what changes seldom from one look
//! to the next: the stack until there is another revision, events and deploys until something was written into the
//! journal. [`Views`] owns them, and the last look, for all who look: one looks at a time, so that many who open the page
//! at once cost hardly more than one. No panel asks anything by itself.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use evenkeel_core::{
    journal::Entry,
    stack::{self, Stack},
    status::{ServiceStatus, Status},
    time::WallTime,
};

use tokio::sync::Mutex;

use crate::{
    api::Api,
    clock::wall_now,
    drills::Run,
    history::History,
    journal,
    node::{self, Command, DeployAsk, InForce},
};

/// Entries of the journal that are shown.
const EVENTS: u32 = 120;

/// How far back plots reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Range {
    /// A quarter of an hour, a point each ten seconds.
    #[default]
    Quarter,
    /// Two hours, a point each ten seconds.
    Hours,
    /// A day, a point each minute.
    Day,
}

impl Range {
    /// All, the shortest first.
    pub(crate) const ALL: [Self; 3] = [Self::Quarter, Self::Hours, Self::Day];

    /// As the address of the live stream has it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Quarter => "15m",
            Self::Hours => "2h",
            Self::Day => "24h",
        }
    }

    /// For people.
    pub(crate) const fn in_words(self) -> &'static str {
        match self {
            Self::Quarter => "15 min",
            Self::Hours => "2 hours",
            Self::Day => "a day",
        }
    }

    /// Its length in milliseconds.
    pub(crate) const fn length_ms(self) -> u64 {
        match self {
            Self::Quarter => 15 * 60_000,
            Self::Hours => 2 * 3_600_000,
            Self::Day => 24 * 3_600_000,
        }
    }

    /// The range of that name; the shortest where nobody has it.
    pub(crate) fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|range| range.as_str() == name).unwrap_or_default()
    }
}

/// Everything that the page shows, as of one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// How everything is.
    pub(crate) status: Status,
    /// The stack in force, for what leads where; `None` where it could not be read.
    pub(crate) stack: Option<Arc<Stack>>,
    /// Newest first.
    pub(crate) events: Arc<[Entry]>,
    /// Deploys of each service that can be deployed.
    pub(crate) deploys: Arc<[node::History]>,
    /// What was measured.
    pub(crate) history: History,
    /// Drills that were run, newest first.
    pub(crate) runs: Arc<[Arc<Run>]>,
    /// How far back plots reach.
    pub(crate) range: Range,
    /// The moment.
    pub(crate) now: WallTime,
}

impl View {
    /// Services that are no pages.
    pub(crate) fn services(&self) -> impl Iterator<Item = &ServiceStatus> {
        self.status.services.iter().filter(|service| !service.page)
    }
}

/// For how long a look serves those who open the page. What keeps it up to date looks for itself.
const FRESH: Duration = Duration::from_millis(250);

/// How long a look waits for the folders of runs.
const DISK_PATIENCE: Duration = Duration::from_secs(1);

/// A view, and what is drawn of it for everybody alike.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) view: View,
    drawn: OnceLock<String>,
}

impl Look {
    /// What `draw` makes of it, which is the same whoever asks.
    pub(super) fn drawn(&self, draw: impl FnOnce(&View) -> String) -> &str {
        self.drawn.get_or_init(|| draw(&self.view))
    }
}

/// The looks of all. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Views(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    sources: Sources,
    /// The last look, and when it began.
    last: Option<(Instant, Arc<Look>)>,
}

impl Views {
    /// A look that began no earlier than this call; `None` when the process is about to end.
    pub(super) async fn look(&self, api: &Api) -> Option<Arc<Look>> {
        self.since(Instant::now(), api).await
    }

    /// A look that may be a moment old.
    pub(super) async fn look_lately(&self, api: &Api) -> Option<Arc<Look>> {
        let now = Instant::now();
        self.since(now.checked_sub(FRESH).unwrap_or(now), api).await
    }

    async fn since(&self, earliest: Instant, api: &Api) -> Option<Arc<Look>> {
        let mut seen = self.0.lock().await;
        if let Some((_, look)) = seen.last.as_ref().filter(|(at, _)| *at >= earliest) {
            return Some(Arc::clone(look));
        }
        let began = Instant::now();
        let view = seen.sources.look(api, Range::default()).await?;
        let look = Arc::new(Look { view, drawn: OnceLock::new() });
        seen.last = Some((began, Arc::clone(&look)));
        Some(look)
    }
}

/// Where a view comes from, and what is kept from one to the next.
#[derive(Debug, Default)]
struct Sources {
    stack: Option<(u64, Arc<Stack>)>,
    /// The newest entry of the journal when `events` and `deploys` were read.
    read_at: Option<(u64, u64)>,
    events: Arc<[Entry]>,
    deploys: Arc<[node::History]>,
    runs: Arc<[Arc<Run>]>,
}

impl Sources {
    /// Looks; `None` when the process is about to end.
    async fn look(&mut self, api: &Api, range: Range) -> Option<View> {
        let status = api.commands().ask(Command::Status).await?;
        self.read_stack(api, status.revision).await?;
        let newest = *api.journal().newest().borrow();
        let state = (newest, status.revision);
        let deploying = status.services.iter().any(|service| service.deploy.is_some());
        if self.read_at != Some(state) {
            let query = journal::Query { limit: EVENTS, ..journal::Query::default() };
            let mut events = api.journal().read(query).await;
            events.reverse();
            self.events = events.into();
        }
        if self.read_at != Some(state) || deploying {
            self.read_deploys(api, &status).await?;
        }
        self.read_at = Some(state);
        // Otherwise they are shown as they were: the rest of the page does not wait for a disk that does not answer.
        if let Some(runs) = api.runs().all_within(DISK_PATIENCE).await {
            let is_same = runs.len() == self.runs.len();
            if !(is_same && runs.iter().zip(self.runs.iter()).all(|(kept, run)| Arc::ptr_eq(&kept.run, run))) {
                self.runs = runs.iter().map(|kept| Arc::clone(&kept.run)).collect();
            }
        }
        Some(View {
            status,
            stack: self.stack.as_ref().map(|(_, stack)| Arc::clone(stack)),
            events: Arc::clone(&self.events),
            deploys: Arc::clone(&self.deploys),
            history: api.history().clone(),
            runs: Arc::clone(&self.runs),
            range,
            now: wall_now(),
        })
    }

    async fn read_stack(&mut self, api: &Api, revision: u64) -> Option<()> {
        if self.stack.as_ref().is_none_or(|(known, _)| *known != revision) {
            let InForce { file, text, .. } = api.commands().ask(Command::Stack).await?;
            let stack = stack::parse_leniently(&text, &file).ok();
            self.stack = stack.map(|(stack, _)| (revision, Arc::new(stack)));
        }
        Some(())
    }

    async fn read_deploys(&mut self, api: &Api, status: &Status) -> Option<()> {
        let mut deploys = Vec::new();
        for service in status.services.iter().filter(|service| !service.page) {
            let name = service.name.clone();
            let asked = |reply| Command::Deploy(DeployAsk::History { service: name, reply });
            // A service with fixed instances has none.
            deploys.extend(api.commands().ask(asked).await?.ok());
        }
        self.deploys = deploys.into();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_names() {
        for range in Range::ALL {
            assert_eq!(Range::named(range.as_str()), range);
        }
        assert_eq!(Range::named("a year"), Range::Quarter);
    }
}
