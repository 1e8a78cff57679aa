//! The node process against a guard and an edge played by threads, with real processes, sockets and files.

mod console;
mod discovery;
mod operate;
mod player;
mod scripts;
mod words;

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use evenkeel_core::{
    snapshot::Snapshot,
    status::{Health, Phase, Status},
};
use serde_json::Value;

pub(super) use self::discovery::answer;
use self::player::Guard;
use crate::{NodeConfig, StackSource};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

const STACK: &str = r#"
[stack]
name = "test"
[edge]
threads = 2
[console]
bind = "127.0.0.1:0"
[listeners.web]
bind = "LISTEN"
[services.app]
run = ["sh", "-c", "echo hello from $KEEL_INSTANCE on {port}; exec sleep 1000"]
replicas = 2
stop = { drain = "5s", grace = "5s" }
"#;

/// A stack on a node of its own.
struct World {
    temp: tempfile::TempDir,
    guard: Guard,
    config: NodeConfig,
    /// The listener's address.
    free: String,
}

impl World {
    /// `LISTEN` in the stack becomes a free address.
    fn new(stack: &str) -> Self {
        // Not among the kernel's ephemeral ports, which connections of other tests use.
        let port = crate::ports::allot(&std::collections::BTreeSet::new()).expect("a port is free");
        let free = format!("127.0.0.1:{port}");
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("keel.toml");
        std::fs::write(&file, stack.replace("LISTEN", &free)).unwrap();
        let config = NodeConfig {
            state_dir: temp.path().join("state"),
            runtime_dir: temp.path().join("run"),
            stack: StackSource::File(file),
            metrics_bind: None,
        };
        Self { guard: Guard::new(), config, temp, free }
    }

