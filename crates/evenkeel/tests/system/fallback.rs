//! Somebody else answers: another tier, a page, another zone; and who is preferred answers again when it should.

use std::{fs, process::Command, time::Instant};

use evenkeel_core::status::Health;

use crate::{
    load::Load,
    rig::{self, PATIENCE, Rig},
    slow_app::SlowApp,
};

const CHECK: &str = "check = { http = \"/\", interval = \"100ms\" }\nhold = { max = \"20s\" }\n";

/// Status, content type and body of `GET /`.
fn get(rig: &Rig) -> (String, String, String) {
    let url = format!("http://127.0.0.1:{}/", rig.port);
    let answer = Command::new("curl").args(["-sS", "-w", "\n%{http_code} %{content_type}", &url]).output().unwrap();
    let text = String::from_utf8(answer.stdout).unwrap();
    let (body, rest) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&answer.stderr)));
    let (status, kind) = rest.split_once(' ').unwrap();
    (status.to_owned(), kind.to_owned(), body.to_owned())
}

/// Waits until this is what `GET /` answers.
fn wait_for(rig: &Rig, who: &str) {
    let start = Instant::now();
    loop {
        let (_, _, body) = get(rig);
        if body == who {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{who} never answers, but {body}; log: {}", rig.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn healthy(rig: &Rig, address: &str) {
    rig.wait_until("the instance is healthy", |status| {
        let mut all = status.services.iter().flat_map(|service| &service.instances);
        all.any(|instance| instance.address == address && instance.health == Health::Healthy)
    });
}

fn why(rig: &Rig, subject: &str) -> String {
    String::from_utf8(rig.keel(&["why", subject]).stdout).unwrap()
}

/// Two tiers of one instance each: `first` on this port, and `second`, which answers while that is not healthy.
fn two_tiers(port: u16) -> (SlowApp, SlowApp, Rig) {
    let (first, second) = (SlowApp::start("first", port), SlowApp::start("second", rig::free_port()));
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[[routes]]\nservice = \"app\"\n\
         [services.app]\ninstances = [\"{}\"]\nfallback = \"spare\"\n{CHECK}\
         [services.spare]\ninstances = [\"{}\"]\n{CHECK}",
        first.address(),
        second.address()
    ));
    healthy(&rig, &first.address());
    (first, second, rig)
}

#[test]
fn another_tier_answers_while_every_instance_is_dead() {
    let port = rig::free_port();
    let (first, second, rig) = two_tiers(port);
    healthy(&rig, &second.address());
    wait_for(&rig, "first");
    let load = Load::start(rig.port, "/", 4);
    load.wait_for(50);
    drop(first);
    wait_for(&rig, "second");
    load.wait_for(50);
    let (status, _) = rig.wait_until("it is said", |status| status.services[0].away.is_some());
    assert!(status.problems.iter().any(|problem| problem.contains("spare answers in its place")), "{status:#?}");
    assert!(why(&rig, "app").contains("spare answers instead"), "{}", why(&rig, "app"));
    // Without `return` it is at once.
    let _first = SlowApp::start("first", port);
    wait_for(&rig, "first");
    load.wait_for(50);
    load.finish().assert_clean();
    rig.wait_until("nothing is left to say", |status| status.services[0].away.is_none() && status.problems.is_empty());
}

#[test]
fn each_fall_is_told_though_an_edge_died_between_them() {
    let port = rig::free_port();
    let (first, _second, rig) = two_tiers(port);
    wait_for(&rig, "first");
    drop(first);
    wait_for(&rig, "second");
    rig.wait_until("it is said", |status| status.services[0].away.is_some());
    // Who fell back dies before it can say that this is over, and its successor never did.
    let edge = rig.status().edge.unwrap().pid;
    rig::signal(edge, rustix::process::Signal::STOP);
    let first = SlowApp::start("first", port);
    rig::signal(edge, rustix::process::Signal::KILL);
    rig.wait_until("it is at home", |status| {
        status.edge.as_ref().is_some_and(|now| now.pid != edge) && status.services[0].away.is_none()
    });
    drop(first);
    rig.wait_until("it falls again", |status| status.services[0].away.is_some());
    let events = String::from_utf8(rig.keel(&["events", "--subject", "app", "--json"]).stdout).unwrap();
    assert_eq!(events.matches("\"fell-back\"").count(), 2, "{events}");
}

#[test]
fn a_page_answers_when_nobody_else_can() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sorry.html");
    fs::write(&file, "<h1>Back soon</h1>").unwrap();
    let app = SlowApp::start("app", rig::free_port());
    let stack = format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[[routes]]\nservice = \"app\"\n\
         [services.app]\ninstances = [\"{}\"]\nfallback = \"sorry\"\n{CHECK}\
         [services.sorry]\npage = {{ file = \"{}\" }}\n",
        app.address(),
        file.display()
    );
    let rig = Rig::up(&stack);
    wait_for(&rig, "app");
    drop(app);
    wait_for(&rig, "<h1>Back soon</h1>");
    let (status, kind, _) = get(&rig);
    assert_eq!((status.as_str(), kind.as_str()), ("503", "text/html; charset=utf-8"));
    // What it says is the file's text as it was when it was applied, whatever becomes of the file.
    fs::write(&file, "<h1>Tomorrow</h1>").unwrap();
    assert_eq!(get(&rig).2, "<h1>Back soon</h1>");
    let applied = rig.keel(&["apply", "keel.toml", "--no-wait"]);
    assert!(applied.status.success(), "{applied:?}");
    wait_for(&rig, "<h1>Tomorrow</h1>");
    fs::remove_file(&file).unwrap();
    let refused = rig.keel(&["apply", "keel.toml", "--no-wait"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("sorry.html"), "{said}");
    rig::signal(rig.status().node.pid, rustix::process::Signal::KILL);
    rig.wait_until("the node process is back", |status| {
        status.node.restarts == 1 && status.problems.iter().any(|problem| problem.contains("sorry.html"))
    });
    assert_eq!(get(&rig).2, "<h1>Tomorrow</h1>");
}

