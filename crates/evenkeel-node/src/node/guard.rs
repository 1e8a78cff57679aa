//! What the guard reports.

use std::os::fd::OwnedFd;

use evenkeel_core::{
    guard::{Notice, Order},
    journal::{Level, Reason},
    status::ExitStatus,
    supervise::Event,
    time::WallTime,
};

use super::{Node, instances::Place, slot::parse_key};
use crate::channel::Received;

impl Node {
    /// Takes one notice.
    pub(super) fn notice(&mut self, received: Received) {
        let Some(received) = self.check_notice(received) else { return };
        let Some((notice, fd)) = self.before_notice(received) else { return };
        match notice {
            Notice::Started { key, pid, started_ms } => self.started(&key, pid, WallTime::from_millis(started_ms), fd),
            Notice::NotStarted { key, reason } => self.not_started(&key, reason),
            Notice::Exited { key, status, leftovers } => self.exited(key, status, leftovers),
            Notice::EdgeStarted { pid, starts } => self.edge_started(pid, starts, fd),
            Notice::EdgeExited { status, restart_in_ms } => self.edge_exited(status, restart_in_ms),
            Notice::Terminate => self.terminate(),
            Notice::Reload => self.reload(),
            Notice::Hello { .. }
            | Notice::Held { .. }
            | Notice::Adopted { .. }
            | Notice::Process { .. }
            | Notice::Complete => {
                tracing::error!(?notice, "the guard said this out of turn; ignored");
            }
        }
    }

    /// The instance whose present process has this key.
    fn place_of(&self, key: &str) -> Option<Place> {
        let (service, number, generation) = parse_key(key)?;
        let place = (service.to_owned(), number);
        let slot = self.slots.get(&place)?;
        (slot.supervisor.memory().generation == generation).then_some(place)
    }

    fn started(&mut self, key: &str, pid: u32, at: WallTime, pipe: Option<OwnedFd>) {
        let Some(place) = self.place_of(key) else {
            tracing::error!(key, "a process was started that nobody asked for; it is killed");
            self.strays.insert(key.to_owned());
            return self.give(&Order::Kill { key: key.to_owned() });
        };
        let slot = self.slots.get_mut(&place).expect("its place was found");
        slot.pid = Some(pid);
        slot.started = Some(at);
        let name = slot.name();
        if let Some(pipe) = pipe {
            self.logs.attach(&name, pipe);
        }
        self.note(Level::Info, &name, "started", format!("started as process {pid}"), Vec::new());
    }

    fn not_started(&mut self, key: &str, reason: String) {
        let Some(place) = self.place_of(key) else { return };
        let slot = self.slots.get_mut(&place).expect("its place was found");
        slot.pid = None;
        slot.last_exit = Some(reason.clone());
        self.feed(&place, Event::NotStarted { reason });
    }

    fn exited(&mut self, key: String, status: ExitStatus, leftovers: u32) {
        if let Some(place) = self.place_of(&key) {
            self.ended(&place, status, leftovers);
        } else {
            self.strays.remove(&key);
            self.give(&Order::Forget { key });
        }
    }

    fn edge_started(&mut self, pid: u32, starts: u64, link: Option<OwnedFd>) {
        let (another, now) = (self.edge.pid != Some(pid), self.clock.now());
        self.edge.pid = Some(pid);
        self.edge.starts = starts;
        match link
            .ok_or_else(|| std::io::Error::other("no link came with it"))
            .and_then(|fd| self.edge.connect(fd, now))
        {
            Ok(()) => self.send_snapshot(),
            Err(error) => tracing::error!(%error, "the link to the edge cannot be used"),
        }
        // After a restart of ours the same edge is met again, which is no event.
        if another && self.edge.exits > 0 {
            let message = format!("the edge was started again as process {pid}");
            self.note(Level::Info, "edge", "restarted", message, Vec::new());
        } else if another && starts == 0 && self.hello.node_starts == 0 {
            let message = format!("the edge runs as process {pid}");
            self.note(Level::Info, "edge", "started", message, Vec::new());
        }
    }

    fn edge_exited(&mut self, status: ExitStatus, restart_in_ms: u64) {
        self.edge.disconnect();
        self.edge.pid = None;
        self.edge.exits += 1;
        if self.shutdown.is_some() {
            self.edge_finished(status);
            return;
        }
        let reasons = vec![
            Reason::seen("established connections are reset; new ones wait at the listening sockets"),
            Reason::rule(format!("the guard starts it again in {restart_in_ms} ms")),
        ];
        self.note(Level::Error, "edge", "exited", format!("the edge ended with {status}"), reasons);
    }

    /// The edge has ended for good, so nothing is in flight anywhere.
    fn edge_finished(&mut self, status: ExitStatus) {
        self.note(
            Level::Info,
            "edge",
            "finished",
            format!("the edge has finished its requests ({status})"),
            Vec::new(),
        );
        for place in self.slots.keys().cloned().collect::<Vec<_>>() {
            self.feed(&place, Event::Drained);
        }
    }
}
