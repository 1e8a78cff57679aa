//! What an idle connection costs: memory of a contender with thousands of them, less its memory without any.
//!
//! Every connection has had one answer, and waits for the client's next request. A contender is started anew for each
//! measurement, since one that had connections keeps memory for the next ones.

use std::{error::Error, io::ErrorKind, net::TcpStream, thread, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    cases::{CASES, Case},
    exchange,
    memory::{self, Memory},
    peer::Peer,
};

/// One contender, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Idle {
    pub contender: String,
    pub connections: u32,
    pub without: Memory,
    pub with: Memory,
}

impl Idle {
    /// Only what no file stands behind: program text that is read in meanwhile is no cost of a connection.
    pub fn bytes_per_connection(&self) -> f64 {
        (self.with.anonymous_bytes as f64 - self.without.anonymous_bytes as f64) / f64::from(self.connections)
    }
}

/// Opens `connections`, asks once on each of them, and compares. Fails if one of them is closed meanwhile.
pub fn measure(peer: &Peer, connections: u32) -> Result<Idle, Box<dyn Error>> {
    const WARMING: u32 = 200;
    let case = &CASES[0];
    drop(open(peer.port, case, WARMING)?);
    // Time to let go of what was needed only meanwhile.
    let settle = Duration::from_millis(1200);
    thread::sleep(settle);
    let without = memory::of_tree(peer.pid())?;
    let held = open(peer.port, case, connections)?;
    thread::sleep(settle);
    let with = memory::of_tree(peer.pid())?;
    let closed = held.iter().filter(|stream| !is_open(stream)).count();
    if closed > 0 {
        return Err(format!("{} closed {closed} of {connections} idle connections", peer.name).into());
    }
    Ok(Idle { contender: peer.name.to_owned(), connections, without, with })
}

fn open(port: u16, case: &Case, connections: u32) -> std::io::Result<Vec<TcpStream>> {
    let one = |_| {
        let mut stream = exchange::connect(port)?;
        exchange::of(case, &mut stream)?;
        Ok(stream)
    };
    (0..connections).map(one).collect()
}

fn is_open(stream: &TcpStream) -> bool {
    let nothing = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    nothing.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
