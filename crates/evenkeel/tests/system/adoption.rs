//! `keel up` is killed and started again: instances go on, and nobody notices more than must be.
//!
//! What a unit file says is acted out (see `systemd`): nothing here needs systemd as process 1.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use evenkeel_core::status::Status;
use rustix::process::Signal;

use crate::rig::{self, PATIENCE, Rig, all_healthy, instances};

mod under_systemd;

/// Two shops that also count aloud.
const COUNTING: &str = "[edge]\nthreads = 2\n[listeners.web]\nbind = \"{listen}\"\n[services.app]\n\
     run = [\"sh\", \"-c\", \"(i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.01; done) & exec {keel} __shop\"]\n\
     replicas = 2\nenv = { SHOP_DATABASE = \"{folder}/shop.db\" }\ncheck = { http = \"/readyz\", interval = \"100ms\" }\n";

/// A folder with this stack in it. `{keel}` is the binary, `{folder}` the folder.
fn prepare(stack: &str) -> (tempfile::TempDir, u16) {
    let (folder, port) = rig::prepare(&stack.replace("{keel}", env!("CARGO_BIN_EXE_keel")));
    let file = folder.path().join("keel.toml");
    let text = fs::read_to_string(&file).unwrap().replace("{folder}", &folder.path().display().to_string());
    fs::write(file, text).unwrap();
    (folder, port)
}

/// `keel up` as somebody types it.
fn keel_up(folder: &std::path::Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("keel.log")).unwrap();
    let mut command: Command = rig::command(folder, &["up", "keel.toml"]);
    command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn up(stack: &str) -> (Rig, Status) {
    let (folder, port) = prepare(stack);
    let child = keel_up(folder.path());
    let rig = Rig::around(folder, port, child);
    let (status, _) =
        rig.wait_until("everything is healthy", |status| all_healthy(status) && !status.services.is_empty());
    (rig, status)
}

/// Kills guard, node process and edge, all at once, and waits until they are gone.
fn kill_all(rig: &mut Rig, status: &Status) {
    let all = [status.guard.pid, status.node.pid, status.edge.as_ref().unwrap().pid];
    for pid in all {
        rig::signal(pid, Signal::KILL);
    }
    rig.child().wait().unwrap();
    let start = Instant::now();
    while all.iter().any(|pid| rig::alive(*pid)) {
        assert!(start.elapsed() < PATIENCE, "one of them lives on");
        thread::sleep(Duration::from_millis(5));
    }
}

fn start_again(rig: &mut Rig) -> Status {
    let folder = rig.folder.path().to_owned();
    *rig.child() = keel_up(&folder);
    rig.wait_until("it is back", all_healthy).0
}

fn pids(status: &Status) -> Vec<u32> {
    instances(status).iter().map(|instance| instance.pid.expect("it runs")).collect()
}

fn runtime_dir(rig: &Rig) -> std::path::PathBuf {
    let lock = fs::read(rig.folder.path().join("state/lock")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&lock).unwrap()["runtime_dir"].as_str().unwrap().into()
}

