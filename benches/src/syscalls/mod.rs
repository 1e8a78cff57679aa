//! System calls per request, counted in a short round of its own, once its connections are open.
//!
//! By perf where it may count, because it slows nobody down much; else by strace, which makes a contender several times
//! slower, so that nothing else is taken from such a round. Calls that fail, such as a read that would block, are calls
//! too.

mod perf;
mod strace;

use std::{error::Error, path::Path, thread, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{LOAD_CORE, cases::Case, instances::Instances, load, peer::Peer, tree};

/// What a contender called in one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Calls {
    pub contender: String,
    /// What counted them.
    pub counter: String,
    pub per_request: f64,
    /// The calls of which there is at least one for every hundred requests, most frequent first.
    pub by_name: Vec<(String, f64)>,
}

/// How many calls there were: of all names, and by name, as far as names are told apart.
struct Counts {
    all: u64,
    by_name: Vec<(String, u64)>,
}

/// Whatever is counting calls.
enum Counter {
    Perf(perf::Perf),
    Strace(strace::Strace),
}

impl Counter {
    /// Returns once it counts the calls of all of them.
    fn start(pids: &[u32], folder: &Path) -> Result<Self, Box<dyn Error>> {
        let file = folder.join("calls");
        match perf::Perf::start(pids, &file) {
            Some(perf) => Ok(Self::Perf(perf)),
            None => strace::Strace::start(pids, &file).map(Self::Strace),
        }
    }

    fn finish(self) -> Result<(&'static str, Counts), Box<dyn Error>> {
        match self {
            Self::Perf(perf) => Ok(("perf", perf.finish()?)),
            Self::Strace(strace) => Ok(("strace", strace.finish()?)),
        }
    }
}

/// Counts the calls of all threads and processes of a contender while it is under the case's load. None where being
/// traced left it so slow that not even every connection had an answer meanwhile; with what makes the load void.
pub fn count(
    peer: &Peer,
    case: &Case,
    seconds: u64,
    instances: &Instances,
    folder: &Path,
) -> Result<(Option<Calls>, Option<String>), Box<dyn Error>> {
    let settle = Duration::from_secs(case.settle_s);
    let window = Duration::from_millis(500) * u32::try_from(seconds.min(2))? + settle;
    let (load, answered, counted) = thread::scope(|scope| {
        let load_s = 2 * case.settle_s + seconds.clamp(2, 3);
        let load = scope.spawn(move || load::run(case, peer.port, load_s, LOAD_CORE, folder));
        thread::sleep(settle + Duration::from_millis(500));
        let pids: Vec<u32> = tree::of(peer.pid())?.iter().map(|process| process.pid).collect();
        let counter = Counter::start(&pids, folder)?;
        let before = instances.answered();
        thread::sleep(window);
        let answered = instances.answered() - before;
        let counted = counter.finish()?;
        Ok::<_, Box<dyn Error>>((load.join().expect("the load does not panic")?, answered, counted))
    })?;
    let (counter, mut counts) = counted;
    if counts.all == 0 {
        return Err(format!("{counter} saw no call of {}", peer.name).into());
    }
    counts.by_name.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
    let per_request = |calls: u64| calls as f64 / answered.max(1) as f64;
    let frequent = |(name, calls): (String, u64)| Some((name, per_request(calls))).filter(|(_, calls)| *calls >= 0.01);
    let measured = Calls {
        contender: peer.name.to_owned(),
        counter: counter.to_owned(),
        per_request: per_request(counts.all),
        by_name: counts.by_name.into_iter().map_while(frequent).collect(),
    };
    let enough = answered >= u64::from(case.connections);
    Ok((enough.then_some(measured), load.wrong(case)))
}
