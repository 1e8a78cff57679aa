//! What `keel top` knows: the last answers, a little history, and what is selected. Pure: the present and the
//! readings of processes come in as arguments.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use evenkeel_core::{
    journal::Entry,
    status::{InstanceStatus, Status},
};

pub(crate) use super::terminal::Key;

/// Seconds of rates that are remembered for each service.
const HISTORY: usize = 180;

/// What a process has taken since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Processor time, user and system, in milliseconds.
    pub(crate) cpu_ms: u64,
    /// Resident memory.
    pub(crate) memory_bytes: u64,
}

/// What a process takes now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Use {
    /// In percent of one core; `None` until it was seen twice.
    pub(crate) cpu_percent: Option<f64>,
    /// Resident memory.
    pub(crate) memory_bytes: u64,
}

/// What instances are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sort {
    /// As the stack has them.
    #[default]
    Name,
    /// Most processor time first.
    Cpu,
    /// Most memory first.
    Memory,
    /// Most requests in flight first.
    InFlight,
    /// Most restarts first.
    Restarts,
}

impl Sort {
    /// The word that the screen shows.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::InFlight => "in flight",
            Self::Restarts => "restarts",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Name => Self::Cpu,
            Self::Cpu => Self::Memory,
            Self::Memory => Self::InFlight,
            Self::InFlight => Self::Restarts,
            Self::Restarts => Self::Name,
        }
    }
}

/// What fills the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Page {
    /// Services, instances, some events.
    #[default]
    Overview,
    /// Events alone.
    Events,
    /// The keys.
    Help,
}

/// Whether to go on after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Draw again.
    GoOn,
    /// Somebody has seen enough.
    Quit,
}

/// Everything that is shown.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// Whether colours may be used.
    pub(crate) colours: bool,
    /// The last answer.
    pub(crate) status: Option<Status>,
    /// Newest last.
    pub(crate) events: Vec<Entry>,
    /// Why the last question had no answer.
    pub(crate) silent: Option<String>,
    /// Requests a second, by service, newest last.
    pub(crate) rates: BTreeMap<String, VecDeque<u64>>,
    /// By process.
    pub(crate) uses: BTreeMap<u32, Use>,
    /// What is shown.
    pub(crate) page: Page,
    /// How instances are sorted.
    pub(crate) sort: Sort,
    /// The selected line of instances or of events.
    pub(crate) selected: usize,
    seen: BTreeMap<u32, (Instant, Taken)>,
}

impl Model {
    pub(crate) fn new(colours: bool) -> Self {
        Self { colours, ..Self::default() }
    }

    /// Takes an answer. `read` says what a process has taken.
    pub(crate) fn heard(
        &mut self,
        status: Status,
        events: Vec<Entry>,
        now: Instant,
        read: &dyn Fn(u32) -> Option<Taken>,
    ) {
        self.silent = None;
        self.rates.retain(|name, _| status.services.iter().any(|service| service.name == *name));
        for service in &status.services {
            let rates = self.rates.entry(service.name.clone()).or_default();
            rates.push_back(whole(service.requests_per_s));
            while rates.len() > HISTORY {
                rates.pop_front();
            }
        }
        let pids = status.services.iter().flat_map(|service| &service.instances).filter_map(|instance| instance.pid);
        let taken: BTreeMap<u32, Taken> = pids.filter_map(|pid| Some((pid, read(pid)?))).collect();
        self.uses = taken.iter().map(|(pid, taken)| (*pid, use_of(self.seen.get(pid), *taken, now))).collect();
        self.seen = taken.into_iter().map(|(pid, taken)| (pid, (now, taken))).collect();
        self.status = Some(status);
        self.events = events;
        self.stay_inside();
    }

    /// There was no answer; what was known is shown on, marked as old.
    pub(crate) fn missed(&mut self, why: &str) {
        self.silent = Some(why.to_owned());
    }

    /// Takes a key.
    pub(crate) fn key(&mut self, key: Key) -> Flow {
        match key {
            Key::Interrupt | Key::Char('q') => return Flow::Quit,
            Key::Escape if self.page == Page::Overview => return Flow::Quit,
            Key::Escape => self.show(Page::Overview),
            Key::Char('e') => self.toggle(Page::Events),
            Key::Char('?' | 'h') => self.toggle(Page::Help),
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Up(lines) => self.selected = self.selected.saturating_sub(lines),
            Key::Char('k') => self.selected = self.selected.saturating_sub(1),
            Key::Down(lines) => self.selected += lines,
            Key::Char('j') => self.selected += 1,
            Key::Char(_) | Key::Resized => {}
        }
        self.stay_inside();
        Flow::GoOn
    }

