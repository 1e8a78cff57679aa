//! Plans, watching and verdicts, on a stack of two services.

mod each;

use super::*;
use crate::{
    journal::Level,
    stack::{self, Stack},
    status::{EdgeStatus, Health, InstanceStatus, ListenerStatus, ProcessStatus, ServiceStatus, Status},
    time::WallTime,
};

const FILE: &str = r#"
[stack]
name = "shop"
[listeners.web]
bind = "0.0.0.0:8080"
[services.shop]
run = ["shop"]
replicas = 3
[services.api]
run = ["api"]
[services.legacy]
instances = ["10.0.0.5:80"]
[[routes]]
service = "shop"
[[routes]]
host = "*.example.com"
path = "/api"
service = "api"
[[routes]]
path = "/old"
service = "legacy"
[drills]
read = "/products"
dependency = "api"
write = { post = "/orders", body = "{}", verify = "/orders?key={key}" }
"#;

fn the_stack() -> Stack {
    stack::parse(FILE, "keel.toml").unwrap()
}

fn instance(service: &str, number: u32, since: u64) -> InstanceStatus {
    InstanceStatus {
        name: format!("{service}/{number}"),
        generation: 1,
        revision: Some(1),
        pid: Some(1000 + number),
        address: format!("127.0.0.1:{}", 20_000 + number),
        health: Health::Healthy,
        since: Some(WallTime::from_millis(since)),
        ..InstanceStatus::default()
    }
}

fn service(name: &str, instances: Vec<InstanceStatus>) -> ServiceStatus {
    let replicas = u32::try_from(instances.len()).unwrap();
    ServiceStatus { name: name.to_owned(), replicas, healthy: replicas, instances, ..ServiceStatus::default() }
}

fn the_status() -> Status {
    let shop = vec![instance("shop", 1, 300), instance("shop", 2, 100), instance("shop", 3, 200)];
    let mut legacy = instance("legacy", 1, 0);
    legacy.pid = None;
    Status {
        stack: "shop".to_owned(),
        version: "0".to_owned(),
        revision: 1,
        since: WallTime::from_millis(1),
        guard: ProcessStatus { pid: 1, restarts: 0 },
        node: ProcessStatus { pid: 2, restarts: 0 },
        edge: Some(EdgeStatus { pid: 3, restarts: 0, snapshot: 1, applied: 1, reported: None, connections: 0 }),
        listeners: vec![ListenerStatus {
            name: "web".to_owned(),
            address: "0.0.0.0:8080".to_owned(),
            protocol: crate::snapshot::Protocol::Http,
        }],
        services: vec![
            service("api", vec![instance("api", 1, 0)]),
            service("legacy", vec![legacy]),
            service("shop", shop),
        ],
        problems: Vec::new(),
        overrides: Vec::new(),
        proofs: Vec::new(),
        console: None,
    }
}

#[test]
fn what_nobody_would_start_again_is_not_harmed() {
    let mut status = the_status();
    for service in &mut status.services {
        service.hands_off = Some("shop is PAUSED".to_owned());
    }
    let refused = plan(find("kill-instance").unwrap(), &the_stack(), &status, &Wish::default()).unwrap_err();
    assert!(matches!(&refused, Refusal::NotWell { why, .. } if why == &["shop is PAUSED"]), "{refused}");
}

fn the_plan(name: &str) -> Plan {
    plan(find(name).unwrap(), &the_stack(), &the_status(), &Wish::default()).unwrap()
}

