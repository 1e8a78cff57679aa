//! Panels, drawn from views that are written here: what they say, and that a second that passes changes nothing.

use std::sync::Arc;

use evenkeel_core::{
    journal::{Entry, Level, Reason},
    snapshot::Protocol,
    stack,
    status::{EdgeStatus, Health, InstanceStatus, ListenerStatus, Phase, ProcessStatus, ServiceStatus, Status},
    time::WallTime,
};

use super::*;
use crate::{
    console::view::Range,
    history::{History, Origin},
};

const FILE: &str = r#"
[stack]
name = "shop"
[listeners.web]
bind = "127.0.0.1:8080"
[listeners.mail]
bind = "127.0.0.1:2525"
protocol = "tcp"
service = "mail"
[[routes]]
listener = "web"
host = "shop.example.com"
service = "shop"
[services.shop]
run = ["shop"]
replicas = 2
[services.mail]
run = ["mail"]
check = { tcp = true }
"#;

fn instance(name: &str, health: Health) -> InstanceStatus {
    InstanceStatus {
        name: name.to_owned(),
        pid: Some(41),
        address: "127.0.0.1:20771".to_owned(),
        health,
        phase: Some(Phase::Running),
        since: Some(WallTime::from_millis(10_000)),
        ..InstanceStatus::default()
    }
}

fn service(name: &str, instances: Vec<InstanceStatus>) -> ServiceStatus {
    let healthy = instances.iter().filter(|instance| instance.health == Health::Healthy).count();
    ServiceStatus {
        name: name.to_owned(),
        replicas: u32::try_from(instances.len()).unwrap(),
        healthy: u32::try_from(healthy).unwrap(),
        requests_per_s: 41.0,
        instances,
        ..ServiceStatus::default()
    }
}

pub(crate) fn view(dir: &std::path::Path) -> View {
    let listener =
        |name: &str, protocol| ListenerStatus { name: name.to_owned(), address: "127.0.0.1:1".to_owned(), protocol };
    let process = |pid| ProcessStatus { pid, restarts: 0 };
    let status = Status {
        stack: "shop".to_owned(),
        version: "0.1.0".to_owned(),
        revision: 3,
        since: WallTime::from_millis(8_000),
        guard: process(1),
        node: process(2),
        edge: Some(EdgeStatus { pid: 3, restarts: 0, snapshot: 9, applied: 9, reported: None, connections: 12 }),
        listeners: vec![listener("web", Protocol::Http), listener("mail", Protocol::Tcp)],
        console: None,
        services: vec![
            service("shop", vec![instance("shop/1", Health::Healthy), instance("shop/2", Health::Unhealthy)]),
            service("mail", vec![instance("mail/1", Health::Healthy)]),
        ],
        ..serde_json::from_value(serde_json::json!({
            "stack": "", "version": "", "revision": 0, "since": 0, "guard": {"pid": 0, "restarts": 0},
            "node": {"pid": 0, "restarts": 0}, "edge": null, "listeners": [], "services": [], "problems": []
        }))
        .unwrap()
    };
    let entry = Entry {
        id: 7,
        at: WallTime::from_millis(9_000),
        level: Level::Warning,
        subject: "shop/2".to_owned(),
        kind: "unhealthy".to_owned(),
        message: "<script>alert(1)</script>".to_owned(),
        reasons: vec![Reason::seen("3 probes in a row failed")],
    };
    View {
        status,
        stack: Some(Arc::new(stack::parse_leniently(FILE, "keel.toml").unwrap().0)),
        events: vec![entry].into(),
        deploys: Arc::default(),
        history: History::open(&dir.join("history"), Origin::default()).unwrap(),
        runs: Arc::default(),
        range: Range::default(),
        now: WallTime::from_millis(20_000),
    }
}

#[test]
fn the_same_view_makes_the_same_text_and_what_it_holds_stays_text() {
    let temp = tempfile::tempdir().unwrap();
    let view = view(temp.path());
    for panel in ALL.into_iter().chain([ADMIN]) {
        let text = panel.render(&view).into_string();
        assert_eq!(text, panel.render(&view).into_string(), "{}", panel.id());
        for forbidden in [" style=", " onclick=", "<script"] {
            assert!(!text.contains(forbidden), "{} has {forbidden}: {text}", panel.id());
        }
    }
}