    fn toggle(&mut self, page: Page) {
        self.show(if self.page == page { Page::Overview } else { page });
    }

    fn show(&mut self, page: Page) {
        self.page = page;
        self.selected = 0;
    }

    fn stay_inside(&mut self) {
        let lines = match self.page {
            Page::Events => self.events.len(),
            Page::Overview | Page::Help => self.instances().len(),
        };
        self.selected = self.selected.min(lines.saturating_sub(1));
    }

    /// All instances, sorted.
    pub(crate) fn instances(&self) -> Vec<&InstanceStatus> {
        let services = self.status.iter().flat_map(|status| &status.services);
        let mut all: Vec<&InstanceStatus> = services.flat_map(|service| &service.instances).collect();
        all.sort_by(|a, b| self.compare(a, b));
        all
    }

    fn compare(&self, a: &InstanceStatus, b: &InstanceStatus) -> Ordering {
        let use_of =
            |instance: &InstanceStatus| instance.pid.and_then(|pid| self.uses.get(&pid)).copied().unwrap_or_default();
        match self.sort {
            Sort::Name => Ordering::Equal,
            Sort::Cpu => {
                let cpu = |instance| use_of(instance).cpu_percent.unwrap_or(0.0);
                cpu(b).total_cmp(&cpu(a))
            }
            Sort::Memory => use_of(b).memory_bytes.cmp(&use_of(a).memory_bytes),
            Sort::InFlight => b.in_flight.cmp(&a.in_flight),
            Sort::Restarts => b.restarts.cmp(&a.restarts),
        }
    }
}

fn use_of(before: Option<&(Instant, Taken)>, taken: Taken, now: Instant) -> Use {
    let cpu_percent = before.and_then(|(then, before)| {
        let span_ms = now.saturating_duration_since(*then).as_secs_f64() * 1000.0;
        let used_ms = u32::try_from(taken.cpu_ms.saturating_sub(before.cpu_ms)).map_or(0.0, f64::from);
        (span_ms > 0.0).then(|| used_ms * 100.0 / span_ms)
    });
    Use { cpu_percent, memory_bytes: taken.memory_bytes }
}

/// A rate as a height: what is below one request a second still shows.
fn whole(rate: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
    let tenths = (rate * 10.0).clamp(0.0, 1e15) as u64;
    tenths
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::top::view::tests::status;

    #[test]
    fn keys_lead_through_the_pages() {
        let mut model = Model::new(false);
        model.heard(status(), Vec::new(), Instant::now(), &|_| None);
        assert_eq!(model.key(Key::Down(10)), Flow::GoOn);
        assert_eq!(model.selected, model.instances().len() - 1, "it stops at the last");
        model.key(Key::Char('e'));
        assert_eq!((model.page, model.selected), (Page::Events, 0));
        model.key(Key::Escape);
        assert_eq!(model.page, Page::Overview);
        model.key(Key::Char('?'));
        assert_eq!(model.page, Page::Help);
        model.key(Key::Char('?'));
        assert_eq!(model.key(Key::Char('q')), Flow::Quit);
        assert_eq!(model.key(Key::Interrupt), Flow::Quit);
    }

    #[test]
    fn processor_time_is_a_share_of_what_passed() {
        let (mut model, start) = (Model::new(false), Instant::now());
        let taken = |cpu_ms| move |_| Some(Taken { cpu_ms, memory_bytes: 1 << 20 });
        model.heard(status(), Vec::new(), start, &taken(1000));
        let pid = model.instances()[0].pid.unwrap();
        assert_eq!(model.uses[&pid].cpu_percent, None);
        model.heard(status(), Vec::new(), start + Duration::from_secs(2), &taken(1500));
        assert_eq!(model.uses[&pid].cpu_percent, Some(25.0));
    }

    #[test]
    fn sorting_puts_the_most_first_and_history_is_bounded() {
        let mut model = Model::new(false);
        for _ in 0..500 {
            model.heard(status(), Vec::new(), Instant::now(), &|pid| {
                Some(Taken { cpu_ms: 0, memory_bytes: u64::from(pid) })
            });
        }
        assert_eq!(model.rates["shop"].len(), HISTORY);
        model.key(Key::Char('s'));
        model.key(Key::Char('s'));
        assert_eq!(model.sort, Sort::Memory);
        let memory: Vec<u32> = model.instances().iter().filter_map(|instance| instance.pid).collect();
        assert!(memory.windows(2).all(|pair| pair[0] >= pair[1]), "{memory:?}");
    }
}
