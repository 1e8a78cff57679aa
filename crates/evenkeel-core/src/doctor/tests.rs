//! Each finding: what brings it about, and that nothing else does.

use super::*;
use crate::{
    stack,
    status::{EdgeStatus, Health, InstanceStatus, Phase, ProcessStatus, ServiceStatus, Status},
    time::WallTime,
};

/// A stack against which nothing can be said.
const WELL: &str = r#"
[stack]
name = "t"
[listeners.web]
bind = "127.0.0.1:8080"
limits = { connections = 1000 }
[services.shop]
run = ["shop"]
replicas = 2
memory = "64MiB"
check = { http = "/healthz" }
liveness = { tcp = true }
"#;

fn stack_of(text: &str) -> stack::Stack {
    stack::parse(text, "keel.toml").unwrap()
}

fn status() -> Status {
    let instance = |n: u32| InstanceStatus {
        name: format!("shop/{n}"),
        generation: 1,
        pid: Some(4000 + n),
        health: Health::Healthy,
        phase: Some(Phase::Running),
        ..InstanceStatus::default()
    };
    Status {
        stack: "t".to_owned(),
        version: "0.1.0".to_owned(),
        revision: 1,
        since: WallTime::from_millis(0),
        guard: ProcessStatus { pid: 1, restarts: 0 },
        node: ProcessStatus { pid: 2, restarts: 0 },
        edge: Some(EdgeStatus { pid: 3, restarts: 0, snapshot: 1, applied: 1, reported: None, connections: 0 }),
        listeners: Vec::new(),
        services: vec![ServiceStatus {
            name: "shop".to_owned(),
            replicas: 2,
            healthy: 2,
            p99_ms: Some(12.0),
            requests: 1000,
            errors: 1,
            instances: vec![instance(1), instance(2)],
            ..ServiceStatus::default()
        }],
        problems: Vec::new(),
        overrides: Vec::new(),
        proofs: Vec::new(),
        console: None,
    }
}

/// A machine, a directory and a stack that are well.
fn well() -> Observed {
    let machine = Machine {
        open_files: Some(100_000),
        somaxconn: Some(4096),
        clock_synchronised: Some(true),
        memory_bounds: Some(Capability::Yes),
        cgroup: "the memory controller".to_owned(),
        unprivileged_port_start: Some(1024),
        low_ports: Some(Capability::No),
        memory_bytes: Some((8 << 30, 4 << 30)),
        swap_bytes: Some((1 << 30, 1 << 30)),
        overcommit: Some(0),
        unreaped: Some((0, "systemd".to_owned())),
    };
    let state = StateDir {
        path: "/var/lib/keel/t".to_owned(),
        mode: 0o711,
        room_bytes: Some((100 << 30, 50 << 30)),
        inodes: Some((1000, 900)),
        version: Some("1\n".to_owned()),
        known_version: 1,
        runtime: Some(RuntimeDir { path: "/run/keel/x".to_owned(), owner: Some(0), mode: 0o700 }),
        ..StateDir::default()
    };
    let own = |name, pid| OwnProcess {
        name,
        pid,
        replaced: false,
        open_files: Some((20_000, 20)),
        oom_score_adj: Some(-900),
    };
    let instances = vec![Instance { name: "shop/1".to_owned(), oom_score_adj: Some(0), resident_bytes: None }];
    let running = Running {
        status: Some(status()),
        silent: None,
        our_version: "0.1.0".to_owned(),
        processes: vec![own("guard", 1), own("node", 2), own("edge", 3)],
        instances,
        tokens: None,
    };
    Observed {
        machine,
        state: Some(state),
        stack: Some(stack_of(WELL)),
        running: Some(running),
        units: Vec::new(),
        orphans: Vec::new(),
    }
}

fn kinds(observed: &Observed) -> Vec<&'static str> {
    examine(observed).into_iter().map(|finding| finding.kind).collect()
}

/// What is found after a change, and that each finding has evidence and a way out.
fn after(change: impl FnOnce(&mut Observed)) -> Vec<&'static str> {
    let mut observed = well();
    change(&mut observed);
    for finding in examine(&observed) {
        assert!(!finding.evidence.is_empty() && !finding.fix.is_empty(), "{finding:?}");
    }
    kinds(&observed)
}

#[test]
fn a_page_answers_with_its_status_and_that_is_no_error() {
    let with = |page: bool| {
        let mut status = status();
        let service = &mut status.services[0];
        (service.page, service.requests, service.errors) = (page, 104, 104);
        let mut observed = well();
        observed.running.as_mut().unwrap().status = Some(status);
        examine(&observed).iter().any(|finding| finding.kind == "errors")
    };
    assert!(with(false) && !with(true));
}

#[test]
fn nothing_is_found_where_all_is_well_or_nothing_is_known() {
    assert_eq!(examine(&well()), []);
    assert_eq!(examine(&Observed::default()), []);
}

