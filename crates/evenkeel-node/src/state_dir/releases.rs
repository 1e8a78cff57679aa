//! `releases/SERVICE/N`: artefacts unpacked, `N.json` beside each of them, and how many are kept.
//!
//! An artefact is unpacked under another name and gets its number once it is whole, verified and on the disk, so that
//! a crash or a full disk leaves nothing that could be taken for a release. What was left of one is removed at the next
//! start. Everything here blocks and belongs on a thread of its own, apart from reading a few small files.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use evenkeel_core::overrides::Release;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    StateDir, replace,
    unpack::{UnpackError, Unpacked, unpack},
};

/// What is being unpacked has a name that starts so.
const INCOMING: &str = ".incoming-";

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

    /// Keeps what is known of a release.
    pub(crate) fn save_release(&self, service: &str, stored: &Stored) -> io::Result<()> {
        let folder = self.make_releases(service)?;
        replace(&folder.join(format!("{}.json", stored.number)), &serde_json::to_vec(stored).map_err(io::Error::other)?)
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
        let number = INCOMING_NUMBER.fetch_add(1, Ordering::Relaxed);
        let incoming = folder.join(format!("{INCOMING}{}-{number}", std::process::id()));
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
        let highest = self.releases(service).last().map_or(0, |stored| stored.number).max(at_least);
        let number = highest + 1;
        let dir = self.release_dir(service, number);
        // Nobody knows of a folder without its description: a crash came between.
        remove_dir(&dir)?;
        fs::rename(incoming, &dir)?;
        let stored = Stored { number, digest, files: unpacked.files, size_bytes: unpacked.size_bytes, release: None };
        self.save_release(service, &stored).inspect_err(|_| drop(fs::remove_dir_all(&dir)))?;
        Ok(stored)
    }

    /// Removes releases beyond the newest `keep`, but none of those `in_use`. Returns the numbers that are gone.
    pub(crate) fn prune_releases(&self, service: &str, keep: usize, in_use: &BTreeSet<u64>) -> Vec<u64> {
        let releases = self.releases(service);
        let old = releases.len().saturating_sub(keep);
        let stays = |index: usize, stored: &Stored| index >= old || in_use.contains(&stored.number);
        let staying = releases.iter().enumerate().filter(|(index, stored)| stays(*index, stored));
        // A release without an artefact of its own runs in the folder of a former one.
        let folders = staying.filter_map(|(_, stored)| number_of(stored.release.as_ref()?.dir.as_deref()?));
        let folders: BTreeSet<u64> = folders.collect();
        let unused = releases.iter().enumerate().filter(|(index, stored)| !stays(*index, stored));
        let unused = unused.map(|(_, stored)| stored.number).filter(|number| !folders.contains(number));
        let folder = self.releases_of(service);
        let remove = |number: &u64| {
            // Its description goes last, so that what is left of it is found again.
            remove_dir(&self.release_dir(service, *number))
                .and_then(|()| fs::remove_file(folder.join(format!("{number}.json"))))
                .inspect_err(|error| tracing::warn!(%error, service, number, "a release cannot be removed"))
                .is_ok()
        };
        unused.filter(remove).collect()
    }

    /// Removes what a former process was unpacking when it ended.
    pub(crate) fn clear_incoming(&self) {
        let services = fs::read_dir(self.path("releases")).into_iter().flatten().flatten();
        for entry in services.flat_map(|service| fs::read_dir(service.path()).into_iter().flatten()).flatten() {
            if entry.file_name().to_string_lossy().starts_with(INCOMING) {
                let removed = fs::remove_dir_all(entry.path());
                removed.unwrap_or_else(|error| tracing::warn!(%error, "half of a release cannot be removed"));
            }
        }
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
mod tests {
    use super::*;

    fn archive(content: &[u8]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "file", content).unwrap();
        tar.into_inner().unwrap()
    }

    fn state() -> (tempfile::TempDir, StateDir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&temp.path().join("state")).unwrap();
        (temp, dir)
    }

    #[test]
    fn releases_are_numbered_verified_and_pruned() {
        let (_temp, dir) = state();
        for number in 1..=4 {
            let stored = dir.store_release("shop", &archive(b"x")[..], None, 100, 0).unwrap();
            assert_eq!((stored.number, stored.files, stored.size_bytes), (number, 1, 1));
        }
        let digest = dir.releases("shop")[0].digest.clone();
        assert!(
            dir.store_release("shop", &archive(b"x")[..], Some(&digest.to_uppercase()), 100, 8).unwrap().number == 9
        );
        assert_eq!(dir.prune_releases("shop", 2, &BTreeSet::from([1])), [2, 3]);
        let left: Vec<u64> = dir.releases("shop").iter().map(|stored| stored.number).collect();
        assert_eq!(left, [1, 4, 9]);
        assert!(dir.release_dir("shop", 1).join("file").exists() && !dir.release_dir("shop", 2).exists());
    }

    #[test]
    fn what_is_wrong_leaves_nothing() {
        let (_temp, dir) = state();
        let wrong = dir.store_release("shop", &archive(b"x")[..], Some("00"), 100, 0);
        assert!(matches!(wrong, Err(StoreError::Digest { .. })), "{wrong:?}");
        let large = dir.store_release("shop", &archive(&[1; 200])[..], None, 100, 0).unwrap_err();
        assert!(!large.is_ours(), "{large}");
        let whole = archive(b"x");
        assert!(dir.store_release("shop", &whole[..1024], None, 100, 0).is_ok(), "only what marks the end is missing");
        for cut in [512, 700] {
            dir.store_release("shop", &whole[..cut], None, 100, 0).unwrap_err();
        }
        let names = fs::read_dir(dir.path("releases/shop")).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<BTreeSet<_>>(), BTreeSet::from(["1".into(), "1.json".into()]));
        fs::create_dir(dir.path("releases/shop").join(".incoming-1-0")).unwrap();
        dir.clear_incoming();
        assert_eq!(fs::read_dir(dir.path("releases/shop")).unwrap().count(), 2);
    }

    #[test]
    fn a_service_s_user_gets_to_its_releases_and_to_nothing_else() {
        let (_temp, dir) = state();
        dir.store_release("shop", &archive(b"x")[..], None, 100, 0).unwrap();
        let mode = |path: &str| fs::metadata(dir.path(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("releases"), mode("releases/shop")), (0o700, 0o700, 0o700));
        dir.let_into_releases("shop", rustix::process::getgid().as_raw()).unwrap();
        assert_eq!((mode(""), mode("releases"), mode("releases/shop")), (0o711, 0o711, 0o710));
        assert_eq!((mode("releases/shop/1"), mode("releases/shop/1/file")), (0o755, 0o644));
        assert_eq!((mode("VERSION"), mode("revisions"), mode("logs")), (0o600, 0o700, 0o700));
        StateDir::open(&dir.path("")).unwrap();
        assert_eq!(mode(""), 0o711, "a restart does not take it back while instances run there");
    }
}
