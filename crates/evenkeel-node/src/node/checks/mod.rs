//! Exec checks: commands that say whether an instance is well.
//!
//! The edge is unprivileged and starts nothing, so the commands run on this side: as the instance itself runs, each in a
//! process of the guard's that dies with its time. How each run ended goes to the edge, once, which counts it as it
//! counts probes of its own; what follows is decided there. Which instances there are to check, the last snapshot says.
//!
//! Nothing of this is kept. Without a node process the edge stays with its last verdicts; the next one kills what runs
//! still and begins anew. An edge that is started anew is told once more how the last runs ended.

mod process;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use evenkeel_core::{
    link::Checked,
    snapshot::Duty,
    stack::{Service, digest_of_command},
    status::{ExitStatus, InstanceId},
    time::Moment,
};
use tokio::sync::mpsc;

use self::process::Run;
use super::{Node, found::Found};

/// Commands under way at once, or as many as there are services that have some, where those are more, up to a bound.
const AT_ONCE: usize = 16;
const AT_MOST: usize = 64;

/// Time between two runs until one has passed: whoever starts should not wait for a long interval.
const QUICK: Duration = Duration::from_millis(250);

/// So many runs at most may come so quickly: a command costs more than a probe, and what does not pass by then is not
/// about to.
const QUICK_RUNS: u32 = 120;

/// How long it may take after a command's end until its output is read.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Whose check, and whether it is the liveness check.
type Subject = (InstanceId, bool);

/// All of them.
#[derive(Debug)]
pub(super) struct Checks {
    of: BTreeMap<Subject, Watched>,
    /// By the key of their process.
    runs: BTreeMap<String, Run>,
    /// Counts runs of this process.
    serial: u64,
    /// The snapshot that `of` was made from.
    snapshot: u64,
    /// The edge that was told.
    edge: Option<u32>,
    found: mpsc::Sender<Found>,
}

/// One check of one instance.
#[derive(Debug)]
struct Watched {
    command: Vec<String>,
    digest: u64,
    interval: Duration,
    timeout: Duration,
    /// The first snapshot that names it: an edge that serves a former one does not know it.
    since: u64,
    next: Moment,
    /// The key of the process that runs for it: what any other one says counts no more.
    running: Option<String>,
    /// How many have ended, and whether one of them passed.
    ended: u32,
    passed: bool,
    /// How the last run ended.
    last: Option<Result<(), String>>,
    /// The edge does not know yet.
    unsaid: bool,
}

impl Checks {
    pub(super) fn new(found: mpsc::Sender<Found>) -> Self {
        Self { of: BTreeMap::new(), runs: BTreeMap::new(), serial: 0, snapshot: 0, edge: None, found }
    }
}

/// A service's commands: whether it is for liveness, command, interval, timeout.
fn commands(service: &Service) -> impl Iterator<Item = (bool, &Vec<String>, Duration, Duration)> {
    let ms = |duration: evenkeel_core::stack::Duration| Duration::from_millis(duration.as_ms());
    let check = service
        .check
        .iter()
        .filter_map(move |check| Some((false, check.exec.as_ref()?, ms(check.interval), ms(check.timeout))));
    check.chain(
        service
            .liveness
            .iter()
            .filter_map(move |check| Some((true, check.exec.as_ref()?, ms(check.interval), ms(check.timeout)))),
    )
}

impl Node {
    /// Starts what is due, and tells the edge what it does not know.
    pub(super) fn run_checks(&mut self) {
        let now = self.clock.now();
        if self.checks.snapshot != self.snapshot.version {
            self.checks.snapshot = self.snapshot.version;
            self.follow_checks(now);
        }
        if self.checks.of.is_empty() && self.checks.runs.is_empty() {
            return;
        }
        for key in self.checks.overdue(now) {
            self.checks.conclude(&key, now);
        }
        if self.shutdown.is_none() {
            for subject in self.checks.due(now) {
                self.start_check(&subject, now);
            }
        }
        self.say_checked();
    }

