//! Instances by a name whose answers change, fail and come back.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{LazyLock, Mutex},
};

use serde_json::json;

use super::World;

/// What names below `.test` have now; nothing: they do not resolve.
static ANSWERS: LazyLock<Mutex<HashMap<String, Vec<SocketAddr>>>> = LazyLock::new(Mutex::default);

/// The resolver of tests.
pub(in crate::node) fn answer(dns: &str) -> io::Result<Vec<SocketAddr>> {
    let known = ANSWERS.lock().unwrap().get(dns).cloned();
    known.ok_or_else(|| io::Error::other("failed to lookup address information: No address"))
}

fn answers(dns: &str, hosts: Option<&[u8]>) {
    let addresses = |hosts: &[u8]| hosts.iter().map(|&last| SocketAddr::from(([10, 0, 0, last], 80))).collect();
    match hosts.map(addresses) {
        Some(addresses) => ANSWERS.lock().unwrap().insert(dns.to_owned(), addresses),
        None => ANSWERS.lock().unwrap().remove(dns),
    };
}

/// What the service's instances are called, apart from its own name.
fn instances(status: &evenkeel_core::status::Status) -> Vec<&str> {
    let named = status.services[0].instances.iter().map(|one| one.name.as_str());
    named.map(|name| name.trim_start_matches("app/10.0.0.").trim_end_matches(":80")).collect()
}

#[test]
fn instances_follow_the_name_and_stay_without_an_answer() {
    let name = "app.follow.test:80";
    let world = World::new(&format!(
        "[stack]\nname = \"test\"\n[console]\nbind = \"127.0.0.1:0\"\n[listeners.web]\nbind = \"LISTEN\"\n\
         [services.app]\ninstances = {{ dns = \"{name}\", every = \"1s\", keep = \"1s\" }}\nstop = {{ drain = \"30s\" }}\n"
    ));
    let node = world.start();
    let status = world.wait("the fault is said", |status| !status.problems.is_empty());
    assert!(status.problems[0].contains("does not resolve: no address; nobody is known yet"), "{:?}", status.problems);
    assert!(status.services[0].stuck.is_some(), "who waits for it need not wait any longer: {status:#?}");
    let (_, why) = world.get("/v1/why?subject=app");
    let wanted = format!("app has no instance, so requests are held: {name} does not resolve: no address");
    assert!(why["now"].as_str().is_some_and(|now| now.contains(&wanted)), "{why}");
    answers(name, Some(&[1, 2]));
    world.wait("both are instances", |status| instances(status) == ["1", "2"] && status.problems.is_empty());
    answers(name, Some(&[2, 3]));
    world.wait("one came, one left", |status| instances(status) == ["2", "3"]);
    answers(name, None);
    let status = world.wait("the fault is said", |status| !status.problems.is_empty());
    assert!(status.problems[0].contains("with 2 addresses stays in use"), "{:?}", status.problems);
    assert_eq!(instances(&status), ["2", "3"]);
    // A successor, which has no answer either, knows them from the snapshot.
    world.guard.disconnect();
    node.join().unwrap().unwrap_err();
    let _node = world.start();
    world.wait("they are known again", |status| instances(status) == ["2", "3"]);
    answers(name, Some(&[3]));
    world.wait("the name counts again", |status| instances(status) == ["3"] && status.problems.is_empty());
    let (code, why) = world.get("/v1/why?subject=app");
    let said = why.to_string();
    assert!(code == 200 && said.contains("does not resolve") && said.contains("resolves again"), "{said}");
}

#[test]
fn a_name_that_takes_the_place_of_addresses_has_to_answer_first_and_drains_outlive_a_restart() {
    let name = "app.instead.test:80";
    let stack = |instances: &str| {
        format!(
            "[stack]\nname = \"test\"\n[console]\nbind = \"127.0.0.1:0\"\n[listeners.web]\nbind = \"LISTEN\"\n\
             [services.app]\ninstances = {instances}\n"
        )
    };
    let world = World::new(&stack("[\"10.0.0.8:80\", \"10.0.0.9:80\"]"));
    let node = world.start();
    world.wait("those of the file", |status| instances(status) == ["8", "9"]);
    assert_eq!(world.post("/v1/drain", &json!({ "instance": "app/10.0.0.9:80" })).0, 200);
    let text = stack(&format!("{{ dns = \"{name}\", every = \"1s\" }}")).replace("LISTEN", &world.free);
    assert_eq!(world.post("/v1/apply", &json!({ "text": text, "file": "keel.toml" })).0, 200);
    let status = world.wait("the fault is said", |status| !status.problems.is_empty());
    assert!(status.problems[0].contains("with 2 addresses stays in use"), "{:?}", status.problems);
    assert_eq!(instances(&status), ["8", "9"]);
    world.guard.disconnect();
    node.join().unwrap().unwrap_err();
    let node = world.start();
    let status = world.wait("both are known again", |status| instances(status) == ["8", "9"]);
    assert_eq!(status.overrides.len(), 1, "{:?}", status.overrides);
    // After a restart the name counts as the one that had them, so they are given its time to be missing.
    answers(name, Some(&[7]));
    world.wait("it answers", |status| status.problems.is_empty() && instances(status) == ["7", "8", "9"]);
    world.end(node);
}
