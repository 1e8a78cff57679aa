//! The folder as the only files there are: what lies outside of it, is hidden or is no ordinary file is not found.
//!
//! The kernel resolves each path beneath the folder (`openat2` with `RESOLVE_BENEATH`, openat2(2)), so that neither
//! `..` nor a symbolic link leads out of it, also while somebody changes it. The folder itself is opened anew for each
//! file: it may be replaced, or be a link that is switched, while this runs.

use std::{
    fs::{File, Metadata},
    io::{self, SeekFrom},
    path::{Component, Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs as served;

/// Hidden names are configuration and history (`.env`, `.git`), except this one, which is there to be read (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

type Pinned<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Folder(Arc<Path>);

impl Folder {
    /// This folder, whether or not it is there now.
    pub(super) fn new(dir: &Path) -> Self {
        Self(dir.into())
    }

    /// Whether it can be read at all.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory` or `PermissionDenied`; `Unsupported` on a kernel without `openat2`.
    pub(super) fn check(&self) -> io::Result<()> {
        std::fs::read_dir(&self.0)?;
        match self.beneath(Path::new("."), OFlags::PATH) {
            Err(error) if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, error))
            }
            other => other.map(drop),
        }
    }

    /// Opens what lies at `path` below the folder. Blocks for as long as the disk does.
    fn beneath(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        if is_hidden(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Without the folder there is no telling whether a page exists: that is not "not found".
        let dir = openat(CWD, &*self.0, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| io::Error::other(format!("the folder {}: {errno}", self.0.display())))?;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(&dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        opened.map(File::from).map_err(|errno| match errno {
            Errno::ACCESS | Errno::PERM | Errno::XDEV => {
                let why = if errno == Errno::XDEV { "a link leads out of the folder" } else { "it may not be read" };
                tracing::warn!(path = %path.display(), "{why}: answered as not found");
                io::ErrorKind::NotFound.into()
            }
            Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL => io::ErrorKind::NotFound.into(),
            errno => errno.into(),
        })
    }
}

fn is_hidden(path: &Path) -> bool {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.enumerate().any(|(index, part)| match part {
        Component::Normal(name) => name.as_encoded_bytes().starts_with(b".") && !(index == 0 && name == WELL_KNOWN),
        _ => true,
    })
}

/// Opening and looking may wait for a disk, which must not hold up other answers.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
}

impl served::Backend for Folder {
    type File = Open;
    type Metadata = Metadata;
    type OpenFuture = Pinned<Open>;
    type MetadataFuture = Pinned<Metadata>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        let folder = self.clone();
        Box::pin(aside(move || {
            // A pipe without a writer would hold an ordinary open for good.
            let file = folder.beneath(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
            // Folders are not listed; pipes and devices are no content.
            let kind = file.metadata()?;
            if kind.is_file() { Ok(Open(file.into())) } else { Err(io::ErrorKind::NotFound.into()) }
        }))
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        let folder = self.clone();
        Box::pin(aside(move || {
            let found = folder.beneath(&path, OFlags::PATH)?.metadata()?;
            if found.is_file() || found.is_dir() { Ok(found) } else { Err(io::ErrorKind::NotFound.into()) }
        }))
    }
}

/// An open file.
pub(super) struct Open(tokio::fs::File);

impl served::File for Open {
    type Metadata = Metadata;
    type MetadataFuture<'a> = Pin<Box<dyn Future<Output = io::Result<Metadata>> + Send + 'a>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        Box::pin(self.0.metadata())
    }
}

impl AsyncRead for Open {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncSeek for Open {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.0).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.0).poll_complete(cx)
    }
}
