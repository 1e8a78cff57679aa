//! The guard is killed; what it had started goes on, and the next guard takes it over.

use std::{
    fs::{self, File, Permissions},
    io::{BufRead, BufReader},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use evenkeel_core::{
    guard::{Notice, Order, wire::Message},
    status::ExitStatus,
};
use evenkeel_guard::channel::{self, Sent};
use rustix::{
    net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with},
    process::Signal,
};

use crate::{
    Test,
    world::{Actor, Identity, World, alive, eventually, kill, line, parent, rest, sh, state},
};

pub(crate) const TESTS: &[Test] = &[
    ("the next guard adopts what runs", adopts),
    ("an end without a guard is told to the next one", ends_alone),
    ("an end that nobody has acted on yet is told to the next guard", ends_unseen),
    ("a stub whose guard died before it could be found starts nothing", never_found),
    ("a deadline holds without a guard", deadline_without_guard),
    ("a deadline holds with the next guard", deadline_with_the_next),
    ("output without a reader delays nobody", output_without_reader),
    ("a frozen stub is woken and adopted", frozen_stub),
    ("a stub killed without a guard takes its process along", stub_killed_alone),
    ("an adopted stub that is killed is noticed", adopted_stub_killed),
    ("everything that an adopted process started can be killed", adopted_tree_is_killed),
    ("what is adopted can be left to the next guard", left_to_the_next),
    ("the end of keel ends what was adopted", end_of_everything),
    ("who can never be found again ends", unreachable),
    ("without a guard a stub obeys SIGTERM", sigterm),
    ("a guard of another version ends what it cannot adopt", foreign_guard),
    ("stubs of another version and false ones stop no guard", false_stubs),
    ("another user can neither adopt nor be adopted", other_users),
];

/// A loop that says `ready` and exits with 7 when it gets SIGUSR1.
const LOOP: &str = "trap 'exit 7' USR1; echo ready; while :; do sleep 0.02; done";

fn start(identity: Identity, script: &str) -> (World, Actor, i32, File) {
    let mut world = World::outlived(identity);
    let node = world.node();
    node.inventory();
    let (pid, output) = node.spawn("a", sh(script));
    (world, node, pid, output)
}

/// The one process that was adopted: its number, how it ended, its output, what was dropped of it.
fn adopted(told: Vec<(Notice, Option<OwnedFd>)>) -> (i32, Option<ExitStatus>, File, u64) {
    let told = <[_; 2]>::try_from(told).unwrap_or_else(|told| panic!("one process is told of, not {told:?}"));
    match told {
        [
            (Notice::Adopted { key, dropped_bytes, .. }, None),
            (Notice::Process { key: again, pid, exit, .. }, Some(output)),
        ] => {
            assert_eq!((key.as_str(), again.as_str()), ("a", "a"));
            (pid.cast_signed(), exit, output.into(), dropped_bytes)
        }
        other => panic!("not an adopted process: {other:?}"),
    }
}

fn adopts(identity: Identity) {
    let script = "trap 'exit 7' USR1; i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done";
    let (mut world, node, pid, mut output) = start(identity, script);
    let mut next = 0;
    let mut read_on = |output: &mut File| {
        for _ in 0..20 {
            assert_eq!(line(output), next.to_string());
            next += 1;
        }
    };
    read_on(&mut output);
    drop(output);
    let mut node = node;
    // The second time it is a guard that did not start it.
    for _ in 0..2 {
        world.kill(node);
        assert!(alive(pid));
        let (next_node, told) = world.again();
        let (same, exit, mut output, dropped) = adopted(told);
        assert_eq!((same, exit, dropped), (pid, None, 0));
        read_on(&mut output);
        node = next_node;
    }
    // A restart of the node process tells the same again.
    let old = node.pid;
    kill(old, Signal::KILL);
    let node = world.node();
    let mut told = node.inventory();
    told.remove(0);
    assert_eq!(adopted(told).0, pid);
    kill(pid, Signal::USR1);
    assert_eq!(node.exited(), ("a".into(), ExitStatus::Code(7), 0));
    node.order(&Order::Forget { key: "a".into() });
    let (again, _output) = node.spawn("a", sh("exec sleep 1000"));
    assert_ne!(again, pid);
}

