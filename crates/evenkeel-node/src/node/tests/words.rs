//! What is said of services that are not well, and that it does not contradict itself.

use super::World;

const HEAD: &str = "[stack]\nname = \"test\"\n[console]\nbind = \"127.0.0.1:0\"\n[listeners.web]\nbind = \"LISTEN\"\n";

#[test]
fn who_is_never_healthy_is_a_problem_after_a_while() {
    let world = World::new(&format!(
        "{HEAD}[services.broken]\ninstances = [\"127.0.0.1:9\"]\n[services.app]\ninstances = [\"127.0.0.1:9\"]\n\
         [[routes]]\nservice = \"app\"\n[[routes]]\npath = \"/b\"\nservice = \"broken\"\n\
         [listeners.names]\nbind = \"LISTEN\"\nprotocol = \"udp\"\nservice = \"app\"\n"
    ));
    let node = world.start();
    let status = world.wait("it is a problem", |status| !status.problems.is_empty());
    let said = "broken: no instance is healthy, so requests are held: broken/127.0.0.1:9 gets no requests: no probe has \
                passed yet";
    assert_eq!(status.problems, [said]);
    let of = |name: &str| status.services.iter().find(|service| service.name == name).unwrap();
    assert!(of("broken").stuck.is_some() && of("app").stuck.is_none(), "{status:#?}");
    assert!(of("app").udp.is_some() && of("broken").udp.is_none(), "a listener of datagrams leads to one of them");
    assert_eq!(world.kinds("broken"), ["none-healthy"], "and once in the journal");
    world.end(node);
}

#[test]
fn too_few_and_none_are_told_apart_and_a_missing_header_has_its_cause_and_fix() {
    let world = World::new(&format!(
        "{HEAD}[services.scarce]\ninstances = [\"127.0.0.1:8\", \"127.0.0.1:9\"]\nmin_capacity = 100\n"
    ));
    let node = world.start();
    let status = world.wait("none is left", |status| {
        status.services[0].short.as_ref().is_some_and(|short| short.starts_with("0 of 2"))
    });
    let service = &status.services[0];
    assert!(service.healthy == 0 && service.instances.iter().all(|one| one.reason.ends_with("too few are healthy")));
    let problem = "scarce: no instance is healthy, and those that still answer get requests";
    assert!(status.problems.iter().any(|said| said.starts_with(problem)), "{:?}", status.problems);
    let (_, told) = world.get("/v1/events?limit=1000&subject=scarce");
    let messages = |kind: &str| -> Vec<String> {
        let entries = told["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == kind);
        entries.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(messages("too-few-healthy").len(), 1, "other numbers are no news: {told}");
    let unhealthy = messages("unhealthy");
    let (left_out, enlisted) = ("it gets no new requests while enough others are healthy", "and it gets requests");
    assert!(unhealthy.iter().all(|said| said.contains(left_out) || said.contains(enlisted)), "{unhealthy:?}");
    let (_, told) = world.get("/v1/events?limit=1000&subject=listeners.web");
    let faults: Vec<&serde_json::Value> =
        told["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "proxy-header").collect();
    assert_eq!(faults.len(), 2, "one of each fault in a minute: {told}");
    let all = serde_json::to_string(&faults).unwrap();
    for said in ["began without a PROXY header", "is malformed", "without CRLF", "10.0.0.7", "`listeners.web.trusted`"]
    {
        assert!(all.contains(said), "{said}: {all}");
    }
    world.end(node);
}
