//! Starting, stopping and killing processes.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use evenkeel_core::{
    guard::{Notice, Order},
    secret::Secret,
    status::ExitStatus,
};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Test,
    world::{Identity, World, actor, alive, command, eventually, kill, line, parent, rest, sh, state},
};

pub(crate) const TESTS: &[Test] = &[
    ("exit codes and signals are reported", exit_codes_and_signals),
    ("output and environment are the process's own", output_and_environment),
    ("no signal is blocked or ignored at the start", signals),
    ("what cannot run is refused in words", refusals),
    ("a live key is taken and a forgotten one is free", keys),
    ("descendants in sessions of their own are killed", descendants),
    ("stop lets a process end by itself", stop),
    ("a stopped process is killed at its deadline", deadline),
    ("a stop or kill that overtakes the start still counts", early_kill),
    ("secrets show on no command line", secrecy),
    ("another user where permitted", users),
    ("memory is bounded where permitted", memory),
    ("a cgroup of its own where permitted", cgroup),
    ("keel's protection from a lack of memory is its own", protection),
    ("many processes at once", many),
];

/// Lowering a score needs a privilege, so elsewhere the guard is not protected to begin with.
fn protection(identity: Identity) {
    let (world, node) = World::with_node(identity);
    let score = |pid: i32| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().to_owned();
    let guard = world.guard.id().cast_signed();
    let (lowered, expected) = match fs::write(format!("/proc/{guard}/oom_score_adj"), "-500") {
        Ok(()) => ("-500".to_owned(), "0".to_owned()),
        Err(_) => (score(guard), score(guard)),
    };
    let (pid, _output) = node.spawn("a", sh("exec sleep 1000"));
    assert_eq!((score(guard), score(parent(pid)), score(pid)), (lowered.clone(), lowered, expected));
}

fn exit_codes_and_signals(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    node.spawn("a", sh("exit 7"));
    assert_eq!(node.exited(), ("a".into(), ExitStatus::Code(7), 0));
    node.spawn("b", sh("kill -SEGV $$"));
    assert_eq!(node.exited(), ("b".into(), ExitStatus::Signal(11), 0));
    let (pid, _output) = node.spawn("c", sh("exec sleep 1000"));
    kill(pid, Signal::KILL);
    assert_eq!(node.exited(), ("c".into(), ExitStatus::Signal(9), 0));
}

fn output_and_environment(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let mut spec = sh(
        "env; pwd; echo err >&2; ls /proc/self/fd; read -r _ _ _ _ group session _ < /proc/$$/stat; echo $group $session",
    );
    spec.env.push(("TOKEN".into(), Secret::new("t0k3n")));
    spec.cwd = "/usr".into();
    let (pid, mut output) = node.spawn("a", spec);
    let text = rest(&mut output);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.contains(&"TOKEN=t0k3n") && lines.contains(&"/usr") && lines.contains(&"err"), "{text}");
    assert!(!text.contains("CARGO"), "nothing of our own environment: {text}");
    // `ls` itself has one more open, for the directory.
    assert!(!lines.contains(&"4"), "no descriptor of ours: {text}");
    assert!(lines.contains(&format!("{pid} {pid}").as_str()), "a group and session of its own: {text}");
    assert_eq!(node.exited(), ("a".into(), ExitStatus::Code(0), 0));
}

fn signals(identity: Identity) {
    let (world, node) = World::with_node(identity);
    let (pid, _output) = node.spawn("a", command(&["sleep", "1000"]));
    for pid in [pid, node.pid] {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let text = status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
            u64::from_str_radix(text, 16).unwrap()
        };
        assert_eq!(field("SigBlk:"), 0);
        // Rust's runtime ignores SIGPIPE in the node process; two real-time signals are the C library's own.
        assert_eq!(field("SigIgn:") & 0x7fff_ffff & !(1 << 12), 0);
    }
    drop(world);
}