fn ends_alone(identity: Identity) {
    let (mut world, node, pid, mut output) = start(identity, LOOP);
    assert_eq!(line(&mut output), "ready");
    let stub = parent(pid);
    world.kill(node);
    kill(pid, Signal::USR1);
    eventually("it ends", || !alive(pid));
    assert!(alive(stub), "somebody must keep its status");
    let (node, told) = world.again();
    let (same, exit, mut output, _) = adopted(told);
    assert_eq!((same, exit), (pid, Some(ExitStatus::Code(7))));
    assert_eq!(rest(&mut output), "");
    node.order(&Order::Forget { key: "a".into() });
    eventually("its stub has done its duty", || !alive(stub));
    node.kill();
    assert_eq!(world.node().inventory().len(), 1);
}

fn ends_unseen(identity: Identity) {
    let (mut world, mut node, pid, mut output) = start(identity, LOOP);
    assert_eq!(line(&mut output), "ready");
    let stub = parent(pid);
    kill(pid, Signal::USR1);
    assert_eq!(node.exited(), ("a".into(), ExitStatus::Code(7), 0));
    // Both times whoever was told dies before anything came of it.
    for _ in 0..2 {
        world.kill(node);
        let (next, told) = world.again();
        let (same, exit, ..) = adopted(told);
        assert_eq!((same, exit), (pid, Some(ExitStatus::Code(7))));
        node = next;
    }
    node.order(&Order::Forget { key: "a".into() });
    eventually("its stub has done its duty", || !alive(stub));
    world.kill(node);
    let (node, told) = world.again();
    assert!(told.is_empty(), "{told:?}");

    // Nor does one that was never forgotten keep keel from ending.
    let (pid, mut output) = node.spawn("b", sh(LOOP));
    assert_eq!(line(&mut output), "ready");
    kill(pid, Signal::USR1);
    assert_eq!(node.exited().1, ExitStatus::Code(7));
    node.order(&Order::Finish { code: 0 });
    node.end(0);
    let begun = Instant::now();
    assert_eq!(world.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(8), "it waited for what had ended");
    assert_eq!(fs::read_dir(world.stubs()).unwrap().count(), 0);
}

fn never_found(identity: Identity) {
    for guarded in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let (ours, theirs) = channel::pair().unwrap();
        let (output, input) = std::io::pipe().unwrap();
        let tell = |order: Order, descriptor: OwnedFd| {
            let sent = channel::send(&ours, &order.encode().unwrap(), Some(descriptor.as_fd())).unwrap();
            assert_eq!(sent, Sent::Yes);
        };
        tell(Order::Outlive { folder: folder.path().display().to_string() }, output.into());
        let started = folder.path().join("started");
        let script = format!("echo > {}", started.display());
        tell(Order::Spawn { key: "a".into(), spec: sh(&script) }, input.into());
        let guard = guarded.then_some(ours);
        let mut stub = Command::new("sh");
        stub.args(["-c", "exec \"$0\" role=stub 3<&0 </dev/null"]).arg(std::env::current_exe().unwrap());
        if identity == Identity::Nobody {
            stub.gid(65534).uid(65534);
        }
        let mut stub = stub.stdin(Stdio::from(theirs)).spawn().unwrap();
        if guarded {
            eventually("it starts its process", || started.exists());
            drop(guard);
            stub.kill().unwrap();
            stub.wait().unwrap();
        } else {
            assert_eq!(stub.wait().unwrap().code(), Some(1));
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "neither a process nor a socket");
        }
    }
}

fn deadline_without_guard(identity: Identity) {
    let (mut world, node, pid, mut output) = start(identity, "trap '' TERM; echo ready; while :; do sleep 1000; done");
    assert_eq!(line(&mut output), "ready");
    node.order(&Order::Stop { key: "a".into(), signal: 15, grace_ms: 500 });
    // An order is carried out before one that follows; the answer says that it was.
    node.spawn("b", sh("exit 0"));
    world.kill(node);
    eventually("it is killed", || !alive(pid));
    let (_node, told) = world.again();
    let mine = told.into_iter().find_map(|(notice, _)| match notice {
        Notice::Process { key, exit, .. } if key == "a" => Some(exit),
        _ => None,
    });
    assert_eq!(mine, Some(Some(ExitStatus::Signal(9))));
}

