//! The same under a service manager: a test plays systemd from the text of the units that are shipped.

use super::*;
use crate::systemd::{Systemd, Unit, shipped};

/// Starts the stack as the unit says.
fn by_systemd(unit: Unit, socket: bool) -> (Systemd, Rig, Status) {
    stack_by_systemd(COUNTING, unit, socket)
}

fn stack_by_systemd(stack: &str, unit: Unit, socket: bool) -> (Systemd, Rig, Status) {
    let (folder, port) = prepare(stack);
    let socket = socket.then(|| Unit::shipped("keel@.socket"));
    let systemd = Systemd::new(unit, socket.as_ref(), folder.path(), &[port]);
    let main = systemd.start();
    let rig = Rig::around(folder, port, main);
    let (status, _) = rig.wait_until("everything is healthy", all_healthy);
    (systemd, rig, status)
}

/// Kills the main process as a crash would, with everything of keel, and does what follows by the unit.
fn crash(systemd: &Systemd, rig: &mut Rig, status: &Status) -> Status {
    let runtime_dir = runtime_dir(rig);
    // A guard that has the time would start them again before it is killed itself.
    rig::freeze(status.guard.pid);
    for pid in [status.node.pid, status.edge.as_ref().unwrap().pid] {
        rig::signal(pid, Signal::KILL);
    }
    let main = std::mem::replace(rig.child(), Command::new("true").spawn().unwrap());
    let mut placeholder = std::mem::replace(rig.child(), systemd.killed(main, &runtime_dir));
    placeholder.wait().unwrap();
    rig.wait_until("it is back", all_healthy).0
}

/// Under load, twice: instances keep their processes, no connection is refused, every line is in the logs.
fn survives_crashes(socket: bool) {
    let (systemd, mut rig, before) = by_systemd(Unit::shipped("keel@.service"), socket);
    let stored = if socket { 0 } else { 2 };
    systemd.wait_until("it keeps its own sockets", |told| told.store.len() == stored);
    let hammer = Hammer::start(rig.port);
    hammer.wait_for(50);
    for round in 1..=2 {
        let now = rig.status();
        let after = crash(&systemd, &mut rig, &now);
        assert_eq!(pids(&before), pids(&after), "round {round}: instances keep their processes");
        assert_ne!(now.guard.pid, after.guard.pid);
        hammer.wait_for(50);
    }
    let failures = hammer.finish();
    let worse: Vec<&String> = failures.iter().filter(|failure| !failure.starts_with("reset")).collect();
    assert!(worse.is_empty(), "more than connections that had been accepted: {worse:#?}");
    assert!(failures.len() <= 8, "each crash may cost each client the one request in flight: {failures:#?}");
    assert_eq!(systemd.told().store.len(), stored, "nothing is stored twice");
    for instance in ["app/1", "app/2"] {
        let so_far = ticks(&rig, instance).last().copied().unwrap();
        assert_lines_go_on(&rig, instance, so_far + 20, 2);
    }
    for pid in pids(&before) {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let environ = String::from_utf8_lossy(&environ);
        assert!(!environ.contains("LISTEN_") && !environ.contains("NOTIFY_SOCKET"), "{environ}");
    }
}

#[test]
fn with_a_socket_unit_a_crash_refuses_nobody() {
    survives_crashes(true);
}

#[test]
fn with_the_descriptor_store_a_crash_refuses_nobody() {
    survives_crashes(false);
}

#[test]
fn secrets_in_the_environment_cost_no_socket() {
    let stack = format!("{COUNTING}[secrets.planted]\nenv = \"PLANTED\"\n");
    let unit = Unit::shipped("keel@.service").with("Service", "Environment", "PLANTED=in-clear");
    let (systemd, mut rig, before) = stack_by_systemd(&stack, unit, true);
    let environ = fs::read(format!("/proc/{}/environ", before.guard.pid)).unwrap();
    assert!(!String::from_utf8_lossy(&environ).contains("in-clear"), "it became itself again without the variable");
    let after = crash(&systemd, &mut rig, &before);
    assert_eq!(pids(&before), pids(&after));
    ask(rig.port).unwrap();
    assert_eq!(systemd.told().store.len(), 0, "it listens at the unit's own socket");
}

