//! Checks by commands, and instances by a name.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use evenkeel_core::status::Health;
use rustix::process::Signal;

use crate::{
    load::Load,
    rig::{self, PATIENCE, Rig, all_healthy, instances},
    slow_app,
};

/// Passes unless a file says otherwise: `fail` of one instance, `hang` of any.
const CHECK: &str = r#"#!/bin/sh
echo "$$ $KEEL_INSTANCE $PORT $1 $TOKEN $(pwd)" >> runs
if [ -e hang ]; then sleep 1000 & echo "$$ $!" > hanging; wait; fi
if [ -e "fail-$PORT" ]; then echo "queue is stuck"; echo "$TOKEN is no help"; exit 3; fi
"#;

fn write_check(folder: &Path) {
    fs::write(folder.join("check"), CHECK).unwrap();
    fs::set_permissions(folder.join("check"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.join("token"), "hunter2-hunter2").unwrap();
}

fn exec_stack(more: &str) -> String {
    format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[secrets.token]\nfile = \"token\"\n[services.app]\nrun = {}\nreplicas = 2\n\
         env = {{ TOKEN = \"secret:token\" }}\n\
         check = {{ exec = [\"./check\", \"{{host}}-{{port}}-{{address}}\"], interval = \"100ms\", timeout = \"1s\" }}\n{more}",
        slow_app::run()
    )
}

fn why(rig: &Rig, subject: &str) -> String {
    String::from_utf8(rig.keel(&["why", subject]).stdout).unwrap()
}

#[test]
fn a_command_decides_which_instance_gets_requests() {
    let mut rig = Rig::up_with(&exec_stack(""), write_check);
    let (status, _) =
        rig.wait_until("its command has passed", |status| all_healthy(status) && !instances(status).is_empty());
    let folder = rig.folder.path().to_owned();
    let port = |index: usize| instances(&status)[index].address.rsplit_once(':').unwrap().1.to_owned();
    let line = fs::read_to_string(folder.join("runs")).unwrap().lines().last().unwrap().to_owned();
    let words: Vec<&str> = line.split(' ').collect();
    let of = usize::from(words[2] != port(0));
    assert_eq!(words[1], instances(&status)[of].name, "{line}");
    assert_eq!(words[3], format!("127.0.0.1-{0}-127.0.0.1:{0}", port(of)), "{line}");
    assert_eq!((words[4], Path::new(words[5])), ("hunter2-hunter2", folder.as_path()), "{line}");

    let load = Load::start(rig.port, "/", 4);
    load.wait_for(100);
    fs::write(folder.join(format!("fail-{}", port(0))), "").unwrap();
    let (failing, _) = rig.wait_until("it is out", |status| instances(status)[0].health == Health::Unhealthy);
    let reason = &instances(&failing)[0].reason;
    assert!(reason.contains("exit code 3: queue is stuck / ") && !reason.contains("hunter2"), "{reason}");
    assert!(why(&rig, "app/1").contains("queue is stuck"), "{}", why(&rig, "app/1"));

    // Without a node process the verdict stays; the next one goes on.
    let node = rig.status().node.pid;
    rig::signal(node, Signal::KILL);
    rig.wait_until("another node process is there", |status| {
        status.node.pid != node
            && instances(status).iter().map(|one| one.health).eq([Health::Unhealthy, Health::Healthy])
    });
    // An edge that is started anew is told what it cannot know.
    let edge = rig.status().edge.unwrap().pid;
    load.finish().assert_clean();
    rig::signal(edge, Signal::KILL);
    rig.wait_until("the new edge knows", |status| {
        let (first, second) = (&instances(status)[0], &instances(status)[1]);
        status.edge.as_ref().is_some_and(|now| now.pid != edge)
            && (first.health != Health::Healthy && first.reason.contains("queue is stuck"))
            && second.health == Health::Healthy
    });
    fs::remove_file(folder.join(format!("fail-{}", port(0)))).unwrap();
    rig.wait_until("it is back", all_healthy);
    assert_eq!(rig.stop(), Some(0));
}

