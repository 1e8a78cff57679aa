//! The product as its user has it: the real binary, real processes, real faults.
//!
//! Each test has a stack of its own, in a state directory of its own, on ports of its own. What a test does to
//! processes it does by their ids, which it has from `keel status --json`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod access;
mod adoption;
mod bad_input;
mod balance;
mod browser;
mod change;
mod checks;
mod chromium;
mod console;
mod console_page;
mod day;
mod demo;
mod deploy;
mod disk;
mod doctor;
mod drills;
mod elastic;
mod fallback;
mod fates;
mod faults;
mod first_look;
mod forwarding;
mod history;
mod instance;
mod load;
mod long;
mod long_app;
mod operate;
mod php;
mod ports;
mod rails;
mod rig;
mod secrets;
mod silence;
mod slow_app;
mod stream;
mod strict;
mod survival;
mod systemd;
