//! `releases/SERVICE/N`: artefacts unpacked, `N.json` beside each of them, and how many are kept.
//!
//! An artefact is unpacked under another name and gets its number once it is whole, verified and on the disk, so that
//! a crash or a full disk leaves nothing that could be taken for a release. One that goes gets such a name again before
//! its files are removed. What was left of either is removed at the next start. Storing and [`remove_all`] block and
//! belong on a thread of their own; the rest reads and writes a few small files.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use evenkeel_core::{
    deploy::{Deploy, Kind, Phase},
    overrides::Release,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    StateDir, replace_private,
    unpack::{UnpackError, Unpacked, unpack},
};

/// What is being unpacked or removed has a name that starts so.
const INCOMING: &str = ".incoming-";

/// So many releases that were never in force everywhere are kept for a look, beside those that were.
const MOST_FAILED: usize = 2;

/// So many artefacts may wait to be deployed. Those before them were sent in vain.
const MOST_WAITING: usize = 2;

/// Held by whoever gives a release its number or takes it away.
static NUMBERS: Mutex<()> = Mutex::new(());

/// Numbers what is being unpacked.
static INCOMING_NUMBER: AtomicU64 = AtomicU64::new(0);

/// A release that is on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Its number.
    pub(crate) number: u64,
    /// SHA-256 of the artefact as it came, in hexadecimal; empty without one.
    pub(crate) digest: String,
    /// Files in it.
    pub(crate) files: u64,
    /// Their size.
    pub(crate) size_bytes: u64,
    /// What was deployed of it; `None` until then.
    pub(crate) release: Option<Release>,
    /// Whether every instance was of it once.
    #[serde(default)]
    pub(crate) whole: bool,
    /// What speaks against it since it was last in force everywhere, as a clause.
    #[serde(default)]
    pub(crate) fault: Option<String>,
}

impl Stored {
    /// Learns from the deploys that are over, oldest first. Those that are forgotten already have left their mark.
    pub(crate) fn judge(&mut self, deploys: &[Deploy]) {
        for deploy in deploys {
            let cause = deploy.reasons.first().map(|reason| format!(": {}", reason.text)).unwrap_or_default();
            let (brings, takes) = (deploy.to_number() == self.number, deploy.from_number() == self.number);
            match deploy.phase {
                Phase::Done if brings => (self.whole, self.fault) = (true, None),
                Phase::Done if takes && deploy.kind == Kind::Rollback => {
                    self.fault = Some(format!("rolled back {}", deploy.by));
                }
                Phase::RolledBack if brings => self.fault = Some(format!("rolled back{cause}")),
                Phase::Failed if brings => self.fault = Some(format!("failed{cause}")),
                _ => {}
            }
        }
    }

    /// Whether it never was in force everywhere.
    fn has_failed(&self) -> bool {
        !self.whole && self.fault.is_some()
    }
}

/// Why an artefact was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It is not what was announced.
    #[error("its SHA-256 is {found}, not {announced}")]
    Digest { found: String, announced: String },
    /// It cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The disk does not take it.
    #[error("the release cannot be kept: {0}")]
    Keep(#[source] io::Error),
}

impl StoreError {
    /// Whether the disk is at fault, and not what was sent.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Keep(_) | Self::Unpack(UnpackError::Write { .. }))
    }
}

impl StateDir {
    /// Where the releases of a service lie.
    fn releases_of(&self, service: &str) -> PathBuf {
        self.path("releases").join(service)
    }

    /// Where an artefact lies unpacked, absolute.
    pub(crate) fn release_dir(&self, service: &str, number: u64) -> PathBuf {
        let dir = self.releases_of(service).join(number.to_string());
        std::path::absolute(&dir).unwrap_or(dir)
    }

    /// The releases of a service by number.
    pub(crate) fn releases(&self, service: &str) -> Vec<Stored> {
        let Ok(entries) = fs::read_dir(self.releases_of(service)) else {
            return Vec::new();
        };
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let mut releases: Vec<Stored> = files.filter_map(|path| self.read_json(&path)).collect();
        releases.sort_by_key(|stored| stored.number);
        releases
    }

    /// Keeps what is known of a release, also through a loss of power: deploys go by it.
    pub(crate) fn save_release(&self, service: &str, stored: &Stored) -> io::Result<()> {
        let folder = self.make_releases(service)?;
        replace_private(
            &folder.join(format!("{}.json", stored.number)),
            &serde_json::to_vec(stored).map_err(io::Error::other)?,
        )
    }

