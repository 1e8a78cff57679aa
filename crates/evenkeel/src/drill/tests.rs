//! Clients and ledger against a real server that misbehaves on purpose, and the freezer on real processes: a drill
//! whose verdict could not fail would prove nothing.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use evenkeel_core::{
    drill::{self, Brake, Fault, Observed, Plan, Report, Subject, Target, Verdict, Writes},
    stack::{Abort, DrillObjectives, Duration as StackDuration},
};
use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{
    crowd::Crowd,
    freezer::Frozen,
    ledger,
    load::{Load, Tally},
    processes::{Held, descendants, stat},
};

/// How the server treats every fifth write, or every fifth read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vice {
    None,
    /// Acknowledges and keeps nothing.
    Loses,
    /// Keeps it twice.
    Doubles,
    /// Keeps it and answers 500.
    KeepsAndFails,
    /// Keeps it twice and answers 500.
    DoublesAndFails,
    /// Breaks the connection of a read.
    Breaks,
    /// Ends the connection of a read as HTTP asks: after an answer that says so.
    Closes,
    /// Answers the question for a key with 500.
    ForgetsToAnswer,
    /// Takes every request and never answers.
    Hangs,
}

#[derive(Default)]
struct Shop {
    reads: u64,
    writes: u64,
    orders: BTreeMap<String, usize>,
}

/// An error that breaks the connection: nothing of an answer is sent.
#[derive(Debug, thiserror::Error)]
#[error("broken on purpose")]
struct Broken;

fn answer(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}

fn serve(
    vice: Vice,
    shop: &Mutex<Shop>,
    request: &Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Broken> {
    let mut shop = shop.lock().unwrap();
    if request.method() == "POST" {
        let key = request.headers()["Idempotency-Key"].to_str().unwrap().to_owned();
        shop.writes += 1;
        let fifth = shop.writes.is_multiple_of(5);
        let copies = match vice {
            Vice::Loses if fifth => 0,
            Vice::Doubles | Vice::DoublesAndFails if fifth => 2,
            _ => 1,
        };
        *shop.orders.entry(key).or_default() += copies;
        let fails = fifth && matches!(vice, Vice::KeepsAndFails | Vice::DoublesAndFails);
        return Ok(answer(if fails { 500 } else { 201 }, "{}"));
    }
    if let Some(key) = request.uri().query().and_then(|query| query.strip_prefix("key=")) {
        if vice == Vice::ForgetsToAnswer {
            return Ok(answer(500, "out of order"));
        }
        let copies = shop.orders.get(key).copied().unwrap_or_default();
        return Ok(answer(200, serde_json::to_vec(&vec![key; copies]).unwrap()));
    }
    shop.reads += 1;
    let fifth = shop.reads.is_multiple_of(5);
    if fifth && vice == Vice::Breaks {
        return Err(Broken);
    }
    let mut page = answer(200, "a page");
    if fifth && vice == Vice::Closes {
        page.headers_mut().insert("connection", "close".parse().unwrap());
    }
    Ok(page)
}

async fn start_server(vice: Vice) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shop = Arc::new(Mutex::new(Shop::default()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let shop = Arc::clone(&shop);
            let service = service_fn(move |request| {
                let answered = serve(vice, &shop, &request);
                async move {
                    if vice == Vice::Hangs {
                        std::future::pending::<()>().await;
                    }
                    answered
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// A plan for tests that carry nothing out.
pub(super) fn some_plan() -> Plan {
    plan_for(([127, 0, 0, 1], 1).into())
}

fn plan_for(address: SocketAddr) -> Plan {
    Plan {
        drill: "kill-instance".to_owned(),
        subject: Subject {
            service: "shop".to_owned(),
            target: Target::Instance,
            name: "shop/1".to_owned(),
            generation: 1,
            pid: Some(1),
        },
        fault: Fault::Kill,
        address,
        host: None,
        read: "/".to_owned(),
        writes: Some(Writes {
            post: "/orders".to_owned(),
            body: "{}".to_owned(),
            verify: "/orders?key={key}".to_owned(),
        }),
        objectives: DrillObjectives::default(),
        abort: Abort::default(),
        baseline_ms: 0,
        recover_within_ms: 30_000,
        settle_ms: 0,
        notes: Vec::new(),
        well_before: vec!["shop".to_owned()],
        liveness_after_ms: None,
        scheduled: false,
    }
}

/// Runs clients and ledger against a server with this vice, as a run without any harm does.
fn rehearse(vice: Vice) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let plan = plan_for(start_server(vice).await);
        let tally = Tally::new(Instant::now(), 10_000);
        let load = Load::start(&plan, "test", &tally);
        let enough = async {
            // 10 of 210 requests a second are writes: a fifth write has come after half a second.
            while tally.traffic().requests < 160 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), enough).await.unwrap();
        let written = load.finish().await;
        let ledger = ledger::verify(&plan, plan.writes.as_ref().unwrap(), written).await;
        let observed = Observed {
            detected_at_ms: Some(1),
            recovered_at_ms: Some(2),
            traffic: tally.traffic(),
            ledger: Some(ledger),
            ..Observed::default()
        };
        drill::judge(drill::find("kill-instance").unwrap(), &plan, &observed)
    })
}

#[test]
fn a_good_server_passes() {
    let report = rehearse(Vice::None);
    assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.reasons);
    assert!(report.requests >= 160 && report.acknowledged_writes >= 5, "{report:?}");
}

#[test]
fn clients_that_all_wait_for_ever_end_a_drill() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut plan = plan_for(start_server(Vice::Hangs).await);
        plan.objectives.worst = Some(StackDuration::ms(300));
        plan.abort = Abort { errors: 50, after: StackDuration::ms(500) };
        let tally = Tally::new(Instant::now(), plan.overdue_ms());
        let load = Load::start(&plan, "test", &tally);
        let mut brake = Brake::new(plan.abort, plan.overdue_ms());
        let (began, mut seen) = (Instant::now(), 0);
        let why = loop {
            let ticks = tally.ticks(seen);
            seen += ticks.len();
            if let Some(why) = ticks.iter().find_map(|tick| brake.on(tick)) {
                break why;
            }
            // A client gives up after twenty seconds, which is an error as any other.
            assert!(began.elapsed() < Duration::from_secs(15), "nobody notices");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(why.contains("10 at once waited for more than 300 ms"), "{why}");
        assert_eq!(tally.traffic().requests, 0, "none has ended");
        drop(load);
        tokio::task::yield_now().await;
        let later = tally.whole().series.len();
        while tally.whole().series.len() < later + 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(tally.whole().series.last().unwrap().overdue, 0, "they have gone");
    });
}