#[test]
fn the_machine() {
    assert_eq!(after(|o| o.machine.clock_synchronised = Some(false)), ["clock"]);
    assert_eq!(after(|o| o.machine.memory_bounds = Some(Capability::No)), ["memory-bound"]);
    assert_eq!(after(|o| o.machine.somaxconn = Some(128)), ["somaxconn"]);
    assert_eq!(after(|o| o.machine.overcommit = Some(2)), ["overcommit"]);
    assert_eq!(after(|o| o.machine.unreaped = Some((3, "node".to_owned()))), ["zombies"]);
    let short = |o: &mut Observed| {
        o.machine.memory_bytes = Some((8 << 30, 100 << 20));
        o.machine.swap_bytes = Some((0, 0));
    };
    assert_eq!(after(short), ["memory"]);
    let orphan = Orphan { pid: 77, what: "process 78, `shop`".to_owned() };
    assert_eq!(after(|o| o.orphans.push(orphan)), ["orphans"]);
}

#[test]
fn a_low_port_needs_a_right_before_the_start_only() {
    let low = |o: &mut Observed| o.stack = Some(stack_of(&WELL.replace(":8080", ":80")));
    assert_eq!(after(low), Vec::<&str>::new(), "what runs has it");
    let before = |o: &mut Observed| {
        low(o);
        o.running = None;
    };
    assert_eq!(after(before), ["port"]);
    assert_eq!(after(|o| (before(o), o.machine.low_ports = Some(Capability::Yes)).1), Vec::<&str>::new());
}

#[test]
fn open_files_are_those_of_the_edge_where_it_runs() {
    let few = |o: &mut Observed| o.running.as_mut().unwrap().processes[2].open_files = Some((1024, 20));
    assert_eq!(after(few), ["open-files"]);
    let not_yet = |o: &mut Observed| {
        o.running = None;
        o.machine.open_files = Some(1024);
    };
    assert_eq!(after(not_yet), ["open-files"]);
}

#[test]
fn a_unit_says_what_to_set() {
    let setting = UnitSetting {
        key: "KillMode".to_owned(),
        is: "control-group (default)".to_owned(),
        should: "process".to_owned(),
        why: "systemd kills every instance".to_owned(),
    };
    let mut observed = well();
    observed.units = vec![Unit { path: "/etc/systemd/system/shop.service".to_owned(), settings: vec![setting] }];
    let found = examine(&observed);
    assert_eq!((found[0].severity, found[0].kind), (Severity::Error, "unit"));
    assert!(found[0].fix[0].contains("`KillMode=process` in /etc/systemd/system/shop.service"), "{found:?}");
}

#[test]
fn the_state_directory() {
    fn with(change: impl FnOnce(&mut StateDir)) -> Vec<&'static str> {
        after(|o| change(o.state.as_mut().unwrap()))
    }
    assert_eq!(with(|s| s.owner = 1000), ["state-owner"]);
    assert_eq!(with(|s| s.version = Some("2\n".to_owned())), ["state-version"]);
    assert_eq!(with(|s| s.version = Some("garbage".to_owned())), ["state-version"]);
    assert_eq!(with(|s| s.mode = 0o755), ["state-mode"]);
    assert_eq!(with(|s| s.in_memory = Some("tmpfs".to_owned())), ["state-in-memory"]);
    assert_eq!(with(|s| s.room_bytes = Some((10 << 30, 10 << 20))), ["disk-full"]);
    assert_eq!(with(|s| s.room_bytes = Some((100 << 20, 50 << 20))), Vec::<&str>::new(), "small, and half empty");
    assert_eq!(with(|s| s.inodes = Some((1000, 3))), ["inodes"]);
    assert_eq!(with(|s| s.inodes = Some((0, 0))), Vec::<&str>::new(), "not counted there");
    assert_eq!(with(|s| s.set_aside = vec!["journal.db.damaged".to_owned()]), ["set-aside"]);
    let release = ReleaseFolder { service: "shop".to_owned(), count: 5, size_bytes: 60 << 30 };
    assert_eq!(with(|s| s.releases = vec![release]), ["releases"]);
    assert_eq!(with(|s| s.secrets = Some((2, false))), ["secrets-key"]);
    assert_eq!(with(|s| s.secrets = Some((2, true))), Vec::<&str>::new());
    assert_eq!(with(|s| s.runtime.as_mut().unwrap().mode = 0o777), ["runtime-dir"]);
    assert_eq!(with(|s| s.runtime.as_mut().unwrap().owner = Some(5)), ["runtime-dir"]);
    assert_eq!(with(|s| s.runtime.as_mut().unwrap().owner = None), Vec::<&str>::new(), "made at the start");
}

