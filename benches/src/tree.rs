//! The processes of a contender: its own and everything below it, from `/proc` (proc(5)).

use std::{collections::HashMap, fs, io};

/// One process.
pub struct Process {
    pub pid: u32,
    /// User and system time, that of reaped children included, in ticks.
    pub ticks: u64,
}

/// `root` and everything below it.
pub fn of(root: u32) -> io::Result<Vec<Process>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut ticks: HashMap<u32, u64> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between the listing and the reading.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((parent, time)) = parse(&stat) else { continue };
        children.entry(parent).or_default().push(pid);
        ticks.insert(pid, time);
    }
    let mut all = Vec::new();
    let mut todo = vec![root];
    while let Some(pid) = todo.pop() {
        all.extend(ticks.get(&pid).map(|&ticks| Process { pid, ticks }));
        todo.extend(children.get(&pid).into_iter().flatten());
    }
    Ok(all)
}

/// Parent, and user, system and reaped children's time in ticks.
fn parse(stat: &str) -> Option<(u32, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let time = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    Some((fields.get(1)?.parse().ok()?, time(11)? + time(12)? + time(13)? + time(14)?))
}
