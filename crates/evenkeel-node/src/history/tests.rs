//! Histories in folders of their own: over restarts, damage, a full disk and wrong clocks.

use std::{collections::BTreeMap, fs, time::Instant};

use evenkeel_core::stack::Percent;

use super::*;

const BEGIN_MS: u64 = 1_800_000_000_000;

/// A keeper over a file of its own.
struct World {
    temp: tempfile::TempDir,
    shared: Shared,
    keeper: Keeper,
    /// Since the begin.
    now_ms: u64,
    sums: Sums,
}

impl World {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let shared = Shared::default();
        let keeper = Keeper::new(&temp.path().join("history.db"), origin(true), shared.clone());
        Self { temp, shared, keeper, now_ms: 0, sums: Sums::default() }
    }

    /// Another process under the same guard goes on.
    fn restart(&mut self) {
        self.restart_as(origin(false));
    }

    fn restart_as(&mut self, origin: Origin) {
        self.shared = Shared::default();
        // The former one lets go of the file first, as a process that ended has.
        let nowhere = self.temp.path().join("nowhere");
        self.keeper = Keeper::new(&nowhere, Origin::default(), Shared::default());
        self.keeper = Keeper::new(&self.file(), origin, self.shared.clone());
    }

    fn file(&self) -> PathBuf {
        self.temp.path().join("history.db")
    }

    /// So many requests more, of which some fail, and ten seconds later a sample.
    fn pass(&mut self, requests: u64, errors: u64) {
        self.count(requests, errors);
        self.now_ms += 10_000;
        self.sample();
    }

    fn count(&mut self, requests: u64, errors: u64) {
        self.sums.responses[1] += requests - errors;
        self.sums.responses[4] += errors;
        self.sums.latency[3] += requests;
    }

    fn sample(&mut self) {
        let standing = Standing { sums: self.sums.clone(), healthy: 2, wanted: 3, objective: true };
        self.keeper.take(&Sample {
            at: WallTime::from_millis(BEGIN_MS + self.now_ms),
            boot: Duration::from_millis(1_000_000 + self.now_ms),
            services: BTreeMap::from([("shop".to_owned(), standing)]),
        });
    }

    fn points(&self) -> Vec<Point> {
        read(&self.shared, self.now_ms)
    }

    fn requests(&self) -> u32 {
        self.points().iter().map(|point| point.requests).sum()
    }

    /// Requests of the objective's window, and errors.
    fn counted(&self) -> (u64, u64) {
        let history = History { samples: mpsc::sync_channel(1).0, shared: self.shared.clone() };
        let status = history.judge("shop", &objective(), WallTime::from_millis(BEGIN_MS + self.now_ms));
        let budget = status.availability.unwrap();
        (budget.counted, budget.bad)
    }
}

fn objective() -> Objective {
    Objective {
        availability: Percent::of_millionths(999_000),
        p99: None,
        window: evenkeel_core::stack::Duration::s(30 * 24 * 3600),
    }
}

fn origin(first: bool) -> Origin {
    Origin { guard: WallTime::from_millis(BEGIN_MS), first, base: BTreeMap::new(), boot: Duration::from_secs(1000) }
}

fn read(shared: &Shared, until_ms: u64) -> Vec<Point> {
    let state = shared.lock();
    let to = WallTime::from_millis(BEGIN_MS + until_ms);
    state.series.get("shop").map(|series| series.read(WallTime::default(), to, 10_000)).unwrap_or_default()
}

#[test]
fn points_are_what_was_counted_between_samples() {
    let mut world = World::new();
    world.pass(100, 1);
    world.pass(50, 0);
    let points = world.points();
    assert_eq!(points.len(), 2);
    assert_eq!((points[0].requests, points[0].errors, points[0].span_ms), (100, 1, 10_000));
    assert_eq!((points[1].requests, points[1].errors), (50, 0));
    assert!((points[1].requests_per_s() - 5.0).abs() < 1e-9);
    assert_eq!((points[1].healthy, points[1].wanted), (2, 3));
    let p99_ms = points[1].p99_ms.unwrap();
    assert!(1.0 < p99_ms && p99_ms <= 2.0, "{p99_ms}");
    assert_eq!(world.counted(), (150, 1));
    // The same ten seconds again are none.
    world.sample();
    assert_eq!(world.points().len(), 2);
}

#[test]
fn another_process_goes_on_where_the_former_one_was() {
    let mut world = World::new();
    for _ in 0..30 {
        world.pass(10, 0);
    }
    let before = world.points();
    world.restart();
    assert_eq!(world.points(), before);
    // While nobody looked, twenty requests came; none is lost and none is counted twice.
    world.count(20, 2);
    world.now_ms += 40_000;
    world.pass(10, 0);
    let points = world.points();
    let last = points.last().unwrap();
    assert_eq!((points.len(), last.requests, last.errors, last.span_ms), (31, 30, 2, 50_000));
    assert_eq!(world.counted(), (330, 2));
}

#[test]
fn under_another_guard_counters_begin_from_what_former_edges_had() {
    let mut world = World::new();
    world.pass(100, 0);
    let base = BTreeMap::from([("shop".to_owned(), world.sums.clone())]);
    let guard = WallTime::from_millis(BEGIN_MS + 15_000);
    world.restart_as(Origin { guard, base, ..origin(true) });
    world.now_ms += 10_000;
    world.pass(7, 0);
    assert_eq!((world.requests(), world.counted()), (107, (107, 0)));
    // Where the base lacks what the last edge had, totals are less than they were, which is no negative number.
    world.restart_as(Origin { guard: WallTime::from_millis(BEGIN_MS + 30_000), ..origin(true) });
    world.sums = Sums::default();
    world.pass(5, 0);
    assert_eq!((world.requests(), world.counted()), (112, (112, 0)));
}

