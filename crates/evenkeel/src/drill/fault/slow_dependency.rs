//! SIGSTOP and SIGCONT by turns to every instance of a service that another one asks.
//!
//! All of them in step, by one freezer. A process that takes the place of one of them gets a freezer of its own, since
//! a dependency that was restarted is not therefore quicker. It also looks at the instances of the service that asks,
//! and tells when one of them was restarted.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel_core::{
    drill::{Plan, stages},
    status::{ServiceStatus, Status},
};

use super::{
    Aim, Doing, FaultError, Harm, Means,
    freeze::{Freezer, Pattern},
    helper::Helpers,
};

/// How long it takes until a request that came before is counted.
const COUNTED: Duration = Duration::from_millis(800);

/// What is about to be slow.
struct Ready<'a> {
    slow: Slow<'a>,
    freezer: Freezer,
}

/// What is slow.
struct Slow<'a> {
    plan: &'a Plan,
    service: &'a str,
    pattern: Pattern,
    helpers: &'a Arc<Helpers>,
    /// When it began.
    since: Instant,
    /// What the edge had counted of it once nothing was missing that came before; `None` until then.
    asked_before: Option<u64>,
    /// Whether it was told that it is asked.
    asked: bool,
    freezers: Vec<Freezer>,
    /// Processes that are or were made slow.
    known: Vec<u32>,
    /// The starts of the instances that ask.
    starts: BTreeMap<String, u64>,
    released: bool,
}

/// Takes hold of all of them.
pub(super) async fn aim<'a>(
    means: Means<'a>,
    service: &'a str,
    pattern: Pattern,
) -> Result<Box<dyn Aim<'a> + 'a>, FaultError> {
    let Means { plan, control, .. } = means;
    let status = control.status().await.map_err(|failure| FaultError::Stack(failure.what().to_owned()))?;
    let known = processes_of(&status, service);
    if known.is_empty() {
        return Err(FaultError::NoProcess(service.to_owned()));
    }
    let helpers = control.helpers();
    let freezer = Freezer::start(helpers, &known, pattern).await?;
    let starts = starts_of(&status, &plan.subject.service);
    let slow = Slow {
        plan,
        service,
        pattern,
        helpers,
        since: Instant::now(),
        asked_before: None,
        asked: false,
        freezers: Vec::new(),
        known,
        starts,
        released: false,
    };
    Ok(Box::new(Ready { slow, freezer }))
}

fn find<'s>(status: &'s Status, name: &str) -> Option<&'s ServiceStatus> {
    status.services.iter().find(|service| service.name == name)
}

fn processes_of(status: &Status, service: &str) -> Vec<u32> {
    let instances = find(status, service).into_iter().flat_map(|service| &service.instances);
    instances.filter_map(|instance| instance.pid).collect()
}

fn starts_of(status: &Status, service: &str) -> BTreeMap<String, u64> {
    let instances = find(status, service).into_iter().flat_map(|service| &service.instances);
    instances.map(|instance| (instance.name.clone(), instance.generation)).collect()
}

impl<'a> Aim<'a> for Ready<'a> {
    fn fire(self: Box<Self>) -> Doing<'a, Result<(Box<dyn Harm + 'a>, String), FaultError>> {
        Box::pin(async move {
            let Self { mut slow, mut freezer } = *self;
            let count = freezer.freeze().await?;
            slow.freezers.push(freezer);
            slow.since = Instant::now();
            let text = format!("SIGSTOP and SIGCONT by turns to {count} processes of {}", slow.service);
            Ok((Box::new(slow) as Box<dyn Harm>, text))
        })
    }
}

impl Slow<'_> {
    async fn look(&mut self, status: &Status) -> Vec<(&'static str, String)> {
        let mut told = Vec::new();
        for (name, generation) in starts_of(status, &self.plan.subject.service) {
            let before = self.starts.insert(name.clone(), generation);
            if before.is_some_and(|before| generation > before) {
                told.push((stages::RESTARTED, format!("{name} has been started again, start {generation}")));
            }
        }
        told.extend(self.looks_asked(status));
        let fresh: Vec<u32> =
            processes_of(status, self.service).into_iter().filter(|pid| !self.known.contains(pid)).collect();
        for pid in fresh {
            self.known.push(pid);
            // One that is gone already is replaced by another, which the next status shows.
            if let Ok(mut freezer) = Freezer::start(self.helpers, &[pid], self.pattern).await
                && freezer.freeze().await.is_ok()
            {
                self.freezers.push(freezer);
            }
        }
        told
    }

    /// Whether anybody asks what is slow. Where nobody does, nothing is rehearsed.
    fn looks_asked(&mut self, status: &Status) -> Option<(&'static str, String)> {
        if self.asked || self.since.elapsed() < COUNTED {
            return None;
        }
        let requests = find(status, self.service)?.requests;
        let before = *self.asked_before.get_or_insert(requests);
        self.asked = requests > before;
        let words = || format!("the edge counts requests to {} while it is slow", self.service);
        self.asked.then(|| (stages::ASKED, words()))
    }
}

impl Harm for Slow<'_> {
    fn lasts(&self) -> bool {
        !self.released
    }

    fn goes_on<'h>(
        &'h mut self,
        status: Option<&'h Status>,
    ) -> Doing<'h, Result<Vec<(&'static str, String)>, FaultError>> {
        Box::pin(async move {
            Ok(match status.filter(|_| !self.released) {
                Some(status) => self.look(status).await,
                None => Vec::new(),
            })
        })
    }

    fn release(&mut self) -> Doing<'_, ()> {
        Box::pin(async {
            self.released = true;
            // All at once: none stands still longer because another freezer takes its time.
            self.freezers.clear();
            self.helpers.settle().await;
        })
    }
}
