//! What was counted is there afterwards: for plots, for objectives, and for whoever restarts what counted it.

use std::{fs, io::Write, process::Command};

use evenkeel_core::{
    objectives::{Budget, BudgetState},
    status::{Health, Status},
};
use rustix::process::Signal;
use serde_json::Value;

use crate::{instance, rig, rig::Rig};

/// Asks for a path so many times.
fn ask(rig: &Rig, path: &str, times: u32) {
    let url = format!("http://127.0.0.1:{}{path}?[1-{times}]", rig.port);
    let done = Command::new("curl").args(["-sS", "-o", "/dev/null", &url]).status().unwrap();
    assert!(done.success());
}

/// `GET` over the control socket: status and answer.
fn get(rig: &Rig, target: &str) -> (String, String) {
    let lock = fs::read(rig.folder.path().join("state/lock")).unwrap();
    let holder: Value = serde_json::from_slice(&lock).unwrap();
    let socket = format!("{}/control.sock", holder["runtime_dir"].as_str().unwrap());
    let url = format!("http://keel{target}");
    let answer = Command::new("curl").args(["-sS", "-w", "\n%{http_code}", "--unix-socket", &socket, &url]).output();
    let text = String::from_utf8(answer.unwrap().stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

fn errors(status: &Status) -> Option<Budget> {
    status.services[0].objective.clone()?.availability
}

fn is_counted(status: &Status, requests: u64) -> bool {
    errors(status).is_some_and(|budget| budget.counted == requests)
}

#[test]
fn a_budget_survives_every_restart_and_is_told_when_it_is_spent() {
    let (port, _requests) = instance::serve(|received, stream| {
        let status = if received.head.starts_with("GET /fail") { "500 No" } else { "200 OK" };
        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    });
    let mut rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\ninstances = [\"127.0.0.1:{port}\"]\n\
         check = {{ http = \"/healthz\", interval = \"200ms\" }}\neject = {{ consecutive = 0, percent = 0 }}\n\
         [objectives.app]\navailability = \"99%\"\np99 = \"10s\"\n"
    ));
    rig.wait_until("the instance is healthy", |status| {
        status.services.iter().flat_map(|service| &service.instances).any(|one| one.health == Health::Healthy)
    });
    ask(&rig, "/", 200);
    let (status, _) = rig.wait_until("they are counted", |status| is_counted(status, 200));
    assert_eq!(errors(&status).unwrap().state, BudgetState::Ample);
    let said = String::from_utf8(rig.keel(&["status"]).stdout).unwrap();
    assert!(said.contains("app: over 30d, 100 % well (objective 99 %), 100 % of the budget of errors left"), "{said}");

    // While nobody counts, the edge does.
    rig::signal(status.node.pid, Signal::KILL);
    ask(&rig, "/", 50);
    rig.wait_until("none is lost, and none is counted twice", |status| {
        status.node.restarts == 1 && is_counted(status, 250)
    });

    ask(&rig, "/fail", 10);
    let (status, _) = rig.wait_until("it is spent", |status| {
        errors(status).is_some_and(|budget| budget.state == BudgetState::Spent && budget.bad == 10)
    });
    let problem = |said: &String| said.starts_with("app: the budget of errors is used up (385 %");
    assert!(status.problems.iter().any(problem), "{:?}", status.problems);
    rig.wait_until("it is in the journal", |_| {
        let said = String::from_utf8(rig.keel(&["events", "--json"]).stdout).unwrap();
        said.contains("10 of 260 requests failed")
    });

    let (code, body) = get(&rig, "/v1/history?service=app");
    let points: Value = serde_json::from_str(&body).unwrap();
    let sum =
        |key: &str| points["points"].as_array().unwrap().iter().map(|point| point[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!((code.as_str(), sum("requests"), sum("errors")), ("200", 260, 10), "{body}");
    let (code, body) = get(&rig, "/v1/history?service=ap");
    assert!(code == "404" && body.contains("Did you mean `app`?"), "{code} {body}");
    assert_eq!(get(&rig, "/v1/history?service=app&from=5&to=5").0, "400");
    let metrics = get(&rig, "/metrics").1;
    assert!(metrics.contains("keel_objective_ratio{service=\"app\",objective=\"availability\"} 0.99\n"), "{metrics}");

    assert_eq!(rig.stop(), Some(0));
    rig.start_again();
    let answers = |_: &Status| true;
    rig.wait_until("it answers", answers);
    ask(&rig, "/", 40);
    rig.wait_until("it goes on where it was", |status| is_counted(status, 300));
}

/// Requests that the file of totals holds, over all edges.
fn kept(rig: &Rig) -> u64 {
    let bytes = fs::read(rig.folder.path().join("state/node.json")).unwrap_or_default();
    let kept: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let of_edge = kept["edge"]["services"].as_array().and_then(|services| services.first()?["responses"][1].as_u64());
    kept["base"]["services"]["app"]["responses"][1].as_u64().unwrap_or(0) + of_edge.unwrap_or(0)
}

#[test]
fn totals_outlive_the_guard_however_it_ends() {
    let (port, _requests) = instance::serve(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let mut rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\ninstances = [\"127.0.0.1:{port}\"]\n\
         check = {{ http = \"/healthz\", interval = \"200ms\" }}\n"
    ));
    let first_answer = |rig: &Rig| rig.wait_until("it answers", |_| true).0.services[0].requests;
    let counted = |rig: &Rig, requests| {
        rig.wait_until("they are counted", |status| status.services[0].requests == requests);
    };
    rig.wait_until("the instance is healthy", rig::all_healthy);
    ask(&rig, "/", 100);
    counted(&rig, 100);
    assert_eq!(rig.stop(), Some(0));
    rig.start_again();
    assert_eq!(first_answer(&rig), 100, "after an orderly end");

    rig.wait_until("the instance is healthy again", |status| !status.services.is_empty() && rig::all_healthy(status));
    ask(&rig, "/", 50);
    counted(&rig, 150);
    let metrics = get(&rig, "/metrics").1;
    assert!(metrics.contains("keel_requests_total{service=\"app\",class=\"2xx\"} 150\n"), "{metrics}");
    rig.wait_until("they are written down", |_| kept(&rig) == 150);
    rig.child().kill().unwrap();
    rig.child().wait().unwrap();
    rig.start_again();
    assert_eq!(first_answer(&rig), 150, "after a guard that was killed");
    counted(&rig, 150);
}
