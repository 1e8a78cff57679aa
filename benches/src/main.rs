//! `cargo xtask bench edge`: CPU time per request of `keel` beside HAProxy and nginx.
//!
//! Every contender runs with one worker on one core, in front of the same three instances, which run with the
//! load on another core. Rounds are interleaved, so that a slow minute of the machine hits everybody. What is
//! counted is the CPU time of all threads and processes of a contender (for `keel`: guard, node process and
//! edge), divided by the requests that were answered; the figure to quote is the ratio of the medians.

mod cpu;
mod cpu_set;
mod instances;
mod load;
mod peer;
mod report;

use std::{error::Error, path::PathBuf, time::Duration};

use peer::Peer;
use report::Round;

/// The core of the contender, and the core of load and instances.
const PROXY_CORE: usize = 0;
const LOAD_CORE: usize = 1;

struct Options {
    keel: PathBuf,
    rounds: u32,
    seconds: u64,
    connections: Vec<u32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let instances = instances::start(3, LOAD_CORE)?;
    let folder = std::env::temp_dir().join(format!("keel-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let outcome = run(&options, &instances, &folder);
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn run(options: &Options, instances: &[u16], folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let peers = [
        Peer::keel(&options.keel, folder, instances)?,
        Peer::nginx(folder, instances)?,
        Peer::haproxy(folder, instances)?,
    ];
    for peer in &peers {
        println!("--- {}: {}\n{}", peer.name, peer.version, peer.configuration.trim_end());
    }
    for &connections in &options.connections {
        let mut rounds: Vec<Round> = Vec::new();
        for round in 0..=options.rounds {
            for peer in &peers {
                let measured = measure(peer, connections, options.seconds)?;
                // The first round warms everything up and is not counted.
                if round > 0 {
                    eprintln!("  round {round}/{}: {:8} {measured}", options.rounds, peer.name);
                    rounds.push(measured);
                }
            }
        }
        report::print(connections, options.seconds, &rounds);
    }
    Ok(())
}

fn measure(peer: &Peer, connections: u32, seconds: u64) -> Result<Round, Box<dyn Error>> {
    let before = cpu::of_tree(peer.pid())?;
    let load = load::run(peer.port, connections, Duration::from_secs(seconds), LOAD_CORE)?;
    let spent = cpu::of_tree(peer.pid())?.saturating_sub(before);
    Ok(Round { name: peer.name, spent, load })
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options =
        Options { keel: PathBuf::from("../target/dist/keel"), rounds: 5, seconds: 5, connections: vec![64] };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
        match flag.as_str() {
            "--keel" => options.keel = value()?.into(),
            "--rounds" => options.rounds = value()?.parse()?,
            "--seconds" => options.seconds = value()?.parse()?,
            "--connections" => {
                options.connections = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            _ => {
                return Err(format!(
                    "unknown option {flag}; there are --keel PATH, --rounds N, --seconds N, --connections N,N,…"
                )
                .into());
            }
        }
    }
    Ok(options)
}
