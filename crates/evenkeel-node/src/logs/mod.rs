//! Output of instances: read from their pipes, kept in files, searched and followed.
//!
//! A task reads each pipe and cuts it into lines; a thread writes files. Between them lies a bounded queue: when
//! the disk is slow or full, lines are dropped and counted, and an instance is never blocked in its `write`. The
//! last lines of each instance stay in memory, for `status` and for a disk that cannot be written. Values of secrets
//! are masked before anything else sees the bytes.

mod files;
mod lines;
mod search;

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use evenkeel_core::time::WallTime;
use tokio::{io::AsyncReadExt, net::unix::pipe, sync::broadcast};

use self::{files::Files, lines::Splitter};
pub(crate) use self::{files::Limits, search::Search};
use crate::{
    clock::wall_now,
    secrets::{Mask, Stream},
    words::counted,
};

/// How many lines of each instance stay in memory.
const RECENT: usize = 100;

/// Lines that a follower may lag behind before it misses some.
const FOLLOWERS: usize = 4096;

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub(crate) struct Line {
    /// When it was read.
    pub(crate) at: WallTime,
    /// `shop/1`.
    #[serde(serialize_with = "as_text")]
    pub(crate) instance: Arc<str>,
    /// Without its newline. What is not UTF-8 is shown as U+FFFD.
    #[serde(rename = "line")]
    pub(crate) text: String,
}

fn as_text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

type Recent = Arc<Mutex<VecDeque<Line>>>;

/// The logs of all instances. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    folder: PathBuf,
    files: Files,
    followers: broadcast::Sender<Line>,
    recent: Arc<Mutex<HashMap<Arc<str>, Recent>>>,
    mask: Mask,
}

impl Logs {
    /// Keeps logs below `folder`.
    pub(crate) fn open(folder: PathBuf, limits: Limits) -> io::Result<Self> {
        let files = Files::start(folder.clone(), limits)?;
        let (followers, recent) = (broadcast::channel(FOLLOWERS).0, Arc::default());
        Ok(Self { folder, files, followers, recent, mask: Mask::default() })
    }

    /// What is masked in all output; empty at first.
    pub(crate) fn mask(&self) -> Mask {
        self.mask.clone()
    }

    /// Changes the bounds of all files.
    pub(crate) fn set_limits(&self, limits: Limits) {
        self.files.set_limits(limits);
    }

    /// Reads an instance's pipe until its end. Must be called within the runtime.
    pub(crate) fn attach(&self, instance: &str, pipe: OwnedFd) {
        let instance: Arc<str> = instance.into();
        let recent = self.recent_of(&instance);
        let logs = self.clone();
        tokio::spawn(async move {
            if let Err(error) = logs.read(&instance, &recent, pipe).await {
                tracing::warn!(%instance, %error, "its output cannot be read any more");
            }
        });
    }

    /// Writes a line of `keel`'s own into an instance's log.
    pub(crate) fn say(&self, instance: &str, line: &str) {
        let instance: Arc<str> = instance.into();
        self.keep(&instance, &self.recent_of(&instance), wall_now(), line.as_bytes());
    }

    /// Keeps output of an instance that did not come by its pipe, masked as the rest. `cut`: there was more of it, so
    /// what may be the beginning of a secret at its end is left out. `unsaid`: how much more output there was.
    pub(crate) fn told(&self, instance: &str, text: &str, cut: bool, unsaid: u64) {
        let name: Arc<str> = instance.into();
        let recent = self.recent_of(&name);
        let (mut splitter, mut masked, at) = (Splitter::default(), Stream::new(&self.mask), wall_now());
        let mut keep = |line: &[u8]| self.keep(&name, &recent, at, line);
        splitter.push(masked.push(text.as_bytes()), &mut keep);
        if !cut {
            splitter.push(masked.finish(), &mut keep);
        }
        splitter.finish(&mut keep);
        if unsaid > 0 {
            let requests = counted(unsaid, "more request", "more requests");
            self.say(instance, &format!("keel: {requests} came with output that is not shown, since it was too much"));
        }
    }

    /// The last `n` lines of an instance, oldest first.
    pub(crate) fn last(&self, instance: &str, n: usize) -> Vec<String> {
        let recent = self.recent_of(&instance.into());
        let lines = recent.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(lines.len().saturating_sub(n)).map(|line| line.text.clone()).collect()
    }

    /// The last `n` lines of an instance that came at `since` or later, oldest first.
    pub(crate) fn last_since(&self, instance: &str, n: usize, since: WallTime) -> Vec<String> {
        let recent = self.recent_of(&instance.into());
        let lines = recent.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = lines.iter().rev().take(n).take_while(|line| line.at >= since);
        let mut texts: Vec<String> = newest.map(|line| line.text.clone()).collect();
        texts.reverse();
        texts
    }

