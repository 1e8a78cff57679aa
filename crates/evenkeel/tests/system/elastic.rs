//! As many instances as the load asks for: under load more, later fewer, from nothing at the first request, and as
//! many as an operator says where one does. No client sees any of it.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use evenkeel_core::status::Status;
use rustix::process::Signal;

use crate::{
    instance,
    load::Load,
    rig::{self, Rig, all_healthy, instances},
    slow_app,
};

/// Four requests of a fifth of a second each are for one instance.
fn stack(min: u32, down_after: &str) -> String {
    targeted(min, down_after, "concurrency = 4")
}

fn targeted(min: u32, down_after: &str, target: &str) -> String {
    format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\nrun = {run}\n\
         replicas = {{ min = {min}, max = 4, target = {{ {target} }}, up_after = \"1s\", \
         down_after = \"{down_after}\" }}\ncheck = {{ http = \"/\", interval = \"200ms\" }}\n",
        run = slow_app::run()
    )
}

fn wanted(status: &Status) -> u32 {
    status.services[0].replicas
}

#[test]
fn a_load_gets_the_instances_it_needs_and_they_go_again() {
    let rig = Rig::up(&stack(1, "4s"));
    rig.wait_until("the first instance is healthy", |status| wanted(status) == 1 && all_healthy(status));
    let load = Load::start(rig.port, "/slow", 16);
    let (most, _) = rig.wait_until("there are four", |status| instances(status).len() == 4 && all_healthy(status));
    let scaling = most.services[0].scaling.clone().unwrap();
    assert_eq!((scaling.min, scaling.max, scaling.pinned), (1, 4, false));
    assert!(scaling.reason.contains("requests in flight"), "{scaling:?}");

    // A node process that is started again goes on with what it had wanted.
    rig::signal(most.node.pid, Signal::KILL);
    let (after, _) = rig.wait_until("it is back", |status| status.node.pid != most.node.pid && all_healthy(status));
    assert_eq!(wanted(&after), 4);
    assert_eq!(
        instances(&after).iter().map(|instance| instance.pid).collect::<Vec<_>>(),
        instances(&most).iter().map(|instance| instance.pid).collect::<Vec<_>>()
    );
    load.wait_for(50);
    load.finish().assert_clean();

    let few = Load::start(rig.port, "/", 1);
    rig.wait_until("one is left", |status| wanted(status) == 1 && instances(status).len() == 1 && all_healthy(status));
    few.wait_for(50);
    few.finish().assert_clean();
    let events = String::from_utf8(rig.keel(&["events", "--subject", "app", "--json"]).stdout).unwrap();
    for kind in ["scaled-up", "scaled-down"] {
        assert!(events.contains(&format!("\"{kind}\"")), "{kind}: {events}");
    }
    let why = String::from_utf8(rig.keel(&["why", "app"]).stdout).unwrap();
    assert!(why.contains("1 instance is wanted instead of 2") && why.contains("down_after"), "{why}");
}

#[test]
fn the_first_request_waits_for_a_start_and_nobody_asks_for_nothing() {
    let rig = Rig::up(&stack(0, "3s"));
    rig.wait_until("the edge serves", |status| status.edge.as_ref().is_some_and(|edge| edge.applied > 0));
    assert_eq!((wanted(&rig.status()), instances(&rig.status()).len()), (0, 0));
    let first =
        Command::new("curl").args(["-sS", "--fail", &format!("http://127.0.0.1:{}/", rig.port)]).output().unwrap();
    assert!(first.status.success(), "the first request is answered: {first:?}");
    assert_eq!(String::from_utf8_lossy(&first.stdout), "app/1");
    let why = String::from_utf8(rig.keel(&["why", "app"]).stdout).unwrap();
    assert!(why.contains("somebody asks and there is no instance"), "{why}");
    rig.wait_until("nobody asked, so nothing is left", |status| wanted(status) == 0 && instances(status).is_empty());
    let again = Load::start(rig.port, "/", 4);
    again.wait_for(20);
    again.finish().assert_clean();
}

#[test]
fn an_operator_fixes_the_number_and_lets_it_go_again() {
    let rig = Rig::up(&stack(1, "3s"));
    rig.wait_until("the first instance is healthy", all_healthy);
    let scaled = rig.keel(&["scale", "app", "3"]);
    assert!(scaled.status.success(), "{scaled:?}");
    let (status, _) = rig.wait_until("there are three", |status| instances(status).len() == 3 && all_healthy(status));
    assert!(status.services[0].scaling.as_ref().is_some_and(|scaling| scaling.pinned), "{status:#?}");
    // Longer than it would take to go down, if anybody decided that.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        assert_eq!(wanted(&rig.status()), 3);
        std::thread::sleep(Duration::from_millis(200));
    }
    let freed = rig.keel(&["scale", "app", "auto"]);
    assert!(freed.status.success(), "{freed:?}");
    let status = rig.status();
    assert!(status.services[0].scaling.as_ref().is_some_and(|scaling| !scaling.pinned), "{status:#?}");
    assert!(wanted(&status) >= 2, "it goes on from where it was: {status:#?}");
    rig.wait_until("one is enough", |status| wanted(status) == 1 && instances(status).len() == 1);
}

