//! Searching log files: the last lines that match, merged over instances by time.
//!
//! A search reads one file at a time, newest first, and stops as soon as it has enough; its memory is bounded by
//! one file and the lines asked for.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use evenkeel_core::time::WallTime;

use super::{Line, file_name, files::former};

/// What to look for.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// In which instances' output.
    pub(crate) instances: Vec<String>,
    /// At most so many lines, the newest ones.
    pub(crate) lines: usize,
    /// Only lines that contain this text.
    pub(crate) grep: Option<String>,
}

impl Search {
    /// The lines found, oldest first.
    pub(super) fn run(&self, folder: &Path) -> Vec<Line> {
        let mut found: Vec<Line> = self.instances.iter().flat_map(|instance| self.one(folder, instance)).collect();
        found.sort_by_key(|line| line.at);
        found.split_off(found.len().saturating_sub(self.lines))
    }

    fn one(&self, folder: &Path, instance: &str) -> Vec<Line> {
        let name: Arc<str> = instance.into();
        let path = folder.join(file_name(instance));
        // Newest first until it is complete.
        let mut found = Vec::new();
        let mut missing = 0;
        for n in 0..u8::MAX {
            let Ok(bytes) = std::fs::read(former(&path, n)) else {
                // While files are being rotated, or where we died in the middle of it, one name is free.
                missing += 1;
                if missing > 1 {
                    break;
                }
                continue;
            };
            let lines = bytes.split(|byte| *byte == b'\n').rev().filter_map(|raw| parse(&name, raw));
            let matching = lines.filter(|line| self.grep.as_ref().is_none_or(|text| line.text.contains(text)));
            found.extend(matching.take(self.lines - found.len()));
            if found.len() == self.lines {
                break;
            }
        }
        found.reverse();
        found
    }
}

/// The last `n` lines of an instance's current file, from its last 64 KiB.
pub(super) fn tail(folder: &Path, instance: &str, n: usize) -> VecDeque<Line> {
    const TAIL_BYTES: u64 = 64 * 1024;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(folder.join(file_name(instance)))?;
        let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let name: Arc<str> = instance.into();
    let bytes = read().unwrap_or_default();
    let lines = bytes.split(|byte| *byte == b'\n').rev().filter_map(|raw| parse(&name, raw)).take(n);
    let mut newest_first: VecDeque<Line> = lines.collect();
    newest_first.make_contiguous().reverse();
    newest_first
}

/// A line of a file; `None` for the piece after the last newline and for what we did not write.
fn parse(instance: &Arc<str>, raw: &[u8]) -> Option<Line> {
    let (stamp, line) = (raw.get(..24)?, raw.get(25..)?);
    let text = String::from_utf8_lossy(line).into_owned();
    Some(Line { at: parse_stamp(stamp)?, instance: Arc::clone(instance), text })
}

/// The inverse of how a [`WallTime`] is written.
fn parse_stamp(stamp: &[u8]) -> Option<WallTime> {
    let number = |range: std::ops::Range<usize>| std::str::from_utf8(stamp.get(range)?).ok()?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second, milli) = (number(11..13)?, number(14..16)?, number(17..19)?, number(20..23)?);
    // Days from 0000-03-01, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day.checked_sub(1)?;
    let seconds = (days.checked_sub(719_468)? * 24 + hour) * 3600 + minute * 60 + second;
    Some(WallTime::from_millis(seconds * 1000 + milli))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_read_back() {
        for ms in [0, 951_782_399_999, 951_827_696_007, 1_735_689_600_000, 4_107_542_400_000] {
            let at = WallTime::from_millis(ms);
            assert_eq!(parse_stamp(at.to_string().as_bytes()), Some(at));
        }
        assert_eq!(parse_stamp(b"not a time stamp at all!"), None);
    }

    #[test]
    fn instances_merge_by_time_over_rotated_files() {
        let temp = tempfile::tempdir().unwrap();
        let write = |name: &str, lines: &[u64]| {
            let line = |ms: &u64| format!("{} l{ms}\n", WallTime::from_millis(*ms));
            let lines: Vec<String> = lines.iter().map(line).collect();
            std::fs::write(temp.path().join(name), lines.concat()).unwrap();
        };
        write("shop-1.log.1", &[1, 2]);
        write("shop-1.log", &[5, 8]);
        write("shop-2.log", &[3, 6]);
        // Rotated, and nothing written since.
        write("shop-3.log.1", &[7]);
        let search = |lines, grep: Option<&str>| {
            let instances = vec!["shop/1".to_owned(), "shop/2".to_owned(), "shop/3".to_owned()];
            let found = Search { instances, lines, grep: grep.map(str::to_owned) }.run(temp.path());
            found.into_iter().map(|line| line.text).collect::<Vec<_>>()
        };
        assert_eq!(search(100, None), ["l1", "l2", "l3", "l5", "l6", "l7", "l8"]);
        assert_eq!(search(3, None), ["l6", "l7", "l8"]);
        assert_eq!(search(3, Some("l2")), ["l2"]);
        assert_eq!(search(0, None), Vec::<String>::new());
    }
}