#[test]
fn a_file_that_is_lost_costs_what_it_held_and_counts_nothing_twice() {
    let mut world = World::new();
    for _ in 0..10 {
        world.pass(10, 0);
    }
    fs::remove_file(world.file()).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(world.temp.path().join(format!("history.db{suffix}")));
    }
    world.restart();
    world.pass(10, 0);
    // What had been counted until the first sample is not known to be new.
    assert_eq!((world.requests(), world.counted()), (0, (0, 0)));
    world.pass(10, 1);
    assert_eq!((world.requests(), world.counted()), (10, (10, 1)));
}

#[test]
fn a_damaged_file_is_set_aside() {
    for damage in ["no database at all, only text that somebody wrote", ""] {
        let mut world = World::new();
        world.pass(10, 0);
        world.restart_as(origin(false));
        let mut bytes = fs::read(world.file()).unwrap();
        if damage.is_empty() {
            // Its head is whole, and everything after it is not.
            bytes.truncate(5000);
            bytes[100..].fill(0x5a);
        } else {
            bytes = damage.as_bytes().repeat(100);
        }
        let _ = fs::remove_file(world.temp.path().join("history.db-wal"));
        fs::write(world.file(), bytes).unwrap();
        world.restart_as(origin(true));
        world.pass(10, 0);
        world.pass(10, 0);
        let news = world.shared.lock().news.clone().expect("it is told");
        assert!(news.contains("begun anew") && news.contains("history.db.damaged"), "{news}");
        assert!(world.temp.path().join("history.db.damaged").exists());
        let points = world.points();
        assert!(points.len() == 2 && world.shared.lock().failure.is_none(), "{points:?}");
        world.restart();
        assert_eq!(world.points(), points);
    }
}

#[test]
fn what_a_full_disk_refuses_is_written_once_it_can_be() {
    let mut world = World::new();
    world.pass(10, 0);
    world.keeper.store().allow_pages(1);
    for _ in 0..200 {
        world.pass(10, 0);
    }
    let failure = world.shared.lock().failure.clone().expect("it is told");
    assert!(failure.contains("the disk is full"), "{failure}");
    assert_eq!(world.requests(), 2010);
    world.keeper.store().allow_pages(100_000);
    world.pass(10, 0);
    assert_eq!(world.shared.lock().failure, None);
    let points = world.points();
    world.restart();
    assert_eq!((world.points(), world.counted()), (points, (2020, 0)));
}

#[test]
fn what_is_kept_is_bounded_on_disk_as_in_memory() {
    let mut world = World::new();
    let day = 24 * 360;
    for _ in 0..day + 1800 {
        world.pass(1, 0);
    }
    let points = world.points();
    assert!((1560 + 720 - 130..=1560 + 720).contains(&points.len()), "{}", points.len());
    let size: u64 = fs::metadata(world.file()).unwrap().len();
    assert!(size < 600_000, "{size}");
    world.restart();
    assert_eq!(world.points(), points);
    // A service that is gone is forgotten once nothing of it would be shown.
    let gone = |world: &mut World, later_ms: u64| {
        world.now_ms += later_ms;
        world.keeper.take(&Sample {
            at: WallTime::from_millis(BEGIN_MS + world.now_ms),
            boot: Duration::from_millis(1_000_000 + world.now_ms),
            services: BTreeMap::new(),
        });
    };
    gone(&mut world, 60_000);
    gone(&mut world, 27 * 3_600_000);
    assert!(!world.points().is_empty(), "its objective's window is longer");
    gone(&mut world, 91 * 24 * 3_600_000);
    assert!(world.shared.lock().series.is_empty());
    world.restart();
    assert!(world.shared.lock().series.is_empty());
}

#[test]
fn a_thread_keeps_what_it_is_handed() {
    let temp = tempfile::tempdir().unwrap();
    let history = History::open(&temp.path().join("history.db"), origin(true)).unwrap();
    let mut sums = Sums::default();
    let until = Instant::now() + Duration::from_secs(20);
    let mut at_ms = BEGIN_MS;
    let points = loop {
        // A thread that is slow to begin leaves samples out, and the next one has what they had.
        at_ms += 10_000;
        sums.responses[1] += 5;
        history.record(Sample {
            at: WallTime::from_millis(at_ms),
            boot: Duration::from_millis(1_000_000 + at_ms - BEGIN_MS),
            services: BTreeMap::from([("shop".to_owned(), Standing { sums: sums.clone(), ..Standing::default() })]),
        });
        let points = history.read("shop", WallTime::default(), WallTime::from_millis(at_ms), 100);
        if !points.is_empty() {
            break points;
        }
        assert!(Instant::now() < until, "no point comes");
        thread::sleep(Duration::from_millis(5));
    };
    let last = points.last().unwrap();
    assert_eq!(
        u64::from(points.iter().map(|p| p.requests).sum::<u32>()),
        (last.at.as_millis() - BEGIN_MS) / 10_000 * 5
    );
    assert!(history.read("other", WallTime::default(), last.at, 100).is_empty());
    assert_eq!((history.problem(), history.news()), (None, None));
}
