//! `cargo xtask bench faults`: what an instance that freezes or dies, and a reload, cost clients of `keel`, HAProxy and
//! nginx.
//!
//! Requests come at a constant rate, whatever becomes of those before them: a load that waits for answers hides just
//! what is to be seen here, since it stops asking while it waits. Latency is counted from when a request was due. In
//! front of three instances, each a process of its own, go 4,000 `GET`s a second, and beside them `POST`s, which every
//! instance writes down before it answers, and slow requests, which must be left alone wherever their instance is well.
//! Each scenario is run with each contender in turn, round by round.

#[path = "../cpu_set.rs"]
mod cpu_set;
mod instance;
mod open_loop;
#[path = "../peer/mod.rs"]
mod peer;
mod scenario;
mod table;

use std::{error::Error, path::PathBuf};

use instance::Instances;
use peer::Peer;
use scenario::{Fault, Scenario};

/// The core of the contender, and the core of load and instances.
const PROXY_CORE: usize = 0;
const LOAD_CORE: usize = 1;

pub struct Options {
    keel: PathBuf,
    rounds: u32,
    per_second: u32,
    peers: bool,
    faults: Vec<Fault>,
    /// Lines of the service in `keel.toml`, to try other settings.
    service: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    if let Some(flag) = arguments.next()
        && flag == "--instance"
    {
        let (port, log) = (arguments.next().ok_or("a port")?, arguments.next().ok_or("a file")?);
        return instance::serve(port.parse()?, &PathBuf::from(log));
    }
    let options = options()?;
    cpu_set::pin(LOAD_CORE);
    let folder = std::env::temp_dir().join(format!("keel-faults-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = run(&options, &folder);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn run(options: &Options, folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let mut outcomes = Vec::new();
    for round in 1..=options.rounds {
        for &fault in &options.faults {
            for contender in 0..if options.peers { 3 } else { 1 } {
                let place = folder.join(format!("{round}-{fault:?}-{contender}"));
                std::fs::create_dir_all(&place)?;
                let instances = Instances::start(3, &place)?;
                let ports = instances.ports();
                let peer = match contender {
                    0 if options.service.is_empty() => Peer::keel(&options.keel, &place, &ports)?,
                    0 => Peer::keel_with(&options.keel, &place, &ports, &options.service)?,
                    1 => Peer::nginx(&place, &ports)?,
                    _ => Peer::haproxy(&place, &ports)?,
                };
                if round == 1 && fault == options.faults[0] {
                    println!("--- {}: {}\n{}", peer.name, peer.version, peer.configuration.trim_end());
                }
                let scenario = Scenario { fault, options, folder: &place };
                let outcome = scenario.run(&peer, instances)?;
                eprintln!("  round {round}/{}: {outcome}", options.rounds);
                outcomes.push(outcome);
            }
        }
    }
    table::print(options.per_second, &outcomes);
    Ok(())
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        keel: PathBuf::from("../target/dist/keel"),
        rounds: 3,
        per_second: 4_000,
        peers: true,
        faults: vec![Fault::Freeze, Fault::Kill, Fault::Reload],
        service: String::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
        match flag.as_str() {
            "--keel" => options.keel = value()?.into(),
            "--rounds" => options.rounds = value()?.parse()?,
            "--per-second" => options.per_second = value()?.parse()?,
            "--service" => options.service = value()?,
            "--without-peers" => options.peers = false,
            "--faults" => options.faults = value()?.split(',').map(Fault::named).collect::<Result<_, _>>()?,
            _ => {
                return Err(format!(
                    "unknown option {flag}; there are --keel PATH, --rounds N, --per-second N, --service LINES, \
                     --without-peers, --faults freeze,kill,reload"
                )
                .into());
            }
        }
    }
    Ok(options)
}
