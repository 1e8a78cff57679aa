//! Orders of an operator at the API: what is refused and how, and what a restart of the node process keeps.

use evenkeel_core::{
    snapshot::Duty,
    status::{Health, Phase, Status},
};
use serde_json::{Value, json};

use super::{STACK, World, kill};

fn words(body: &Value) -> String {
    body.to_string()
}

fn phase(status: &Status, index: usize) -> Option<Phase> {
    status.services[0].instances[index].phase
}

#[test]
fn what_makes_no_sense_is_refused_with_the_way_out() {
    let world =
        World::new(&format!("{STACK}[services.fixed]\ninstances = [\"127.0.0.1:9\"]\n[[routes]]\nservice = \"app\"\n"));
    let node = world.start();
    world.wait_healthy(2);
    for (target, order, code, said) in [
        ("/v1/scale", json!({ "service": "ap", "replicas": 3 }), 404, "Did you mean `app`?"),
        ("/v1/scale", json!({ "service": "app", "replicas": 1001 }), 409, "more than 1000"),
        ("/v1/scale", json!({ "service": "fixed", "replicas": 3 }), 409, "keel drain fixed/127.0.0.1:9"),
        ("/v1/scale", json!({ "service": "app", "replicas": -1 }), 422, "replicas"),
        ("/v1/restart", json!({ "subject": "app/9" }), 404, "There are: app/1, app/2."),
        ("/v1/restart", json!({ "subject": "fixed" }), 409, "somebody else's"),
        ("/v1/restart", json!({ "subject": "stack" }), 409, "keel restart SERVICE"),
        ("/v1/drain", json!({ "instance": "app" }), 409, "app is a service"),
        ("/v1/drain", json!({ "instance": "ap" }), 404, "app/1"),
        ("/v1/drain", json!({ "instance": "app/1", "reason": "x".repeat(600) }), 400, "too long"),
        ("/v1/pause", json!({ "subject": "app", "for_ms": 0, "reason": "r" }), 409, "from 1s to 30d"),
        ("/v1/pause", json!({ "subject": "app", "for_ms": 1000, "reason": " " }), 409, "needs a reason"),
        ("/v1/pause", json!({ "subject": "app/1", "for_ms": 1000, "reason": "r" }), 409, "Pause `app`"),
        ("/v1/resume", json!({ "subject": "stak" }), 404, "Did you mean `stack`?"),
    ] {
        let (got, body) = world.post(target, &order);
        assert!(got == code && words(&body).contains(said), "{target} {order}: {got} {body}");
    }
    let (code, body) = world.post("/v1/resume", &json!({ "subject": "app" }));
    assert!(code == 200 && words(&body).contains("app is not paused") && body["changes"] == json!([]), "{body}");
    assert_eq!(world.wait_healthy(2).revision, 1, "nothing of it made a revision");
    world.end(node);
}

#[test]
fn the_last_healthy_instance_is_drained_by_force_only() {
    let world = World::new(STACK);
    let node = world.start();
    world.wait_healthy(2);
    let drain = |name: &str, force: bool| world.post("/v1/drain", &json!({ "instance": name, "force": force }));
    assert_eq!(drain("app/1", false).0, 200);
    let duties_are = |wanted: [Duty; 2]| {
        world.wait_snapshot("what is drained", |snapshot| {
            snapshot.services[0].instances.iter().map(|instance| instance.duty).eq(wanted)
        });
    };
    duties_are([Duty::Drain, Duty::Serve]);
    let (code, body) = drain("app/2", false);
    assert!(code == 409 && words(&body).contains("last healthy instance of app"), "{body}");
    let (code, body) = drain("app/2", true);
    assert!(code == 200 && words(&body).contains("nobody answers for app now"), "{body}");
    assert_eq!(world.get("/v1/stack").1["overrides"].as_array().unwrap().len(), 2);
    let (code, body) = world.post("/v1/resume", &json!({ "subject": "app/2", "drained_for": "something else" }));
    assert!(code == 200 && words(&body).contains("app/2 is not drained for that reason"), "{body}");
    duties_are([Duty::Drain, Duty::Drain]);
    assert_eq!(world.post("/v1/resume", &json!({ "subject": "app/2", "drained_for": "" })).0, 200);
    duties_are([Duty::Drain, Duty::Serve]);

    // A drained instance that goes for good takes its drain with it.
    assert_eq!(world.post("/v1/scale", &json!({ "service": "app", "replicas": 1 })).0, 200);
    let status = world.wait("the other one is left", |status| status.services[0].instances.len() == 1);
    assert_eq!(status.services[0].instances[0].name, "app/2", "what is drained goes first");
    assert_eq!(status.overrides.len(), 1, "{:?}", status.overrides);
    world.end(node);
}

