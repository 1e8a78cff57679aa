//! What panels are made from: one look at everything that the page shows.
//!
//! [`Sources`] asks the owner of the world for what changes all the time, and keeps what changes seldom from one look
//! to the next: the stack until there is another revision, events and deploys until something was written into the
//! journal. Whoever looks owns its `Sources`; nothing here is kept while nobody does. No panel asks anything by itself.

use std::sync::Arc;

use evenkeel_core::{
    journal::Entry,
    stack::{self, Stack},
    status::{ServiceStatus, Status},
    time::WallTime,
};

use super::runs::{Run, Runs};
use crate::{
    api::Api,
    clock::wall_now,
    history::History,
    journal,
    node::{self, Command, DeployAsk},
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
    pub(crate) runs: Arc<[Run]>,
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

/// Where a view comes from, and what is kept from one to the next.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    stack: Option<(u64, Arc<Stack>)>,
    /// The newest entry of the journal when `events` and `deploys` were read.
    read_at: Option<(u64, u64)>,
    events: Arc<[Entry]>,
    deploys: Arc<[node::History]>,
    runs: Runs,
}

impl Sources {
    /// Looks; `None` when the process is about to end.
    pub(crate) async fn look(&mut self, api: &Api, range: Range) -> Option<View> {
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
        let runs = std::mem::take(&mut self.runs);
        let dir = api.state_dir().join("drills");
        let now = wall_now();
        // A folder is read from disk, which may be slow just when a drill fills it.
        self.runs = tokio::task::spawn_blocking(move || runs.read_again(&dir, now)).await.unwrap_or_default();
        Some(View {
            status,
            stack: self.stack.as_ref().map(|(_, stack)| Arc::clone(stack)),
            events: Arc::clone(&self.events),
            deploys: Arc::clone(&self.deploys),
            history: api.history().clone(),
            runs: self.runs.all(),
            range,
            now,
        })
    }

    async fn read_stack(&mut self, api: &Api, revision: u64) -> Option<()> {
        if self.stack.as_ref().is_none_or(|(known, _)| *known != revision) {
            let (file, text, _) = api.commands().ask(Command::Stack).await?;
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
