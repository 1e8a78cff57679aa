//! The stack changes while it runs: a new file, more or fewer instances, another command, and nobody notices.

use std::{fs, io::Write, process::Command};

use evenkeel_core::status::{Basis, Status};
use rustix::process::Signal;

use crate::{
    instance,
    load::Load,
    rig::{self, Rig, all_healthy, instances},
};

/// The shop as somebody's own application; `{replicas}` and `{extra}` are for the test to fill in.
const STACK: &str = r#"
[listeners.web]
bind = "{listen}"

[services.app]
run = ["{keel}", "__shop"]
env = { SHOP_DATABASE = "{database}"{extra} }
replicas = {replicas}
check = { http = "/readyz", interval = "200ms" }
"#;

fn stack(database: &str, replicas: u32, extra: &str) -> String {
    STACK
        .replace("{keel}", env!("CARGO_BIN_EXE_keel"))
        .replace("{database}", database)
        .replace("{replicas}", &replicas.to_string())
        .replace("{extra}", extra)
}

/// Replaces the stack file by one with the same addresses and this stack.
fn rewrite(rig: &Rig, from: &str, to: &str) {
    let path = rig.folder.path().join("keel.toml");
    let text = fs::read_to_string(&path).unwrap();
    let address = format!("127.0.0.1:{}", rig.port);
    let (from, to) = (from.replace("{listen}", &address), to.replace("{listen}", &address));
    assert!(text.contains(&from), "the file has what is to be replaced");
    fs::write(path, text.replace(&from, &to)).unwrap();
}

#[test]
fn applying_a_file_under_load_costs_nobody_anything() {
    let database = tempfile::tempdir().unwrap();
    let database = database.path().join("shop.db").display().to_string();
    let (two, four) = (stack(&database, 2, ""), stack(&database, 4, ""));
    let other = stack(&database, 4, ", CHANGED = \"1\"");
    let rig = Rig::up(&two);
    rig.wait_until("both instances are healthy", all_healthy);
    let load = Load::start(rig.port, "/api/products", 8);
    load.wait_for(100);

    rewrite(&rig, &two, &four);
    let applied = rig.keel(&["apply", "keel.toml"]);
    assert!(applied.status.success(), "{applied:?}");
    let status = rig.status();
    assert!(instances(&status).len() == 4 && all_healthy(&status), "apply returns once it is done: {status:#?}");
    assert_eq!(status.revision, 2);
    let old: Vec<_> = instances(&status).iter().map(|instance| instance.pid).collect();

    // Another environment needs other processes: they are replaced one by one. SIGHUP reads the file as `apply` does.
    rewrite(&rig, &four, &other);
    rig::signal(status.guard.pid, Signal::HUP);
    rig.wait_until("every process is a new one", |status| {
        let now = instances(status);
        status.revision == 3
            && now.len() == 4
            && all_healthy(status)
            && now.iter().all(|instance| !old.contains(&instance.pid))
    });

    rewrite(&rig, &other, &two);
    let applied = rig.keel(&["apply", "keel.toml", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&applied.stdout).unwrap();
    assert_eq!((report["revision"].as_u64(), report["outcome"].as_str()), (Some(4), Some("done")), "{report:#}");
    rig.wait_until("two instances are left", |status| instances(status).len() == 2 && all_healthy(status));
    load.wait_for(200);
    load.finish().assert_clean();
}

#[test]
fn a_wrong_file_is_refused_and_changes_nothing() {
    let database = tempfile::tempdir().unwrap();
    let good = stack(&database.path().join("shop.db").display().to_string(), 2, "");
    let rig = Rig::up(&good);
    let (before, _) = rig.wait_until("both instances are healthy", all_healthy);
    rewrite(&rig, &good, &good.replace("replicas", "replica"));
    let applied = rig.keel(&["apply", "keel.toml"]);
    assert_eq!(applied.status.code(), Some(2), "{applied:?}");
    assert!(String::from_utf8_lossy(&applied.stderr).contains("did you mean `replicas`?"), "{applied:?}");
    let after = rig.status();
    assert_eq!((before.revision, instances(&before)[0].pid), (after.revision, instances(&after)[0].pid));
}

#[test]
fn a_broken_command_replaces_nothing_that_works() {
    let database = tempfile::tempdir().unwrap();
    let good = stack(&database.path().join("shop.db").display().to_string(), 2, "");
    let rig = Rig::up(&good);
    let (before, _) = rig.wait_until("both instances are healthy", all_healthy);
    let load = Load::start(rig.port, "/api/products", 4);
    rewrite(&rig, &good, &good.replace("\"__shop\"", "\"__no_such_command\""));
    let applied = rig.keel(&["apply", "keel.toml"]);
    assert_eq!(applied.status.code(), Some(1), "it is accepted and does not get ready: {applied:?}");
    let error = String::from_utf8_lossy(&applied.stderr);
    assert!(error.contains("revision 2 does not get ready: app/3 keeps ending"), "{error}");
    assert!(error.contains("__no_such_command"), "with what it said last: {error}");
    assert!(error.contains("keel why app/3"), "{error}");
    load.wait_for(500);
    load.finish().assert_clean();
    let again = rig.keel(&["apply", "keel.toml", "--json", "--no-wait"]);
    let report: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(again.status.success() && report["outcome"] == "not-awaited", "{report:#}");
    let after = instances(&rig.status());
    for old in instances(&before) {
        assert!(after.iter().any(|instance| instance.pid == old.pid), "{} still serves", old.name);
    }
}

#[test]
fn somebodys_own_program_needs_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let port = rig::free_port().to_string();
    let rig = Rig::own_program(folder, &port, &[env!("CARGO_BIN_EXE_keel"), "__shop"]);
    let (status, _) =
        rig.wait_until("three copies are healthy", |status| instances(status).len() == 3 && all_healthy(status));
    let page = Command::new("curl").args(["-sS", "--fail", &format!("http://127.0.0.1:{port}/")]).output().unwrap();
    assert!(page.status.success(), "{page:?}");
    let logs = rig.keel(&["logs", &instances(&status)[0].name, "--grep", "listening"]);
    assert!(String::from_utf8_lossy(&logs.stdout).contains("listening"), "its output is kept: {logs:?}");
}