    /// Lines from now on, of all instances.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Line> {
        self.followers.subscribe()
    }

    /// A search of what is on disk; blocking, so not for the runtime's own thread.
    pub(crate) fn search(&self, search: &Search) -> Vec<Line> {
        self.files.settle();
        search.run(&self.folder)
    }

    /// How many lines were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.files.counts().dropped.load(Ordering::Relaxed)
    }

    /// How long ago a line was dropped last, in this process.
    pub(crate) fn dropped_ago(&self) -> Option<Duration> {
        self.files.counts().dropped_ago()
    }

    fn recent_of(&self, instance: &Arc<str>) -> Recent {
        let mut all = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = all.entry(Arc::clone(instance));
        Arc::clone(recent.or_insert_with(|| Arc::new(Mutex::new(search::tail(&self.folder, instance, RECENT)))))
    }

    async fn read(&self, instance: &Arc<str>, recent: &Recent, pipe: OwnedFd) -> io::Result<()> {
        let mut pipe = pipe::Receiver::from_owned_fd(pipe)?;
        let mut splitter = Splitter::default();
        let mut masked = Stream::new(&self.mask);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let bytes = pipe.read(&mut buffer).await?;
            let at = wall_now();
            if bytes == 0 {
                splitter.push(masked.finish(), |line| self.keep(instance, recent, at, line));
                splitter.finish(|line| self.keep(instance, recent, at, line));
                return Ok(());
            }
            splitter.push(masked.push(&buffer[..bytes]), |line| self.keep(instance, recent, at, line));
            // One instance that never stops talking must not keep the others waiting.
            tokio::task::yield_now().await;
        }
    }

    fn keep(&self, instance: &Arc<str>, recent: &Recent, at: WallTime, raw: &[u8]) {
        self.files.write(instance, at, raw);
        let line = Line { at, instance: Arc::clone(instance), text: String::from_utf8_lossy(raw).into_owned() };
        let mut lines = recent.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == RECENT {
            lines.pop_front();
        }
        lines.push_back(line.clone());
        drop(lines);
        // An error means that nobody follows.
        let _ = self.followers.send(line);
    }
}

/// The file name of an instance's log: `shop/1` is kept in `shop-1.log`.
fn file_name(instance: &str) -> String {
    format!("{}.log", instance.replace('/', "-"))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use super::*;

    #[tokio::test]
    async fn output_is_kept_followed_and_found_again() {
        let temp = tempfile::tempdir().unwrap();
        let limits = Limits { size_bytes: 1 << 20, files: 2 };
        let logs = Logs::open(temp.path().to_owned(), limits).unwrap();
        let mut follower = logs.follow();
        let (read_end, write_end) = rustix::pipe::pipe().unwrap();
        logs.attach("shop/1", read_end);
        let mut pipe = File::from(write_end);
        pipe.write_all(b"first\nsecond \xff line\nlast without end").unwrap();
        drop(pipe);
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.push(follower.recv().await.unwrap().text);
        }
        assert_eq!(seen, ["first", "second \u{fffd} line", "last without end"]);
        assert_eq!(logs.last("shop/1", 2), seen[1..]);

        let all = Search { instances: vec!["shop/1".to_owned()], lines: 10, grep: None };
        let found = logs.search(&all);
        assert_eq!(found.iter().map(|line| &line.text).collect::<Vec<_>>(), seen.iter().collect::<Vec<_>>());
        let one = Search { grep: Some("second".to_owned()), ..all };
        assert_eq!(logs.search(&one).len(), 1);

        // A successor knows the last lines from the file.
        let next = Logs::open(temp.path().to_owned(), limits).unwrap();
        assert_eq!(next.last("shop/1", 1), ["last without end"]);
        assert_eq!(next.dropped(), 0);
    }

    #[tokio::test]
    async fn an_unwritable_folder_costs_lines_on_disk_only() {
        let temp = tempfile::tempdir().unwrap();
        let logs = Logs::open(temp.path().join("missing"), Limits { size_bytes: 1000, files: 2 }).unwrap();
        let mut follower = logs.follow();
        let (read_end, write_end) = rustix::pipe::pipe().unwrap();
        logs.attach("shop/1", read_end);
        let writer = std::thread::spawn(move || {
            let mut pipe = File::from(write_end);
            for _ in 0..10_000 {
                pipe.write_all(b"a line of output that nobody can write\n").unwrap();
            }
        });
        follower.recv().await.unwrap();
        while logs.last("shop/1", 100).len() < 100 {
            tokio::task::yield_now().await;
        }
        logs.search(&Search { instances: Vec::new(), lines: 1, grep: None });
        assert!(logs.dropped() > 0);
        assert!(logs.dropped_ago().is_some_and(|ago| ago < Duration::from_mins(1)));
        while !writer.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_did_not_come_by_a_pipe_is_masked_as_well() {
        let temp = tempfile::tempdir().unwrap();
        let logs = Logs::open(temp.path().to_owned(), Limits { size_bytes: 1 << 20, files: 2 }).unwrap();
        let secret = evenkeel_core::secret::Secret::new("correct horse battery");
        logs.mask().add([("pass", &secret)].into_iter());
        logs.told("app/1", "PHP message: correct horse battery\nis wrong", false, 0);
        logs.told("app/1", "cut off: correct hor", true, 2);
        let lines = logs.last("app/1", 10);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].starts_with("PHP message: ") && lines[1] == "is wrong", "{lines:?}");
        assert!(lines[2].starts_with("cut off: ") && lines[3].contains("2 more requests"), "{lines:?}");
        assert!(!lines.concat().contains("correct"), "{lines:?}");
    }
}
