//! The process of one run: ordered with its deadline in the same breath, so that the guard kills it and all that it
//! started, whatever becomes of us meanwhile.

use std::{io, os::fd::OwnedFd, time::Duration};

use evenkeel_core::{
    guard::{CHECK_KEYS, Notice, Order, ProcessSpec},
    stack::{Service, UNIX},
    status::{ExitStatus, InstanceId},
    time::{Moment, in_words as time_in_words},
};
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{LAST_WORDS, Subject, in_words};
use crate::{
    channel::Received,
    launch::Launch,
    node::{Node, found::Found, inventory::Process},
    secrets::Mask,
};

/// A signal that means nothing to a process that runs (`SIGCONT`, signal(7)): the order is for its deadline.
const NO_SIGNAL: i32 = 18;

/// Bytes of output that are kept of a run.
const KEPT_BYTES: usize = 4 * 1024;

/// Lines of it that stand in the reason, and how long they may be together.
const LINES: usize = 3;
const REASON_CHARS: usize = 300;

/// A run under way, or over and not concluded.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) subject: Subject,
    pub(super) began: Moment,
    pub(super) end: Option<(Result<ExitStatus, String>, Moment)>,
    printed: Option<String>,
}

impl Run {
    /// One that began at the origin of time and has printed nothing.
    #[cfg(test)]
    pub(super) fn ended(subject: Subject, end: Option<(Result<ExitStatus, String>, Moment)>) -> Self {
        Self { subject, began: Moment::ORIGIN, end, printed: None }
    }

    /// When it is concluded although its output is not complete.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.end.as_ref().map(|(_, at)| *at + LAST_WORDS)
    }

    /// What it says about the instance.
    pub(super) fn result(&self, timeout: Duration) -> Result<(), String> {
        let printed = self.printed.as_deref().unwrap_or_default();
        match &self.end {
            Some((Ok(ExitStatus::Code(0)), _)) => Ok(()),
            Some((Ok(ExitStatus::Signal(9)), at)) if at.since(self.began) >= timeout => {
                let after = format!("timed out after {}", time_in_words(timeout));
                Err(if printed.is_empty() { after } else { format!("{after}: {printed}") })
            }
            Some((Ok(status), _)) => Err(in_words(*status, printed)),
            Some((Err(why), _)) => Err(why.clone()),
            None => Err("it did not end".to_owned()),
        }
    }
}

impl Node {
    /// Orders a run.
    pub(super) fn start_check(&mut self, subject: &Subject, now: Moment) {
        let Some(watched) = self.checks.of.get(subject) else { return };
        let timeout = watched.timeout;
        let spec = match self.spec_of_check(&subject.0, &watched.command) {
            Ok(spec) => spec,
            Err(why) => return self.check_failed_to_start(subject, why, now),
        };
        self.checks.serial += 1;
        let key = format!("{CHECK_KEYS}{} {}.{}", subject.0, std::process::id(), self.checks.serial);
        if let Err(error) = self.orders.give(&Order::Spawn { key: key.clone(), spec }) {
            let why = format!("command and environment are too large for the guard: {error}");
            return self.check_failed_to_start(subject, why, now);
        }
        let grace_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.give(&Order::Stop { key: key.clone(), signal: NO_SIGNAL, grace_ms });
        let run = Run { subject: subject.clone(), began: now, end: None, printed: None };
        self.checks.runs.insert(key.clone(), run);
        self.checks.of.entry(subject.clone()).and_modify(|watched| watched.running = Some(key));
    }

