//! The three processes of `keel` have separate fates.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    load::Load,
    rig::{self, PATIENCE, Rig, all_healthy, instances},
};

#[test]
fn a_killed_node_process_is_noticed_by_no_client() {
    let rig = Rig::demo();
    let before = rig.status();
    let load = Load::start(rig.port, "/api/products", 16);
    load.wait_for(200);

    rig::signal(before.node.pid, Signal::KILL);
    let (after, took) =
        rig.wait_until("status is back", |status| status.node.pid != before.node.pid && all_healthy(status));
    eprintln!("status was back after {took:?}");
    load.wait_for(1000);
    load.finish().assert_clean();

    let pids = |status| instances(status).into_iter().map(|instance| instance.pid).collect::<Vec<_>>();
    assert_eq!(pids(&before), pids(&after), "instances keep their processes");
    assert_eq!(before.edge.as_ref().unwrap().pid, after.edge.as_ref().unwrap().pid, "the edge goes on");
    assert_eq!(after.node.restarts, 1);
    let logs = rig.keel(&["logs", "shop", "--lines", "50"]);
    assert!(logs.status.success() && !logs.stdout.is_empty(), "logs are back: {logs:?}");

    // Supervision goes on where it was.
    let victim = instances(&after)[1].clone();
    rig::signal(victim.pid.unwrap(), Signal::KILL);
    rig.wait_until("the new node process restarts an instance", |status| {
        all_healthy(status) && instances(status)[1].pid != victim.pid
    });
}

#[test]
fn a_frozen_node_process_is_said_to_be_silent() {
    let rig = Rig::demo();
    let node = rig.status().node.pid;
    let load = Load::start(rig.port, "/api/products", 4);
    load.wait_for(100);
    rig::signal(node, Signal::STOP);
    for command in [&["status"][..], &["why", "shop"], &["events"]] {
        let start = Instant::now();
        let silent = rig.keel(command);
        assert!(start.elapsed() < Duration::from_secs(20), "it does not wait long: {:?}", start.elapsed());
        if silent.status.success() {
            // The guard may have replaced it meanwhile.
            assert_ne!(command, ["status"], "{silent:?}");
            continue;
        }
        let error = String::from_utf8_lossy(&silent.stderr);
        assert!(error.contains("node process") && error.contains("service itself goes on"), "{error}");
        assert!(command != ["status"] || error.contains(&format!("({node}) does not answer")), "{error}");
    }
    load.wait_for(100);
    rig::signal(node, Signal::CONT);
    rig.wait_until("it answers again, or another one does", all_healthy);
    load.finish().assert_clean();
}

#[test]
fn a_killed_edge_refuses_nobody() {
    let rig = Rig::demo();
    let before = rig.status();
    let edge = before.edge.clone().unwrap().pid;
    assert!(ask(rig.port).is_ok());

    rig::signal(edge, Signal::KILL);
    let killed = Instant::now();
    // From the first moment on connections are accepted, and answered once the new edge is there.
    let mut answered = Vec::new();
    while killed.elapsed() < Duration::from_secs(2) {
        let start = Instant::now();
        match ask(rig.port) {
            Ok(()) => answered.push(start.elapsed()),
            // A connection that the dead edge had already accepted is reset, none is refused or told of an error.
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof),
                "{error}"
            ),
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(!answered.is_empty(), "the new edge answers");
    eprintln!("the first request after the kill that was answered took {:?}", answered[0]);
    let (after, _) = rig.wait_until("the new edge is known", |status| {
        status.edge.as_ref().is_some_and(|new| new.pid != edge) && all_healthy(status)
    });
    assert_eq!(after.edge.unwrap().restarts, 1);
    let pids = |status| instances(status).into_iter().map(|instance| instance.pid).collect::<Vec<_>>();
    assert_eq!(pids(&before), pids(&rig.status()), "instances keep their processes");
}

