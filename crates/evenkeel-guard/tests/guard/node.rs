//! The node process dies and comes back; nothing else notices.

use std::{fs::File, io::Read, io::Write, os::fd::OwnedFd};

use evenkeel_core::{
    guard::{Notice, Order},
    status::ExitStatus,
};
use rustix::process::Signal;

use crate::{
    Test,
    world::{Identity, World, alive, eventually, kill, line, rest, sh, state},
};

pub(crate) const TESTS: &[Test] = &[
    ("a new node process is told everything", inventory),
    ("no output is lost while there is no node process", output_survives),
    ("deadlines hold while there is no node process", deadline_survives),
    ("what a dead node process had started itself is killed", orphans_of_the_node),
    ("a node process that exits at once is started ever again", restarts),
    ("SIGHUP reaches it", reload),
];

fn inventory(identity: Identity) {
    let (mut world, node) = World::with_node(identity);
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    node.order_with(&Order::Hold { key: "snapshot".into() }, Some(&writer));
    node.order_with(&Order::Hold { key: "released".into() }, Some(&writer));
    node.order(&Order::Release { key: "released".into() });
    drop(writer);
    let (runs, _output) = node.spawn("runs", sh("exec sleep 1000"));
    let (ended, _output) = node.spawn("ended", sh("exit 9"));
    node.exited();
    node.spawn("forgotten", sh("exit 0"));
    node.exited();
    node.order(&Order::Forget { key: "forgotten".into() });
    node.order(&Order::StartEdge);
    let edge = world.edge();
    edge.edge_inventory();
    assert!(matches!(node.next().0, Notice::EdgeStarted { starts: 0, .. }));
    node.kill();

    let node = world.node();
    let told = node.inventory();
    let notices: Vec<String> = told
        .iter()
        .map(|(notice, descriptor)| match notice {
            Notice::Hello { node_starts, guard_pid, .. } => {
                format!("hello {node_starts} {}", *guard_pid == world.guard.id())
            }
            Notice::Process { key, pid, exit, .. } => format!("{key} {pid} {exit:?} {}", descriptor.is_some()),
            Notice::EdgeStarted { pid, starts } => format!("edge {pid} {starts} {}", descriptor.is_some()),
            other => format!("{other:?} {}", descriptor.is_some()),
        })
        .collect();
    assert_eq!(
        notices,
        [
            "hello 1 true".to_owned(),
            r#"Held { key: "snapshot" } true"#.to_owned(),
            format!("ended {ended} Some(Code(9)) true"),
            format!("runs {runs} None true"),
            format!("edge {} 0 true", edge.pid),
        ]
    );
    assert!(alive(runs) && alive(edge.pid));
    let held = told.into_iter().find(|(notice, _)| matches!(notice, Notice::Held { .. })).unwrap().1.unwrap();
    File::from(held).write_all(b"x").unwrap();
    let mut byte = [0];
    File::from(reader).read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"x");
    node.order(&Order::Kill { key: "runs".into() });
    assert_eq!(node.exited().1, ExitStatus::Signal(9));
}

fn output_survives(identity: Identity) {
    let (mut world, mut node) = World::with_node(identity);
    let script = "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); [ $((i%300)) = 0 ] && sleep 0.05; done";
    let (_pid, mut output) = node.spawn("a", sh(script));
    let mut next = 0;
    for _ in 0..3 {
        for _ in 0..200 {
            assert_eq!(line(&mut output), next.to_string());
            next += 1;
        }
        drop(output);
        node.kill();
        node = world.node();
        let told = node.inventory();
        let mine = |(notice, _): &(Notice, _)| matches!(notice, Notice::Process { key, .. } if key == "a");
        let descriptor: OwnedFd = told.into_iter().find(mine).unwrap().1.unwrap();
        output = descriptor.into();
    }
    let rest = rest(&mut output);
    let numbers: Vec<u32> = rest.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (next..3000).collect::<Vec<u32>>());
}

fn deadline_survives(identity: Identity) {
    let (mut world, node) = World::with_node(identity);
    let (pid, mut output) = node.spawn("a", sh("trap '' TERM; echo ready; while :; do sleep 1000; done"));
    assert_eq!(line(&mut output), "ready");
    node.order(&Order::Stop { key: "a".into(), signal: 15, grace_ms: 300 });
    // A frozen node process is no node process either.
    kill(node.pid, Signal::STOP);
    eventually("it is frozen", || state(node.pid) == "T");
    eventually("it is killed", || !alive(pid));
    node.kill();
    let node = world.node();
    let exit = node.inventory().into_iter().find_map(|(notice, _)| match notice {
        Notice::Process { exit, .. } => Some(exit),
        _ => None,
    });
    match exit.expect("the process is known") {
        Some(status) => assert_eq!(status, ExitStatus::Signal(9)),
        None => assert_eq!(node.exited().1, ExitStatus::Signal(9)),
    }
}

fn orphans_of_the_node(identity: Identity) {
    let (mut world, node) = World::with_node(identity);
    // The node process here is a puppet, so its child is made by the one thing that it can do: die with a process
    // below it that the guard inherits. A process that outlives its killed stub is just that.
    let (pid, mut output) = node.spawn("a", sh("setsid sh -c 'echo $$; sleep 1000' & wait"));
    let child: i32 = line(&mut output).parse().unwrap();
    kill(crate::world::parent(pid), Signal::KILL);
    assert_eq!(node.exited().0, "a");
    assert!(!alive(pid) && !alive(child));
    node.order(&Order::Forget { key: "a".into() });
    node.kill();
    assert!(matches!(world.node().inventory()[..], [(Notice::Hello { node_starts: 1, .. }, None)]));
}

fn restarts(identity: Identity) {
    let mut world = World::start(identity);
    for start in 0..5 {
        let node = world.node();
        assert!(matches!(node.inventory()[0].0, Notice::Hello { node_starts, .. } if node_starts == start));
        node.end(1);
    }
}

fn reload(identity: Identity) {
    let (world, node) = World::with_node(identity);
    world.signal(Signal::HUP);
    assert_eq!(node.next::<Notice>().0, Notice::Reload);
}
