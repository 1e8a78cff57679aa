//! An artefact as it is sent: a folder packed into an archive that depends on its content alone, or an archive as it is.
//!
//! A folder is packed into a file without a name first, so that its digest and its size are known before anything is
//! sent. Times and owners are left out: the same content has the same digest.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::{context::Context, failure::Failure, progress::Progress};

/// What no instance needs: folders, or in a working tree beside the first one a file.
const LEFT_OUT: [&str; 2] = [".git", ".hg"];

/// How much is read at once.
const PIECE: usize = 128 * 1024;

/// What is sent.
pub(super) struct Artefact {
    /// SHA-256 in hexadecimal.
    pub(super) digest: String,
    file: File,
    size_bytes: u64,
}

/// Packs a folder, or opens an archive.
pub(super) fn open(from: &Path, state_dir: &Path, progress: Option<&Progress>) -> Result<Artefact, Failure> {
    let fail = |error: io::Error| Failure::usage("the artefact cannot be read").at_path(from).because(error);
    let metadata = fs::metadata(from).map_err(fail)?;
    if !metadata.is_dir() && !metadata.is_file() {
        return Err(Failure::usage("the artefact is neither a folder nor a file").at_path(from));
    }
    if let Some(progress) = progress {
        progress.say("reading the artefact".to_owned());
    }
    let mut file = if metadata.is_dir() { pack(from, state_dir, progress)? } else { File::open(from).map_err(fail)? };
    let mut hash = Sha256::new();
    let size_bytes = io::copy(&mut file, &mut Hashed(&mut hash)).map_err(fail)?;
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    let digest = hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    Ok(Artefact { digest, file, size_bytes })
}

struct Hashed<'a>(&'a mut Sha256);

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(folder: &Path, state_dir: &Path, progress: Option<&Progress>) -> Result<File, Failure> {
    let temporary = std::env::temp_dir();
    let spool = nameless(&temporary).map_err(|error| {
        Failure::new("the folder cannot be packed").at_path(&temporary).because(error).fix("TMPDIR names another place")
    })?;
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(PIECE, spool));
    tar.mode(tar::HeaderMode::Deterministic);
    tar.follow_symlinks(false);
    let mut packing = Packing { tar, state_dir, progress, files: 0 };
    let packed = packing.walk(folder, Path::new(""));
    let file = packed.and_then(|()| packing.tar.into_inner());
    let file = file.and_then(|spool| spool.into_inner().map_err(Into::into));
    let file = file.and_then(|mut file| file.seek(SeekFrom::Start(0)).map(|_| file));
    file.map_err(|error| {
        let no_room = error.kind() == io::ErrorKind::StorageFull;
        let failure = Failure::new("the folder cannot be packed").at_path(folder).because(error);
        if !no_room {
            return failure;
        }
        failure.fix(format!("it is packed in {}; TMPDIR names another place with more room", temporary.display()))
    })
}

struct Packing<'a, W: Write> {
    tar: tar::Builder<W>,
    state_dir: &'a Path,
    progress: Option<&'a Progress>,
    files: u64,
}

impl<W: Write> Packing<'_, W> {
    /// In the order of the names, so that the archive does not depend on the order on the disk.
    fn walk(&mut self, folder: &Path, inside: &Path) -> io::Result<()> {
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = entries.map_err(|error| naming(folder, &error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            // What was deployed before must not be a part of what is deployed next.
            let path = entry.path();
            let left_out = LEFT_OUT.iter().any(|left_out| entry.file_name() == **left_out);
            if left_out || fs::canonicalize(&path).is_ok_and(|path| path == self.state_dir) {
                continue;
            }
            self.entry(&entry, &inside.join(entry.file_name())).map_err(|error| naming(&path, &error))?;
            if entry.file_type()?.is_dir() {
                self.walk(&path, &inside.join(entry.file_name()))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &fs::DirEntry, name: &Path) -> io::Result<()> {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            return self.tar.append_dir(name, entry.path());
        }
        if !kind.is_file() && !kind.is_symlink() {
            return Err(io::Error::other("it is neither file, folder nor link"));
        }
        self.files += 1;
        if let Some(progress) = self.progress {
            progress.say(format!("packing: {} files", self.files));
        }
        self.tar.append_path_with_name(entry.path(), name)
    }
}

/// The system's errors do not say whose they are.
fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A file that is gone when it is closed, however we end.
fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("keel-deploy-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

impl Artefact {
    /// Its bytes, with their progress on a terminal.
    pub(super) fn body(self, context: &Context) -> Sending {
        let target = if context.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let style = "sending {bytes} of {total_bytes} {wide_bar} {bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(style).expect("the template is written here");
        let bar = ProgressBar::with_draw_target(Some(self.size_bytes), target).with_style(style);
        Sending { file: self.file, left: self.size_bytes, bar }
    }
}

/// A body that is read as it is sent.
pub(super) struct Sending {
    file: File,
    left: u64,
    bar: ProgressBar,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            self.bar.finish_and_clear();
            return Poll::Ready(None);
        }
        let mut piece = vec![0; PIECE.min(usize::try_from(self.left).unwrap_or(PIECE))];
        let read = match self.file.read(&mut piece) {
            Ok(0) => Err(io::Error::other("the artefact became shorter while it was sent")),
            other => other,
        };
        Poll::Ready(Some(read.map(|read| {
            piece.truncate(read);
            self.left -= read as u64;
            self.bar.inc(read as u64);
            Frame::data(piece.into())
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(file: File) -> Vec<(String, u64)> {
        let mut archive = tar::Archive::new(file);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().display().to_string(), entry.size())
        });
        entries.collect()
    }

    #[test]
    fn the_same_content_has_the_same_digest() {
        let digest = |names: &[&str]| {
            let temp = tempfile::tempdir().unwrap();
            for name in names {
                let path = temp.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, name).unwrap();
            }
            fs::create_dir_all(temp.path().join(".git/objects")).unwrap();
            fs::create_dir_all(temp.path().join("state/releases")).unwrap();
            let state = fs::canonicalize(temp.path().join("state")).unwrap();
            let artefact = open(temp.path(), &state, None).unwrap();
            (artefact.digest.clone(), content(artefact.file))
        };
        let (first, entries) = digest(&["b/x", "a", "b/y"]);
        assert_eq!(first, digest(&["b/y", "b/x", "a"]).0);
        assert_ne!(first, digest(&["a"]).0);
        let expected = [("a", 1), ("b", 0), ("b/x", 3), ("b/y", 3)];
        assert_eq!(entries, expected.map(|(name, size)| (name.to_owned(), size)));
    }

    #[test]
    fn what_cannot_be_packed_is_named() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("d")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("d/socket")).unwrap();
        let Err(failure) = open(temp.path(), Path::new("/nowhere"), None) else { panic!("a socket is no file") };
        let said = format!("{failure:?}");
        assert!(said.contains("d/socket: it is neither file, folder nor link"), "{said}");
    }

    #[test]
    fn an_archive_is_sent_as_it_is() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("app.tar.gz");
        fs::write(&path, b"abc").unwrap();
        let artefact = open(&path, Path::new("/nowhere"), None).unwrap();
        // The test vector of FIPS 180-4 for this message.
        assert_eq!(artefact.digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(artefact.size_bytes, 3);
        assert!(open(&temp.path().join("missing"), Path::new("/"), None).is_err());
    }
}