fn refusals(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let script = |name: &str, text: &str, mode| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = script("plain", "#!/bin/sh\n", 0o644);
    let dangling = script("dangling", "#!/nowhere/interpreter\n", 0o755);
    let mut elsewhere = sh("true");
    elsewhere.cwd = "/nowhere".into();
    for (spec, reason) in [
        (command(&["nod", "server.js"]), "cannot run `nod`: no such file or directory".to_owned()),
        (command(&[&plain]), format!("cannot run `{plain}`: permission denied")),
        (
            command(&[&dangling]),
            format!("cannot run `{dangling}`: the interpreter that it names in its first line does not exist"),
        ),
        (elsewhere, "cannot enter directory `/nowhere`: no such file or directory".to_owned()),
        (command(&[]), "the command is empty".to_owned()),
        (command(&["sh\0"]), "cannot run `sh\0`: nul byte found in provided data".to_owned()),
    ] {
        node.order(&Order::Spawn { key: "a".into(), spec });
        assert_eq!(node.next::<Notice>().0, Notice::NotStarted { key: "a".into(), reason });
    }
    node.spawn("a", sh("exit 0"));
}

fn keys(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let (pid, _output) = node.spawn("a", sh("exec sleep 1000"));
    node.order(&Order::Spawn { key: "a".into(), spec: sh("true") });
    let reason = "`a` is already running".into();
    assert_eq!(node.next::<Notice>().0, Notice::NotStarted { key: "a".into(), reason });
    // A live process cannot be forgotten, and what is not known needs no answer.
    node.order(&Order::Forget { key: "a".into() });
    node.order(&Order::Kill { key: "b".into() });
    node.order(&Order::Stop { key: "b".into(), signal: 15, grace_ms: 0 });
    assert!(alive(pid));
    node.order(&Order::Kill { key: "a".into() });
    assert_eq!(node.exited(), ("a".into(), ExitStatus::Signal(9), 0));
    node.order(&Order::Forget { key: "a".into() });
    node.spawn("a", sh("exit 0"));
    assert_eq!(node.exited().1, ExitStatus::Code(0));
    // Without being forgotten first.
    node.spawn("a", sh("exit 1"));
    assert_eq!(node.exited().1, ExitStatus::Code(1));
}

fn descendants(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let (pid, mut output) = node.spawn(
        "a",
        sh("trap 'exit 4' USR1; setsid sh -c 'trap \"\" TERM HUP; echo $$; sleep 1000 & echo $!; wait' & \
            sleep 1000 & echo $!; wait"),
    );
    let others: Vec<i32> = (0..3).map(|_| line(&mut output).parse().unwrap()).collect();
    kill(pid, Signal::USR1);
    assert_eq!(node.exited(), ("a".into(), ExitStatus::Code(4), 3));
    assert!(others.iter().all(|&pid| !alive(pid)), "{others:?}");
    assert_eq!(rest(&mut output), "");
}

fn stop(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let (_pid, mut output) =
        node.spawn("a", sh("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.02; done"));
    assert_eq!(line(&mut output), "ready");
    node.order(&Order::Stop { key: "a".into(), signal: 15, grace_ms: 60_000 });
    let (key, status, _) = node.exited();
    assert_eq!((key.as_str(), status), ("a", ExitStatus::Code(5)));
    assert_eq!(rest(&mut output), "bye\n");
    node.spawn("b", command(&["sleep", "1000"]));
    node.order(&Order::Stop { key: "b".into(), signal: 15, grace_ms: 3_600_000 });
    assert_eq!(node.exited(), ("b".into(), ExitStatus::Signal(15), 0));
}

fn deadline(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let (pid, _output) = node.spawn("a", sh("exec sleep 1000"));
    kill(pid, Signal::STOP);
    eventually("it is stopped", || state(pid) == "T");
    node.order(&Order::Stop { key: "a".into(), signal: 15, grace_ms: 200 });
    assert_eq!(node.exited(), ("a".into(), ExitStatus::Signal(9), 0));
    // Another order before the deadline renews it.
    let (_pid, mut output) = node.spawn("b", sh("trap 'echo again' TERM; echo ready; while :; do sleep 0.02; done"));
    assert_eq!(line(&mut output), "ready");
    node.order(&Order::Stop { key: "b".into(), signal: 15, grace_ms: 3_600_000 });
    assert_eq!(line(&mut output), "again");
    node.order(&Order::Stop { key: "b".into(), signal: 15, grace_ms: 50 });
    assert_eq!(node.exited().1, ExitStatus::Signal(9));
}

fn early_kill(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    for (key, order) in [
        ("a", Order::Kill { key: "a".into() }),
        ("b", Order::Stop { key: "b".into(), signal: 9, grace_ms: 60_000 }),
        ("c", Order::Stop { key: "c".into(), signal: 15, grace_ms: 0 }),
    ] {
        node.order(&Order::Spawn { key: key.into(), spec: command(&["sleep", "1000"]) });
        node.order(&order);
        assert!(matches!(node.next::<Notice>().0, Notice::Started { .. }));
        let (exited, status, _) = node.exited();
        assert_eq!(exited, key);
        assert!(matches!(status, ExitStatus::Signal(9 | 15)), "{status}");
    }
}