    /// Unpacks what `artefact` yields, a tar archive, gzipped or not, as the next release after `at_least`.
    pub(crate) fn store_release(
        &self,
        service: &str,
        artefact: impl Read,
        announced: Option<&str>,
        most_bytes: u64,
        at_least: u64,
    ) -> Result<Stored, StoreError> {
        let folder = self.make_releases(service).map_err(StoreError::Keep)?;
        let incoming = incoming_in(&folder);
        let taken = take(&incoming, artefact, announced, most_bytes).and_then(|(unpacked, digest)| {
            self.number_release(service, &incoming, at_least, unpacked, digest).map_err(StoreError::Keep)
        });
        if taken.is_err() {
            // It takes room that somebody needs; if it stays all the same, the next start removes it.
            let _ = fs::remove_dir_all(&incoming);
        }
        taken
    }

    fn number_release(
        &self,
        service: &str,
        incoming: &Path,
        at_least: u64,
        unpacked: Unpacked,
        digest: String,
    ) -> io::Result<Stored> {
        let _numbers = release_numbers();
        let highest = self.releases(service).last().map_or(0, |stored| stored.number).max(at_least);
        let number = highest + 1;
        let dir = self.release_dir(service, number);
        // Nobody knows of a folder without its description: a crash came between.
        remove_dir(&dir)?;
        fs::rename(incoming, &dir)?;
        let Unpacked { files, size_bytes, .. } = unpacked;
        let stored = Stored { number, digest, files, size_bytes, release: None, whole: false, fault: None };
        self.save_release(service, &stored).inspect_err(|_| drop(fs::remove_dir_all(&dir)))?;
        Ok(stored)
    }

    /// Keeps with the releases of a service what its deploys have shown of them.
    pub(crate) fn judge_releases(&self, service: &str, deploys: &[Deploy]) {
        for stored in self.releases(service).into_iter().filter(|stored| stored.release.is_some()) {
            let mut judged = stored.clone();
            judged.judge(deploys);
            if judged != stored {
                self.save_release(service, &judged).unwrap_or_else(|error| {
                    tracing::warn!(%error, service, stored.number, "what became of a release cannot be kept");
                });
            }
        }
    }

    /// Takes away releases beyond the newest `keep` and a few that failed, but none of those `in_use`, and artefacts that were sent in vain.
    /// Returns where their files lie now, to be removed.
    pub(crate) fn prune_releases(&self, service: &str, keep: usize, in_use: &BTreeSet<u64>) -> Vec<PathBuf> {
        let (deployed, waiting): (Vec<_>, Vec<_>) =
            self.releases(service).into_iter().partition(|stored| stored.release.is_some());
        let (failed, good): (Vec<_>, Vec<_>) = deployed.iter().cloned().partition(Stored::has_failed);
        let oldest =
            |of: &[Stored], most: usize| of.get(of.len().saturating_sub(most)).map_or(u64::MAX, |of| of.number);
        let (oldest_good, oldest_failed) = (oldest(&good, keep), oldest(&failed, MOST_FAILED));
        let oldest_waiting = oldest(&waiting, MOST_WAITING);
        let stays = |stored: &Stored| {
            let oldest = match stored {
                Stored { release: None, .. } => oldest_waiting,
                stored if stored.has_failed() => oldest_failed,
                _ => oldest_good,
            };
            stored.number >= oldest || in_use.contains(&stored.number)
        };
        let staying = deployed.iter().filter(|stored| stays(stored));
        // A release without an artefact of its own runs in the folder of a former one.
        let folders = staying.filter_map(|stored| number_of(stored.release.as_ref()?.dir.as_deref()?));
        let folders: BTreeSet<u64> = folders.collect();
        let unused = deployed.iter().chain(&waiting).filter(|stored| !stays(stored)).map(|stored| stored.number);
        let take_away = |number: u64| {
            self.take_away(service, number)
                .inspect_err(|error| tracing::warn!(%error, service, number, "a release cannot be removed"))
                .ok()
        };
        unused.filter(|number| !folders.contains(number)).filter_map(take_away).collect()
    }