/// The numbers that an instance has counted so far, as its log has them.
fn ticks(rig: &Rig, instance: &str) -> Vec<u64> {
    let output = rig.keel(&["logs", instance, "--lines", "100000"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.rsplit_once("tick ")?.1.trim().parse().ok()).collect()
}

/// Waits until an instance's log reaches a number, and makes sure that what was printed while nobody was there to read
/// it is in the log. Each kill may cost the few lines that the node process had read and not yet written.
fn assert_lines_go_on(rig: &Rig, instance: &str, up_to: u64, kills: usize) {
    let start = Instant::now();
    let ticks = loop {
        let ticks = ticks(rig, instance);
        if ticks.last().is_some_and(|last| *last >= up_to) {
            break ticks;
        }
        assert!(start.elapsed() < PATIENCE, "its log ends with {:?}", ticks.last());
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(ticks[0], 0);
    let steps: Vec<u64> = ticks.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let gaps: Vec<u64> = steps.into_iter().filter(|step| *step != 1).collect();
    // Nobody was there for far longer than that.
    assert!(gaps.len() <= kills && gaps.iter().all(|gap| (2..=30).contains(gap)), "gaps: {gaps:?} in {ticks:?}");
}

/// Clients that make a connection for each request, and what became of them.
struct Hammer {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Hammer {
    fn start(port: u16) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..4)
            .map(|_| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
                thread::spawn(move || {
                    let mut failures = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        match ask(port) {
                            Ok(()) => _ = answered.fetch_add(1, Ordering::Relaxed),
                            Err(failure) => failures.push(failure),
                        }
                        thread::sleep(Duration::from_millis(2));
                    }
                    failures
                })
            })
            .collect();
        Self { stop, answered, threads }
    }

    fn wait_for(&self, more: u64) {
        let (from, start) = (self.answered.load(Ordering::Relaxed), Instant::now());
        while self.answered.load(Ordering::Relaxed) < from + more {
            assert!(start.elapsed() < PATIENCE, "no answers any more");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it. The failures, of which none may be a refused connection or an answer that is an error.
    fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// One request on a connection of its own. Only a connection that was already accepted may be reset.
fn ask(port: u16) -> Result<(), String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| format!("connect: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    let request = b"GET /api/products HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let result = stream.write_all(request).and_then(|()| stream.read_to_string(&mut answer));
    match result {
        Ok(_) if answer.starts_with("HTTP/1.1 200") => Ok(()),
        Ok(_) if answer.is_empty() => Err("reset: the connection ended".to_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
            Err(format!("reset: {error}"))
        }
        Ok(_) => Err(format!("answer: {answer}")),
        Err(error) => Err(format!("read: {error}")),
    }
}

#[test]
fn everything_of_keel_is_killed_and_instances_do_not_notice() {
    let (mut rig, before) = up(COUNTING);
    for round in 1..=2 {
        let now = rig.status();
        kill_all(&mut rig, &now);
        let alone = pids(&before);
        assert!(alone.iter().all(|pid| rig::alive(*pid)), "instances outlive everything of keel");
        // They go on printing while nobody reads.
        thread::sleep(Duration::from_secs(1));
        let after = start_again(&mut rig);
        assert_eq!(pids(&before), pids(&after), "round {round}: instances keep their processes");
        assert_eq!(after.node.restarts, 0, "it is another guard");
        assert!(instances(&after).iter().all(|instance| instance.restarts == 0), "{after:#?}");
        ask(rig.port).unwrap();
    }
    for instance in ["app/1", "app/2"] {
        let so_far = ticks(&rig, instance).last().copied().unwrap();
        assert_lines_go_on(&rig, instance, so_far + 20, 2);
    }
    let start = Instant::now();
    while !rig.log().contains("2 went on from before") {
        assert!(start.elapsed() < PATIENCE, "{}", rig.log());
        thread::sleep(Duration::from_millis(20));
    }
    let why = String::from_utf8(rig.keel(&["why", "app/1"]).stdout).unwrap();
    assert!(why.contains("went on while `keel up` was started again"), "{why}");

    // Supervision goes on: an end is seen and answered.
    let victim = pids(&rig.status())[0];
    rig::signal(victim, Signal::KILL);
    rig.wait_until("it is started again", |status| all_healthy(status) && !pids(status).contains(&victim));
    let all = pids(&rig.status());
    assert_eq!(rig.stop(), Some(0));
    assert!(all.iter().all(|pid| !rig::alive(*pid)), "what was adopted is stopped as well");
}

#[test]
fn an_end_without_keel_is_told_and_the_instance_started_again() {
    let (mut rig, before) = up(COUNTING);
    kill_all(&mut rig, &before);
    let waits = |words: &str| {
        let output = rig.keel(&["status"]);
        assert_eq!(output.status.code(), Some(3));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(words) && said.contains("adopts them"), "{said}");
    };
    waits("2 instances go on");
    let victim = pids(&before)[1];
    rig::signal(victim, Signal::KILL);
    let start = Instant::now();
    while rig::alive(victim) {
        assert!(start.elapsed() < PATIENCE, "it lives on");
        thread::sleep(Duration::from_millis(5));
    }
    waits("1 instance goes on");
    let after = start_again(&mut rig);
    assert_eq!(pids(&after)[0], pids(&before)[0]);
    assert_ne!(pids(&after)[1], victim);
    let why = String::from_utf8(rig.keel(&["why", "app/2"]).stdout).unwrap();
    assert!(why.contains("SIGKILL"), "the status was kept for whoever came: {why}");
}

#[test]
fn an_end_that_nobody_can_tell_of_is_said_as_well() {
    let (mut rig, before) = up(COUNTING);
    let victim = pids(&before)[1];
    let line = fs::read_to_string(format!("/proc/{victim}/stat")).unwrap();
    let stub = line.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap();
    kill_all(&mut rig, &before);
    rig::signal(stub, Signal::KILL);
    let start = Instant::now();
    while rig::alive(victim) {
        assert!(start.elapsed() < PATIENCE, "it lives on without anybody to stop it");
        thread::sleep(Duration::from_millis(5));
    }
    let after = start_again(&mut rig);
    assert_eq!(pids(&after)[0], pids(&before)[0]);
    let why = String::from_utf8(rig.keel(&["why", "app/2"]).stdout).unwrap();
    assert!(why.contains("how is not known"), "{why}");
}

#[test]
fn a_changed_file_rolls_what_was_adopted_and_stops_what_is_gone() {
    let more = format!(
        "{COUNTING}[services.old]\nrun = [\"sh\", \"-c\", \"exec {{keel}} __shop\"]\nreplicas = 1\n\
         env = {{ SHOP_DATABASE = \"{{folder}}/old.db\" }}\ncheck = {{ http = \"/readyz\" }}\n\
         [[routes]]\npath = \"/old\"\nservice = \"old\"\n[[routes]]\nservice = \"app\"\n"
    );
    let (mut rig, before) = up(&more);
    let old = before.services.iter().find(|service| service.name == "old").unwrap().instances[0].pid.unwrap();
    kill_all(&mut rig, &before);
    assert!(rig::alive(old));
    let file = rig.folder.path().join("keel.toml");
    let text = fs::read_to_string(&file).unwrap();
    let (kept, _) = text.split_once("[services.old]").unwrap();
    fs::write(&file, kept.replace("tick", "tock")).unwrap();
    start_again(&mut rig);
    let former = pids(&before);
    rig.wait_until("everything is replaced", |status| {
        all_healthy(status)
            && status.services.len() == 1
            && instances(status).iter().all(|instance| instance.pid.is_some_and(|pid| !former.contains(&pid)))
    });
    let start = Instant::now();
    while former.iter().any(|pid| rig::alive(*pid)) {
        assert!(start.elapsed() < PATIENCE, "a former instance lives on");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_stop_that_was_in_progress_is_finished_by_the_next_start() {
    // The shell ignores SIGTERM for as long as it lives; what serves is below it.
    let stubborn = COUNTING
        .replace("exec {keel} __shop", "trap '' TERM; {keel} __shop & while :; do sleep 1000; done")
        .replace("replicas = 2", "replicas = 3");
    let (mut rig, before) = up(&format!("{stubborn}stop = {{ drain = \"1s\", grace = \"6s\" }}\n"));
    let file = rig.folder.path().join("keel.toml");
    let fewer = fs::read_to_string(&file).unwrap().replace("replicas = 3", "replicas = 2");
    fs::write(&file, fewer).unwrap();
    let applied = rig.keel(&["apply", "--no-wait", file.to_str().unwrap()]);
    assert!(applied.status.success(), "{applied:?}");
    let leaves = pids(&before)[2];
    kill_all(&mut rig, &before);
    assert!(rig::alive(leaves), "it was only asked to leave");
    start_again(&mut rig);
    let start = Instant::now();
    while rig::alive(leaves) {
        assert!(start.elapsed() < PATIENCE, "it is half stopped for ever");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(pids(&rig.status())[..2], pids(&before)[..2]);
}

#[test]
fn a_rollout_that_was_interrupted_goes_on() {
    let (mut rig, before) = up(COUNTING);
    let file = rig.folder.path().join("keel.toml");
    let changed = fs::read_to_string(&file).unwrap().replace("tick", "tock");
    fs::write(&file, changed).unwrap();
    assert!(rig.keel(&["apply", "--no-wait", file.to_str().unwrap()]).status.success());
    rig.wait_until("a new one is there", |status| instances(status).len() > 2);
    let now = rig.status();
    kill_all(&mut rig, &now);
    start_again(&mut rig);
    let former = pids(&before);
    rig.wait_until("everything is replaced", |status| {
        all_healthy(status)
            && instances(status).len() == 2
            && instances(status).iter().all(|instance| instance.pid.is_some_and(|pid| !former.contains(&pid)))
    });
}

#[test]
fn a_deploy_in_progress_is_found_again() {
    let (mut rig, before) = up(COUNTING);
    let command = format!("exec {} __shop", env!("CARGO_BIN_EXE_keel"));
    let mut deploy = Command::new(env!("CARGO_BIN_EXE_keel"));
    deploy.arg("--state-dir").arg(rig.folder.path().join("state"));
    deploy.args(["deploy", "app", "--no-wait", "--watch", "3s", "--", "sh", "-c", &command]);
    let begun = deploy.output().unwrap();
    assert!(begun.status.success(), "{begun:?}");
    let on_trial = |status: &Status| {
        let deploy = status.services[0].deploy.as_ref();
        deploy.is_some_and(|deploy| deploy.message.contains("is on trial"))
    };
    let (now, _) = rig.wait_until("one is on trial", on_trial);
    let new = instances(&now).into_iter().filter_map(|instance| instance.pid);
    let new: Vec<u32> = new.filter(|pid| !pids(&before).contains(pid)).collect();
    assert_eq!(new.len(), 1, "{now:#?}");
    kill_all(&mut rig, &now);
    assert!(rig::alive(new[0]));
    start_again(&mut rig);
    let (after, _) = rig.wait_until("it is deployed", |status| {
        all_healthy(status)
            && status.services[0].release == Some(1)
            && instances(status).iter().all(|instance| instance.pid.is_some_and(|pid| !pids(&before).contains(&pid)))
    });
    assert!(pids(&after).contains(&new[0]), "what was on trial stayed: {after:#?}");
}

#[test]
fn a_start_that_fails_leaves_what_runs_to_one_that_can() {
    let (mut rig, before) = up(COUNTING);
    kill_all(&mut rig, &before);
    // The threads of the edge end one after the other, and only the last one closes the sockets.
    let start = Instant::now();
    let taken = loop {
        match std::net::TcpListener::bind(("127.0.0.1", rig.port)) {
            Ok(taken) => break taken,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
    };
    let folder = rig.folder.path().to_owned();
    *rig.child() = keel_up(&folder);
    assert_ne!(rig.ended(), 0);
    assert!(rig.log().contains("the next one that can start adopts them"), "{}", rig.log());
    assert!(pids(&before).iter().all(|pid| rig::alive(*pid)));
    drop(taken);
    assert_eq!(pids(&start_again(&mut rig)), pids(&before));
}

#[test]
fn a_killed_demo_leaves_nothing_behind() {
    let mut demo = Rig::demo();
    let status = demo.status();
    let mut all = pids(&status);
    all.extend([status.guard.pid, status.node.pid, status.edge.unwrap().pid]);
    demo.child().kill().unwrap();
    demo.child().wait().unwrap();
    let start = Instant::now();
    while all.iter().any(|pid| rig::alive(*pid)) {
        assert!(start.elapsed() < PATIENCE, "a process outlives the demo");
        thread::sleep(Duration::from_millis(20));
    }
}
