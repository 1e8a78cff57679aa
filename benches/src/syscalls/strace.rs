//! `strace -c` (strace(1)); needs root or the right to trace.

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use super::Counts;

pub struct Strace {
    child: Child,
    table: PathBuf,
}

impl Strace {
    /// Returns once it traces all of them.
    pub fn start(pids: &[u32], table: &Path) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-o"]).arg(table);
        for pid in pids {
            command.args(["-p", &pid.to_string()]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run strace (`cargo xtask setup --bench` installs it): {error}"))?;
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut said = String::new();
        let mut attached = 0;
        while attached < pids.len() {
            let Some(line) = lines.next().transpose()? else {
                child.wait()?;
                let way_out = "are you root? --without-syscalls leaves it out";
                return Err(format!("strace cannot trace ({way_out}): {said}").into());
            };
            attached += usize::from(line.contains(" attached"));
            said.push_str(&line);
        }
        // What it says later must not block it.
        thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Self { child, table: table.to_owned() })
    }

    /// It leaves alone what it traces, writes its table and ends.
    pub fn finish(mut self) -> Result<Counts, Box<dyn Error>> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        self.child.wait()?;
        let by_name = parse(&fs::read_to_string(&self.table)?);
        Ok(Counts { all: by_name.iter().map(|(_, calls)| calls).sum(), by_name })
    }
}

/// Names and numbers of calls, from a table whose fourth column is `calls` and whose last is the name.
fn parse(table: &str) -> Vec<(String, u64)> {
    let row = |line: &str| -> Option<(String, u64)> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let calls = fields.get(3)?.parse().ok()?;
        let name = fields.get(4..)?.last()?;
        (*name != "total").then(|| ((*name).to_owned(), calls))
    };
    table.lines().filter_map(row).collect()
}