    /// Starts a node process, as a thread.
    fn start(&self) -> std::thread::JoinHandle<Result<u8, String>> {
        let channel = self.guard.connect();
        let config = self.config.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (orders, notices) = crate::channel::open(channel).unwrap();
                super::start::run_on(config, orders, notices).await.map_err(|error| error.to_string())
            })
        })
    }

    fn socket(&self) -> PathBuf {
        self.config.runtime_dir.join(crate::CONTROL_SOCKET)
    }

    fn get(&self, target: &str) -> (u16, Value) {
        request(&self.socket(), "GET", target, "").expect("the API answers")
    }

    fn post(&self, target: &str, body: &Value) -> (u16, Value) {
        request(&self.socket(), "POST", target, &body.to_string()).expect("the API answers")
    }

    /// Waits until the status is as wanted.
    fn wait(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = request(&self.socket(), "GET", "/v1/status", "")
                .filter(|(code, _)| *code == 200)
                .map(|(_, body)| serde_json::from_value::<Status>(body).unwrap());
            match status {
                Some(status) if wanted(&status) => return status,
                last => assert!(Instant::now() < until, "{what}: {last:#?}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait_healthy(&self, n: usize) -> Status {
        self.wait("healthy instances", |status| {
            let instances = &status.services[0].instances;
            instances.len() == n
                && instances
                    .iter()
                    .all(|i| i.health == Health::Healthy && i.phase == Some(Phase::Running) && i.pid.is_some())
        })
    }

    /// Waits until the guard holds a snapshot as wanted, which it does a moment after the order was answered.
    fn wait_snapshot(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let snapshot = self.guard.newest_snapshot();
            if wanted(&snapshot) {
                return;
            }
            assert!(Instant::now() < until, "{what}: {snapshot:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until exactly so many lines of output are found.
    fn wait_lines(&self, target: &str, n: usize) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = lines(&self.get(target).1);
            if found.len() == n {
                return found;
            }
            assert!(Instant::now() < until, "{n} lines are wanted: {found:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn kinds(&self, subject: &str) -> Vec<String> {
        let (_, body) = self.get(&format!("/v1/events?limit=1000&subject={subject}"));
        body["entries"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap().to_owned()).collect()
    }

    fn end(&self, node: std::thread::JoinHandle<Result<u8, String>>) {
        self.guard.terminate();
        assert_eq!(node.join().unwrap(), Ok(0));
        assert_eq!(self.guard.finished(), Some(0));
        assert_eq!(self.guard.alive(), 0);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.guard.kill_all();
    }
}

/// One HTTP request over a Unix socket; `None` while nobody listens there.
fn request(socket: &Path, method: &str, target: &str, body: &str) -> Option<(u16, Value)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: keel\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = if head.contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_owned() };
    Some((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
}

/// The data of a chunked body (RFC 9112, section 7.1).
fn unchunk(mut body: &str) -> String {
    let mut data = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        data += &rest[..size];
        body = rest[size..].trim_start_matches("\r\n");
    }
    data
}

fn kill(pid: Option<u32>) {
    player::signal(pid.expect("it has a process"), rustix::process::Signal::KILL);
}

fn lines(body: &Value) -> Vec<String> {
    let text = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["line"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn starts_replaces_what_dies_and_stops() {
    let world = World::new(STACK);
    let node = world.start();
    let status = world.wait_healthy(2);
    assert_eq!((status.stack.as_str(), status.revision, status.listeners.len()), ("test", 1, 1));
    assert_eq!(status.problems, Vec::<String>::new());
    let first = status.services[0].instances[0].clone();
    // A process that is killed before it says anything leaves no line.
    world.wait_lines("/v1/logs?subject=app", 2);

    kill(first.pid);
    let status = world.wait("another generation", |status| {
        let now = &status.services[0].instances[0];
        now.generation == 2 && now.health == Health::Healthy
    });
    let now = &status.services[0].instances[0];
    // Where the kernel ends somebody else's process for lack of memory at this moment, that is said behind it.
    assert!(now.restarts == 1 && now.last_exit.as_ref().is_some_and(|how| how.starts_with("SIGKILL")), "{now:#?}");
    assert_eq!(now.address, first.address, "an instance keeps its port");
    for kind in ["created", "starting", "started", "ready", "restarting"] {
        assert!(world.kinds("app/1").contains(&kind.to_owned()), "{kind} is missing: {:?}", world.kinds("app/1"));
    }

    let (code, why) = world.get("/v1/why?subject=app/1");
    assert_eq!(code, 200);
    assert!(why["now"].as_str().unwrap().contains("healthy"), "{why}");
    assert!(why["entries"][0]["id"].as_u64() > why["entries"][1]["id"].as_u64(), "newest first");

    // Two starts of the first instance and one of the second.
    let mut found = world.wait_lines("/v1/logs?subject=app&lines=10&grep=hello", 3);
    found.sort();
    assert!(found[0].starts_with("hello from app/1 on "), "{found:?}");
    world.end(node);
}

#[test]
fn a_restart_of_the_node_process_touches_nothing() {
    let world = World::new(STACK);
    let node = world.start();
    let before = world.wait_healthy(2);
    let version = world.guard.newest_snapshot().version;
    // What the file says meanwhile does not matter: the revision in force does.
    std::fs::write(world.temp.path().join("keel.toml"), "[stack]\nname = \"other\"\n").unwrap();
    world.guard.disconnect();
    assert!(node.join().unwrap().is_err());

    let node = world.start();
    let after = world.wait_healthy(2);
    let pids = |status: &Status| status.services[0].instances.iter().map(|i| (i.pid, i.generation)).collect::<Vec<_>>();
    assert_eq!(pids(&after), pids(&before));
    assert_eq!(after.node.restarts, 1);
    assert_eq!((after.stack.as_str(), after.revision), ("test", 1));
    assert_eq!(after.listeners, before.listeners);
    assert_eq!(after.services[0].instances[0].address, before.services[0].instances[0].address);
    world.wait_snapshot("one of the new process", |snapshot| snapshot.version > version);
    world.wait_lines("/v1/logs?subject=app/2", 1);
    assert_eq!(world.kinds("node"), ["restarted"]);
    // Its output is still read, and its end still seen.
    kill(after.services[0].instances[1].pid);
    world.wait("another generation", |status| status.services[0].instances[1].generation == 2);
    world.end(node);
}

#[test]
fn a_process_that_no_record_knows_is_replaced() {
    let world = World::new(STACK);
    let node = world.start();
    let before = world.wait_healthy(2);
    let record = world.config.state_dir.join("instances/app-1.json");
    let outdated = std::fs::read_to_string(&record).unwrap();
    kill(before.services[0].instances[0].pid);
    let now = world.wait("another generation", |status| {
        let instance = &status.services[0].instances[0];
        instance.generation == 2 && instance.pid.is_some() && instance.phase == Some(Phase::Running)
    });
    world.guard.disconnect();
    assert!(node.join().unwrap().is_err());
    std::fs::write(&record, outdated).unwrap();

    let node = world.start();
    let after = world.wait("a third generation", |status| {
        let instance = &status.services[0].instances[0];
        instance.generation == 3 && instance.pid.is_some() && instance.health == Health::Healthy
    });
    let pids = |status: &Status| status.services[0].instances.iter().map(|i| i.pid).collect::<Vec<_>>();
    assert_ne!(pids(&after)[0], pids(&now)[0]);
    assert_eq!(pids(&after)[1], pids(&now)[1]);
    assert!(world.kinds("node").contains(&"stray".to_owned()));
    world.end(node);
}

#[test]
fn apply_rolls_scales_and_refuses() {
    let world = World::new(STACK);
    let node = world.start();
    world.wait_healthy(2);
    let apply = |text: &str| {
        let text = text.replace("LISTEN", &world.free);
        world.post("/v1/apply", &serde_json::json!({ "text": text, "file": "keel.toml" }))
    };

    let (code, body) = apply(&STACK.replace("replicas = 2", "replica = 2"));
    assert_eq!(code, 422);
    assert!(body["diagnostics"].as_str().unwrap().contains("replicas"), "{body}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, body) = apply(&format!("{STACK}[listeners.other]\nbind = \"{address}\"\n"));
    assert_eq!(code, 409, "{body}");
    assert!(body["error"].as_str().unwrap().contains(&address) && body["hint"].is_string(), "{body}");
    assert_eq!(world.wait_healthy(2).revision, 1);

    let (code, body) = apply(&STACK.replace("hello from", "greetings from").replace("replicas = 2", "replicas = 3"));
    assert_eq!((code, body["revision"].as_u64()), (200, Some(2)), "{body}");
    assert_eq!(body["changes"].as_array().unwrap().len(), 2, "{body}");
    let status = world.wait("the new specification everywhere", |status| {
        let instances = &status.services[0].instances;
        instances.len() == 3
            && instances.iter().all(|i| i.health == Health::Healthy)
            && world.guard.commands().iter().all(|command| command.contains("greetings"))
    });
    assert_eq!(status.revision, 2);
    let (_, again) = apply(&STACK.replace("hello from", "greetings from").replace("replicas = 2", "replicas = 3"));
    assert_eq!(again["changes"], serde_json::json!([]));
    world.end(node);
}

#[test]
fn a_command_that_cannot_work_ends_in_a_clear_state() {
    let broken = r#"
[stack]
name = "test"
[console]
bind = "127.0.0.1:0"
[listeners.web]
bind = "LISTEN"
[services.broken]
run = ["sh", "-c", "echo no database here >&2; exit 3"]
replicas = 1
restart = { attempts = 3, delay = "1ms" }
"#;
    let world = World::new(broken);
    let node = world.start();
    let status = world.wait("giving up", |status| {
        let instance = &status.services[0].instances[0];
        instance.phase == Some(Phase::GaveUp) && !instance.last_output.is_empty()
    });
    let instance = &status.services[0].instances[0];
    assert_eq!((instance.restarts, instance.last_exit.as_deref()), (2, Some("exit code 3")));
    assert_eq!(instance.last_output.last().map(String::as_str), Some("no database here"));
    assert!(status.problems.iter().any(|problem| problem.contains("broken/1 gave up")), "{:?}", status.problems);

    let (code, unknown) = world.get("/v1/why?subject=brken/1");
    assert_eq!(code, 404);
    assert!(unknown["hint"].as_str().unwrap().contains("broken/1"), "{unknown}");
    assert_eq!(world.get("/v1/nothing").0, 404);
    assert_eq!(world.get("/v1/events?limit=many").0, 400);
    assert_eq!(world.post("/v1/events", &serde_json::json!({ "subject": "drill" })).0, 422);
    let entry = serde_json::json!({ "subject": "drill", "kind": "verdict", "message": "kill-instance passed" });
    assert_eq!(world.post("/v1/events", &entry).0, 201);
    let huge = serde_json::json!({ "subject": "drill", "kind": "x", "message": "x".repeat(5000) });
    assert_eq!(world.post("/v1/events", &huge).0, 400);
    assert_eq!(world.kinds("drill"), ["verdict"]);
    let (_, metrics) = world.get("/metrics");
    assert!(
        metrics.as_str().unwrap().contains("keel_instance_restarts_total{service=\"broken\",instance=\"broken/1\"} 2")
    );
    world.end(node);
}

#[test]
fn a_restart_in_the_middle_of_the_end_starts_nothing_and_waits_for_nobody() {
    let world = World::new(&STACK.replace("drain = \"5s\"", "drain = \"10m\""));
    let node = world.start();
    world.wait_healthy(2);
    // The edge has ten minutes for what is in flight, and the guard waits longer than that.
    let (edge_grace_ms, finish_ms) = world.guard.bounds().expect("it was said before anything runs");
    assert_eq!(edge_grace_ms, 600_000);
    assert!(finish_ms > 605_000, "{finish_ms}");
    world.guard.disconnect();
    assert!(node.join().unwrap().is_err());
    let record = world.config.state_dir.join("instances/app-2.json");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replace("\"leaving\":null", "\"leaving\":\"keel was told to end\"")).unwrap();

    world.guard.terminate_unheard();
    let node = world.start();
    assert_eq!((world.guard.finished(), world.guard.alive()), (Some(0), 0));
    assert_eq!(node.join().unwrap(), Ok(0));
    let started: Vec<_> = std::fs::read_dir(world.config.state_dir.join("instances")).unwrap().collect();
    assert_eq!(started.len(), 2, "no further instance was made: {started:?}");
}

#[test]
fn a_wrong_file_at_sighup_changes_nothing_and_tells_no_secrets() {
    let world = World::new(STACK);
    let node = world.start();
    world.wait_healthy(2);
    let env = "env = { KEY = \"sk_live_4711\", PIN = 8472, NAME = \"x\" }\n";
    let wrong = format!("{}{env}", STACK.replace("LISTEN", &world.free));
    std::fs::write(world.temp.path().join("keel.toml"), wrong).unwrap();
    world.guard.reload();
    let until = Instant::now() + PATIENCE;
    while !world.kinds("stack").contains(&"refused".to_owned()) {
        assert!(Instant::now() < until, "{:?}", world.kinds("stack"));
        std::thread::sleep(Duration::from_millis(10));
    }
    let (_, why) = world.get("/v1/why?subject=stack");
    let told = why.to_string();
    assert!(told.contains("`services.app.env.PIN`: expected a string") && told.contains("line "), "{told}");
    assert!(!told.contains("sk_live") && !told.contains("8472"), "{told}");
    assert_eq!(world.wait_healthy(2).revision, 1);
    world.end(node);
}

#[test]
fn an_instance_that_we_killed_says_so() {
    let never = STACK.replace("services.app", "services.broken").replace("replicas = 2", "replicas = 1");
    let world = World::new(&format!("{never}start_timeout = \"50ms\"\nrestart = {{ attempts = 1 }}\n"));
    let node = world.start();
    let status = world.wait("giving up", |status| status.services[0].instances[0].phase == Some(Phase::GaveUp));
    let last_exit = status.services[0].instances[0].last_exit.clone().unwrap();
    assert_eq!(last_exit, "SIGKILL, killed: not ready within 50 ms of its start");
    world.end(node);
}

#[test]
fn a_taken_port_ends_the_first_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let world = World::new(&STACK.replace("LISTEN", &address));
    let error = world.start().join().unwrap().unwrap_err();
    assert!(error.contains(&address) && error.contains("listeners.web.bind"), "{error}");
    assert_eq!(world.guard.finished(), Some(1));
}
