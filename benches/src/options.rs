//! What may be asked for on the command line.

use std::{error::Error, path::PathBuf};

use crate::cases::{CASES, Case};

const USAGE: &str = "\
cargo xtask bench edge [OPTIONS]

  --quick             one round of one second: whether everything works, not what to quote
  --rounds N          counted rounds of each case [5]
  --seconds N         length of a round [5]
  --only NAME,…       cases whose names begin so; `idle` is one
  --without-syscalls  no counting of system calls, which needs root
  --keel PATH         the program measured [../target/dist/keel]
  --json PATH         where the results go [../target/bench/edge.json]
  --write-docs        write the results into docs/benchmarks.md, with plots
  --docs FOLDER       another folder than ../docs for that
  --from PATH         measure nothing: take the results of an earlier run";

/// What this run does.
pub struct Options {
    pub keel: PathBuf,
    pub rounds: u32,
    pub seconds: u64,
    pub only: Vec<String>,
    pub syscalls: bool,
    pub json: PathBuf,
    pub write_docs: bool,
    pub docs: PathBuf,
    pub from: Option<PathBuf>,
}

impl Options {
    pub fn given(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            keel: "../target/dist/keel".into(),
            rounds: 5,
            seconds: 5,
            only: Vec::new(),
            syscalls: true,
            json: "../target/bench/edge.json".into(),
            write_docs: false,
            docs: "../docs".into(),
            from: None,
        };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value\n\n{USAGE}"));
            match flag.as_str() {
                "--quick" => (options.rounds, options.seconds) = (1, 1),
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--without-syscalls" => options.syscalls = false,
                "--keel" => options.keel = value()?.into(),
                "--json" => options.json = value()?.into(),
                "--write-docs" => options.write_docs = true,
                "--docs" => options.docs = value()?.into(),
                "--from" => options.from = Some(value()?.into()),
                _ => return Err(format!("unknown option {flag}\n\n{USAGE}").into()),
            }
        }
        if options.rounds == 0 || options.seconds == 0 {
            return Err("there must be a round, and it must last".into());
        }
        if options.cases().next().is_none() && !options.idle() {
            return Err(
                format!("no case is called so; there are {} and idle", CASES.map(|case| case.name).join(", ")).into()
            );
        }
        Ok(options)
    }

    pub fn cases(&self) -> impl Iterator<Item = &'static Case> {
        CASES.iter().filter(|case| self.has(case.name))
    }

    pub fn idle(&self) -> bool {
        self.has("idle")
    }

    fn has(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only.as_str()))
    }
}
