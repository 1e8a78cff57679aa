//! Unpacking an artefact so that nothing of it can lie, or lead, outside of its folder.
//!
//! A tar archive is somebody's input: names may be absolute or climb, links may point anywhere, entries may be devices
//! or make a file run as root. Here only files, folders and links that stay inside are made, with ordinary modes, up to
//! a size; anything else is refused by name, and what was unpacked until then is removed by the caller. A way that leads
//! through a link is refused, so a link can never be used to write elsewhere.

use std::{
    cell::Cell,
    fs, io,
    io::Read,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use tar::{Archive, Entry, EntryType};

/// The most entries of an archive, and folders that it makes.
const MOST_ENTRIES: u64 = 200_000;

/// How deep folders may lie: the removal of very deep ones would run out of descriptors.
const DEEPEST: usize = 100;

/// What an archive may hold in one entry beside its content: long names and attributes, which are read into memory.
const MOST_BESIDE: u64 = 1 << 20;

/// What an archive held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Files and links.
    pub(crate) files: u64,
    /// Their content.
    pub(crate) size_bytes: u64,
    /// Folders that were made.
    pub(crate) folders: u64,
}

/// Lets no more through than is left: what lies between the contents of two files is not meant to be much.
struct Frugal<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Frugal<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.left.get()).unwrap_or(usize::MAX);
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("an entry is larger than `deploy.max_size` permits"));
        }
        let length = buffer.len().min(left);
        let read = self.inner.read(&mut buffer[..length])?;
        self.left.set(self.left.get() - read as u64);
        Ok(read)
    }
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// It is no tar archive, or ends early.
    #[error("the archive cannot be read: {0}")]
    Damaged(#[source] io::Error),
    /// An entry is not permitted.
    #[error("`{path}` in the archive {why}")]
    Refused { path: String, why: &'static str },
    /// It is too large.
    #[error("the archive holds more than {0}")]
    TooLarge(String),
    /// The disk does not take it.
    #[error("`{path}` cannot be written: {source}")]
    Write { path: String, source: io::Error },
}

/// Unpacks a tar archive into the empty folder `into`.
pub(crate) fn unpack(archive: impl Read, into: &Path, most_bytes: u64) -> Result<Unpacked, UnpackError> {
    let mut done = Unpacked::default();
    let left = Cell::new(MOST_BESIDE);
    let mut archive = Archive::new(Frugal { inner: archive, left: &left });
    let mut entries = 0;
    for entry in archive.entries().map_err(UnpackError::Damaged)? {
        let entry = entry.map_err(UnpackError::Damaged)?;
        entries += 1;
        if entries + done.folders > MOST_ENTRIES {
            return Err(UnpackError::TooLarge(format!("{MOST_ENTRIES} files and folders")));
        }
        left.set(MOST_BESIDE.saturating_add(most_bytes - done.size_bytes.min(most_bytes)));
        one(entry, into, most_bytes, &mut done)?;
        left.set(MOST_BESIDE);
    }
    if done.files == 0 {
        return Err(UnpackError::Damaged(io::Error::other("it holds no file")));
    }
    Ok(done)
}

fn one<R: Read>(mut entry: Entry<'_, R>, into: &Path, most_bytes: u64, done: &mut Unpacked) -> Result<(), UnpackError> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(());
    }
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let refuse = |why| UnpackError::Refused { path: name.clone(), why };
    let path = entry.path().map_err(|_| refuse("has no usable name"))?;
    let Some(inside) = inside(&path).map_err(refuse)? else {
        return if kind == EntryType::Directory { Ok(()) } else { Err(refuse("has no name")) };
    };
    let target = into.join(&inside);
    let writes = |source| UnpackError::Write { path: name.clone(), source };
    make_parents(into, &inside, done).map_err(|fault| fault.of(&name))?;
    match kind {
        EntryType::Directory => return make_dir(&target, done).map_err(|fault| fault.of(&name)),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            make_room(&target).map_err(|fault| fault.of(&name))?;
            let executable = entry.header().mode().unwrap_or(0o644) & 0o111 != 0;
            let left = most_bytes - done.size_bytes.min(most_bytes);
            done.size_bytes += write(&mut entry, &target, executable, left, &name)?;
        }
        EntryType::Symlink => {
            let to = entry.link_name().ok().flatten().ok_or_else(|| refuse("is a link to nowhere"))?;
            if !stays_inside(&inside, &to) {
                return Err(refuse("is a link that leads out of the archive"));
            }
            make_room(&target).map_err(|fault| fault.of(&name))?;
            symlink(&to, &target).map_err(writes)?;
        }
        EntryType::Link => {
            let to = entry.link_name().ok().flatten().ok_or_else(|| refuse("is a link to nowhere"))?;
            let to = self::inside(&to).map_err(refuse)?.ok_or_else(|| refuse("is a link to nowhere"))?;
            let leads_to = into.join(&to);
            make_parents(into, &to, done).map_err(|fault| fault.of(&name))?;
            if !fs::symlink_metadata(&leads_to).is_ok_and(|metadata| metadata.is_file()) {
                return Err(refuse("is a link to something that is no file of the archive"));
            }
            make_room(&target).map_err(|fault| fault.of(&name))?;
            fs::hard_link(&leads_to, &target).map_err(writes)?;
        }
        _ => return Err(refuse("is neither file, folder nor link")),
    }
    done.files += 1;
    Ok(())
}