#[test]
fn no_check_of_answers_is_advised_where_nobody_asks() {
    let tcp = "limits = { connections = 1000 }\nprotocol = \"tcp\"\nservice = \"shop\"";
    let text = WELL.replace("limits = { connections = 1000 }", tcp).replace("check = { http = \"/healthz\" }", "");
    assert_eq!(after(|o| o.stack = Some(stack_of(&text))), Vec::<&str>::new(), "that it takes connections is checked");
    let mut hangs = well();
    hangs.stack = Some(stack_of(&text.replace("liveness = { tcp = true }", "")));
    let found = examine(&hangs);
    assert!(found.iter().all(|finding| finding.fix.iter().all(|fix| !fix.contains("http"))), "{found:?}");
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn the_stack_file() {
    let with = |from: &str, to: &str| {
        assert!(WELL.contains(from));
        let text = WELL.replace(from, to);
        after(|o| o.stack = Some(stack_of(&text)))
    };
    assert_eq!(with("replicas = 2", "replicas = 1"), ["single-instance"]);
    assert_eq!(with("check = { http = \"/healthz\" }", ""), ["no-check"]);
    assert_eq!(with("liveness = { tcp = true }", ""), ["no-liveness"]);
    assert_eq!(with("replicas = 2", "replicas = 2\nhold = { max = \"0ms\" }"), ["hold-off"]);
    assert_eq!(with("replicas = 2", "replicas = 2\nretries = { max = 0 }"), ["retries-off"]);
    assert_eq!(with("replicas = 2", "replicas = 2\nlimits = { silent_after = \"0ms\" }"), ["silence-off"]);
    let late = "replicas = 2\nlimits = { silent_after = \"5s\", response_timeout = \"5s\" }";
    assert_eq!(with("replicas = 2", late), ["late-silence"]);
    assert_eq!(with("\"/healthz\" }", "\"/healthz\", interval = \"1m\" }"), ["slow-check"]);
    assert_eq!(with("[listeners.web]", "[console]\nbind = \"0.0.0.0:9400\"\n[listeners.web]"), ["console-public"]);
    let slow = "replicas = 2\nlimits = { response_timeout = \"20ms\", silent_after = \"5ms\" }";
    assert_eq!(with("replicas = 2", slow), ["slow-answers"], "12 ms are close to 20 ms");
}

fn running(change: impl FnOnce(&mut Running)) -> Vec<&'static str> {
    after(|o| change(o.running.as_mut().unwrap()))
}

fn told(change: impl FnOnce(&mut Status)) -> Vec<&'static str> {
    running(|r| change(r.status.as_mut().unwrap()))
}

#[test]
fn what_runs() {
    assert_eq!(running(|r| (r.status, r.silent) = (None, Some("timed out".to_owned()))), ["node-silent"]);
    assert_eq!(running(|r| r.processes[0].replaced = true), ["old-binary"]);
    assert_eq!(running(|r| r.our_version = "0.2.0".to_owned()), ["version"]);
    assert_eq!(running(|r| r.processes[0].oom_score_adj = Some(500)), ["oom-order"]);
    assert_eq!(told(|s| s.node.restarts = 2), ["node-restarts"]);
    assert_eq!(told(|s| s.edge.as_mut().unwrap().restarts = 1), ["edge-restarts"]);
    assert_eq!(told(|s| s.overrides = vec!["shop: replicas = 5".to_owned()]), ["overrides"]);
    assert_eq!(told(|s| s.problems = vec!["stack is paused".to_owned()]), ["problem"]);
    assert_eq!(told(|s| s.services[0].errors = 100), ["errors"]);
    let loops = |s: &mut Status| {
        let instance = &mut s.services[0].instances[0];
        (instance.phase, instance.restarts, instance.health) = (Some(Phase::Waiting), 4, Health::Unknown);
        instance.last_exit = Some("exit code 1".to_owned());
    };
    assert_eq!(told(loops), ["restart-loop"]);
    let wrong_path = |s: &mut Status| {
        let instance = &mut s.services[0].instances[0];
        (instance.health, instance.reason) = (Health::Unhealthy, "3 probes in a row failed: status 404".to_owned());
    };
    assert_eq!(told(wrong_path), ["check-path"]);
    assert_eq!(told(|s| s.services[0].healthy = 0), ["none-healthy"]);
}

#[test]
fn the_worst_comes_first_and_is_said_once() {
    let mut observed = well();
    observed.machine.somaxconn = Some(128);
    observed.state.as_mut().unwrap().mode = 0o777;
    let status = observed.running.as_mut().unwrap().status.as_mut().unwrap();
    let instance = &mut status.services[0].instances[1];
    instance.phase = Some(Phase::GaveUp);
    instance.last_exit = Some("exit code 3".to_owned());
    instance.last_output = (1..=9).map(|line| format!("line {line}")).collect();
    status.problems = vec!["shop/2 gave up (exit code 3): `keel why shop/2`".to_owned()];
    let found = examine(&observed);
    assert_eq!(found.iter().map(|finding| finding.kind).collect::<Vec<_>>(), ["gave-up", "state-mode", "somaxconn"]);
    assert!(found[0].what.contains("exit code 3") && found[0].what.contains("line 9"), "{}", found[0].what);
    assert_eq!(found[0].evidence.len(), 5, "the last lines are enough");
}