    /// When something is due next.
    pub(super) fn checks_deadline(&self) -> Option<Moment> {
        let shares = self.checks.shares();
        let may_run = |subject: &Subject| self.shutdown.is_none() && shares.has_room(service_of(&subject.0));
        let waiting = self.checks.of.iter().filter(|(subject, watched)| watched.running.is_none() && may_run(subject));
        let waiting = waiting.map(|(_, watched)| watched.next);
        waiting.chain(self.checks.runs.values().filter_map(Run::deadline)).min()
    }

    /// Who is to be checked, by the last snapshot. A run for somebody else is killed.
    fn follow_checks(&mut self, now: Moment) {
        let mut former = std::mem::take(&mut self.checks.of);
        for (name, service) in &self.revision.stack.services {
            let commands: Vec<_> = commands(service).collect();
            if commands.is_empty() {
                continue;
            }
            let published = self.snapshot.services.iter().find(|published| published.name == *name);
            let serving = published.iter().flat_map(|service| &service.instances);
            for id in serving.filter(|instance| instance.duty == Duty::Serve).map(|instance| &instance.id) {
                for &(liveness, command, interval, timeout) in &commands {
                    let (subject, digest) = ((id.clone(), liveness), digest_of_command(command));
                    let known = former.remove(&subject).filter(|watched| watched.digest == digest);
                    let watched = known.unwrap_or_else(|| Watched {
                        command: command.clone(),
                        digest,
                        interval,
                        timeout,
                        since: self.snapshot.version,
                        next: now,
                        running: None,
                        ended: 0,
                        passed: false,
                        last: None,
                        unsaid: false,
                    });
                    self.checks.of.insert(subject, Watched { interval, timeout, ..watched });
                }
            }
        }
        let strangers =
            self.checks.runs.iter().filter(|(key, run)| !self.checks.is_wanted(key, run) && run.end.is_none());
        let strangers: Vec<String> = strangers.map(|(key, _)| key.clone()).collect();
        for key in strangers {
            self.give(&evenkeel_core::guard::Order::Kill { key });
        }
    }

    /// One that could not be started.
    fn check_failed_to_start(&mut self, subject: &Subject, why: String, now: Moment) {
        if let Some(watched) = self.checks.of.get_mut(subject) {
            watched.next = now + watched.interval;
            (watched.running, watched.unsaid, watched.last) = (None, true, Some(Err(why)));
        }
    }

    /// Tells the edge what it does not know, once it serves a snapshot in which it finds who is meant.
    fn say_checked(&mut self) {
        let Some(link) = self.edge.link() else { return };
        let (pid, applied) = (self.edge.pid, self.edge.applied);
        if applied == 0 {
            return;
        }
        let another = self.checks.edge != pid;
        self.checks.edge = pid;
        for ((instance, liveness), watched) in &mut self.checks.of {
            watched.unsaid |= another && watched.last.is_some();
            if !watched.unsaid || applied < watched.since {
                continue;
            }
            let Some(last) = &watched.last else { continue };
            let (instance, liveness, digest) = (instance.clone(), *liveness, watched.digest);
            let cause = last.as_ref().err().cloned();
            watched.unsaid = !link.tell(Checked { instance, liveness, digest, cause });
        }
    }
}

impl Watched {
    /// From the start of a run to the start of the next one.
    fn pace(&self) -> Duration {
        if self.passed || self.ended >= QUICK_RUNS { self.interval } else { self.interval.min(QUICK) }
    }
}

impl Checks {
    /// A run is over: what it means is to go to the edge.
    fn conclude(&mut self, key: &str, now: Moment) {
        let Some(run) = self.runs.remove(key) else { return };
        let watched = self.of.get_mut(&run.subject).filter(|watched| watched.running.as_deref() == Some(key));
        let Some(watched) = watched else { return };
        let result = run.result(watched.timeout);
        watched.next = (run.began + watched.pace()).max(now);
        watched.ended = watched.ended.saturating_add(1);
        watched.passed |= result.is_ok();
        watched.running = None;
        watched.last = Some(result);
        watched.unsaid = true;
    }