#[test]
fn a_wrong_check_takes_out_nobody_and_is_not_called_healthy() {
    let database = tempfile::tempdir().unwrap();
    let good = stack(&database.path().join("shop.db").display().to_string(), 2, "");
    let wrong = good.replace(r#"interval = "200ms""#, r#"interval = "200ms", status = [404, 404]"#);
    let rig = Rig::up(&good);
    rig.wait_until("both instances are healthy", all_healthy);
    let load = Load::start(rig.port, "/api/products", 8);
    load.wait_for(100);

    rewrite(&rig, &good, &wrong);
    let applied = rig.keel(&["apply", "keel.toml"]);
    assert_eq!(applied.status.code(), Some(1), "{applied:?}");
    let (said, error) = (String::from_utf8_lossy(&applied.stdout), String::from_utf8_lossy(&applied.stderr));
    assert!(!said.contains("every instance is healthy"), "{said}");
    assert!(error.contains("no instance of app passes its changed check"), "{error}");
    assert!(error.contains("status 200 where 404 was wanted"), "{error}");
    load.wait_for(500);
    let status = rig.status();
    assert!(all_healthy(&status), "{status:#?}");
    let names_it = |problem: &String| problem.contains("check of app") && problem.contains("status 200 where 404");
    assert!(status.problems.iter().any(names_it), "{:#?}", status.problems);
    let why = rig.keel(&["why", "app"]);
    let why = String::from_utf8_lossy(&why.stdout);
    assert!(
        why.lines().next().is_some_and(|line| line.contains("nobody has passed the changed check of app")),
        "{why}"
    );
    assert!(why.contains("a changed check counts once somebody has passed it"), "with the rule: {why}");

    rewrite(&rig, &wrong, &good);
    let applied = rig.keel(&["apply", "keel.toml"]);
    assert!(applied.status.success(), "{applied:?}");
    let status = rig.status();
    assert!(all_healthy(&status) && status.problems.is_empty(), "{:#?}", status.problems);
    load.wait_for(100);
    load.finish().assert_clean();
}

#[test]
fn a_check_that_one_instance_passes_takes_out_the_other() {
    let answering = |first: &'static str| {
        let (port, asked) = instance::serve(move |received, stream| {
            let status = if received.head.starts_with(first) { "200 OK" } else { "404 Not Found" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        });
        // It answers for as long as somebody counts.
        std::thread::spawn(move || asked.iter().count());
        format!("\"127.0.0.1:{port}\"")
    };
    let instances = format!("{}, {}", answering("GET /"), answering("GET /no-such-path"));
    let with = |path: &str| {
        format!(
            "[listeners.web]\nbind = \"{{listen}}\"\n\n[services.app]\ninstances = [{instances}]\n\
             check = {{ http = \"{path}\", interval = \"100ms\" }}\n"
        )
    };
    let (former, new) = (with("/healthz"), with("/new"));
    let rig = Rig::up(&former);
    rig.wait_until("both instances are healthy", all_healthy);
    rewrite(&rig, &former, &new);
    let applied = rig.keel(&["apply", "keel.toml", "--wait", "3s"]);
    assert_eq!(applied.status.code(), Some(1), "{applied:?}");
    assert!(String::from_utf8_lossy(&applied.stderr).contains("app 1 of 2 healthy"), "{applied:?}");
    let status = rig.status();
    assert_eq!((status.services[0].healthy, instances_kept(&status)), (1, 0), "{status:#?}");
}

fn instances_kept(status: &Status) -> usize {
    instances(status).iter().filter(|instance| instance.basis != Basis::Check).count()
}