#[test]
fn a_drain_of_nobody_does_not_wait_for_whoever_gets_the_name() {
    let world = World::new(STACK);
    let node = world.start();
    world.wait_healthy(2);
    assert_eq!(world.post("/v1/drain", &json!({ "instance": "app/1" })).0, 200);
    world.guard.disconnect();
    assert!(node.join().unwrap().is_err());
    // As after an end in the middle of a rollout: the drained instance had a number that nobody has at the next start.
    let file = world.config.state_dir.join("revisions/2.json");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.contains("app/1"), "{kept}");
    std::fs::write(&file, kept.replace("app/1", "app/3")).unwrap();

    let node = world.start();
    let before = world.wait_healthy(2);
    assert_eq!(before.overrides, Vec::<String>::new());
    assert!(!std::fs::read_to_string(&file).unwrap().contains("app/3"));
    // The first new instance of a restart is the third.
    assert_eq!(world.post("/v1/restart", &json!({ "subject": "app" })).0, 200);
    let pids = |status: &Status| status.services[0].instances.iter().map(|i| i.pid).collect::<Vec<_>>();
    world.wait("both are replaced", |status| {
        let instances = &status.services[0].instances;
        instances.len() == 2
            && instances.iter().all(|i| i.health == Health::Healthy)
            && pids(status).iter().all(|pid| !pids(&before).contains(pid))
    });
    world.end(node);
}

#[test]
fn a_pause_ends_in_time_after_a_restart_whatever_the_clock_says() {
    let world = World::new(STACK);
    let node = world.start();
    world.wait_healthy(2);
    let pause = json!({ "subject": "app", "for_ms": 3_600_000, "reason": "a look" });
    assert_eq!(world.post("/v1/pause", &pause).0, 200);
    kill(world.wait_healthy(2).services[0].instances[0].pid);
    world.wait("its end is seen", |status| phase(status, 0) == Some(Phase::Waiting));
    world.guard.disconnect();
    assert!(node.join().unwrap().is_err());

    // As after a step of the clock by a year: the pause lasts as long as it was meant to, and no longer.
    let file = world.config.state_dir.join("pauses.json");
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for key in ["since", "until"] {
        kept["app"][key] = json!(kept["app"][key].as_u64().unwrap() + 365 * 86_400_000);
    }
    std::fs::write(&file, kept.to_string()).unwrap();
    let node = world.start();
    let status = world.wait("it is still paused", |status| !status.problems.is_empty());
    assert!(status.problems[0].contains("app is PAUSED for 60 min more"), "{:?}", status.problems);
    assert_eq!(phase(&status, 0), Some(Phase::Waiting));
    world.guard.disconnect();
    assert!(node.join().unwrap().is_err());

    // And as after a step back of the same length: it is over.
    for key in ["since", "until"] {
        kept["app"][key] = json!(kept["app"][key].as_u64().unwrap() - 2 * 365 * 86_400_000);
    }
    std::fs::write(&file, kept.to_string()).unwrap();
    let node = world.start();
    let status = world.wait_healthy(2);
    assert!(status.problems.is_empty() && status.services[0].instances[0].generation == 2, "{status:#?}");
    assert!(world.kinds("app").contains(&"resumed".to_owned()));
    world.end(node);
}

#[test]
fn bounds_of_the_file_are_an_order_under_observation_too() {
    let elastic = |min: u32| {
        let replicas = format!("replicas = {{ min = {min}, max = 4, target = {{ concurrency = 10 }} }}");
        STACK.replace("replicas = 2", &replicas).replace("name = \"test\"", "name = \"test\"\nmode = \"observe\"")
    };
    let world = World::new(&elastic(1));
    let node = world.start();
    world.wait_healthy(1);
    let text = elastic(3).replace("LISTEN", &world.free);
    assert_eq!(world.post("/v1/apply", &json!({ "text": text, "file": "keel.toml" })).0, 200);
    world.wait_healthy(3);
    world.end(node);
}