/// Writes a file, at most `left` bytes.
fn write(entry: &mut impl Read, target: &Path, executable: bool, left: u64, name: &str) -> Result<u64, UnpackError> {
    let writes = |source| UnpackError::Write { path: name.to_owned(), source };
    let mode = if executable { 0o755 } else { 0o644 };
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(target).map_err(writes)?;
    let mut buffer = vec![0; 128 * 1024];
    let mut written = 0;
    loop {
        let read = entry.read(&mut buffer).map_err(UnpackError::Damaged)?;
        if read == 0 {
            break;
        }
        written += read as u64;
        if written > left {
            return Err(UnpackError::TooLarge("`deploy.max_size` permits".to_owned()));
        }
        io::Write::write_all(&mut file, &buffer[..read]).map_err(writes)?;
    }
    // Whatever our umask is: the service's own user must be able to read it, and nobody but us to change it.
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(writes)?;
    Ok(written)
}

/// The part of a name that lies below the archive's root; `None` for the root itself.
fn inside(path: &Path) -> Result<Option<PathBuf>, &'static str> {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => inside.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err("climbs out by `..`"),
            Component::RootDir | Component::Prefix(_) => return Err("has an absolute name"),
        }
    }
    Ok(Some(inside).filter(|inside| !inside.as_os_str().is_empty()))
}

/// Whether a link at `at` leads to something inside: relative, and climbing only at its beginning and not beyond the
/// root. `..` behind a name could climb from wherever another link leads.
fn stays_inside(at: &Path, to: &Path) -> bool {
    let mut room = at.components().count() - 1;
    let mut descended = false;
    for part in to.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(_) => descended = true,
            Component::ParentDir if descended || room == 0 => return false,
            Component::ParentDir => room -= 1,
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    !to.as_os_str().is_empty()
}

/// What is wrong with a place.
enum Fault {
    Refused(&'static str),
    Write(io::Error),
}

impl Fault {
    fn of(self, name: &str) -> UnpackError {
        match self {
            Self::Refused(why) => UnpackError::Refused { path: name.to_owned(), why },
            Self::Write(source) => UnpackError::Write { path: name.to_owned(), source },
        }
    }
}

/// Makes the folders above a path; none of them may be a link.
fn make_parents(into: &Path, inside: &Path, done: &mut Unpacked) -> Result<(), Fault> {
    if inside.components().count() > DEEPEST {
        return Err(Fault::Refused("lies too deep"));
    }
    let mut folder = into.to_owned();
    let parents = inside.parent().into_iter().flat_map(Path::components);
    for part in parents {
        folder.push(part);
        make_dir(&folder, done)?;
    }
    Ok(())
}

fn make_dir(path: &Path, done: &mut Unpacked) -> Result<(), Fault> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Fault::Refused("lies below something that is no folder")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .map(|()| done.folders += 1)
            .map_err(Fault::Write),
        Err(error) => Err(Fault::Write(error)),
    }
}