#[test]
fn a_plan_names_everything() {
    let plan = the_plan("hang-instance");
    assert_eq!(plan.subject.name, "shop/2", "the one that has run longest");
    assert_eq!(plan.address.to_string(), "127.0.0.1:8080");
    assert_eq!((plan.read.as_str(), plan.host.as_deref()), ("/products", None));
    assert_eq!(plan.writes.as_ref().unwrap().post, "/orders");
    insta::assert_snapshot!(plan.lines().join("\n"), @r"
    test visitors read GET /products and write POST /orders at 127.0.0.1:8080 through the edge
    after 1.0 s: SIGSTOP for at most 3.0 s to shop/2, process 1002
    wait until every instance of shop is healthy again, at most 33.0 s
    give up and take everything back if for 5.0 s 50 % of requests fail or wait longer than 10.0 s
    look for every write that was acknowledged: none may be missing, none there twice
    ");
}

#[test]
fn a_service_is_reached_by_its_own_route() {
    let wish = Wish { service: Some("api".to_owned()), ..Wish::default() };
    let plan = plan(find("kill-instance").unwrap(), &the_stack(), &the_status(), &wish).unwrap();
    assert_eq!((plan.read.as_str(), plan.host.as_deref()), ("/api", Some("drill.example.com")));
    assert_eq!(plan.writes, None, "/orders leads to the shop");
    assert!(plan.notes.iter().any(|note| note.contains("only one instance")), "{:?}", plan.notes);
}

#[test]
fn no_schedule_harms_the_only_instance() {
    let planned = |name: &str, service: &str, unattended| {
        let wish = Wish { service: Some(service.to_owned()), unattended, ..Wish::default() };
        plan(find(name).unwrap(), &the_stack(), &the_status(), &wish)
    };
    for name in ["kill-instance", "hang-instance", "crash-loop"] {
        let refused = planned(name, "api", true).unwrap_err();
        assert!(refused == Refusal::OnlyInstance("api/1".to_owned()), "{name}: {refused}");
        assert!(planned(name, "api", false).is_ok(), "{name} by hand");
        assert!(planned(name, "shop", true).is_ok(), "{name}: two others are left");
    }
    assert!(planned("kill-edge", "api", true).is_ok(), "no instance is harmed");
}

#[test]
fn a_request_is_overdue_by_the_objective_where_there_is_one() {
    let mut plan = the_plan("kill-instance");
    assert_eq!(plan.overdue_ms(), 10_000);
    plan.objectives.worst = Some(stack::Duration::ms(700));
    assert_eq!(plan.overdue_ms(), 700);
}

#[test]
fn a_plan_says_what_it_cannot_show() {
    let notes = |file: &str| {
        let stack = stack::parse(file, "keel.toml").unwrap();
        let wish = Wish { service: Some("shop".to_owned()), ..Wish::default() };
        plan(find("kill-instance").unwrap(), &stack, &the_status(), &wish).unwrap().notes.join("; ")
    };
    assert!(!notes(FILE).contains("ip-hash"));
    let hashed = FILE.replacen("[services.shop]\n", "[services.shop]\nbalance = \"ip-hash\"\n", 1);
    assert!(notes(&hashed).contains("ip-hash"), "{}", notes(&hashed));
}

#[test]
fn a_drill_is_refused_unless_all_is_well() {
    let drill = find("kill-instance").unwrap();
    let stack = the_stack();
    let refused = |status: &Status, service: &str| {
        let wish = Wish { service: Some(service.to_owned()), ..Wish::default() };
        plan(drill, &stack, status, &wish).unwrap_err().to_string()
    };
    let mut ill = the_status();
    ill.services[2].instances[1].health = Health::Silent;
    ill.services[2].instances[1].reason = "3 probes failed".to_owned();
    let text = refused(&ill, "shop");
    assert!(text.contains("shop/2 is silent: 3 probes failed"), "{text}");
    let mut missing = the_status();
    missing.services[2].instances.pop();
    assert!(refused(&missing, "shop").contains("2 of 3 instances"));
    assert!(refused(&the_status(), "legacy").contains("fixed instances"));
    assert!(refused(&the_status(), "shopp").contains("there is no service `shopp`"));
}

/// A status in which the harmed instance is so, and all others are well.
fn with(generation: u64, pid: Option<u32>, health: Health) -> Status {
    let mut status = the_status();
    let subject = &mut status.services[2].instances[1];
    (subject.generation, subject.pid, subject.health) = (generation, pid, health);
    status
}

fn names(stages: &[Stage]) -> Vec<&str> {
    stages.iter().map(|stage| stage.name.as_str()).collect()
}

#[test]
fn a_killed_instance_is_well_only_as_a_new_process() {
    let plan = the_plan("kill-instance");
    let mut watch = Watch::new(find("kill-instance").unwrap(), &plan);
    assert!(watch.on(&with(1, Some(1002), Health::Healthy), 1000).is_empty(), "not noticed yet");
    let detected = watch.on(&with(1, None, Health::Unknown), 1010);
    assert_eq!(names(&detected), ["detected"]);
    assert_eq!(detected[0].detail, "the process of shop/2 is gone");
    assert_eq!(names(&watch.on(&with(2, Some(2000), Health::Unknown), 1020)), ["replaced"]);
    assert_eq!(names(&watch.on(&with(2, Some(2000), Health::Healthy), 1500)), ["recovered"]);
    assert!(watch.on(&with(2, Some(2000), Health::Healthy), 1600).is_empty(), "each stage once");
    assert_eq!((watch.detected_at_ms(), watch.recovered_at_ms()), (Some(1010), Some(1500)));
}

#[test]
fn a_restart_between_two_samples_is_seen() {
    let plan = the_plan("kill-instance");
    let mut watch = Watch::new(find("kill-instance").unwrap(), &plan);
    let stages = watch.on(&with(2, Some(2000), Health::Healthy), 1010);
    assert_eq!(names(&stages), ["detected", "replaced", "recovered"]);
}

#[test]
fn a_frozen_instance_that_nobody_noticed_is_not_well() {
    let plan = the_plan("hang-instance");
    let mut watch = Watch::new(find("hang-instance").unwrap(), &plan);
    assert!(watch.on(&with(1, Some(1002), Health::Healthy), 1010).is_empty());
    watch.release();
    assert_eq!(names(&watch.on(&with(1, Some(1002), Health::Healthy), 4000)), ["recovered"]);
    assert_eq!(watch.detected_at_ms(), None);
}

#[test]
fn only_what_is_still_there_is_harmed() {
    let plan = the_plan("kill-instance");
    assert_eq!(still_holds(&plan, &the_status()), Ok(()));
    let changed = still_holds(&plan, &with(2, Some(2000), Health::Healthy)).unwrap_err();
    assert_eq!(changed, "shop/2 is not the process that it was");
    let ill = still_holds(&plan, &with(1, Some(1002), Health::Silent)).unwrap_err();
    assert!(ill.contains("shop/2 is silent"), "{ill}");
}

fn good() -> Observed {
    Observed {
        started: WallTime::from_millis(5),
        fault_at_ms: 1000,
        detected_at_ms: Some(1200),
        released_at_ms: Some(3000),
        recovered_at_ms: Some(3500),
        aborted: None,
        traffic: Traffic {
            requests: 100,
            worst_ms: 300,
            worst_before_ms: 4,
            series: five_times_as_many(),
            ..Traffic::default()
        },
        ledger: Some(Ledger { acknowledged: 20, ..Ledger::default() }),
        capacity: Some(bears(400)),
        budget: None,
        stages: [
            vec![
                Stage::new(SHIFTED, 1100, "the node process runs with other clocks"),
                Stage::new(stages::TRIED, 1100, "requests have reached it"),
                Stage::new(stages::ASKED, 1100, "the edge counts requests to it"),
            ],
            loops(300),
        ]
        .concat(),
        ..Observed::default()
    }
}

/// Three deaths, after the last of which the next start takes so long.
fn loops(last_ms: u64) -> Vec<Stage> {
    let stages = [
        (stages::KILLED, 1000),
        (stages::START, 1010),
        (stages::KILLED, 1020),
        (stages::START, 1220),
        (stages::KILLED, 1230),
        (stages::START, 1230 + last_ms),
    ];
    stages.into_iter().map(|(name, at_ms)| Stage::new(name, at_ms, "")).collect()
}

/// 210 requests a second for one second, and then 1050.
fn five_times_as_many() -> Vec<Tick> {
    let tick = |at_ms| Tick { at_ms, requests: if at_ms < 1000 { 21 } else { 105 }, ..Tick::default() };
    (0..30).map(|tenth| tick(tenth * TICK_MS)).collect()
}

/// So many requests a second with one instance gone, of which users ask 200.
fn bears(rate_with_one_gone: u64) -> Capacity {
    let steps = [600, rate_with_one_gone];
    let [all, fewer] = steps.map(|rate| {
        let mut climb = Climb::new(250, false, 0, rate);
        climb.on(Step { rate, requests: 1, ..Step::default() });
        climb
    });
    Capacity::of(&all, Some(&fewer), Some("shop/2".to_owned()), 200.0)
}

fn verdict(name: &str, observed: &Observed) -> Report {
    judge(find(name).unwrap(), &the_plan(name), observed)
}

#[test]
fn a_good_run_passes_with_its_reasons() {
    for drill in ALL {
        let report = verdict(drill.name(), &good());
        assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.reasons);
        assert_eq!((report.detection_ms, report.recovery_ms), (Some(200), Some(2500)));
    }
    let reasons: Vec<String> =
        verdict("hang-instance", &good()).reasons.into_iter().map(|reason| reason.text).collect();
    insta::assert_snapshot!(reasons.join("\n"), @r"
    0 of 100 requests failed, the slowest took 300 ms
    every instance of shop was healthy again after 2.5 s, once the drill had thawed it
    the frozen instance was noticed while it was frozen
    each of 20 acknowledged writes is there exactly once
    shop/2 was chosen because it has run longest
    the process is stopped by SIGSTOP, which keel also sees from the operating system; a program that hangs while it goes on running shows only by the answers that are missing (by what its traffic shows, or by `liveness`), and that may take longer
    ");
}

#[test]
fn each_condition_alone_fails_a_drill() {
    type Spoil = fn(&mut Observed);
    let spoils: [(Spoil, &str); 9] = [
        (|o| o.aborted = Some("half of them failed".to_owned()), "it was given up: half of them failed"),
        (|o| o.traffic.errors = 1, "1 of 100 requests failed"),
        (|o| o.traffic.requests = 0, "no test visitor sent a request"),
        (|o| o.recovered_at_ms = None, "was healthy again within"),
        (|o| o.recovered_at_ms = Some(400_000), "only after 399.0 s"),
        (|o| o.ledger.as_mut().unwrap().lost.push("k1".to_owned()), "1 acknowledged write is lost, the first is k1"),
        (|o| o.ledger.as_mut().unwrap().doubled.push("k2".to_owned()), "1 write is there more than once"),
        (|o| o.ledger.as_mut().unwrap().unverified.push("k3".to_owned()), "1 write could not be looked for"),
        (|o| o.ledger.as_mut().unwrap().acknowledged = 0, "no write was acknowledged"),
    ];
    for (spoil, expected) in spoils {
        for drill in ALL {
            let mut observed = good();
            spoil(&mut observed);
            let report = verdict(drill.name(), &observed);
            assert_eq!(report.verdict, Verdict::Fail, "{expected}");
            assert!(report.reasons[0].text.contains(expected), "{:?}", report.reasons);
        }
    }
}

#[test]
fn objectives_decide() {
    let judged = |objectives: &str, spoil: fn(&mut Observed)| {
        let file = FILE.replace("[drills]", &format!("[drills]\nobjectives = {{ {objectives} }}"));
        let stack = stack::parse(&file, "keel.toml").unwrap();
        let drill = find("kill-instance").unwrap();
        let plan = plan(drill, &stack, &the_status(), &Wish::default()).unwrap();
        let mut observed = good();
        spoil(&mut observed);
        let report = judge(drill, &plan, &observed);
        (report.verdict, report.reasons[0].text.clone())
    };
    let failed = |objectives, text: &str| assert_eq!(judged(objectives, |_| ()), (Verdict::Fail, text.to_owned()));
    failed("worst = \"299ms\"", "the slowest request took 300 ms, not within 299 ms");
    failed("detection = \"100ms\"", "detection took 200 ms, not within 100 ms");
    failed("recovery = \"2s\"", "every instance of shop was healthy again only after 2.5 s, not within 2.0 s");
    assert_eq!(judged("p99 = \"10ms\"", |o| o.traffic.p99_ms = 11).0, Verdict::Fail);
    assert_eq!(judged("detection = \"1s\"", |o| o.detected_at_ms = None).0, Verdict::Fail);
    assert_eq!(judged("errors = 2, worst = \"300ms\"", |o| o.traffic.errors = 2).0, Verdict::Pass);
    assert_eq!(judged("errors = 2", |o| o.traffic.errors = 3).0, Verdict::Fail);
}

#[test]
fn an_unnoticed_freeze_fails_even_if_no_client_saw_it() {
    let mut observed = good();
    observed.detected_at_ms = None;
    assert_eq!(verdict("hang-instance", &observed).verdict, Verdict::Fail);
    observed.detected_at_ms = Some(3100);
    let report = verdict("hang-instance", &observed);
    assert_eq!(report.verdict, Verdict::Fail, "noticed only after it was over");
    assert!(report.reasons[0].text.contains("not noticed in 2.0 s"), "{:?}", report.reasons);
}

#[test]
fn unacknowledged_writes_are_not_lost() {
    let mut observed = good();
    observed.ledger.as_mut().unwrap().unacknowledged = 3;
    let report = verdict("kill-instance", &observed);
    assert_eq!((report.verdict, report.unacknowledged_writes, report.lost_writes), (Verdict::Pass, 3, 0));
}

#[test]
fn times_are_rounded_to_the_nearest_tenth() {
    for (ms, words) in
        [(0, "0 ms"), (999, "999 ms"), (1000, "1.0 s"), (1049, "1.0 s"), (1090, "1.1 s"), (1950, "2.0 s")]
    {
        assert_eq!(in_words(ms), words);
    }
}

#[test]
fn the_json_has_the_promised_fields() {
    let json = serde_json::to_value(verdict("kill-instance", &good())).unwrap();
    for key in ["drill", "detection_ms", "recovery_ms", "requests", "errors", "worst_ms", "lost_writes"] {
        assert!(json.get(key).is_some(), "{key}");
    }
    assert_eq!(json["verdict"], "pass");
    assert_eq!(json["doubled_writes"], 0);
    assert!(json["stages"].is_array() && json["reasons"].is_array());
}

#[test]
fn the_journal_claims_nothing_about_writes_that_were_not_made() {
    let mut observed = good();
    assert!(ended(&verdict("kill-instance", &observed)).message.ends_with("0 writes lost, 0 doubled"));
    observed.ledger = None;
    assert!(ended(&verdict("kill-instance", &observed)).message.ends_with("no writes were made"));
}

fn line<'r>(report: &'r Report, what: &str) -> &'r Conclusion {
    report.conditions.iter().find(|line| line.what == what).unwrap_or_else(|| panic!("{what}: {:?}", report.conditions))
}

