//! Snapshots: made from revision and observation, sent to the edge, held by the guard, kept on disk.
//!
//! A snapshot is made whenever something may have changed and published only if it differs from the last one. The
//! edge that runs gets it over the link first. The guard holds it in memory for the next edge, so that this works
//! with a full disk as well; the file is for people and for the next start.

use std::{fs::File, io, io::Write, os::fd::OwnedFd, os::unix::fs::FileExt, sync::Arc};

use evenkeel_core::{
    guard::Order,
    pause::Stance,
    snapshot::{self, Duty, FORMAT, Instance, Snapshot},
    stack::{self, Service, compile_listeners, compile_routes, compile_service},
    status::InstanceId,
};

use super::Node;

impl Node {
    /// Publishes a new snapshot if there is anything new.
    pub(super) fn publish(&mut self) {
        self.follow_names();
        let snapshot = self.make_snapshot();
        if snapshot == (Snapshot { version: snapshot.version, ..(*self.snapshot).clone() }) {
            return;
        }
        let version = snapshot.version;
        self.drains_from(version);
        for slot in self.slots.values_mut() {
            if slot.duty() == Some(Duty::Drain) {
                slot.drained_from.get_or_insert(version);
            } else {
                slot.drained_from = None;
            }
        }
        self.snapshot = Arc::new(snapshot);
        self.send_snapshot();
        self.keep_snapshot();
    }

    /// Sends the newest snapshot to the edge, if there is one and somebody to send it to.
    pub(super) fn send_snapshot(&self) {
        if let Some(link) = self.edge.link().filter(|_| self.snapshot.format == FORMAT) {
            link.send(Arc::clone(&self.snapshot));
        }
    }

    fn make_snapshot(&self) -> Snapshot {
        let stack = &self.revision.stack;
        let mut listeners = compile_listeners(stack);
        for listener in &mut listeners {
            // As bound: the kernel chooses where the stack says port 0.
            listener.bind = self.listeners.get(&listener.name).copied().unwrap_or(listener.bind);
            self.dress_listener(listener);
        }
        Snapshot {
            format: FORMAT,
            version: self.snapshot.version + 1,
            revision: self.revision.number,
            stack: stack.stack.name.clone(),
            threads: self.threads,
            listeners,
            routes: compile_routes(stack),
            services: stack
                .services
                .iter()
                .map(|(name, service)| {
                    let observe = self.stance(name) != Stance::Act;
                    let compiled = compile_service(name, service, self.instances_of(name, service));
                    self.dress(snapshot::Service { observe, ..compiled })
                })
                .collect(),
        }
    }

    fn instances_of(&self, name: &str, service: &Service) -> Vec<Instance> {
        let fixed = service.fixed().iter().map(|fixed| Instance {
            weight: fixed.weight,
            duty: self.fixed_duty(&fixed_id(name, &fixed.address).name),
            zone: fixed.zone.clone(),
            ..Instance::new(fixed_id(name, &fixed.address), fixed.address.clone())
        });
        let own_scripts = service.fastcgi.as_ref().is_some_and(stack::FastCgi::is_relative);
        let run = self.slots_of(name).filter_map(|slot| {
            let address = format!("127.0.0.1:{}", slot.port);
            slot.duty().map(|duty| Instance {
                id: slot.id(),
                address,
                weight: self.weight_of(slot),
                duty,
                zone: None,
                trial: self.on_trial(slot),
                sheltered: self.is_sheltered(slot),
                folder: own_scripts.then(|| slot.launch.dir().to_string_lossy().into_owned()),
                pid: slot.pid,
            })
        });
        fixed.chain(self.instances_by_name(name)).chain(run).collect()
    }

    fn keep_snapshot(&mut self) {
        let bytes = serde_json::to_vec(&*self.snapshot).expect("a snapshot is plain data");
        match in_memory("keel-snapshot", &bytes) {
            Ok(fd) => {
                let order = Order::Hold { key: "snapshot".to_owned() };
                self.orders.give_with(&order, fd).expect("a short order fits into a packet");
                self.problems.remove("snapshot");
            }
            Err(error) => {
                let problem =
                    format!("the guard cannot be given the snapshot ({error}): a new edge starts with a former one");
                self.problems.insert("snapshot", problem);
            }
        }
        self.snapshot_file.write(bytes);
    }
}

/// The id of a fixed instance. It has no starts to count.
pub(super) fn fixed_id(service: &str, address: &str) -> InstanceId {
    InstanceId { name: format!("{service}/{address}"), generation: 0 }
}

/// A file without a name (`memfd_create(2)`) that holds `bytes`, to be read from its start. Nobody can change it any more.
pub(super) fn in_memory(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC | rustix::fs::MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(rustix::fs::memfd_create(name, flags)?);
    file.write_all(bytes)?;
    let fd = OwnedFd::from(file);
    rustix::fs::seek(&fd, rustix::fs::SeekFrom::Start(0))?;
    let sealed = rustix::fs::SealFlags::WRITE | rustix::fs::SealFlags::SHRINK | rustix::fs::SealFlags::GROW;
    rustix::fs::fcntl_add_seals(&fd, sealed)?;
    Ok(fd)
}

/// The snapshot that the guard holds for us. Read by position, since whoever holds the same descriptor shares it.
pub(super) fn read_held(fd: OwnedFd) -> Option<Snapshot> {
    let file = File::from(fd);
    let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).ok()?;
    serde_json::from_slice(&bytes).ok()
}