/// A later entry of the same name replaces a file or a link, as tar(1) has it, but never a folder.
fn make_room(path: &Path) -> Result<(), Fault> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(Fault::Refused("has the name of a folder")),
        Ok(_) => fs::remove_file(path).map_err(Fault::Write),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Fault::Write(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Make = fn(&mut tar::Builder<Vec<u8>>);

    fn file(tar: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8], mode: u32) {
        let mut header = header(name, EntryType::Regular, mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }

    /// A name is written as it is, since the library would refuse what we want to see refused by us.
    fn header(name: &str, kind: EntryType, mode: u32) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(0);
        header.set_cksum();
        header
    }

    fn link(tar: &mut tar::Builder<Vec<u8>>, name: &str, to: &str, kind: EntryType) {
        let mut header = header(name, kind, 0o777);
        header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
        header.set_cksum();
        tar.append(&header, io::empty()).unwrap();
    }

    fn unpacked(make: Make) -> (Result<Unpacked, UnpackError>, tempfile::TempDir) {
        let mut tar = tar::Builder::new(Vec::new());
        make(&mut tar);
        let temp = tempfile::tempdir().unwrap();
        let into = temp.path().join("a/b");
        fs::create_dir_all(&into).unwrap();
        (unpack(&tar.into_inner().unwrap()[..], &into, 1 << 20), temp)
    }

    #[test]
    fn what_is_harmless_is_unpacked_with_ordinary_modes() {
        let (done, temp) = unpacked(|tar| {
            file(tar, "./bin/server", b"#!/bin/sh\n", 0o6775);
            file(tar, "app/config", b"old", 0o600);
            file(tar, "app/config", b"new", 0o600);
            link(tar, "app/current", "../bin/server", EntryType::Symlink);
            link(tar, "copy", "app/config", EntryType::Link);
        });
        assert_eq!(done.unwrap(), Unpacked { files: 5, size_bytes: 16, folders: 2 });
        let root = temp.path().join("a/b");
        let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("bin/server"), mode("app/config"), mode("app")), (0o755, 0o644, 0o755));
        assert_eq!(fs::read(root.join("copy")).unwrap(), b"new");
        assert_eq!(fs::read(root.join("app/current")).unwrap(), b"#!/bin/sh\n");
    }

    #[test]
    fn whatever_leads_out_is_refused_by_name() {
        let cases: [(&str, Make); 10] = [
            ("climbs out", |tar| file(tar, "../evil", b"x", 0o644)),
            ("climbs out", |tar| file(tar, "a/../../evil", b"x", 0o644)),
            ("absolute", |tar| file(tar, "/tmp/evil", b"x", 0o644)),
            ("leads out", |tar| link(tar, "l", "/etc/passwd", EntryType::Symlink)),
            ("leads out", |tar| link(tar, "d/l", "../../evil", EntryType::Symlink)),
            ("leads out", |tar| link(tar, "d/l", "x/../../evil", EntryType::Symlink)),
            ("no folder", |tar| {
                link(tar, "d", ".", EntryType::Symlink);
                file(tar, "d/evil", b"x", 0o644);
            }),
            ("climbs out", |tar| link(tar, "l", "../../secret", EntryType::Link)),
            ("neither", |tar| tar.append(&header("dev", EntryType::Char, 0o666), io::empty()).unwrap()),
            ("neither", |tar| tar.append(&header("pipe", EntryType::Fifo, 0o666), io::empty()).unwrap()),
        ];
        for (index, (why, make)) in cases.into_iter().enumerate() {
            let (done, temp) = unpacked(make);
            let error = done.unwrap_err().to_string();
            assert!(error.contains(why), "{index}: {error}");
            let outside: Vec<_> = fs::read_dir(temp.path().join("a")).unwrap().collect();
            assert_eq!(outside.len(), 1, "{index}: nothing lies outside");
        }
    }

    #[test]
    fn names_and_folders_are_bounded() {
        // A name of gigabytes, of which a gzipped archive has few: it must not come into memory.
        let mut long = header("././@LongLink", EntryType::GNULongName, 0o644);
        long.set_size(8 << 30);
        long.set_cksum();
        let endless = io::Read::chain(&long.as_bytes()[..], io::repeat(b'x').take(8 << 30));
        let temp = tempfile::tempdir().unwrap();
        let refused = unpack(endless, temp.path(), 1 << 20).unwrap_err().to_string();
        assert!(refused.contains("larger than `deploy.max_size` permits"), "{refused}");
        let (done, temp) = unpacked(|tar| {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            tar.append_data(&mut header, "d/".repeat(200) + "x", io::empty()).unwrap();
        });
        assert!(done.unwrap_err().to_string().contains("lies too deep"));
        assert_eq!(fs::read_dir(temp.path().join("a/b")).unwrap().count(), 0);
    }

    #[test]
    fn size_and_damage_are_bounded() {
        let (done, _temp) = unpacked(|tar| file(tar, "large", &vec![0; (1 << 20) + 1], 0o644));
        assert!(matches!(done, Err(UnpackError::TooLarge(_))), "{done:?}");
        let (done, _temp) = unpacked(|_| {});
        assert!(matches!(done, Err(UnpackError::Damaged(_))), "{done:?}");
        let temp = tempfile::tempdir().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        file(&mut tar, "whole", &[7; 4000], 0o644);
        let bytes = tar.into_inner().unwrap();
        let done = unpack(&bytes[..2000], temp.path(), 1 << 20);
        assert!(matches!(done, Err(UnpackError::Damaged(_))), "{done:?}");
        let temp = tempfile::tempdir().unwrap();
        assert!(unpack(&[b'x'; 5000][..], temp.path(), 1 << 20).is_err());
    }
}
