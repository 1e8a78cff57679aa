//! PostgreSQL's way to write positions: a timeline and a log sequence number.
//!
//! A log sequence number is a byte offset into the write-ahead log, written as two hexadecimal halves with a slash
//! (PostgreSQL 15 manual, 8.20 "`pg_lsn` Type"); a timeline is a history (26.3.6 "Timelines").

use super::{Path, Position};

/// The offset that `text` names, as `16/B374D848`; `None` if it is no log sequence number.
pub fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let half = |digits: &str| {
        let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        fits.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
    };
    Some(half(high)? << 32 | half(low)?)
}

/// The log sequence number of an offset.
pub fn lsn(offset: u64) -> String {
    format!("{:X}/{:X}", offset >> 32, offset & 0xffff_ffff)
}

/// The position of a timeline and a log sequence number.
pub fn position(timeline: u32, offset: u64) -> Position {
    Position { history: u64::from(timeline), offset }
}

/// The path that a timeline history file tells (`pg_wal/NNNNNNNN.history`: a line for each former timeline with its
/// number, the log sequence number where it ended, and a reason), for the timeline that the file is named after.
/// `None`: it is damaged.
pub fn path(timeline: u32, history_file: &str) -> Option<Path> {
    let mut ended = Vec::new();
    for line in history_file.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut fields = line.split_whitespace();
        let parent: u32 = fields.next()?.parse().ok()?;
        ended.push((parent, parse_lsn(fields.next()?)?));
    }
    let mut path = Path::beginning(u64::from(ended.first().map_or(timeline, |(first, _)| *first)));
    let names = ended.iter().skip(1).map(|(next, _)| *next).chain([timeline]);
    for ((_, at), next) in ended.iter().zip(names) {
        path.branch(u64::from(next), *at);
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Reach;

    #[test]
    fn log_sequence_numbers_are_read_and_written() {
        assert_eq!(parse_lsn("0/0"), Some(0));
        assert_eq!(parse_lsn("16/B374D848"), Some(0x16_B374_D848));
        assert_eq!(parse_lsn("FFFFFFFF/FFFFFFFF"), Some(u64::MAX));
        assert_eq!(lsn(0x16_B374_D848), "16/B374D848");
        for bad in ["", "/", "0", "0/", "1/2/3", "+1/2", "1 /2", "123456789/0", "g/0"] {
            assert_eq!(parse_lsn(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_history_file_is_a_path() {
        let path = path(3, "1\t0/3000148\tno recovery target specified\n\n2\t0/5000060\tno recovery\n").expect("whole");
        assert_eq!(path.current(), Some(3));
        assert_eq!(path.reach(position(1, 0x300_0148)), Reach::On(0x300_0148));
        assert_eq!(path.reach(position(1, 0x300_0149)), Reach::Diverged { at: 0x300_0148 });
        assert_eq!(path.reach(position(2, 0x500_0060)), Reach::On(0x500_0060));
        assert_eq!(super::path(1, ""), Some(Path::beginning(1)), "the first timeline has no file");
        assert_eq!(super::path(3, "1\tnonsense"), None);
    }
}