    /// From here on there is no such release, whole or half.
    fn take_away(&self, service: &str, number: u64) -> io::Result<PathBuf> {
        let folder = self.releases_of(service);
        let gone = incoming_in(&folder);
        match fs::rename(self.release_dir(service, number), &gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::remove_file(folder.join(format!("{number}.json")))?,
        }
        Ok(gone)
    }

    /// What a former process was unpacking or removing when it ended.
    pub(crate) fn incoming(&self) -> Vec<PathBuf> {
        let services = fs::read_dir(self.path("releases")).into_iter().flatten().flatten();
        let entries = services.flat_map(|service| fs::read_dir(service.path()).into_iter().flatten()).flatten();
        let left = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(INCOMING));
        left.map(|entry| entry.path()).collect()
    }

    /// The folder of a service's releases, for this user alone.
    fn make_releases(&self, service: &str) -> io::Result<PathBuf> {
        let folder = self.releases_of(service);
        for path in [self.path("releases"), folder.clone()] {
            match fs::DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(folder)
    }

    /// Lets a service's own user get to its releases, by its group. The state directory can be passed through from
    /// then on, but not listed, and the files in it are for us alone.
    pub(crate) fn let_into_releases(&self, service: &str, gid: u32) -> io::Result<()> {
        for entry in fs::read_dir(self.path(""))?.flatten() {
            if entry.file_type()?.is_file() {
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o600))?;
            }
        }
        let folder = self.releases_of(service);
        std::os::unix::fs::chown(&folder, None, Some(gid))?;
        for (path, mode) in [(folder, 0o710), (self.path("releases"), 0o711), (self.path(""), 0o711)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }
}

/// To be held from when a number is chosen until what has it is kept.
pub(crate) fn release_numbers() -> MutexGuard<'static, ()> {
    NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name in a folder of releases that nobody has had.
fn incoming_in(folder: &Path) -> PathBuf {
    let number = INCOMING_NUMBER.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("{INCOMING}{}-{number}", std::process::id()))
}

/// Removes folders with all that is in them.
pub(crate) fn remove_all(folders: Vec<PathBuf>) {
    for folder in folders {
        remove_dir(&folder)
            .unwrap_or_else(|error| tracing::warn!(%error, "what is left of a release cannot be removed"));
    }
}

/// `3` of `/…/releases/shop/3`.
pub(crate) fn number_of(dir: &str) -> Option<u64> {
    Path::new(dir).file_name()?.to_str()?.parse().ok()
}

/// Whether others may pass through this state directory to a release. It stays so, since instances may run there.
pub(super) fn is_passable(root: &Path) -> bool {
    let mode = fs::metadata(root).map(|metadata| metadata.permissions().mode() & 0o777);
    mode.is_ok_and(|mode| mode == 0o711) && root.join("releases").exists()
}

/// Unpacks into a new folder and has it written to the disk.
fn take(
    incoming: &Path,
    artefact: impl Read,
    announced: Option<&str>,
    most_bytes: u64,
) -> Result<(Unpacked, String), StoreError> {
    fs::create_dir(incoming).map_err(StoreError::Keep)?;
    fs::set_permissions(incoming, fs::Permissions::from_mode(0o755)).map_err(StoreError::Keep)?;
    let mut hashing = Hashing { inner: artefact, hash: Sha256::new() };
    let unpacked = {
        let mut plain = BufReader::with_capacity(128 * 1024, &mut hashing);
        let start = io::BufRead::fill_buf(&mut plain).map_err(UnpackError::Damaged)?;
        // The two bytes with which every gzip stream begins (RFC 1952, section 2.3.1).
        if start.starts_with(&[0x1f, 0x8b]) {
            unpack(flate2::bufread::MultiGzDecoder::new(plain), incoming, most_bytes)?
        } else {
            unpack(plain, incoming, most_bytes)?
        }
    };
    // An archive may be followed by padding, which its digest covers.
    io::copy(&mut hashing, &mut io::sink()).map_err(UnpackError::Damaged)?;
    let found = hashing.hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    if let Some(announced) = announced.filter(|announced| !announced.eq_ignore_ascii_case(&found)) {
        return Err(StoreError::Digest { found, announced: announced.to_owned() });
    }
    let folder = File::open(incoming).map_err(StoreError::Keep)?;
    rustix::fs::syncfs(&folder).map_err(|error| StoreError::Keep(error.into()))?;
    Ok((unpacked, found))
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
