//! Runs as they are kept: folders, reports, history, proofs, the API that starts them, schedules and blackouts.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use super::{run, shop};
use crate::rig::{PATIENCE, Rig, all_healthy, command};

fn runs_of(rig: &Rig) -> PathBuf {
    rig.folder.path().join("state/drills")
}

fn keel_json(rig: &Rig, arguments: &[&str]) -> Value {
    let output = rig.keel(&[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("one JSON document, {error}: {output:?}"))
}

/// Asks the API on the control socket; status and body.
fn ask(rig: &Rig, target: &str, body: Option<&Value>) -> (u16, String) {
    let lock = fs::read(rig.folder.path().join("state/lock")).unwrap();
    let lock: Value = serde_json::from_slice(&lock).unwrap();
    let socket = format!("{}/control.sock", lock["runtime_dir"].as_str().unwrap());
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--unix-socket", &socket, "-w", "\n%{http_code}", &format!("http://keel{target}")]);
    if let Some(body) = body {
        curl.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
    }
    let output = curl.stderr(Stdio::inherit()).output().expect("curl is installed by `cargo xtask setup`");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

/// Waits until a run has the state that is not `running`, and returns its details.
fn ended(rig: &Rig, id: &str) -> Value {
    let start = Instant::now();
    loop {
        let details = keel_json(rig, &["drill", "show", id]);
        if details["summary"]["state"] != "running" {
            return details;
        }
        assert!(start.elapsed() < PATIENCE, "it does not end: {details:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_run_is_kept_shown_compared_and_counts_as_a_proof() {
    let (rig, _database) = shop("", "");
    let copies = rig.folder.path().join("copies");
    let copies_text = copies.display().to_string();
    let junit = rig.folder.path().join("junit.xml").display().to_string();
    let (code, first) = run(&rig, &["kill-instance", "--report", &copies_text, "--junit", &junit]);
    assert_eq!(code, Some(0), "{first:#}");
    let id = first["run"].as_str().unwrap();
    let folder = runs_of(&rig).join(id);
    for name in ["plan.json", "progress.jsonl", "events.json", "report.json", "report.html", "junit.xml"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    assert_eq!(first["html"], folder.join("report.html").display().to_string());
    let kept: Value = serde_json::from_slice(&fs::read(folder.join("report.json")).unwrap()).unwrap();
    assert_eq!((&kept["verdict"], &kept["recovery_ms"]), (&json!("pass"), &first["recovery_ms"]));
    let lines = fs::read_to_string(folder.join("progress.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["stage"]["name"] == "recovered"), "{lines:?}");
    let ticks: u64 = lines.iter().filter_map(|line| line["tick"]["requests"].as_u64()).sum();
    assert!(ticks > 50, "{ticks} requests in ticks");
    let page = fs::read_to_string(copies.join("report.html")).unwrap();
    assert!(page.contains("The drill passed.") && !page.contains("<script"), "{page}");
    assert!(page.contains("by SIGKILL"), "the journal around it: {page}");
    let xml = fs::read_to_string(&junit).unwrap();
    assert!(xml.contains("failures=\"0\"") && xml.contains("healthy again"), "{xml}");

    let (code, second) = run(&rig, &["kill-instance"]);
    assert_eq!(code, Some(0), "{second:#}");
    let history = keel_json(&rig, &["drill", "history", "kill-instance"]);
    assert_eq!(history[0]["run"], second["run"], "the newest first: {history:#}");
    assert_eq!(history[0]["earlier"]["runs"], 1);
    assert_eq!(history[0]["earlier"]["recovery_ms"], first["recovery_ms"]);
    let shown = String::from_utf8(rig.keel(&["drill", "show"]).stdout).unwrap();
    assert!(shown.contains("passed") && shown.contains("report.html"), "{shown}");

    let (status, _) = rig.wait_until("the proof is there", |status| !status.proofs.is_empty());
    assert_eq!(status.proofs[0].run, second["run"].as_str().unwrap());
    assert!(status.proofs[0].passed_at.is_some());
    let (code, metrics) = ask(&rig, "/metrics", None);
    let line = "keel_drill_last_pass_timestamp_seconds{drill=\"kill-instance\",service=\"shop\"}";
    assert!(code == 200 && metrics.contains(line), "{metrics}");
    assert_eq!(ask(&rig, &format!("/v1/drills/runs/{id}/report.html"), None), (200, page));
    assert_eq!(ask(&rig, "/v1/drills/runs/..%2F..%2Flock/report.html", None).0, 404);
}

#[test]
fn a_drill_that_the_api_starts_outlives_the_node_process() {
    let (rig, _database) = shop("", "");
    rig.wait_until("all is well", |status| !status.services.is_empty() && all_healthy(status));
    let before = rig.status();
    let (code, planned) = ask(&rig, "/v1/drills/plan?drill=kill-node-process", None);
    assert!(code == 200 && planned.contains("SIGKILL"), "{planned}");
    let (code, started) = ask(&rig, "/v1/drills", Some(&json!({ "drill": "kill-node-process" })));
    assert_eq!(code, 202, "{started}");
    let id: Value = serde_json::from_str(&started).unwrap();
    let id = id["run"].as_str().unwrap();
    let (code, refused) = ask(&rig, "/v1/drills", Some(&json!({ "drill": "kill-instance" })));
    assert!(code == 409 && refused.contains("another drill"), "{refused}");
    let details = ended(&rig, id);
    assert_eq!(details["summary"]["state"], "passed", "{details:#}");
    assert_ne!(rig.status().node.pid, before.node.pid, "the one that started it is gone");
    assert_eq!(ask(&rig, "/v1/drills", Some(&json!({ "drill": "nonsense" }))).0, 404);
    assert_eq!(ask(&rig, "/v1/drills", Some(&json!({ "drill": "kill-instance", "service": "none" }))).0, 409);
}

#[test]
fn the_list_tells_of_kept_runs_also_where_nothing_runs() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("state/drills/7-kill-edge");
    fs::create_dir_all(&run).unwrap();
    let report = json!({ "drill": "kill-edge", "verdict": "fail", "started": 7, "subject": { "service": "shop" } });
    fs::write(run.join("report.json"), report.to_string()).unwrap();
    let output = command(folder.path(), &["drill", "list", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let of =
        |name: &str| listed.as_array().unwrap().iter().find(|drill| drill["name"] == name).unwrap()["last"].clone();
    assert_eq!((of("kill-edge"), of("kill-instance")), (json!({ "verdict": "fail", "at": 7 }), Value::Null));
}

/// A drill that was asked for on a terminal, up to its question.
fn asked_on_a_terminal(rig: &Rig) -> (Child, File) {
    let control = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&control).unwrap();
    unlockpt(&control).unwrap();
    let name = ptsname(&control, Vec::new()).unwrap();
    let open = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let child = command(rig.folder.path(), &["drill", "run", "kill-instance"])
        .stdin(open())
        .stdout(open())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut terminal = File::from(control);
    let mut shown = Vec::new();
    while !String::from_utf8_lossy(&shown).contains("Start it?") {
        let mut piece = [0; 4096];
        let read = terminal.read(&mut piece).unwrap();
        shown.extend_from_slice(&piece[..read]);
    }
    (child, terminal)
}

#[test]
fn an_answer_that_comes_late_finds_another_stack() {
    let (rig, _database) = shop("", "");
    rig.wait_until("all is well", |status| !status.services.is_empty() && all_healthy(status));
    let file = rig.folder.path().join("keel.toml");
    let text = fs::read_to_string(&file).unwrap();
    for (drills, why) in [
        ("abort = { errors = 40, after = \"5s\" }\n", "changed since the plan was shown"),
        ("blackout = [\"00:00-12:00\", \"12:00-00:00\"]\n", "no drill shall run now"),
    ] {
        let (child, mut terminal) = asked_on_a_terminal(&rig);
        fs::write(&file, text.replacen("[drills]\n", &format!("[drills]\n{drills}"), 1)).unwrap();
        let applied = rig.keel(&["apply", &file.display().to_string()]);
        assert!(applied.status.success(), "{applied:?}");
        terminal.write_all(b"y\n").unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(5) && said.contains(why), "{said}");
    }
    assert_eq!(keel_json(&rig, &["drill", "history"]), json!([]), "none ran");
}

#[test]
fn a_run_that_is_interrupted_says_so() {
    let (rig, _database) = shop("", "");
    rig.wait_until("all is well", |status| !status.services.is_empty() && all_healthy(status));
    let (code, started) = ask(&rig, "/v1/drills", Some(&json!({ "drill": "hang-instance", "for_ms": 20_000 })));
    assert_eq!(code, 202, "{started}");
    let run: Value = serde_json::from_str(&started).unwrap();
    let id = run["run"].as_str().unwrap();
    // The only process with that name among its arguments.
    let named = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|words| String::from_utf8_lossy(&words).split('\0').any(|word| word == id))
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    let drill = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(named).unwrap();
    crate::rig::signal(drill, rustix::process::Signal::INT);
    let details = ended(&rig, id);
    assert_eq!(details["summary"]["state"], "given-up", "{details:#}");
    assert_eq!(details["summary"]["reason"], "it was interrupted");
    rig.wait_until("nothing stays harmed", all_healthy);
    assert!(rig.status().proofs.is_empty(), "it proves nothing");
}

#[test]
fn a_scheduled_drill_runs_by_itself_and_never_in_a_blackout() {
    let (rig, _database) = shop("", "");
    rig.wait_until("all is well", |status| !status.services.is_empty() && all_healthy(status));
    // It has been due for long.
    fs::create_dir_all(runs_of(&rig)).unwrap();
    let known = json!({ "kill-instance shop every 1h": { "since": 1000 } });
    fs::write(runs_of(&rig).join("schedule.json"), known.to_string()).unwrap();
    let file = rig.folder.path().join("keel.toml");
    let text = fs::read_to_string(&file).unwrap();
    let schedule = "[[drills.schedule]]\ndrill = \"kill-instance\"\nservice = \"shop\"\nevery = \"1h\"\n";
    let always = "blackout = [\"00:00-12:00\", \"12:00-00:00\"]\n";
    let with = |drills: &str| {
        fs::write(&file, format!("{}{schedule}", text.replacen("[drills]\n", &format!("[drills]\n{drills}"), 1)))
            .unwrap();
        let applied = rig.keel(&["apply", &file.display().to_string()]);
        assert!(applied.status.success(), "{applied:?}");
    };
    with(always);
    let by_hand = rig.keel(&["drill", "run", "kill-instance"]);
    assert_eq!(by_hand.status.code(), Some(5), "{by_hand:?}");
    assert!(String::from_utf8_lossy(&by_hand.stderr).contains("--force"), "{by_hand:?}");
    let listed: Value = serde_json::from_str(&ask(&rig, "/v1/drills", None).1).unwrap();
    assert!(listed["blackout_until"].is_number() && listed["schedule"][0]["drill"] == "kill-instance", "{listed:#}");
    assert_eq!(keel_json(&rig, &["drill", "history"]), json!([]), "none ran");
    let (code, forced) = run(&rig, &["kill-instance", "--force"]);
    assert_eq!(code, Some(0), "{forced:#}");
    rig.wait_until("all is well", all_healthy);

    with("");
    let start = Instant::now();
    let id = loop {
        let history = keel_json(&rig, &["drill", "history"]);
        if let Some(newest) = history[0]["run"].as_str().filter(|newest| *newest != forced["run"]) {
            break newest.to_owned();
        }
        assert!(start.elapsed() < PATIENCE, "it does not start: {}", rig.log());
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(ended(&rig, &id)["summary"]["state"], "passed");
    let events = String::from_utf8(rig.keel(&["events", "--subject", "drill", "--json"]).stdout).unwrap();
    let by_schedule = events.find("it is scheduled").unwrap_or_else(|| panic!("{events}"));
    let (before, after) = events.split_at(by_schedule);
    assert!(before.matches("\"started\"").count() == 1 && after.contains("\"started\""), "who, then what: {events}");
    let kept: Value = serde_json::from_slice(&fs::read(runs_of(&rig).join("schedule.json")).unwrap()).unwrap();
    assert!(kept["kill-instance shop every 1h"]["started"].is_number(), "{kept:#}");
}

#[test]
fn no_schedule_harms_the_only_instance() {
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\nrun = {}\nreplicas = 1\ncheck = {{ http = \"/\" }}\n",
        crate::slow_app::run()
    ));
    rig.wait_until("all is well", |status| !status.services.is_empty() && all_healthy(status));
    fs::create_dir_all(runs_of(&rig)).unwrap();
    let known = json!({ "kill-instance * every 1h": { "since": 1000 } });
    fs::write(runs_of(&rig).join("schedule.json"), known.to_string()).unwrap();
    let file = rig.folder.path().join("keel.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}[[drills.schedule]]\ndrill = \"kill-instance\"\nevery = \"1h\"\n")).unwrap();
    let before = rig.status().services[0].instances[0].pid;
    let applied = rig.keel(&["apply", &file.display().to_string()]);
    assert!(applied.status.success(), "{applied:?}");
    let start = Instant::now();
    let events = loop {
        let events = String::from_utf8(rig.keel(&["events", "--subject", "drill"]).stdout).unwrap();
        if events.contains("was refused") {
            break events;
        }
        assert!(start.elapsed() < PATIENCE, "it is not refused: {events}{}", rig.log());
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(events.contains("app/1 is the only instance"), "{events}");
    assert_eq!(rig.status().services[0].instances[0].pid, before, "nobody harmed it");
    assert_eq!(keel_json(&rig, &["drill", "history"]), json!([]), "none ran");
}
