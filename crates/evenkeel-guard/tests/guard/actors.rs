//! What this binary does in its other roles.
//!
//! Node process and edge hand their channel to the test and then wait to be told how to end. Instances that a shell
//! cannot play are here as well.

use std::{
    ffi::OsString,
    io::Write,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use evenkeel_core::guard::{Order, wire::Message};
use evenkeel_guard::{GuardConfig, channel, run, stub};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind, connect, listen, recv,
    send, socket_with,
};

/// Plays a role.
pub(crate) fn play(role: &str, arguments: &[String]) -> ExitCode {
    match role {
        "guard" => guard(arguments),
        "stub" => ExitCode::from(stub()),
        "node" | "edge" => puppet(role, &arguments[0]),
        "short-lived" => ExitCode::from(3),
        "false-stub" => false_stub(Path::new(&arguments[0]), &arguments[1]),
        "thief" => thief(&arguments[0]),
        "eater" => eat(arguments[0].parse().expect("a number of bytes")),
        "ancestor" => {
            breed(arguments[0].parse().expect("a number of generations"));
            loop {
                thread::park();
            }
        }
        "breeder" => breed(arguments[0].parse().expect("a number of generations")),
        _ => panic!("nobody plays {role}"),
    }
}

/// Arguments: the test's address, the edge's role, milliseconds to finish within, whether instances outlive it.
fn guard(arguments: &[String]) -> ExitCode {
    let [address, edge, finish_within, outlived @ ..] = arguments else { panic!("three arguments") };
    let argv =
        |role: &str| -> Vec<OsString> { vec!["/proc/self/exe".into(), format!("role={role}").into(), address.into()] };
    let mut config = GuardConfig::new(argv("node"), argv(edge), argv("stub"));
    config.stub.truncate(2);
    config.stubs = Path::new(address).parent().map(|folder| folder.join("stubs"));
    config.outlived = !outlived.is_empty();
    config.edge_user = Some((65534, 65534));
    config.edge_grace = Duration::from_secs(5);
    config.finish_within = Duration::from_millis(finish_within.parse().expect("a number"));
    ExitCode::from(run(config).code)
}

/// Hands the channel over; ends with the code that it is told, or when the test lets go.
fn puppet(role: &str, address: &str) -> ExitCode {
    let mine = channel::inherited().expect("the guard gives a channel");
    let test = connect_to(address);
    let introduction = format!("{role} {}", std::process::id());
    rustix_send(&test, introduction.as_bytes(), &mine);
    drop(mine);
    let mut code = [0];
    let _ = recv(&test, &mut code, RecvFlags::empty());
    ExitCode::from(code[0])
}

fn connect_to(address: &str) -> OwnedFd {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a socket");
    connect(&socket, &SocketAddrUnix::new(address).expect("a path")).expect("the test listens");
    socket
}

fn rustix_send(socket: &OwnedFd, bytes: &[u8], descriptor: &OwnedFd) {
    assert_eq!(channel::send(socket, bytes, Some(descriptor.as_fd())).expect("the test reads"), channel::Sent::Yes);
}

/// Waits in the folder as a stub would; says nothing, or a packet of another version.
fn false_stub(folder: &Path, manner: &str) -> ExitCode {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a socket");
    let path = folder.join(format!("{}.sock", std::process::id()));
    bind(&socket, &SocketAddrUnix::new(&path).expect("a path")).expect("the folder is there");
    listen(&socket, 4).expect("it listens");
    println!("ready");
    let _ = std::io::stdout().flush();
    let guard = accept(&socket).expect("a guard comes");
    if manner == "old" {
        send(&guard, &[1, 12, 0], SendFlags::NOSIGNAL).expect("it listens");
    }
    loop {
        thread::park();
    }
}

/// Asks a stub for its process; 0 if it gets nothing.
fn thief(address: &str) -> ExitCode {
    let stub = connect_to(address);
    let order = Order::Adopt { outlive: false }.encode().expect("it fits");
    // It may have hung up already.
    let _ = channel::send(&stub, &order, None);
    let got = recv(&stub, &mut [0; 1000], RecvFlags::empty()).map_or(0, |(got, _)| got);
    ExitCode::from(u8::from(got > 0))
}

/// Uses that much memory.
fn eat(bytes: usize) -> ExitCode {
    let memory = vec![1_u8; bytes];
    ExitCode::from(std::hint::black_box(&memory)[bytes / 2] - 1)
}

/// Each generation is a session of its own and leaves a few processes that ignore SIGTERM; then its parent ends.
#[expect(clippy::zombie_processes, reason = "that is what it is for")]
fn breed(generations: u32) -> ExitCode {
    let _ = rustix::process::setsid();
    println!("{}", std::process::id());
    let _ = std::io::stdout().flush();
    for _ in 0..3 {
        Command::new("sh").args(["-c", "trap '' TERM; while :; do sleep 100; done"]).spawn().expect("sh runs");
    }
    if generations > 0 {
        let arguments = ["role=breeder".to_owned(), (generations - 1).to_string()];
        Command::new("/proc/self/exe").args(arguments).spawn().expect("we run again");
    }
    ExitCode::SUCCESS
}