#[test]
fn a_command_that_hangs_dies_with_its_time_and_all_that_it_started() {
    let liveness = "liveness = { exec = [\"true\"], interval = \"1s\" }\n";
    let rig = Rig::up_with(&exec_stack(liveness), write_check);
    rig.wait_until("it serves", |status| all_healthy(status) && !instances(status).is_empty());
    let folder = rig.folder.path().to_owned();
    fs::write(folder.join("hang"), "").unwrap();
    let (status, _) = rig.wait_until("it is out", |status| instances(status)[0].health == Health::Unhealthy);
    let reason = &instances(&status)[0].reason;
    assert!(reason.contains("timed out after 1 s"), "{reason}");
    fs::remove_file(folder.join("hang")).unwrap();
    rig.wait_until("it is back", all_healthy);
    let hung = fs::read_to_string(folder.join("hanging")).unwrap();
    for pid in hung.split_whitespace() {
        wait_for_end(pid.parse().unwrap());
    }
}

fn wait_for_end(pid: u32) {
    let start = Instant::now();
    while rig::alive(pid) {
        assert!(start.elapsed() < PATIENCE, "process {pid} outlived its check");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_command_checks_what_something_else_runs() {
    let server = server("127.0.0.1:0", "fixed");
    let stack = format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[services.app]\ninstances = [\"{server}\"]\n\
         check = {{ exec = [\"sh\", \"-c\", \"test {{port}} = $PORT && test {{address}} = {server} && ! test -e fail\"], \
         interval = \"100ms\" }}\n",
    );
    let rig = Rig::up(&stack);
    rig.wait_until("it serves", |status| all_healthy(status) && !instances(status).is_empty());
    assert_eq!(get(rig.port), "fixed");
    fs::write(rig.folder.path().join("fail"), "").unwrap();
    let (status, _) = rig.wait_until("it is out", |status| instances(status)[0].health == Health::Unhealthy);
    assert!(instances(&status)[0].reason.contains("exit code 1"), "{}", instances(&status)[0].reason);
}

#[test]
fn a_name_has_as_many_instances_as_addresses() {
    let port = rig::free_port();
    // One or two, as this machine has it.
    let mut addresses: Vec<SocketAddr> = ("localhost", port).to_socket_addrs().unwrap().collect();
    addresses.sort_unstable();
    addresses.dedup();
    for address in &addresses {
        server(&address.to_string(), if address.is_ipv4() { "four" } else { "six" });
    }
    let (unknown, service) =
        ("nobody.invalid", "check = { tcp = true, interval = \"100ms\" }\nbalance = \"round-robin\"\n");
    let rig = Rig::up(&format!(
        "[listeners.web]\nbind = \"{{listen}}\"\n[[routes]]\nservice = \"app\"\n\
         [services.app]\ninstances = {{ dns = \"localhost:{port}\", every = \"1s\" }}\n{service}\
         [services.none]\ninstances = {{ dns = \"{unknown}:80\" }}\n"
    ));
    let names: Vec<String> = addresses.iter().map(|address| format!("app/{address}")).collect();
    let all = |status: &evenkeel_core::status::Status| {
        let app = &status.services[0].instances;
        app.iter().filter(|one| one.health == Health::Healthy).map(|one| &one.name).eq(&names)
    };
    rig.wait_until("every address is an instance", all);
    let answers: std::collections::BTreeSet<String> = (0..20).map(|_| get(rig.port)).collect();
    assert_eq!(answers.len(), addresses.len(), "{answers:?}");
    let (status, _) = rig.wait_until("the other name's fault is said", |status| !status.problems.is_empty());
    let said = status.problems.iter().find(|problem| problem.contains(unknown)).expect("it is a problem");
    assert!(said.contains("does not resolve") && said.contains("nobody is known yet"), "{said}");
    assert!(why(&rig, "none").contains("does not resolve"), "{}", why(&rig, "none"));
    // It is drained by its name as any other instance, the last one with force.
    assert!(rig.keel(&["drain", &names[0], "--force"]).status.success());
    rig.wait_until("it drains", |status| status.services[0].instances[0].health == Health::Draining);
    // Another node process knows the instances from the snapshot, before it has asked for anything.
    let node = rig.status().node.pid;
    rig::signal(node, Signal::KILL);
    rig.wait_until("another node process is there", |status| {
        status.node.pid != node && status.services[0].instances.iter().map(|one| &one.name).eq(&names)
    });
}

/// Answers every request with `name`, until the test's process ends.
fn server(at: &str, name: &'static str) -> String {
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// The body of `GET /`.
fn get(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned()
}