#[test]
fn a_lost_write_fails() {
    let report = rehearse(Vice::Loses);
    assert_eq!((report.verdict, report.errors, report.doubled_writes), (Verdict::Fail, 0, 0));
    assert_eq!(report.lost_writes, report.acknowledged_writes / 5);
}

#[test]
fn a_doubled_write_fails() {
    let report = rehearse(Vice::Doubles);
    assert_eq!((report.verdict, report.errors, report.lost_writes), (Verdict::Fail, 0, 0));
    assert_eq!(report.doubled_writes, report.acknowledged_writes / 5);
}

#[test]
fn a_write_without_acknowledgement_is_neither_lost_nor_excused() {
    let report = rehearse(Vice::KeepsAndFails);
    assert_eq!((report.verdict, report.lost_writes, report.doubled_writes), (Verdict::Fail, 0, 0));
    assert_eq!(report.errors, report.unacknowledged_writes);
    assert!(report.unacknowledged_writes > 0);
    assert_eq!(
        report.unacknowledged_there,
        Some(report.unacknowledged_writes),
        "they are there, though nobody was told"
    );
    assert_eq!(report.error_samples[0].seen, "status 500: {}");
}

#[test]
fn a_write_without_acknowledgement_must_not_be_there_twice() {
    let report = rehearse(Vice::DoublesAndFails);
    assert_eq!((report.doubled_writes, report.lost_writes), (report.unacknowledged_writes, 0));
    assert!(report.doubled_writes > 0);
}

#[test]
fn a_broken_connection_is_an_error_and_shown() {
    let report = rehearse(Vice::Breaks);
    assert_eq!(report.verdict, Verdict::Fail);
    assert!(report.errors > 0 && report.errors < report.requests, "{report:?}");
    let sample = &report.error_samples[0];
    assert_eq!((sample.request.as_str(), sample.count), ("GET /", report.errors));
    assert!(sample.seen.contains("the connection broke"), "{sample:?}");
}

#[test]
fn a_connection_may_end_with_an_answer_that_says_so() {
    let report = rehearse(Vice::Closes);
    assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.error_samples);
}