fn deadline_with_the_next(identity: Identity) {
    let (mut world, node, pid, mut output) = start(identity, "trap '' TERM; echo ready; while :; do sleep 1000; done");
    assert_eq!(line(&mut output), "ready");
    node.order(&Order::Stop { key: "a".into(), signal: 15, grace_ms: 3000 });
    node.spawn("b", sh("exit 0"));
    world.kill(node);
    let (node, told) = world.again();
    assert!(told.iter().any(|(notice, _)| matches!(notice, Notice::Process { pid: same, exit: None, .. }
        if same.cast_signed() == pid)));
    // Now only the guard can keep it.
    kill(parent(pid), Signal::STOP);
    eventually("it is killed", || !alive(pid));
    // The end of the other one may have come so late that it is told here.
    let (key, status, _) = node.exited();
    let (key, status, _) = if key == "b" { node.exited() } else { (key, status, 0) };
    assert_eq!((key.as_str(), status), ("a", ExitStatus::Signal(9)));
}

fn output_without_reader(identity: Identity) {
    let script = "trap 'go=1' USR1; echo ready; while [ -z \"$go\" ]; do sleep 0.02; done; \
                  i=100000; while [ $i -lt 500000 ]; do echo \"line $i\"; i=$((i+1)); done; echo end; exec sleep 1000";
    let (mut world, node, pid, mut output) = start(identity, script);
    assert_eq!(line(&mut output), "ready");
    drop(output);
    world.kill(node);
    kill(pid, Signal::USR1);
    eventually("it has written all of its output", || {
        fs::read(format!("/proc/{pid}/cmdline")).unwrap().starts_with(b"sleep")
    });
    let (_node, told) = world.again();
    let (_, exit, mut output, dropped) = adopted(told);
    assert_eq!(exit, None);
    let whole = 400_000 * "line 100000\n".len() as u64 + "end\n".len() as u64;
    let mut lines = vec![line(&mut output)];
    while lines.last().unwrap() != "end" {
        lines.push(line(&mut output));
    }
    let kept: u64 = lines.iter().map(|line| line.len() as u64 + 1).sum();
    assert_eq!(dropped + kept, whole, "what is missing was counted");
    assert!(dropped > 0 && kept > 64 * 1024, "{dropped} dropped, {kept} kept");
    lines.pop();
    let first: usize = lines[0].strip_prefix("line ").expect("a whole line").parse().unwrap();
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("line {}", first + index));
    }
}

fn frozen_stub(identity: Identity) {
    let (mut world, node, pid, _output) = start(identity, LOOP);
    let stub = parent(pid);
    world.kill(node);
    kill(stub, Signal::STOP);
    eventually("it stands still", || state(stub) == "T");
    let (_node, told) = world.again();
    assert_eq!(adopted(told).0, pid);
}

fn stub_killed_alone(identity: Identity) {
    let (mut world, node, pid, _output) = start(identity, LOOP);
    let stub = parent(pid);
    world.kill(node);
    kill(stub, Signal::KILL);
    eventually("its process dies with it", || !alive(pid));
    let (_node, told) = world.again();
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(fs::read_dir(world.stubs()).unwrap().count(), 0);
}

fn adopted_stub_killed(identity: Identity) {
    let (mut world, node, pid, _output) = start(identity, LOOP);
    world.kill(node);
    let (node, told) = world.again();
    assert_eq!(adopted(told).0, pid);
    kill(parent(pid), Signal::KILL);
    assert_eq!(node.exited(), ("a".into(), ExitStatus::Signal(9), 0));
    assert!(!alive(pid));
}

fn adopted_tree_is_killed(identity: Identity) {
    let script = "trap '' TERM; setsid sh -c \"trap '' TERM; echo \\$\\$; while :; do sleep 1000; done\" & \
                  while :; do sleep 1000; done";
    let (mut world, node, pid, mut output) = start(identity, script);
    let child: i32 = line(&mut output).parse().unwrap();
    world.kill(node);
    let (node, told) = world.again();
    assert_eq!(adopted(told).0, pid);
    assert!(alive(child));
    node.order(&Order::Kill { key: "a".into() });
    assert_eq!(node.exited().1, ExitStatus::Signal(9));
    assert!(!alive(pid) && !alive(child));
}

