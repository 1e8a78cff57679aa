//! A real data plane in this process, instances that do what a test says, and a client of raw bytes.
// Each test file uses its part of it, and what fails here fails the test.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub, clippy::unwrap_used)]

mod server;
mod snapshots;
mod wire;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use evenkeel_core::{snapshot::Snapshot, status::Health};
use evenkeel_edge::{
    data,
    messages::{Ack, Notice, Threads, ToThread},
    shared::InstanceShared,
    view::{Registry, View},
};

pub use self::{
    server::{Script, Server, nowhere},
    snapshots::{service, snapshot},
    wire::{Answer, Client, Message},
};

/// Longer than anything takes that works; a test that waits for this long has failed.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub struct Edge {
    pub threads: Threads,
    pub address: SocketAddr,
    pub view: View,
    registry: Registry,
    pub snapshot: Snapshot,
}

impl Edge {
    /// All instances healthy.
    pub fn start(snapshot: Snapshot) -> Self {
        let edge = Self::start_unknown(snapshot);
        for service in &edge.view.services {
            for instance in &service.instances {
                instance.shared.set_health(Health::Healthy);
                edge.threads.tell(|| ToThread::Changed(Arc::clone(&instance.shared)));
            }
        }
        edge
    }

    /// All instances of unknown health.
    pub fn start_unknown(snapshot: Snapshot) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let threads = data::spawn(usize::from(snapshot.threads)).unwrap();
        let mut registry = Registry::new(usize::from(snapshot.threads));
        let view = registry.compile(&snapshot).unwrap();
        for orders in &threads.orders {
            let socket = listener.try_clone().unwrap().into();
            orders.send(ToThread::Open { name: "web".into(), socket }).unwrap();
        }
        let mut edge = Self { threads, address, view, registry, snapshot };
        edge.send_view();
        edge
    }

    pub fn apply(&mut self, snapshot: Snapshot) {
        self.view = self.registry.compile(&snapshot).unwrap();
        self.snapshot = snapshot;
        self.send_view();
    }

    fn send_view(&mut self) {
        let view = Arc::new(self.registry.compile(&self.snapshot).unwrap());
        self.threads.tell(|| ToThread::View(Arc::clone(&view)));
        for _ in 0..self.threads.orders.len() {
            let ack = self.threads.acks.blocking_recv().unwrap();
            assert!(matches!(ack, Ack::Serving { version, .. } if version == view.version), "{ack:?}");
        }
    }

    pub fn instance(&self, place: usize) -> Arc<InstanceShared> {
        Arc::clone(&self.view.services[0].instances[place].shared)
    }

    pub fn set_health(&self, place: usize, health: Health) {
        let instance = self.instance(place);
        instance.set_health(health);
        self.threads.tell(|| ToThread::Changed(Arc::clone(&instance)));
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: &str) -> Answer {
        let mut client = self.client();
        client.send(request.as_bytes());
        client.answer()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    pub fn notices(&mut self) -> Vec<Notice> {
        let mut all = Vec::new();
        while let Ok(notice) = self.threads.notices.try_recv() {
            all.push(notice);
        }
        all
    }

    /// Waits for a notice.
    pub fn hears(&mut self, what: &str, is: impl Fn(&Notice) -> bool) {
        let start = Instant::now();
        while !self.notices().iter().any(&is) {
            assert!(start.elapsed() < PATIENCE, "never: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn sum(&self, of: impl Fn(&evenkeel_edge::shared::ServiceCell) -> &evenkeel_edge::shared::Count) -> u64 {
        self.view.services[0].shared.sum(of)
    }
}

/// Waits for a condition that another thread brings about.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
