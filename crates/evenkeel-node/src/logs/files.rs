//! The thread that writes log files and rotates them.
//!
//! A line is `2026-11-20T11:44:22.123Z text`. When a file would exceed its size, `shop-1.log` becomes
//! `shop-1.log.1`, that one `.2`, and so on; the oldest goes. The queue is bounded in bytes; what does not fit is
//! dropped, and so is what cannot be written. A file that failed is tried again at most once a second.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use evenkeel_core::time::WallTime;

use super::file_name;

/// Bytes that may wait for the disk.
const WAITING_BYTES: usize = 16 << 20;

/// A disk that stays full is complained of so often; the count of lines is told by `status` all the time.
const COMPLAIN_EVERY: Duration = Duration::from_mins(1);

/// How long a file that failed is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bounds of each instance's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Size at which a file is rotated.
    pub(crate) size_bytes: u64,
    /// How many files are kept, the current one included.
    pub(crate) files: u8,
}

/// What went wrong so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Lines that were not written.
    pub(super) dropped: AtomicU64,
    /// When that happened last.
    dropped_last: Mutex<Option<Instant>>,
    waiting_bytes: AtomicUsize,
}

impl Counts {
    /// A line is not written.
    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        *self.dropped_last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long ago a line was not written; `None` if each was.
    pub(super) fn dropped_ago(&self) -> Option<Duration> {
        self.dropped_last.lock().unwrap_or_else(PoisonError::into_inner).map(|last| last.elapsed())
    }
}

/// The way to the thread. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Files {
    jobs: mpsc::Sender<Job>,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum Job {
    Line { instance: Arc<str>, at: WallTime, raw: Vec<u8> },
    Limits(Limits),
    Settle(mpsc::Sender<()>),
}

impl Files {
    pub(super) fn start(folder: PathBuf, limits: Limits) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let theirs = Arc::clone(&counts);
        let writer = Writer { folder, limits, open: HashMap::new(), counts: theirs, complained: None };
        thread::Builder::new().name("keel-logs".to_owned()).spawn(move || writer.serve(&inbox))?;
        Ok(Self { jobs, counts })
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        // The thread ends only with us.
        let _ = self.jobs.send(Job::Limits(limits));
    }

    /// Queues a line, or drops it where too much is waiting already.
    pub(super) fn write(&self, instance: &Arc<str>, at: WallTime, raw: &[u8]) {
        let cost = raw.len() + size_of::<Job>();
        if self.counts.waiting_bytes.load(Ordering::Relaxed) + cost > WAITING_BYTES {
            self.counts.drop_one();
            return;
        }
        self.counts.waiting_bytes.fetch_add(cost, Ordering::Relaxed);
        let _ = self.jobs.send(Job::Line { instance: Arc::clone(instance), at, raw: raw.to_vec() });
    }

    /// Waits until everything queued before has been written.
    pub(super) fn settle(&self) {
        let (done, wait) = mpsc::channel();
        if self.jobs.send(Job::Settle(done)).is_ok() {
            let _ = wait.recv_timeout(Duration::from_secs(1));
        }
    }
}

struct Writer {
    folder: PathBuf,
    limits: Limits,
    open: HashMap<Arc<str>, Log>,
    counts: Arc<Counts>,
    complained: Option<Instant>,
}

enum Log {
    Open { file: BufWriter<File>, size: u64 },
    Failed { since: Instant },
}

impl Writer {
    fn serve(mut self, inbox: &mpsc::Receiver<Job>) {
        while let Ok(first) = inbox.recv() {
            self.job(first);
            while let Ok(next) = inbox.try_recv() {
                self.job(next);
            }
            self.flush();
        }
        self.flush();
    }

    fn job(&mut self, job: Job) {
        match job {
            Job::Line { instance, at, raw } => {
                self.counts.waiting_bytes.fetch_sub(raw.len() + size_of::<Job>(), Ordering::Relaxed);
                if let Err(error) = self.line(&instance, at, &raw) {
                    self.failed(instance, &error);
                }
            }
            Job::Limits(limits) => self.limits = limits,
            Job::Settle(done) => {
                self.flush();
                let _ = done.send(());
            }
        }
    }

    fn line(&mut self, instance: &Arc<str>, at: WallTime, raw: &[u8]) -> io::Result<()> {
        let path = self.folder.join(file_name(instance));
        let stamp = at.to_string();
        let length = (stamp.len() + raw.len() + 2) as u64;
        match self.open.get(instance) {
            Some(Log::Failed { since }) if since.elapsed() < RETRY_AFTER => {
                self.counts.drop_one();
                return Ok(());
            }
            Some(Log::Open { .. }) => {}
            Some(Log::Failed { .. }) | None => {
                self.open.insert(Arc::clone(instance), open(&path)?);
            }
        }
        let Some(Log::Open { file, size }) = self.open.get_mut(instance) else {
            unreachable!("the file was opened above");
        };
        if *size > 0 && *size + length > self.limits.size_bytes {
            file.flush()?;
            rotate(&path, self.limits.files)?;
            self.open.insert(Arc::clone(instance), open(&path)?);
            return self.line(instance, at, raw);
        }
        *size += length;
        file.write_all(stamp.as_bytes())?;
        file.write_all(b" ")?;
        file.write_all(raw)?;
        file.write_all(b"\n")
    }

    fn failed(&mut self, instance: Arc<str>, error: &io::Error) {
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            tracing::warn!(%instance, %error, "its output cannot be written; lines are dropped");
        }
        self.counts.drop_one();
        if let Some(Log::Open { file, .. }) = self.open.insert(instance, Log::Failed { since: Instant::now() }) {
            // Dropping a BufWriter would write once more; what it holds is lost anyway.
            let _ = file.into_parts();
        }
    }

    fn flush(&mut self) {
        let mut failures = Vec::new();
        for (instance, log) in &mut self.open {
            if let Log::Open { file, .. } = log
                && let Err(error) = file.flush()
            {
                failures.push((Arc::clone(instance), error));
            }
        }
        for (instance, error) in failures {
            self.failed(instance, &error);
        }
    }
}

fn open(path: &Path) -> io::Result<Log> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok(Log::Open { file: BufWriter::with_capacity(64 * 1024, file), size })
}

/// The name of the `n`th former file; 0 is the current one.
pub(super) fn former(path: &Path, n: u8) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

fn rotate(path: &Path, files: u8) -> io::Result<()> {
    if files <= 1 {
        return fs::remove_file(path);
    }
    for n in (0..files - 1).rev() {
        match fs::rename(former(path, n), former(path, n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_rotate_within_their_bound() {
        let temp = tempfile::tempdir().unwrap();
        let files = Files::start(temp.path().to_owned(), Limits { size_bytes: 200, files: 3 }).unwrap();
        let instance: Arc<str> = "shop/1".into();
        for i in 0..40 {
            files.write(&instance, WallTime::from_millis(i), format!("line number {i}").as_bytes());
        }
        files.settle();
        let mut names: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["shop-1.log", "shop-1.log.1", "shop-1.log.2"]);
        for name in &names {
            assert!(fs::metadata(temp.path().join(name)).unwrap().len() <= 200);
        }
        let newest = fs::read_to_string(temp.path().join("shop-1.log")).unwrap();
        assert!(newest.ends_with("1970-01-01T00:00:00.039Z line number 39\n"), "{newest}");
        assert_eq!(files.counts().dropped.load(Ordering::Relaxed), 0);
    }
}