#[test]
fn what_could_not_be_kept_is_kept_once_it_can_be() {
    let elastic = "replicas = { min = 1, max = 4, target = { concurrency = 10 } }";
    let world = World::new(&STACK.replace("replicas = 2", elastic));
    // A folder stands where the file would be written first.
    let (file, obstacle) = (world.config.state_dir.join("scale.json"), world.config.state_dir.join("scale.json.new"));
    std::fs::create_dir_all(&obstacle).unwrap();
    let node = world.start();
    let said = |status: &Status| status.problems.iter().any(|problem| problem.contains("cannot be kept on disk"));
    world.wait("it is said", said);
    assert!(!file.exists());
    std::fs::remove_dir(&obstacle).unwrap();
    world.wait("it is kept, and nothing is said any more", |status| !said(status));
    assert!(file.exists());
    world.end(node);
}

#[test]
fn a_damaged_file_is_said_and_set_aside() {
    let world = World::new(STACK);
    std::fs::create_dir_all(&world.config.state_dir).unwrap();
    std::fs::write(world.config.state_dir.join("away.json"), "{ \"app\":").unwrap();
    let node = world.start();
    let status = world.wait_healthy(2);
    assert!(status.problems.iter().any(|problem| problem.contains("away.json")), "{status:#?}");
    assert!(world.config.state_dir.join("away.json.damaged").exists());
    world.end(node);
}

#[test]
fn a_damaged_file_of_pauses_is_said() {
    let world = World::new(STACK);
    std::fs::create_dir_all(&world.config.state_dir).unwrap();
    std::fs::write(world.config.state_dir.join("pauses.json"), "{ \"app\":").unwrap();
    let node = world.start();
    let status = world.wait_healthy(2);
    assert!(status.problems.iter().any(|problem| problem.contains("pauses.json cannot be read")), "{status:#?}");
    world.end(node);
}

#[test]
fn what_was_left_of_a_delay_outlives_the_node_process() {
    let stack = STACK.replace("exec sleep 1000", "exit 3").replace(
        "replicas = 2",
        "replicas = 1\nrestart = { delay = \"1h\", max_delay = \"1h\" }\nstart_timeout = \"60s\"",
    );
    let world = World::new(&stack);
    let node = world.start();
    let waits = |status: &Status| {
        let instance = &status.services[0].instances[0];
        instance.generation == 2 && instance.phase == Some(Phase::Waiting)
    };
    world.wait("the second start waits", waits);
    world.guard.disconnect();
    assert!(node.join().unwrap().is_err());
    let node = world.start();
    let status = world.wait("it is back", |status| status.node.restarts == 1);
    assert!(waits(&status), "it goes on waiting: {status:#?}");
    world.end(node);
}

#[test]
fn events_of_a_kind_of_work_are_found_under_their_services() {
    let world = World::new(STACK);
    let node = world.start();
    world.wait_healthy(2);
    for number in 1..=3 {
        let message = format!("release {number} is deployed");
        let told = json!({ "subject": "app", "kind": "deployed", "message": message });
        assert!(world.post("/v1/events", &told).0 < 300);
        world.post("/v1/events", &json!({ "subject": "drill", "kind": "drill", "message": "another thing" }));
    }
    let of = |query: &str| {
        let (_, body) = world.get(&format!("/v1/events?subject=deploy{query}"));
        let message = |entry: &Value| entry["message"].as_str().unwrap().to_owned();
        let all: Vec<String> = body["entries"].as_array().unwrap().iter().map(message).collect();
        (all, body["next"].as_u64().unwrap())
    };
    let release = |n: u32| format!("release {n} is deployed");
    assert_eq!(of("").0, [1, 2, 3].map(release));
    assert_eq!(of("&limit=2").0, [2, 3].map(release), "the newest");
    let (first, next) = of("&after=0&limit=1");
    assert_eq!(first, [release(1)]);
    let (rest, next) = of(&format!("&after={next}"));
    assert_eq!(rest, [2, 3].map(release), "nothing between two pages is lost");
    let nothing = of(&format!("&after={next}&wait_ms=50")).0;
    assert_eq!(nothing, Vec::<String>::new());
    world.end(node);
}
