//! The guard against real processes.
//!
//! This binary is every process of the play: without a role it runs the tests; the guard that a test starts is
//! itself with the role `guard`, and that one starts it as node process, edge and stub (see `actors`). A test speaks
//! the guard's protocol through the channels that the actors hand over (see `world`). Where the tests run as root,
//! each runs twice: with a guard that is root and with one that is nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod actors;
mod adoption;
mod edge;
mod ending;
mod hostile;
mod node;
mod processes;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use world::Identity;

type Test = (&'static str, fn(Identity));

/// So many at once: they mostly wait.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = arguments.first().and_then(|first| first.strip_prefix("role=")) {
        return actors::play(role, &arguments[1..]);
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let identities: &[Identity] =
        if rustix::process::geteuid().is_root() { &[Identity::Own, Identity::Nobody] } else { &[Identity::Own] };
    let tests: Vec<_> = [processes::TESTS, node::TESTS, edge::TESTS, ending::TESTS, hostile::TESTS, adoption::TESTS]
        .concat()
        .into_iter()
        .flat_map(|(name, test)| {
            identities.iter().map(move |identity| (format!("{name} ({identity:?})"), test, *identity))
        })
        .filter(|(name, ..)| filters.is_empty() || filters.iter().any(|filter| name.contains(*filter)))
        .collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((name, test, identity)) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let passed = catch_unwind(AssertUnwindSafe(|| test(*identity))).is_ok();
                    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
                    if !passed {
                        failed.lock().expect("no test panics here").push(name.clone());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no test panics here");
    println!("\n{} passed; {} failed: {failed:?}", tests.len() - failed.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