#[test]
fn a_frozen_edge_is_killed_and_started_again() {
    let rig = Rig::demo();
    let before = rig.status();
    let edge = before.edge.clone().unwrap().pid;
    rig::freeze(edge);
    // Who connects now is accepted by the socket that the guard holds, and answered by the next edge.
    ask(rig.port).unwrap();
    let (after, _) = rig.wait_until("another edge serves", |status| {
        status.edge.as_ref().is_some_and(|new| new.pid != edge) && all_healthy(status)
    });
    let pids = |status| instances(status).into_iter().map(|instance| instance.pid).collect::<Vec<_>>();
    assert_eq!(pids(&before), pids(&after), "instances keep their processes");
    let why = String::from_utf8(rig.keel(&["why", "edge"]).stdout).unwrap();
    assert!(why.contains("nothing was heard from the edge"), "{why}");
}

#[test]
fn a_frozen_node_process_is_killed_and_started_again() {
    let rig = Rig::demo();
    let before = rig.status();
    let load = Load::start(rig.port, "/api/products", 4);
    load.wait_for(50);
    rig::freeze(before.node.pid);
    let start = Instant::now();
    while rig::alive(before.node.pid) {
        assert!(start.elapsed() < PATIENCE, "the guard leaves a frozen node process alone");
        thread::sleep(Duration::from_millis(50));
    }
    let (after, _) = rig.wait_until("another node process answers", all_healthy);
    assert_ne!(before.node.pid, after.node.pid);
    load.finish().assert_clean();
    let pids = |status| instances(status).into_iter().map(|instance| instance.pid).collect::<Vec<_>>();
    assert_eq!(pids(&before), pids(&after), "instances keep their processes");
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let mut rig = Rig::demo();
    let status = rig.status();
    let mut pids: Vec<u32> = instances(&status).iter().filter_map(|instance| instance.pid).collect();
    pids.extend([status.guard.pid, status.node.pid, status.edge.unwrap().pid]);
    assert!(pids.iter().all(|pid| rig::alive(*pid)));
    assert_eq!(rig.stop(), Some(0));
    assert!(pids.iter().all(|pid| !rig::alive(*pid)), "a process outlives the stack");
    let refused = TcpStream::connect(("127.0.0.1", rig.port)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_killed_guard_of_a_demo_is_started_again_and_nobody_is_refused() {
    let rig = Rig::demo();
    let before = rig.status();
    ask(rig.port).unwrap();
    rig::signal(before.guard.pid, Signal::KILL);
    let killed = Instant::now();
    while killed.elapsed() < Duration::from_secs(1) {
        if let Err(error) = ask(rig.port) {
            // What the dead edge had accepted is reset; the sockets themselves are kept by the demo.
            assert_ne!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        }
    }
    let (after, _) = rig.wait_until("it is back", |status| status.guard.pid != before.guard.pid && all_healthy(status));
    let pids = |status| instances(status).into_iter().map(|instance| instance.pid).collect::<Vec<_>>();
    assert_eq!(pids(&before), pids(&after), "instances went on and were adopted");
    assert!(rig.log().contains("was killed by SIGKILL and started again"), "{}", rig.log());
}

#[test]
fn a_killed_guard_that_was_to_end_with_another_process_leaves_nothing_behind() {
    let database = tempfile::tempdir().unwrap();
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\nrun = [\"{}\", \"__shop\"]\nreplicas = 2\n\
         env = {{ SHOP_DATABASE = \"{}\" }}\ncheck = {{ http = \"/readyz\" }}\n",
        env!("CARGO_BIN_EXE_keel"),
        database.path().join("shop.db").display()
    ));
    let (status, _) = rig.wait_until("all is well", |status| all_healthy(status) && !status.services.is_empty());
    let mut pids: Vec<u32> = instances(&status).iter().filter_map(|instance| instance.pid).collect();
    pids.extend([status.node.pid, status.edge.unwrap().pid]);
    rig::signal(status.guard.pid, Signal::KILL);
    let start = Instant::now();
    while pids.iter().any(|pid| rig::alive(*pid)) {
        assert!(start.elapsed() < PATIENCE, "a process outlives the guard");
        thread::sleep(Duration::from_millis(20));
    }
}

/// One request on a connection of its own.
fn ask(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.as_str() {
        "" => Err(ErrorKind::UnexpectedEof.into()),
        answer if answer.starts_with("HTTP/1.1 200") => Ok(()),
        _ => Err(std::io::Error::other(answer)),
    }
}