    /// What runs: the instance's own user, folder and environment, and another command.
    fn spec_of_check(&self, id: &InstanceId, command: &[String]) -> Result<ProcessSpec, String> {
        let gone = || "the instance is gone".to_owned();
        let (service, _) = id.name.split_once('/').ok_or_else(gone)?;
        let published = self.snapshot.services.iter().find(|published| published.name == service);
        let instance = published.and_then(|published| published.instances.iter().find(|one| one.id == *id));
        let address = instance.map(|instance| instance.address.clone()).ok_or_else(gone)?;
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !address.starts_with(UNIX) => {
                (host.trim_matches(['[', ']']), port.parse().unwrap_or(0))
            }
            _ => (address.as_str(), 0_u16),
        };
        let fill = |word: &String| word.replace("{host}", host).replace("{address}", &address);
        let command: Vec<String> = command.iter().map(fill).collect();
        let launch = if let Some(slot) = self.slots.values().find(|slot| slot.id() == *id) {
            slot.launch.instead(command)
        } else {
            let of = self.revision.stack.services.get(service).ok_or_else(gone)?;
            let runs = Service { run: Some(command), instances: None, ..of.clone() };
            Launch::new(&runs, &self.revision.dir).ok_or_else(gone)?
        };
        launch.spec(service, &id.name, port, &self.secrets).map_err(|error| error.to_string())
    }

    /// Takes a notice about a run; `Some` gives it back, since it is about something else.
    pub(in crate::node) fn check_notice(&mut self, (notice, fd): Received) -> Option<Received> {
        let (Notice::Started { key, .. } | Notice::NotStarted { key, .. } | Notice::Exited { key, .. }) = &notice
        else {
            return Some((notice, fd));
        };
        let now = self.clock.now();
        let Some(run) = self.checks.runs.get_mut(key) else { return Some((notice, fd)) };
        match notice {
            Notice::Started { key, .. } => match fd {
                Some(pipe) => listen(self.checks.found.clone(), key, pipe, self.logs.mask()),
                None => run.printed = Some(String::new()),
            },
            Notice::NotStarted { reason, key } => {
                run.end = Some((Err(format!("the command cannot be started: {reason}")), now));
                self.checks.conclude(&key, now);
            }
            Notice::Exited { status, key, .. } => {
                run.end = Some((Ok(status), now));
                let complete = run.printed.is_some();
                self.give(&Order::Forget { key: key.clone() });
                if complete {
                    self.checks.conclude(&key, now);
                }
            }
            _ => {}
        }
        None
    }

    /// Ends a run that a former life ordered, since how it ends says nothing to anybody. `false`: it is no run.
    pub(in crate::node) fn end_check_of_former(&mut self, process: &Process) -> bool {
        if !process.key.starts_with(CHECK_KEYS) {
            return false;
        }
        let key = process.key.clone();
        if process.exit.is_some() {
            self.give(&Order::Forget { key });
        } else {
            self.give(&Order::Kill { key: key.clone() });
            self.strays.insert(key);
        }
        true
    }

    /// What it printed is complete.
    pub(in crate::node) fn check_printed(&mut self, key: &str, lines: String) {
        let Some(run) = self.checks.runs.get_mut(key) else { return };
        run.printed = Some(lines);
        if run.end.is_some() {
            self.checks.conclude(key, self.clock.now());
        }
    }
}

/// Reads everything, so that no command waits for a reader, and keeps the last of it.
fn listen(found: tokio::sync::mpsc::Sender<Found>, key: String, pipe: OwnedFd, mask: Mask) {
    tokio::spawn(async move {
        let printed = read_last(pipe).await.unwrap_or_default();
        let lines = last_lines(&mask.text(String::from_utf8_lossy(&printed)));
        // Nobody listens any more only when this process ends.
        let _ = found.send(Found::Printed { key, lines }).await;
    });
}

async fn read_last(pipe: OwnedFd) -> io::Result<Vec<u8>> {
    let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
    let mut last = Vec::new();
    loop {
        let mut chunk = [0; KEPT_BYTES];
        match pipe.read(&mut chunk).await? {
            0 => return Ok(last),
            read => last.extend_from_slice(&chunk[..read]),
        }
        let surplus = last.len().saturating_sub(KEPT_BYTES);
        last.drain(..surplus);
    }
}

/// The last lines with something in them, as one, and not too long.
fn last_lines(printed: &str) -> String {
    let lines: Vec<&str> = printed.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join(" / ");
    let clean: String = last.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match clean.char_indices().nth_back(REASON_CHARS) {
        Some((from, _)) => format!("…{}", &clean[from..]),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_the_reason() {
        assert_eq!(last_lines("a\nb\n\n  c\r\nd\n"), "b / c / d");
        assert_eq!(last_lines(""), "");
        let long = last_lines(&"ä".repeat(1_000));
        assert!(long.starts_with("…ä") && long.chars().count() <= REASON_CHARS + 2, "{long}");
        assert_eq!(last_lines("\x1b[31mred"), " [31mred");
    }

    #[tokio::test]
    async fn everything_is_read_and_the_last_is_kept() {
        let (read_end, write_end) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&read_end, true).unwrap();
        let writer = std::thread::spawn(move || {
            let mut pipe = std::fs::File::from(write_end);
            for line in 0..100_000 {
                io::Write::write_all(&mut pipe, format!("line {line}\n").as_bytes()).unwrap();
            }
        });
        let printed = read_last(read_end).await.unwrap();
        writer.join().unwrap();
        assert_eq!(printed.len(), KEPT_BYTES);
        assert!(last_lines(&String::from_utf8(printed).unwrap()).ends_with("line 99998 / line 99999"));
    }
}