#[test]
fn a_second_that_passes_changes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let mut view = view(temp.path());
    let texts = |view: &View| ALL.map(|panel| panel.render(view).into_string());
    let before = texts(&view);
    view.now = WallTime::from_millis(21_000);
    assert_eq!(before, texts(&view));
}

#[test]
fn the_picture_shows_what_leads_where_and_what_is_broken() {
    let temp = tempfile::tempdir().unwrap();
    let mut view = view(temp.path());
    let text = |view: &View| picture::Picture.render(view).into_string();
    let drawn = text(&view);
    let count = |text: &str, what: &str| text.matches(what).count();
    // One from each listener to its own service, and one to each instance.
    assert_eq!(count(&drawn, "class=\"wire "), 5, "{drawn}");
    assert_eq!(count(&drawn, "wire broken"), 1, "{drawn}");
    assert!(drawn.contains("1/2 healthy") && drawn.contains("shop.example.com/"), "{drawn}");
    view.status.services[1].requests_per_s = 0.0;
    assert_eq!(count(&text(&view), "wire idle"), 2, "nothing flows where nobody asks");
}

#[test]
fn what_is_wrong_stands_in_the_head_and_beside_the_picture() {
    let temp = tempfile::tempdir().unwrap();
    let mut view = view(temp.path());
    let texts = |view: &View| {
        [&pulse::Pulse as &dyn Panel, &attention::Attention].map(|panel| panel.render(view).into_string())
    };
    let [head, beside] = texts(&view);
    assert!(head.contains("1 instance not healthy") && beside.contains("</strong> is unhealthy"), "{head}{beside}");
    view.status.services[0].instances[1].health = Health::Healthy;
    let [head, beside] = texts(&view);
    assert!(head.contains("All is well") && beside.contains("Nothing needs attention"), "{head}{beside}");
    view.status.problems.push("shop/2 gave up".to_owned());
    let [head, beside] = texts(&view);
    assert!(head.contains("1 problem") && beside.contains("shop/2 gave up") && !beside.contains("Nothing needs"));
}

#[test]
fn a_pause_is_ended_for_whom_it_concerns() {
    let temp = tempfile::tempdir().unwrap();
    let mut view = view(temp.path());
    let pause = "shop is PAUSED for 30 s more, until noon, by root: a test; `keel resume shop` ends it";
    view.status.services[0].hands_off = Some(pause.to_owned());
    view.status.problems = vec![pause.to_owned()];
    let text = super::attention::Attention.render(&view).into_string();
    assert_eq!(text.matches("PAUSED").count(), 1, "{text}");
    assert!(text.contains("data-act=\"resume\"") && text.contains("data-subject=\"shop\""), "{text}");
    assert!(!text.contains("Nothing needs attention"), "{text}");
}

#[test]
fn orders_say_which_role_they_need() {
    let temp = tempfile::tempdir().unwrap();
    let view = view(temp.path());
    let text = services::Services.render(&view).into_string();
    for order in ["scale", "restart", "drain", "pause", "deploy"] {
        assert!(text.contains(&format!("data-act=\"{order}\" data-needs=\"operator\"")), "{order}: {text}");
    }
    assert!(text.contains("data-act=\"why\" data-needs=\"viewer\""));
    // The last healthy instance is asked about twice.
    assert!(text.contains("data-act=\"drain\" data-needs=\"operator\" data-subject=\"mail/1\" data-value=\"last\""));
}

/// Each act of a panel has its question in the script.
#[test]
fn the_script_knows_every_act() {
    let script = include_str!("../assets/acts.js");
    let sources = [
        include_str!("attention.rs"),
        include_str!("services.rs"),
        include_str!("deploys.rs"),
        include_str!("drills.rs"),
        include_str!("admin.rs"),
        include_str!("../assets/admin.js"),
    ];
    let mut found = 0;
    for source in sources {
        for call in ["act(\"", "act_with(\"", "[\""].iter().flat_map(|call| source.split(call).skip(1)) {
            let Some(act) = call.split_once("…\", \"").and_then(|(label, rest)| (!label.contains('"')).then_some(rest))
            else {
                continue;
            };
            let act = act.split('"').next().unwrap();
            found += 1;
            assert!(script.contains(&format!("  {act}: (")) || script.contains(&format!("  \"{act}\": (")), "{act}");
        }
    }
    assert!(found > 15, "{found}");
}
