//! The freezer as a drill starts it: a frozen process goes on when whoever ordered it is gone, however it went.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A process that only sleeps, killed at the end.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("300").spawn().expect("there is a `sleep`"))
    }

    fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("it lives");
        let after_name = stat.rsplit_once(") ").expect("proc_pid_stat(5) has the name in parentheses").1;
        after_name.chars().next().expect("the state follows")
    }

    fn wait_for(&self, frozen: bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while (self.state() == 'T') != frozen {
            assert!(Instant::now() < end, "state {} after 30 s", self.state());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a freezer and waits until it holds the process.
fn freezer(pid: u32, bound_ms: u64) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_keel"))
        .args(["drill", "freezer", &bound_ms.to_string(), &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary is built");
    let mut words = BufReader::new(child.stdout.take().expect("it is piped"));
    assert_eq!(next(&mut words), "ready\n");
    (child, words)
}

fn next(words: &mut impl BufRead) -> String {
    let mut line = String::new();
    words.read_line(&mut line).expect("it writes UTF-8");
    line
}

#[test]
fn thaws_when_its_input_ends() {
    let sleeper = Sleeper::start();
    let (mut freezer, mut words) = freezer(sleeper.0.id(), 60_000);
    sleeper.wait_for(false);
    let mut orders = freezer.stdin.take().unwrap();
    orders.write_all(b"freeze\n").unwrap();
    assert_eq!(next(&mut words), "frozen 1\n");
    sleeper.wait_for(true);
    drop(orders);
    assert!(freezer.wait().unwrap().success());
    sleeper.wait_for(false);
}

#[test]
fn thaws_when_its_bound_is_over() {
    let sleeper = Sleeper::start();
    let (mut freezer, mut words) = freezer(sleeper.0.id(), 50);
    let mut orders = freezer.stdin.take().unwrap();
    orders.write_all(b"freeze\n").unwrap();
    assert_eq!(next(&mut words), "frozen 1\n");
    assert!(freezer.wait().unwrap().success(), "although its input is still open");
    sleeper.wait_for(false);
}

#[test]
fn freezes_nothing_without_an_order() {
    let sleeper = Sleeper::start();
    let (mut freezer, mut words) = freezer(sleeper.0.id(), 60_000);
    drop(freezer.stdin.take());
    assert!(freezer.wait().unwrap().success());
    assert_eq!(next(&mut words), "");
    assert_ne!(sleeper.state(), 'T');
}