#[test]
fn a_queue_that_grows_and_then_falls_silent() {
    let waiting = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&waiting);
    let (port, _asked) = instance::serve(move |_, stream| {
        let body = format!("# TYPE jobs gauge\njobs{{queue=\"a\"}} {}\n", shown.load(Ordering::Relaxed));
        let status = if shown.load(Ordering::Relaxed) == 99 { "503 Service Unavailable" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        // Whoever asked has gone when the stack is stopped.
        let _ = std::io::Write::write_all(stream, answer.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
    });
    let target = format!("backlog = {{ url = \"http://127.0.0.1:{port}/metrics\", metric = \"jobs\", each = 5 }}");
    let rig = Rig::up(&targeted(1, "2s", &target));
    rig.wait_until("the first instance is healthy", |status| wanted(status) == 1 && all_healthy(status));
    waiting.store(14, Ordering::Relaxed);
    rig.wait_until("there are three", |status| wanted(status) == 3 && all_healthy(status));
    let why = String::from_utf8(rig.keel(&["why", "app"]).stdout).unwrap();
    assert!(why.contains("14 waiting entries, 5 for each instance"), "{why}");
    // A queue that cannot be asked is not an empty one.
    waiting.store(99, Ordering::Relaxed);
    rig.wait_until("it is said", |_| {
        let events = String::from_utf8(rig.keel(&["events", "--subject", "app", "--json"]).stdout).unwrap();
        events.contains("scaling-limited") && events.contains("it answers 503")
    });
    assert_eq!(wanted(&rig.status()), 3);
    waiting.store(0, Ordering::Relaxed);
    rig.wait_until("one is enough", |status| wanted(status) == 1);
}

#[test]
fn processor_time_is_measured_and_a_pause_stops_all_steps() {
    // Two hundredths of a second for each request: one connection keeps a core busy for most of the time.
    let rig = Rig::up(&targeted(1, "3s", "cpu_percent = 10"));
    rig.wait_until("the first instance is healthy", |status| wanted(status) == 1 && all_healthy(status));
    let paused = rig.keel(&["pause", "app", "--for", "1h", "--reason", "a test"]);
    assert!(paused.status.success(), "{paused:?}");
    let load = Load::start(rig.port, "/busy", 2);
    load.wait_for(20);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        assert_eq!(wanted(&rig.status()), 1, "it is paused");
        std::thread::sleep(Duration::from_millis(200));
    }
    let resumed = rig.keel(&["resume", "app"]);
    assert!(resumed.status.success(), "{resumed:?}");
    let (status, _) = rig.wait_until("there are more", |status| wanted(status) > 1 && all_healthy(status));
    let scaling = status.services[0].scaling.clone().unwrap();
    assert!(scaling.reason.contains("% of a core, 10 % for each instance"), "{scaling:?}");
    load.finish().assert_clean();
}

#[test]
fn under_observation_a_step_is_only_written_down() {
    let rig = Rig::up(&stack(1, "3s"));
    rig.wait_until("the first instance is healthy", all_healthy);
    let file = rig.folder.path().join("keel.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("name = \"test\"\n", "name = \"test\"\nmode = \"observe\"\n")).unwrap();
    let applied = rig.keel(&["apply", "keel.toml"]);
    assert!(applied.status.success(), "{applied:?}");
    let load = Load::start(rig.port, "/slow", 12);
    let written = || {
        let events = String::from_utf8(rig.keel(&["events", "--subject", "app", "--json"]).stdout).unwrap();
        events.matches("\"would-scale\"").count()
    };
    rig.wait_until("it is written down", |_| written() > 0);
    load.wait_for(100);
    load.finish().assert_clean();
    assert_eq!(wanted(&rig.status()), 1);
    assert!(written() <= 3, "once for each number, not once a second: {}", written());
}
