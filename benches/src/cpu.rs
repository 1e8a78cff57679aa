//! CPU time of a process and all of its descendants, from `/proc` (proc(5)).

use std::{collections::HashMap, fs, io, time::Duration};

/// User and system time of `root` and of everything below it, children that were reaped included.
pub fn of_tree(root: u32) -> io::Result<Duration> {
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
    let mut sum = 0;
    let mut todo = vec![root];
    while let Some(pid) = todo.pop() {
        sum += ticks.get(&pid).copied().unwrap_or(0);
        todo.extend(children.get(&pid).into_iter().flatten());
    }
    // USER_HZ is 100 on every architecture that Linux gives a `/proc` of this form.
    Ok(Duration::from_millis(sum * 10))
}

/// Parent, and user, system and reaped children's time in ticks.
fn parse(stat: &str) -> Option<(u32, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let time = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    Some((fields.get(1)?.parse().ok()?, time(11)? + time(12)? + time(13)? + time(14)?))
}
