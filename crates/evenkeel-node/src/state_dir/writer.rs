//! Writing a file that is replaced often, on a thread: only the newest content counts, and a slow or full disk is
//! nobody's delay. The owner learns of a failure by asking.

use std::{
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use super::replace;

/// Writes the newest content of one file.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<(Mutex<Slot>, Condvar)>,
}

#[derive(Debug, Default)]
struct Slot {
    newest: Option<Vec<u8>>,
    /// Something is being written just now.
    busy: bool,
    failure: Option<String>,
    closed: bool,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(path: PathBuf) -> std::io::Result<Self> {
        let shared = Arc::new((Mutex::new(Slot::default()), Condvar::new()));
        let theirs = Arc::clone(&shared);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        thread::Builder::new().name(format!("keel-{name}")).spawn(move || write_newest(&path, &theirs))?;
        Ok(Self { shared })
    }

    /// Has `bytes` written, in place of whatever still waits.
    pub(crate) fn write(&self, bytes: Vec<u8>) {
        let (slot, wake) = &*self.shared;
        slot.lock().unwrap_or_else(PoisonError::into_inner).newest = Some(bytes);
        wake.notify_all();
    }

    /// Waits until nothing waits any more, at most so long: a disk that hangs is not waited for.
    pub(crate) fn settle(&self, at_most: Duration) {
        let (slot, wake) = &*self.shared;
        let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = wake.wait_timeout_while(slot, at_most, |slot| slot.busy || slot.newest.is_some());
    }

    /// Why the last attempt failed, if it did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).failure.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let (slot, wake) = &*self.shared;
        slot.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        wake.notify_all();
    }
}

fn write_newest(path: &std::path::Path, shared: &(Mutex<Slot>, Condvar)) {
    let (slot, wake) = shared;
    loop {
        let mut guard = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = loop {
            if let Some(bytes) = guard.newest.take() {
                guard.busy = true;
                break bytes;
            }
            if guard.closed {
                return;
            }
            guard = wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        drop(guard);
        let failure = replace(path, &bytes).err().map(|error| error.to_string());
        let mut guard = slot.lock().unwrap_or_else(PoisonError::into_inner);
        (guard.failure, guard.busy) = (failure, false);
        wake.notify_all();
    }
}