    /// What is to be started now: of the services with the fewest commands under way first, and there who waits longest.
    fn due(&self, now: Moment) -> Vec<Subject> {
        let mut shares = self.shares();
        let mut waiting: BTreeMap<&str, BTreeSet<(Moment, &Subject)>> = BTreeMap::new();
        for (subject, watched) in &self.of {
            if watched.running.is_none() && watched.next <= now {
                waiting.entry(service_of(&subject.0)).or_default().insert((watched.next, subject));
            }
        }
        let mut due = Vec::new();
        loop {
            let firsts = waiting.iter().filter_map(|(service, subjects)| Some((*service, *subjects.first()?)));
            let able = firsts.filter(|(service, _)| shares.has_room(service));
            let Some((service, first)) = able.min_by_key(|(service, (next, _))| (shares.running(service), *next))
            else {
                return due;
            };
            due.push(first.1.clone());
            waiting.entry(service).or_default().remove(&first);
            shares.start(service);
        }
    }

    fn shares(&self) -> Shares<'_> {
        let mut running: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, _) in self.of.keys() {
            running.entry(service_of(id)).or_default();
        }
        let services = running.len();
        for run in self.runs.values() {
            *running.entry(service_of(&run.subject.0)).or_default() += 1;
        }
        Shares::new(running, services)
    }

    fn is_wanted(&self, key: &str, run: &Run) -> bool {
        self.of.get(&run.subject).is_some_and(|watched| watched.running.as_deref() == Some(key))
    }

    /// Runs whose end is known and whose output nobody waits for any longer.
    fn overdue(&self, now: Moment) -> Vec<String> {
        let over = self.runs.iter().filter(|(_, run)| run.deadline().is_some_and(|at| at <= now));
        over.map(|(key, _)| key.clone()).collect()
    }
}

/// How many commands of which service are under way. A service whose commands hang must not take the room of the others:
/// for each that has none under way, room for one is left.
#[derive(Debug)]
struct Shares<'a> {
    running: BTreeMap<&'a str, usize>,
    room: usize,
    /// Services without a command under way.
    idle: usize,
}

impl<'a> Shares<'a> {
    /// So many of each are under way; `services` of them have commands to be run.
    fn new(running: BTreeMap<&'a str, usize>, services: usize) -> Self {
        let most = AT_ONCE.max(services.min(AT_MOST));
        let room = most.saturating_sub(running.values().sum());
        let idle = running.values().filter(|&&count| count == 0).count();
        Self { running, room, idle }
    }

    fn running(&self, service: &str) -> usize {
        self.running.get(service).copied().unwrap_or(0)
    }

    fn has_room(&self, service: &str) -> bool {
        self.room > if self.running(service) == 0 { 0 } else { self.idle }
    }

    fn start(&mut self, service: &'a str) {
        let count = self.running.entry(service).or_default();
        self.idle -= usize::from(*count == 0 && self.idle > 0);
        *count += 1;
        self.room = self.room.saturating_sub(1);
    }
}

/// `shop` of `shop/1`.
fn service_of(id: &InstanceId) -> &str {
    id.name.split_once('/').map_or(id.name.as_str(), |(service, _)| service)
}