#[test]
fn a_key_that_cannot_be_looked_for_is_not_taken_for_well() {
    let report = rehearse(Vice::ForgetsToAnswer);
    assert_eq!(report.verdict, Verdict::Fail);
    assert_eq!(report.unverified_writes, report.acknowledged_writes);
}

#[test]
fn nobody_listening_is_an_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plan = plan_for(listener.local_addr().unwrap());
        drop(listener);
        let tally = Tally::new(Instant::now(), 10_000);
        let load = Load::start(&plan, "test", &tally);
        let some = async {
            while tally.traffic().requests < 10 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), some).await.unwrap();
        load.finish().await;
        let traffic = tally.traffic();
        assert_eq!(traffic.errors, traffic.requests);
        assert!(traffic.samples[0].seen.starts_with("cannot connect"), "{:?}", traffic.samples);
        assert!(traffic.samples.len() <= 10);
    });
}

/// A shell with two children, killed with them at the end.
struct Family {
    shell: Child,
    members: Vec<Held>,
}

impl Family {
    fn start() -> Self {
        let shell = Command::new("sh")
            .args(["-c", "sleep 300 & sleep 300 & wait"])
            .stdout(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let pid = shell.id();
        wait_for(|| descendants(pid).len() == 2);
        let members = descendants(pid).into_iter().map(|pid| Held::open(pid).unwrap()).collect();
        Self { shell, members }
    }

    fn states(&self) -> Vec<char> {
        let pids = std::iter::once(self.shell.id()).chain(self.members.iter().map(|held| held.pid));
        pids.map(|pid| stat(pid).unwrap().0).collect()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for member in &self.members {
            let _ = member.signal(rustix::process::Signal::KILL);
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn wait_for(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "it did not come about in 30 s");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_freeze_stops_all_descendants_and_is_taken_back() {
    let family = Family::start();
    let frozen = Frozen::freeze(vec![Held::open(family.shell.id()).unwrap()]).unwrap();
    assert_eq!(frozen.len(), 3);
    wait_for(|| family.states().iter().all(|state| *state == 'T'));
    drop(frozen);
    wait_for(|| family.states().iter().all(|state| *state != 'T'));
}

#[test]
fn what_is_frozen_by_turns_runs_in_between() {
    let family = Family::start();
    let roots = [family.shell.id()];
    let mut frozen = Frozen::freeze(vec![Held::open(roots[0]).unwrap()]).unwrap();
    for _ in 0..2 {
        wait_for(|| family.states().iter().all(|state| *state == 'T'));
        frozen.thaw();
        wait_for(|| family.states().iter().all(|state| *state != 'T'));
        frozen.again(&roots).unwrap();
    }
    wait_for(|| family.states().iter().all(|state| *state == 'T'));
    drop(frozen);
    wait_for(|| family.states().iter().all(|state| *state != 'T'));
}

#[test]
fn a_process_that_is_gone_cannot_be_hit() {
    let mut child = Command::new("true").spawn().unwrap();
    let held = Held::open(child.id()).unwrap();
    child.wait().unwrap();
    assert_eq!(held.signal(rustix::process::Signal::KILL), Ok(false));
    assert!(Held::open(child.id()).is_err());
}

/// A step of 200 requests a second for so long at a server with this vice.
fn step(vice: Vice, lasts: Duration) -> (drill::Step, Tally) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let plan = plan_for(start_server(vice).await);
        let tally = Tally::new(Instant::now(), 10_000);
        let step = Crowd::new(&plan, &tally).step(200, lasts, Duration::from_mins(1), 300).await;
        (step, tally)
    })
}

#[test]
fn a_crowd_asks_as_often_as_it_shall() {
    let (step, tally) = step(Vice::None, Duration::from_millis(500));
    assert_eq!((step.rate, step.requests, step.errors), (300, 100, 0), "users ask the rest of the rate");
    assert!(step.p99_ms >= step.late_ms, "time counts from when a request was due: {step:?}");
    assert_eq!(tally.traffic().requests, 0, "whether it counts is decided by what comes of the step");
    tally.take(&step);
    assert_eq!((tally.traffic().requests, tally.traffic().errors), (100, 0));
}

#[test]
fn a_crowd_leaves_at_the_first_error() {
    let (step, _) = step(Vice::Breaks, Duration::from_mins(5));
    assert!(step.errors > 0 && step.requests < 60_000, "{step:?}");
}
