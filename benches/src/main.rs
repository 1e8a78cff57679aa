//! `cargo xtask bench edge`: CPU time per request of `keel` beside HAProxy and nginx, and what else a request and a
//! connection cost.
//!
//! Every contender runs with one worker on one core, in front of the same three instances, which run with the
//! load on another core. Rounds are interleaved, so that a slow minute of the machine hits everybody. What is
//! counted is the CPU time of all threads and processes of a contender (for `keel`: guard, node process and
//! edge), divided by the requests that were answered; the figure to quote is the ratio of the medians. One error or one
//! answer of a wrong length makes the whole run fail.

mod cases;
mod cpu;
mod cpu_set;
mod exchange;
mod idle;
mod instances;
mod load;
mod machine;
mod memory;
mod options;
mod page;
mod peer;
mod plot;
mod report;
mod results;
mod run;
mod syscalls;
mod tree;
mod window;

use std::{error::Error, fs, path::Path, process::ExitCode};

use options::Options;
use results::Results;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The core of the contender, and the core of load and instances.
const PROXY_CORE: usize = 0;
const LOAD_CORE: usize = 1;

fn main() -> ExitCode {
    match work() {
        Ok(wrong) if wrong.is_empty() => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("\nThis run is void, {} things went wrong:\n  {}", wrong.len(), wrong.join("\n  "));
            ExitCode::FAILURE
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, shows and writes. Returns what makes the run void.
fn work() -> Result<Vec<String>, Box<dyn Error>> {
    let options = Options::given(std::env::args().skip(1))?;
    let results = match &options.from {
        Some(path) => serde_json::from_str(&fs::read_to_string(path)?)?,
        None => measure(&options)?,
    };
    report::print(&results);
    if options.from.is_none() {
        fs::create_dir_all(options.json.parent().unwrap_or(Path::new(".")))?;
        fs::write(&options.json, serde_json::to_string_pretty(&results)?)?;
        println!("\nwritten: {}", options.json.display());
    }
    if options.write_docs && results.wrong.is_empty() {
        page::write(&results, &options.docs)?;
        println!("written: {}", options.docs.join("benchmarks.md").display());
    }
    Ok(results.wrong)
}

fn measure(options: &Options) -> Result<Results, Box<dyn Error>> {
    // Thousands of connections, here and in what is started from here.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    cpu_set::pin(LOAD_CORE);
    let folder = std::env::temp_dir().join(format!("keel-bench-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = run::run(options, &folder);
    fs::remove_dir_all(&folder)?;
    outcome
}