#[test]
fn limits_stand_beside_what_was_measured() {
    let report = verdict("kill-instance", &good());
    let told = |what: &str| {
        let line = line(&report, what);
        (line.measured.as_str(), line.allowed.as_str(), line.held)
    };
    assert_eq!(told("failed requests"), ("0 of 100", "0", Some(true)));
    assert_eq!(told("until every instance of shop was healthy again"), ("2.5 s", "30.0 s", Some(true)));
    assert_eq!(told("longest wait of a request"), ("300 ms", "no limit set", None));
    assert_eq!(told("until keel noticed"), ("200 ms", "no limit set", None));
    assert_eq!(told("confirmed writes that are missing"), ("0 of 20", "0", Some(true)));
    let mut observed = good();
    observed.ledger = None;
    let untested = verdict("kill-instance", &observed);
    let untested = line(&untested, "confirmed writes that are missing");
    assert_eq!((untested.measured.as_str(), untested.held), ("not tested", None));
    let decided = report.conditions.iter().filter(|line| line.held == Some(false)).count();
    assert_eq!(decided, report.failed_conditions);
}

#[test]
fn what_the_drill_waited_is_no_recovery_time() {
    let mut observed = good();
    (observed.recovered_at_ms, observed.ledger) = (Some(5100), None);
    observed.stages.push(Stage::new(STARTED, 4200, "nobody else did"));
    let report = verdict("reboot", &observed);
    assert_eq!((report.started_by_drill_ms, report.recovery_ms), (Some(3200), Some(900)));
    assert!(report.warnings[0].contains("nobody but this drill") && report.warnings[0].contains("3.2 s"), "{report:?}");
    assert!(
        line(&report, "until every instance of every service was healthy again")
            .text
            .contains("900 ms, counted from when the drill")
    );
    let note = ended(&report).message;
    assert!(note.contains("nobody but the drill started it again, 3.2 s after the harm"), "{note}");
    assert_eq!(verdict("reboot", &good()).warnings, [""; 0]);
}

#[test]
fn what_a_drill_notices_first_is_no_detection_of_keels() {
    let file = FILE.replace("[drills]", "[drills]\nobjectives = { detection = \"1ms\" }");
    let stack = stack::parse(&file, "keel.toml").unwrap();
    for (name, expected) in [("reboot", Verdict::Pass), ("kill-guard", Verdict::Pass), ("kill-edge", Verdict::Fail)] {
        let drill = find(name).unwrap();
        let plan = plan(drill, &stack, &the_status(), &Wish::default()).unwrap();
        let report = judge(drill, &plan, &good());
        assert_eq!((report.verdict, report.noticed_by_drill), (expected, expected == Verdict::Pass), "{name}");
        let held = line(&report, "until keel noticed").held;
        assert_eq!(held, (expected == Verdict::Fail).then_some(false), "{name}");
    }
}

#[test]
fn a_failed_drill_is_an_error_in_the_journal() {
    let mut observed = good();
    let passed = ended(&verdict("kill-instance", &observed));
    observed.traffic.errors = 1;
    let failed = ended(&verdict("kill-instance", &observed));
    assert_eq!((passed.level, failed.level), (Level::Info, Level::Error));
    assert!(failed.message.starts_with("kill-instance: failed"), "{}", failed.message);
}
