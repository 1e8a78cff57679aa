//! An artefact as it is sent: a folder packed into an archive that depends on its content alone, or an archive as it is.
//!
//! A folder is packed into a file without a name first, so that its digest and its size are known before anything is
//! sent. Times and owners are left out: the same content has the same digest.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::{context::Context, failure::Failure};

/// Folders that no instance needs.
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
pub(super) fn open(from: &Path, state_dir: &Path) -> Result<Artefact, Failure> {
    let fail = |error: io::Error| Failure::usage("the artefact cannot be read").at_path(from).because(error);
    let metadata = fs::metadata(from).map_err(fail)?;
    let mut file = if metadata.is_dir() { pack(from, state_dir)? } else { File::open(from).map_err(fail)? };
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

fn pack(folder: &Path, state_dir: &Path) -> Result<File, Failure> {
    let temporary = std::env::temp_dir();
    let spool = nameless(&temporary).map_err(|error| {
        Failure::new("the folder cannot be packed").at_path(&temporary).because(error).fix("TMPDIR names another place")
    })?;
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(PIECE, spool));
    tar.mode(tar::HeaderMode::Deterministic);
    tar.follow_symlinks(false);
    let packed = walk(&mut tar, folder, Path::new(""), state_dir);
    let file = packed.and_then(|()| tar.into_inner()).and_then(|spool| spool.into_inner().map_err(Into::into));
    let mut file = file.map_err(|error| Failure::new("the folder cannot be packed").at_path(folder).because(error))?;
    file.seek(SeekFrom::Start(0)).map_err(|error| Failure::new("the folder cannot be packed").because(error))?;
    Ok(file)
}

/// In the order of the names, so that the archive does not depend on the order on the disk.
fn walk(tar: &mut tar::Builder<impl Write>, folder: &Path, inside: &Path, state_dir: &Path) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), inside.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let left_out = LEFT_OUT.iter().any(|left_out| entry.file_name() == **left_out);
            // What was deployed before must not be a part of what is deployed next.
            if left_out || fs::canonicalize(&path).is_ok_and(|path| path == state_dir) {
                continue;
            }
            tar.append_dir(&name, &path)?;
            walk(tar, &path, &name, state_dir)?;
        } else if kind.is_file() || kind.is_symlink() {
            tar.append_path_with_name(&path, &name)?;
        } else {
            let what = format!("{} is neither file, folder nor link", path.display());
            return Err(io::Error::other(what));
        }
    }
    Ok(())
}

/// A file that is gone when it is closed, however we end.
fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("keel-deploy-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
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
            let artefact = open(temp.path(), &state).unwrap();
            (artefact.digest.clone(), content(artefact.file))
        };
        let (first, entries) = digest(&["b/x", "a", "b/y"]);
        assert_eq!(first, digest(&["b/y", "b/x", "a"]).0);
        assert_ne!(first, digest(&["a"]).0);
        let expected = [("a", 1), ("b", 0), ("b/x", 3), ("b/y", 3)];
        assert_eq!(entries, expected.map(|(name, size)| (name.to_owned(), size)));
    }

    #[test]
    fn an_archive_is_sent_as_it_is() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("app.tar.gz");
        fs::write(&path, b"abc").unwrap();
        let artefact = open(&path, Path::new("/nowhere")).unwrap();
        // The test vector of FIPS 180-4 for this message.
        assert_eq!(artefact.digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(artefact.size_bytes, 3);
        assert!(open(&temp.path().join("missing"), Path::new("/")).is_err());
    }
}