fn left_to_the_next(identity: Identity) {
    let (mut world, node, pid, _output) = start(identity, LOOP);
    world.kill(node);
    let (node, told) = world.again();
    assert_eq!(adopted(told).0, pid);
    node.order(&Order::Leave { code: 4 });
    node.end(4);
    assert_eq!(world.wait().code(), Some(4));
    assert!(alive(pid));
    let (_node, told) = world.again();
    assert_eq!(adopted(told).0, pid);
}

fn end_of_everything(identity: Identity) {
    let (mut world, node, pid, _output) = start(identity, LOOP);
    let stub = parent(pid);
    world.kill(node);
    let (node, _) = world.again();
    world.signal(Signal::TERM);
    assert_eq!(node.next::<Notice>().0, Notice::Terminate);
    node.order(&Order::Finish { code: 0 });
    node.end(0);
    assert_eq!(world.wait().code(), Some(0));
    assert!(!alive(pid) && !alive(stub));
    assert_eq!(fs::read_dir(world.stubs()).unwrap().count(), 0);
}

fn unreachable(identity: Identity) {
    let (mut world, node, pid, _output) = start(identity, LOOP);
    let stub = parent(pid);
    world.kill(node);
    fs::remove_dir_all(world.stubs()).unwrap();
    eventually("it ends", || !alive(pid) && !alive(stub));
}

fn sigterm(identity: Identity) {
    let (mut world, node, pid, mut output) =
        start(identity, "trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done");
    assert_eq!(line(&mut output), "ready");
    let stub = parent(pid);
    kill(stub, Signal::TERM);
    node.spawn("b", sh("exec sleep 1000"));
    assert!(alive(pid), "only its guard decides");
    world.kill(node);
    kill(stub, Signal::TERM);
    eventually("it ends", || !alive(pid) && !alive(stub));
}

fn foreign_guard(identity: Identity) {
    let (mut world, node, pid, _output) = start(identity, LOOP);
    let stub = parent(pid);
    world.kill(node);
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(world.stubs().join(format!("{stub}.sock"))).unwrap()).unwrap();
    send(&socket, &[99, 14, 1], SendFlags::NOSIGNAL).unwrap();
    eventually("it ends", || !alive(pid) && !alive(stub));
}

fn false_stubs(identity: Identity) {
    let (mut world, node, pid, _output) = start(identity, LOOP);
    world.kill(node);
    let mut old = false_stub(&world.stubs(), "old", Some(identity));
    let mut silent = false_stub(&world.stubs(), "silent", Some(identity));
    fs::write(world.stubs().join("1.sock"), "no socket").unwrap();
    fs::write(world.stubs().join("notes.txt"), "").unwrap();
    let (_node, told) = world.again();
    assert_eq!(adopted(told).0, pid);
    assert!(alive(old.id().cast_signed()), "it ends what it runs by itself");
    eventually("one that does not answer is killed", || silent.try_wait().unwrap().is_some());
    old.kill().unwrap();
    old.wait().unwrap();
}

fn other_users(identity: Identity) {
    if !rustix::process::geteuid().is_root() {
        // Nobody to be.
        return;
    }
    let (mut world, node, pid, _output) = start(identity, LOOP);
    let stub = parent(pid);
    world.kill(node);
    let (folder, socket) = (world.stubs(), world.stubs().join(format!("{stub}.sock")));
    for path in [&folder, &socket] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    let mut thief = Command::new("/proc/self/exe");
    let status = thief.arg("role=thief").arg(&socket).gid(65533).uid(65533).status().unwrap();
    assert_eq!(status.code(), Some(0), "it got nothing");
    let mut other = false_stub(&folder, "silent", None);
    let (_node, told) = world.again();
    assert_eq!(adopted(told).0, pid);
    assert!(other.try_wait().unwrap().is_none(), "what is not ours is left alone");
    other.kill().unwrap();
    other.wait().unwrap();
}

/// Somebody who waits there as a stub would, as the guard's user or as a third one.
fn false_stub(folder: &Path, manner: &str, identity: Option<Identity>) -> Child {
    let mut command = Command::new("/proc/self/exe");
    command.arg("role=false-stub").arg(folder).arg(manner).stdout(Stdio::piped());
    match identity {
        Some(Identity::Own) => {}
        Some(Identity::Nobody) => _ = command.gid(65534).uid(65534),
        None => _ = command.gid(65533).uid(65533),
    }
    let mut child = command.spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    child
}
