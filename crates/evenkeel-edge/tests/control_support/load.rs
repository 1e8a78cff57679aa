//! Load: clients that ask again and again and accept nothing but good answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::get;

/// Clients that ask again and again; each answer other than 200 is a failure of the test.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) answers: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Duration>>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr, clients: usize) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let client = |_| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            thread::spawn(move || {
                let mut worst = Duration::ZERO;
                while !stop.load(SeqCst) {
                    let asked = Instant::now();
                    assert_eq!(get(address, "/").0, 200);
                    worst = worst.max(asked.elapsed());
                    answers.fetch_add(1, SeqCst);
                }
                worst
            })
        };
        Self { clients: (0..clients).map(client).collect(), stop, answers }
    }

    /// The worst latency that any client saw.
    pub(crate) fn end(self) -> Duration {
        self.stop.store(true, SeqCst);
        self.clients
            .into_iter()
            .map(|client| client.join().expect("every answer was 200"))
            .max()
            .expect("there are clients")
    }
}