#[test]
fn another_zone_answers_until_an_operator_says_that_it_is_over() {
    let port = rig::free_port();
    let (near, far) = (SlowApp::start("near", port), SlowApp::start("far", rig::free_port()));
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\nprefer = \"a\"\nreturn = \"by-hand\"\n{CHECK}\
         instances = [{{ address = \"{}\", zone = \"a\" }}, {{ address = \"{}\", zone = \"b\" }}]\n",
        near.address(),
        far.address()
    ));
    healthy(&rig, &near.address());
    healthy(&rig, &far.address());
    all_answered_by(&rig, "near", &near, "it is preferred");
    let load = Load::start(rig.port, "/", 4);
    load.wait_for(50);
    drop(near);
    wait_for(&rig, "far");
    rig.wait_until("it stays there", |status| status.services[0].away.as_ref().is_some_and(|away| away.stays));

    let near = SlowApp::start("near", port);
    healthy(&rig, &near.address());
    // The node process forgets nothing of it.
    let node = rig.status().node.pid;
    rig::signal(node, rustix::process::Signal::KILL);
    rig.wait_until("it is back", |status| status.node.pid != node && status.services[0].away.is_some());
    let was_well = all_answered_by(&rig, "far", &far, "nobody has said that it may return");
    let events = String::from_utf8(rig.keel(&["events", "--subject", "app", "--json"]).stdout).unwrap();
    assert!(events.matches("\"fell-back\"").count() == 1 || !was_well, "it fell back once: {events}");
    let resumed = rig.keel(&["resume", "app"]);
    assert!(resumed.status.success(), "{resumed:?}");
    wait_for(&rig, "near");
    let (status, _) = rig.wait_until("it is home", |status| status.services[0].away.is_none());
    assert!(!status.problems.iter().any(|problem| problem.contains("answers in its place")), "{status:#?}");
    load.wait_for(50);
    load.finish().assert_clean();
    assert!(why(&rig, "app").contains("it may return to what it prefers"), "{}", why(&rig, "app"));
}

/// Asks again and again and gets all answers from this one. Others may answer only where it was not well itself, as on a
/// machine that has no time for it: better there than nowhere. Returns whether it was well.
fn all_answered_by(rig: &Rig, who: &str, app: &SlowApp, why: &str) -> bool {
    let others: Vec<String> = (0..20).map(|_| get(rig).2).filter(|answer| answer != who).collect();
    let events = String::from_utf8(rig.keel(&["events", "--json"]).stdout).unwrap();
    let of_it = events.lines().filter(|line| line.contains(&app.address()));
    let was_well =
        !of_it.into_iter().any(|line| ["silent", "unhealthy", "ejected"].iter().any(|ill| line.contains(ill)));
    assert!(others.is_empty() || !was_well, "{why}, but {others:?} answered: {events}");
    was_well
}

/// A window in UTC that begins so many minutes from now and lasts an hour.
fn window(from_now_min: u64) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let begin = since.as_secs() / 60 + from_now_min;
    let clock = |minute: u64| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    format!("{}-{}", clock(begin), clock(begin + 60))
}

#[test]
fn a_return_waits_for_its_window() {
    let port = rig::free_port();
    let (first, second) = (SlowApp::start("first", port), SlowApp::start("second", rig::free_port()));
    let (closed, open) = (window(12 * 60), window(24 * 60 - 30));
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[[routes]]\nservice = \"app\"\n\
         [services.app]\ninstances = [\"{}\"]\nfallback = \"spare\"\nreturn = \"{closed}\"\n{CHECK}\
         [services.spare]\ninstances = [\"{}\"]\n{CHECK}",
        first.address(),
        second.address()
    ));
    healthy(&rig, &first.address());
    wait_for(&rig, "first");
    drop(first);
    wait_for(&rig, "second");
    rig.wait_until("it stays there", |status| status.services[0].away.as_ref().is_some_and(|away| away.stays));
    let first = SlowApp::start("first", port);
    healthy(&rig, &first.address());
    all_answered_by(&rig, "second", &second, "its window is closed");
    let file = rig.folder.path().join("keel.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&closed, &open)).unwrap();
    let applied = rig.keel(&["apply", "keel.toml"]);
    assert!(applied.status.success(), "{applied:?}");
    wait_for(&rig, "first");
    rig.wait_until("it is home", |status| status.services[0].away.is_none());
    assert!(why(&rig, "app").contains("when it may return"), "{}", why(&rig, "app"));
}