#[test]
fn another_kill_mode_kills_what_should_be_adopted() {
    let unit = Unit::shipped("keel@.service").with("Service", "KillMode", "control-group");
    let (systemd, mut rig, before) = by_systemd(unit, false);
    let after = crash(&systemd, &mut rig, &before);
    assert!(pids(&after).iter().all(|pid| !pids(&before).contains(pid)), "the actor does what the unit says");
}

#[test]
fn without_its_runtime_folder_nothing_is_adopted() {
    let unit = Unit::shipped("keel@.service").with("Service", "RuntimeDirectoryPreserve", "no");
    let (systemd, mut rig, before) = by_systemd(unit, false);
    let after = crash(&systemd, &mut rig, &before);
    assert!(pids(&after).iter().all(|pid| !pids(&before).contains(pid)));
    let start = Instant::now();
    while pids(&before).iter().any(|pid| rig::alive(*pid)) {
        assert!(start.elapsed() < PATIENCE, "what nobody can adopt lives on");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_orderly_stop_ends_everything_and_leaves_the_sockets_to_systemd() {
    let unit = Unit::shipped("keel@.service").with("Service", "WatchdogSec", "500ms");
    let (systemd, mut rig, before) = by_systemd(unit, true);
    let alive = systemd.told().alive;
    systemd.wait_until("it is alive", |told| told.alive >= alive + 4);
    systemd.wait_until("how things stand", |told| told.status.contains("2 instances run"));
    let start = Instant::now();
    rig::signal(before.guard.pid, Signal::TERM);
    assert_eq!(rig.ended(), 0);
    assert!(start.elapsed() < systemd.patience_at_the_end());
    systemd.wait_until("it stops, and how long that may take", |told| told.stopping && told.extended);
    assert!(pids(&before).iter().all(|pid| !rig::alive(*pid)));
    // Who connects now waits for the next start.
    let port = rig.port;
    let waiting = thread::spawn(move || ask(port));
    thread::sleep(Duration::from_millis(100));
    *rig.child() = systemd.start();
    assert_eq!(waiting.join().unwrap(), Ok(()));
}

#[test]
fn a_frozen_guard_is_found_by_the_watchdog_and_costs_no_instance() {
    let unit = Unit::shipped("keel@.service").with("Service", "WatchdogSec", "1s");
    let (systemd, mut rig, before) = by_systemd(unit, true);
    rig::freeze(before.guard.pid);
    systemd.wait_for_silence();
    let after = crash(&systemd, &mut rig, &before);
    assert_eq!(pids(&before), pids(&after));
    ask(rig.port).unwrap();
}

#[test]
fn a_listener_that_is_gone_leaves_the_store() {
    let (systemd, rig, _) = by_systemd(Unit::shipped("keel@.service"), false);
    systemd.wait_until("it keeps its sockets", |told| told.store.len() == 2);
    let file = rig.folder.path().join("keel.toml");
    let other = rig::free_port();
    let text = fs::read_to_string(&file).unwrap();
    let moved = text.replace(&format!("127.0.0.1:{}", rig.port), &format!("127.0.0.1:{other}"));
    fs::write(&file, &moved).unwrap();
    assert!(rig.keel(&["apply", file.to_str().unwrap()]).status.success());
    let at = |told: &crate::systemd::Told, port: u16| {
        let bound = |socket| std::net::TcpListener::from(std::os::fd::OwnedFd::try_clone(socket).unwrap()).local_addr();
        told.store.iter().filter(|(_, socket)| bound(socket).unwrap().port() == port).count()
    };
    systemd.wait_until("the new ones are kept in place of the old", |told| {
        told.store.len() == 2 && at(told, other) == 2 && at(told, rig.port) == 0
    });
    ask(other).unwrap();
}

#[test]
fn systemd_accepts_the_units() {
    let version = Command::new("systemd-analyze").arg("--version").output();
    assert!(version.is_ok_and(|version| version.status.success()), "install systemd (Debian's package `systemd`)");
    let folder = tempfile::tempdir().unwrap();
    let binary = env!("CARGO_BIN_EXE_keel");
    for name in ["keel@.service", "keel@.socket"] {
        let text = fs::read_to_string(shipped(name)).unwrap().replace("/usr/local/bin/keel", binary);
        fs::write(folder.path().join(name.replace('@', "@shop")), text).unwrap();
    }
    let units = ["keel@shop.service", "keel@shop.socket"].map(|name| folder.path().join(name));
    let output = Command::new("systemd-analyze").args(["--man=no", "verify"]).args(units).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("keel@")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}
