//! The edge as a process of its own: its channel at descriptor 3, what it gives up, replaced and paused.

#![allow(clippy::unwrap_used, reason = "a test ends where its surroundings fail")]

mod control_support;

use std::{
    env,
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use control_support::{Node, PATIENCE, file_of, get, instance::Server, member, pair, send, service, snapshot};
use evenkeel_core::{
    guard::{CHANNEL_FD, EdgeNotice},
    link::EventKind,
    status::Health,
};
use rustix::{
    net::SocketType,
    process::{Pid, Signal, kill_process},
};

const THREADS: u16 = 2;

/// An edge's process and the guard's end of its channel.
struct Process {
    child: Child,
    channel: Option<OwnedFd>,
}

impl Process {
    /// This test, started again, becomes the edge.
    fn start() -> Self {
        let (ours, theirs) = pair(SocketType::SEQPACKET);
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "an_edge_process", "--nocapture"]).env("EVENKEEL_TEST_EDGE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        // SAFETY: between fork and exec only `dup2` is called, which may be called there, and the owner made of
        // the number does not close it.
        unsafe {
            command.pre_exec(move || {
                let mut target = std::mem::ManuallyDrop::new(OwnedFd::from_raw_fd(CHANNEL_FD));
                rustix::io::dup2(&theirs, &mut target)?;
                Ok(())
            });
        }
        Self { child: command.spawn().unwrap(), channel: Some(ours) }
    }

    fn hand_over(&self, listener: &TcpListener, snapshot: &File) {
        let channel = self.channel.as_ref().unwrap();
        for thread in 0..THREADS {
            send(channel, &EdgeNotice::Held { key: format!("listener/web/{thread}") }, Some(listener.as_fd()));
        }
        send(channel, &EdgeNotice::Held { key: "snapshot".to_owned() }, Some(snapshot.as_fd()));
        send(channel, &EdgeNotice::Complete, None);
    }

    fn link(&self) -> Node {
        let (ours, theirs) = pair(SocketType::STREAM);
        send(self.channel.as_ref().unwrap(), &EdgeNotice::Link, Some(theirs.as_fd()));
        Node::new(ours)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn ends(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the process did not end");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One word of the status of a data thread. They came into being after everything was given up; the thread that
/// runs this test's own harness did not.
fn status_of(process: &Process, field: &str) -> String {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        // Threads come and go, and one that was just made has no name of its own yet.
        let tasks = fs::read_dir(format!("/proc/{}/task", process.child.id())).unwrap();
        let mut statuses = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
        if let Some(status) = statuses.find(|status| status.starts_with("Name:\tedge-0")) {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            return line.trim_start_matches(':').trim().to_owned();
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("there is no data thread");
}

fn has_nothing(process: &Process) {
    assert_eq!(status_of(process, "NoNewPrivs"), "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_of(process, set), "0000000000000000", "{set}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let of = |name: &str| limits.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert!(of("Max core file size").starts_with("0 "), "{limits}");
    let files: Vec<_> = of("Max open files").split_whitespace().map(str::to_owned).collect();
    assert_eq!(files[0], files[1], "raised as far as permitted");
}

/// Stops the whole edge while requests are in flight. When it goes on, nobody may be accused of what was its own.
fn is_paused(process: &Process, node: &mut Node, address: SocketAddr) {
    let before = node.past.len();
    let slow = thread::spawn(move || get(address, "/slow"));
    let (under_way, is_under_way) = mpsc::channel();
    let load = thread::spawn(move || {
        for _ in 0..200 {
            assert_eq!(get(address, "/").0, 200);
            let _ = under_way.send(());
        }
    });
    for _ in 0..20 {
        is_under_way.recv_timeout(PATIENCE).unwrap();
    }
    process.signal(Signal::STOP);
    thread::sleep(Duration::from_millis(1_500));
    process.signal(Signal::CONT);
    load.join().unwrap();
    assert_eq!(slow.join().unwrap().0, 200);
    node.until("counters", |message| {
        let counted = match message {
            evenkeel_core::link::ToNode::Counters(counters) => counters.services[0].responses[1],
            _ => 0,
        };
        (counted >= 201).then_some(())
    });
    let since = node.past[before..].iter().filter(|event| event.instance.is_some());
    let accused = since.filter(|event| match &event.what {
        EventKind::Health { health, .. } => *health != Health::Healthy,
        _ => true,
    });
    assert_eq!(accused.collect::<Vec<_>>(), Vec::<&evenkeel_core::link::Event>::new());
}

#[test]
fn an_edge_process() {
    if env::var_os("EVENKEEL_TEST_EDGE").is_some() {
        let code = evenkeel_edge::run();
        std::process::exit(i32::from(code != ExitCode::SUCCESS));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let servers = [Server::start("one"), Server::start("two")];
    let instances = (1..).zip(&servers).map(|(n, server)| member(&format!("shop/{n}"), server.address));
    let file = file_of(&snapshot(5, THREADS, address, vec![service(instances.collect())]));

    let mut first = Process::start();
    first.hand_over(&listener, &file);
    assert_eq!(get(address, "/").0, 200);
    has_nothing(&first);

    first.signal(Signal::KILL);
    first.ends();
    let started = Instant::now();
    let mut second = Process::start();
    second.hand_over(&listener, &file);
    assert_eq!(get(address, "/").0, 200);
    println!("a new edge answered after {:?}", started.elapsed());

    let mut node = second.link();
    node.all_healthy(&["shop/1", "shop/2"]);
    is_paused(&second, &mut node, address);

    second.channel = None;
    assert_eq!(second.ends().code(), Some(1), "it ends with its guard");

    let mut third = Process::start();
    third.hand_over(&listener, &file);
    assert_eq!(get(address, "/").0, 200);
    third.signal(Signal::INT);
    third.signal(Signal::HUP);
    assert_eq!(get(address, "/").0, 200, "what a terminal sends is for the guard");
    third.signal(Signal::TERM);
    assert_eq!(third.ends().code(), Some(0));
}
