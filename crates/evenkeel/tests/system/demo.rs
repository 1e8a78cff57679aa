//! `keel demo` and the drills on it, as in the README.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

use crate::rig::{Rig, all_healthy, command, free_port};

#[test]
fn the_shop_is_there_and_a_second_start_finds_the_first() {
    let rig = Rig::demo();
    let page = Command::new("curl")
        .args(["-sS", "--fail", &format!("http://127.0.0.1:{}/", rig.port)])
        .output()
        .expect("curl is installed by `cargo xtask setup`");
    assert!(page.status.success(), "{page:?}");
    assert!(String::from_utf8_lossy(&page.stdout).contains("<html"), "a page, not an error");

    let second = rig.keel(&["demo", "--port", &rig.port.to_string()]);
    assert!(second.status.success(), "{second:?}");
    let said = [second.stdout, second.stderr].concat();
    assert!(String::from_utf8_lossy(&said).contains(&rig.port.to_string()), "it says where the first one is");
}

#[test]
fn a_drill_fails_where_nothing_protects_clients() {
    let database = tempfile::tempdir().unwrap();
    // One instance, no retries and nothing held: whoever asks between its death and its return sees an error.
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[drills]\nread = \"/api/products\"\n[services.app]\n\
         run = [\"{}\", \"__shop\"]\nreplicas = 1\nenv = {{ SHOP_DATABASE = \"{}\" }}\n\
         check = {{ http = \"/readyz\" }}\nretries = {{ max = 0 }}\nhold = {{ max = \"0ms\" }}\n",
        env!("CARGO_BIN_EXE_keel"),
        database.path().join("shop.db").display()
    ));
    rig.wait_until("it is healthy", all_healthy);
    let run = rig.keel(&["drill", "run", "kill-instance", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(run.status.code(), Some(1), "{report:#}");
    assert_eq!(report["verdict"], "fail", "{report:#}");
    assert!(report["errors"].as_u64().unwrap() > 0, "{report:#}");
    assert!(report["error_samples"][0]["seen"].is_string(), "it says what clients saw: {report:#}");

    rig.wait_until("all is well again", all_healthy);
    let mut unread = command(rig.folder.path(), &["drill", "run", "kill-instance"]);
    let mut unread = unread.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(unread.stdout.take());
    assert_eq!(unread.wait().unwrap().code(), Some(1), "a drill that nobody reads about fails as well");
}

#[test]
fn a_second_drill_at_the_same_time_is_refused() {
    let rig = Rig::demo();
    let mut first =
        command(rig.folder.path(), &["drill", "run", "hang-instance"]).stdout(Stdio::piped()).spawn().unwrap();
    // Its first words come when it has begun.
    let mut words = BufReader::new(first.stdout.take().unwrap());
    words.read_line(&mut String::new()).unwrap();
    let second = rig.keel(&["drill", "run", "kill-instance"]);
    assert_eq!(second.status.code(), Some(5), "{second:?}");
    assert!(String::from_utf8_lossy(&second.stderr).contains("another drill"), "{second:?}");
    words.read_to_string(&mut String::new()).unwrap();
    assert!(first.wait().unwrap().success(), "the first one goes on");
}

#[test]
fn a_console_address_that_is_taken_is_not_shown_as_ours() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().to_string();
    let mut demo = command(folder.path(), &["demo", "--for", "1s", "--port", &port, "--console", &address]);
    let output = demo.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(&address) && error.contains("--console"), "{error}");
}

#[test]
fn a_killed_guard_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (port, console) = (free_port().to_string(), format!("127.0.0.1:{}", free_port()));
    let demo = command(folder.path(), &["demo", "--json", "--no-traffic", "--port", &port, "--console", &console])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut demo = demo;
    let mut line = String::new();
    BufReader::new(demo.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let up: serde_json::Value = serde_json::from_str(&line).unwrap();
    // One that is killed is started again, but not for ever where it dies as soon as it is there.
    let mut pid = u32::try_from(up["pid"].as_u64().unwrap()).unwrap();
    let folder = folder.path().join("state");
    let holder = || {
        let lock = std::fs::read(folder.join("lock")).unwrap_or_default();
        let holder = serde_json::from_slice::<serde_json::Value>(&lock).unwrap_or_default();
        let pid = holder["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        pid.zip(holder["runtime_dir"].as_str().map(std::path::PathBuf::from))
    };
    let mut sockets = std::path::PathBuf::new();
    let begun = std::time::Instant::now();
    while demo.try_wait().unwrap().is_none() {
        crate::rig::signal(pid, rustix::process::Signal::KILL);
        assert!(begun.elapsed() < crate::rig::PATIENCE, "it is started again for ever");
        if let Some(named) = holder() {
            (pid, sockets) = named;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = demo.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("killed by SIGKILL") && !error.contains("--port"), "{error}");
    assert!(!sockets.exists(), "instances that nobody will adopt end: {}", sockets.display());
}

#[test]
fn both_drills_pass() {
    let rig = Rig::demo();
    for drill in ["kill-instance", "hang-instance"] {
        let run = rig.keel(&["drill", "run", drill, "--json"]);
        let report: serde_json::Value =
            serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("one JSON object, {error}: {run:?}"));
        assert!(run.status.success(), "{report:#}");
        assert_eq!(report["drill"], drill);
        assert_eq!(report["verdict"], "pass", "{report:#}");
        for zero in ["errors", "lost_writes", "doubled_writes"] {
            assert_eq!(report[zero], 0, "{zero}: {report:#}");
        }
        assert!(report["requests"].as_u64().unwrap() > 100, "there was load: {report:#}");
        for time in ["detection_ms", "recovery_ms", "worst_ms"] {
            assert!(report[time].is_number(), "{time}: {report:#}");
        }
        rig.wait_until("all is well again", all_healthy);
    }
    let events = String::from_utf8(rig.keel(&["events", "--json"]).stdout).unwrap();
    assert!(events.contains("kill-instance"), "drills are in the journal: {events}");
}