/// In words, with what was printed last.
fn in_words(status: ExitStatus, printed: &str) -> String {
    if printed.is_empty() { status.to_string() } else { format!("{status}: {printed}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(running: Option<&str>) -> Watched {
        Watched {
            command: vec!["check".to_owned()],
            digest: 1,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(1),
            since: 1,
            next: Moment::ORIGIN,
            running: running.map(str::to_owned),
            ended: 0,
            passed: false,
            last: None,
            unsaid: false,
        }
    }

    fn checks(running: Option<&str>) -> (Checks, Subject) {
        let subject = (InstanceId { name: "app/1".to_owned(), generation: 1 }, false);
        let mut checks = Checks::new(mpsc::channel(1).0);
        checks.of.insert(subject.clone(), watched(running));
        (checks, subject)
    }

    #[test]
    fn a_run_that_was_killed_says_nothing_about_who_is_checked_anew() {
        // As after a command that changed and changed back, or a drain that was resumed at once.
        let (mut checks, subject) = checks(Some("second"));
        for (key, status) in [("first", ExitStatus::Signal(9)), ("second", ExitStatus::Code(0))] {
            let end = Some((Ok(status), Moment::ORIGIN));
            checks.runs.insert(key.to_owned(), Run::ended(subject.clone(), end));
        }
        assert!(
            !checks.is_wanted("first", &checks.runs["first"]) && checks.is_wanted("second", &checks.runs["second"])
        );
        checks.conclude("first", Moment::ORIGIN);
        assert_eq!((&checks.of[&subject].last, checks.of[&subject].running.as_deref()), (&None, Some("second")));
        checks.conclude("second", Moment::ORIGIN);
        assert_eq!((&checks.of[&subject].last, &checks.of[&subject].running), (&Some(Ok(())), &None));
    }

    /// Checks of so many instances of each service, all of them due.
    fn due_of(services: &[(&str, u32)]) -> Checks {
        let mut checks = Checks::new(mpsc::channel(1).0);
        for (service, count) in services {
            for number in 1..=*count {
                let id = InstanceId { name: format!("{service}/{number}"), generation: 1 };
                checks.of.insert((id, false), watched(None));
            }
        }
        checks
    }

    /// Starts what is due, which then hangs; how many are of this service.
    fn start(checks: &mut Checks, service: &str) -> usize {
        let due = checks.due(Moment::ORIGIN);
        let of_it = due.iter().filter(|subject| service_of(&subject.0) == service).count();
        for subject in due {
            let key = format!("{} {}", subject.0, subject.1);
            checks.of.entry(subject.clone()).and_modify(|watched| watched.running = Some(key.clone()));
            checks.runs.insert(key, Run::ended(subject, None));
        }
        of_it
    }

    #[test]
    fn a_service_whose_checks_hang_delays_no_other_one() {
        let mut checks = due_of(&[("hangs", 100), ("other", 1), ("third", 2)]);
        for (id, _) in checks.of.keys().cloned().collect::<Vec<_>>() {
            let later = service_of(&id) != "hangs";
            checks.of.entry((id, false)).and_modify(|watched| {
                watched.next = Moment::from_millis(u64::from(later));
            });
        }
        assert_eq!(start(&mut checks, "hangs"), AT_ONCE - 2, "room is left for two");
        assert_eq!(start(&mut checks, "hangs"), 0);
        for watched in checks.of.values_mut() {
            watched.next = Moment::ORIGIN;
        }
        let shares = checks.shares();
        assert!(shares.has_room("other") && shares.has_room("third") && !shares.has_room("hangs"));
        assert_eq!(start(&mut checks, "other"), 1);
        assert_eq!(checks.runs.len(), AT_ONCE);
        assert_eq!(start(&mut checks, "third"), 0, "it has one under way, like the other");
    }

    #[test]
    fn the_room_is_shared_evenly_and_a_service_alone_has_all_of_it() {
        let mut alone = due_of(&[("app", 100)]);
        assert_eq!(start(&mut alone, "app"), AT_ONCE);
        let mut both = due_of(&[("app", 100), ("other", 100)]);
        assert_eq!(start(&mut both, "app"), AT_ONCE / 2);
        let names: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
        let many: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 5)).collect();
        let mut many = due_of(&many);
        assert_eq!(start(&mut many, "s7"), 1);
        assert_eq!(many.runs.len(), 40, "each has one");
    }

    #[test]
    fn what_never_passes_is_checked_quickly_for_a_while_only() {
        let (mut checks, subject) = checks(None);
        let now = Moment::from_millis(1_000);
        let mut fails = |times: u32| {
            for _ in 0..times {
                checks.of.entry(subject.clone()).and_modify(|watched| watched.running = Some("key".to_owned()));
                let end = Some((Ok(ExitStatus::Code(1)), now));
                checks.runs.insert("key".to_owned(), Run::ended(subject.clone(), end));
                checks.conclude("key", now);
            }
            checks.of[&subject].next
        };
        assert_eq!(fails(1), Moment::ORIGIN.max(now));
        assert_eq!(fails(QUICK_RUNS), Moment::from_millis(30_000));
    }
}
