//! The measuring itself: contenders started, rounds interleaved, everything wrong written down.

use std::{error::Error, path::Path, time::Duration};

use crate::{
    LOAD_CORE,
    cases::Case,
    exchange, idle,
    instances::{self, Instances},
    load,
    machine::Machine,
    memory,
    options::Options,
    peer::Peer,
    report,
    results::{Contender, Measured, Results, Round},
    syscalls,
    window::Sample,
};

/// How many connections are kept idle.
const IDLE: u32 = 5000;

/// Measures everything that is asked for. What went wrong is in the results; an error is what made going on pointless.
pub fn run(options: &Options, folder: &Path) -> Result<Results, Box<dyn Error>> {
    let instances = instances::start(3, LOAD_CORE)?;
    let mut run = Run { options, folder, instances: &instances, wrong: Vec::new() };
    let idle = if options.idle() { run.idle()? } else { Vec::new() };
    let peers = start(options, &folder.join("load"), &instances.ports)?;
    let contenders: Vec<Contender> = peers.iter().map(|peer| contender(peer, folder)).collect();
    for contender in &contenders {
        println!("--- {}: {}\n{}", contender.name, contender.version, contender.configuration.trim_end());
    }
    let mut cases = Vec::new();
    for case in options.cases() {
        cases.push(run.case(case, &peers)?);
    }
    let Options { rounds, seconds, .. } = *options;
    Ok(Results { machine: Machine::this(), rounds, seconds, contenders, cases, idle, wrong: run.wrong })
}

/// The contenders, `keel` first.
fn start(options: &Options, folder: &Path, instances: &[u16]) -> Result<[Peer; 3], Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    Ok([
        Peer::keel(&options.keel, folder, instances)?,
        Peer::nginx(folder, instances)?,
        Peer::haproxy(folder, instances)?,
    ])
}

/// As a reader needs it: the folder's name says nothing.
fn contender(peer: &Peer, folder: &Path) -> Contender {
    let configuration = peer.configuration.replace(&folder.display().to_string(), "/tmp/bench");
    Contender { name: peer.name.to_owned(), version: peer.version.clone(), configuration }
}

struct Run<'a> {
    options: &'a Options,
    folder: &'a Path,
    instances: &'a Instances,
    wrong: Vec<String>,
}

impl Run<'_> {
    fn wrong(&mut self, peer: &Peer, what: &str, problem: &str) {
        let line = format!("{}, {what}: {problem}", peer.name);
        eprintln!("WRONG: {line}");
        self.wrong.push(line);
    }

    /// Three times, each with contenders that have done nothing yet; once if rounds are few.
    fn idle(&mut self) -> Result<Vec<idle::Idle>, Box<dyn Error>> {
        let mut all = Vec::new();
        for round in 1..=self.options.rounds.div_ceil(2) {
            for peer in &start(self.options, &self.folder.join(format!("idle-{round}")), &self.instances.ports)? {
                match idle::measure(peer, IDLE) {
                    Ok(measured) => {
                        let bytes = measured.bytes_per_connection();
                        eprintln!("  idle {round}: {:8} {bytes:6.0} bytes a connection", peer.name);
                        all.push(measured);
                    }
                    Err(problem) => self.wrong(peer, "idle", &problem.to_string()),
                }
            }
        }
        Ok(all)
    }

    fn case(&mut self, case: &Case, peers: &[Peer]) -> Result<Measured, Box<dyn Error>> {
        let Options { rounds, seconds, .. } = *self.options;
        let mut measured = Measured {
            name: case.name.to_owned(),
            title: case.title.to_owned(),
            rounds: Vec::new(),
            calls: Vec::new(),
        };
        for peer in peers {
            if let Err(problem) = exchange::connect(peer.port).and_then(|mut stream| exchange::of(case, &mut stream)) {
                self.wrong(peer, case.name, &problem.to_string());
            }
        }
        // A round that is not counted warms everything up; it must be right all the same. A single round is only to show
        // that everything works.
        let first = u32::from(rounds == 1);
        for number in first..=rounds {
            for peer in peers {
                let counted = number > 0;
                let round = self
                    .round(case, peer, if counted { seconds } else { seconds.min(2) })
                    .map_err(|error| format!("{}, {}, round {number}: {error}", peer.name, case.name))?;
                if let Some(problem) = round.load.wrong(case) {
                    self.wrong(peer, &format!("{}, round {number}", case.name), &problem);
                }
                if counted {
                    eprintln!("  {} {number}/{rounds}: {:8} {}", case.name, peer.name, report::line(&round));
                    measured.rounds.push(round);
                }
            }
        }
        if self.options.syscalls {
            for peer in peers {
                let (calls, problem) = syscalls::count(peer, case, seconds, self.instances, self.folder)?;
                if calls.is_none() {
                    eprintln!("  {}: {} is too slow while it is traced: no calls are counted", case.name, peer.name);
                }
                measured.calls.extend(calls);
                if let Some(problem) = problem {
                    self.wrong(peer, &format!("{}, traced", case.name), &problem);
                }
            }
        }
        Ok(measured)
    }

    /// The middle of the load counts: connections are open by then, and nothing ends.
    fn round(&self, case: &Case, peer: &Peer, seconds: u64) -> Result<Round, Box<dyn Error>> {
        let (load, window) = std::thread::scope(|scope| {
            let load = scope.spawn(|| load::run(case, peer.port, case.settle_s + seconds, LOAD_CORE, self.folder));
            let whole = Duration::from_secs(seconds);
            std::thread::sleep(Duration::from_secs(case.settle_s) + whole / 4);
            let begin = Sample::take(peer.pid(), self.instances)?;
            std::thread::sleep(whole * 2 / 3);
            let window = begin.until(&Sample::take(peer.pid(), self.instances)?);
            Ok::<_, Box<dyn Error>>((load.join().expect("the load does not panic")?, window))
        })?;
        Ok(Round {
            contender: peer.name.to_owned(),
            cpu_us_per_request: window.cpu_us_per_request(),
            per_second: window.per_second(),
            busy_percent: window.busy_percent(),
            load,
            memory: memory::of_tree(peer.pid())?,
        })
    }
}