fn secrecy(identity: Identity) {
    let (world, node) = World::with_node(identity);
    let mut spec = sh("exec sleep 1000");
    spec.env.push(("TOKEN".into(), Secret::new("hidden-from-view")));
    let (pid, _output) = node.spawn("a", spec);
    let stub = parent(pid);
    assert_eq!(parent(stub), world.guard.id().cast_signed());
    for pid in [pid, stub, world.guard.id().cast_signed()] {
        let shown = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!String::from_utf8_lossy(&shown).contains("hidden"), "{pid}");
    }
    let environment = fs::read(format!("/proc/{stub}/environ")).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&environment).contains("hidden"));
}

fn users(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let mut spec = sh("id -u; id -g; id -G");
    spec.user = Some((65533, 65532));
    spec.groups = vec![65531];
    if identity.is_root() {
        let (_pid, mut output) = node.spawn("a", spec);
        assert_eq!(rest(&mut output), "65533\n65532\n65532 65531\n");
        assert_eq!(node.exited().1, ExitStatus::Code(0));
    } else {
        node.order(&Order::Spawn { key: "a".into(), spec });
        let reason = "cannot become user 65533 and group 65532: operation not permitted".into();
        assert_eq!(node.next::<Notice>().0, Notice::NotStarted { key: "a".into(), reason });
    }
    // Who one is already, one may be in any case.
    let own = if identity == Identity::Nobody { (65534, 65534) } else { own_ids() };
    let mut spec = sh("exit 0");
    spec.user = Some(own);
    node.spawn("own", spec);
    assert_eq!(node.exited().1, ExitStatus::Code(0));
}

fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn memory(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let mut spec = command(&["sleep", "1000"]);
    spec.memory_bytes = Some(64 << 20);
    let (pid, _output) = node.spawn("a", spec);
    let bounded = groups(pid).iter().any(|(controllers, path)| {
        let of_ours = path.ends_with(&format!("/keel-{}", parent(pid)));
        of_ours && (controllers == "memory" || Path::new(UNIFIED).join(&path[1..]).join("memory.max").exists())
    });
    let mut spec = actor("eater", "300000000");
    spec.memory_bytes = Some(64 << 20);
    node.spawn("b", spec);
    assert_eq!(node.exited().1, if bounded { ExitStatus::Signal(9) } else { ExitStatus::Code(0) });
}

fn cgroup(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    let (pid, mut output) = node.spawn("a", sh("setsid sh -c 'echo $$; exec sleep 1000' & wait"));
    let child: i32 = line(&mut output).parse().unwrap();
    assert_eq!(groups(pid), groups(child));
    let own = format!("/keel-{}", parent(pid));
    let path = groups(pid).into_iter().find(|(_, path)| path.ends_with(&own)).map(|(_, path)| path);
    node.order(&Order::Kill { key: "a".into() });
    node.exited();
    if let Some(path) = path {
        assert!(MOUNTS.iter().all(|mount| !Path::new(mount).join(&path[1..]).exists()), "{path} is left");
    }
}

/// Where the unified hierarchy may be mounted.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const UNIFIED: &str = MOUNTS[0];

/// The cgroups of a process: controllers and path.
fn groups(pid: i32) -> Vec<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let fields = text.lines().map(|line| line.split_once(':').unwrap().1.split_once(':').unwrap());
    fields.map(|(controllers, path)| (controllers.to_owned(), path.to_owned())).collect()
}

fn many(identity: Identity) {
    let (_world, node) = World::with_node(identity);
    for number in 0..60 {
        node.order(&Order::Spawn { key: format!("a/{number}"), spec: sh(&format!("sleep 1000 & exit {number}")) });
    }
    let (mut started, mut exited) = (0, 0);
    while exited < 60 {
        match node.next::<Notice>().0 {
            Notice::Started { .. } => started += 1,
            Notice::Exited { key, status, leftovers: 0..=1 } => {
                let number = key.trim_start_matches("a/").parse().unwrap();
                assert_eq!(status, ExitStatus::Code(number));
                exited += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(started, 60);
}
