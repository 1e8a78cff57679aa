//! The store: secrets that `keel secret set` was given, each in an age file of its own.
//!
//! ```text
//! secrets/NAME.age         the value
//! secrets/NAME.former.age  the value before it, so that output of instances that still have it is masked
//! secrets/recipient        the public side of the key, which tells a wrong key from a damaged file
//! secrets/hash.key.age     what fingerprints are made with
//! ```
//!
//! Files are replaced whole and for this user alone. Whoever writes holds the state directory's lock, or is the node
//! process below whoever does.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use evenkeel_core::{secret::Secret, stack::is_secret_name, time::WallTime};

use super::{SecretError, key::Key};
use crate::state_dir::{make_private, replace_private};

/// The largest value.
const MOST_BYTES: usize = 64 * 1024;

/// Length of what fingerprints are made with.
pub(super) const HASH_KEY_BYTES: usize = 32;

/// The store of one stack.
#[derive(Clone, Debug)]
pub struct SecretStore {
    stack: String,
    folder: PathBuf,
    key: PathBuf,
}

/// What a change of the store did besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// There was a value before.
    pub replaced: bool,
    /// The file of a key that was made for it.
    pub new_key: Option<PathBuf>,
}

impl SecretStore {
    /// The store of `stack` in this state directory, with its key at `key`. Nothing is read or made yet.
    pub fn new(stack: &str, state_dir: &Path, key: PathBuf) -> Self {
        Self { stack: stack.to_owned(), folder: state_dir.join("secrets"), key }
    }

    /// Where the key lies or would lie.
    pub fn key_path(&self) -> &Path {
        &self.key
    }

    /// Whether everybody on this machine may read the key's file.
    pub(super) fn is_key_shared(&self) -> bool {
        fs::metadata(&self.key).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
    }

    /// The names of all secrets kept, and when each was set.
    pub fn names(&self) -> Result<Vec<(String, WallTime)>, SecretError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(SecretError::io("the secrets cannot be listed", &self.folder)(error)),
        };
        let mut names = Vec::new();
        for entry in entries.flatten() {
            let file = entry.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".age")).filter(|name| is_secret_name(name));
            let set = || entry.metadata().ok()?.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok();
            if let Some(name) = name {
                let set = set().map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
                names.push((name.to_owned(), WallTime::from_millis(set)));
            }
        }
        names.sort();
        Ok(names)
    }

    /// A value; `None` where none is kept under this name, or where it cannot be one and would lead elsewhere.
    pub fn get(&self, name: &str) -> Result<Option<Secret>, SecretError> {
        if is_secret_name(name) { self.read(name, &self.file(name)) } else { Ok(None) }
    }

    /// The value before the present one.
    pub(super) fn former(&self, name: &str) -> Result<Option<Secret>, SecretError> {
        self.read(name, &self.former_file(name))
    }

    /// Keeps a value, in place of a former one.
    pub fn set(&self, name: &str, value: &Secret) -> Result<Stored, SecretError> {
        if !is_secret_name(name) {
            return Err(SecretError::Name { name: name.to_owned() });
        }
        check_value(value.expose())?;
        let (key, new_key) = self.key_or_new()?;
        let file = self.file(name);
        let replaced = file.exists();
        if replaced {
            let former = self.former_file(name);
            fs::copy(&file, &former).map_err(SecretError::io("the former value cannot be set aside", &former))?;
        }
        write(&key, &file, value.expose().as_bytes())?;
        Ok(Stored { replaced, new_key })
    }

    /// Forgets a value. `false` where there was none.
    pub fn remove(&self, name: &str) -> Result<bool, SecretError> {
        let file = self.file(name);
        if !is_secret_name(name) {
            return Ok(false);
        }
        match fs::remove_file(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(SecretError::io("the secret cannot be removed", file)(error)),
        }
        // Often there is none.
        let _ = fs::remove_file(self.former_file(name));
        Ok(true)
    }

    /// Makes another key and encrypts everything anew. Until that is done the key's file holds both; one that a crash
    /// left so is finished by the next call.
    pub fn rotate_key(&self) -> Result<(), SecretError> {
        let old = self.key()?;
        let both = Key::generate().before(old);
        let cannot = || SecretError::io("the new key cannot be written", &self.key);
        both.write(&self.key, &self.stack).map_err(cannot())?;
        let entries =
            fs::read_dir(&self.folder).map_err(SecretError::io("the secrets cannot be listed", &self.folder))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "age") {
                encrypt_anew(&both, &path)?;
            }
        }
        self.write_recipient(&both)?;
        both.newest().write(&self.key, &self.stack).map_err(cannot())
    }

    /// What fingerprints are made with; made where there is none yet, together with the key.
    pub(super) fn hash_key(&self) -> Result<(Secret, Option<PathBuf>), SecretError> {
        let path = self.folder.join("hash.key.age");
        if let Some(kept) = self.read("hash.key", &path)? {
            return Ok((kept, None));
        }
        let (key, new_key) = self.key_or_new()?;
        let mut random = [0; HASH_KEY_BYTES];
        getrandom::fill(&mut random).expect("the kernel gives random bytes");
        let text = Secret::new(super::hash::hex(&random));
        write(&key, &path, text.expose().as_bytes())?;
        Ok((text, new_key))
    }

    fn read(&self, name: &str, path: &Path) -> Result<Option<Secret>, SecretError> {
        if path.exists() { read_with(&self.key()?, name, path) } else { Ok(None) }
    }

    /// The key, which must be there and be the right one.
    fn key(&self) -> Result<Key, SecretError> {
        let (path, kept) = (self.key.clone(), self.folder.clone());
        let Some(key) = Key::read(&path)? else { return Err(SecretError::NoKey { path, kept }) };
        let recipient = fs::read_to_string(self.folder.join("recipient")).unwrap_or_default();
        if recipient.is_empty() || key.has(recipient.trim()) {
            Ok(key)
        } else {
            Err(SecretError::WrongKey { path, kept })
        }
    }

    /// The key; made where nothing has been encrypted yet.
    fn key_or_new(&self) -> Result<(Key, Option<PathBuf>), SecretError> {
        make_private(&self.folder)
            .map_err(SecretError::io("the folder of the secrets cannot be made", &self.folder))?;
        let entries =
            fs::read_dir(&self.folder).map_err(SecretError::io("the secrets cannot be listed", &self.folder))?;
        let used = entries.flatten().any(|entry| {
            let name = entry.file_name();
            name == "recipient" || Path::new(&name).extension().is_some_and(|extension| extension == "age")
        });
        if used {
            return Ok((self.key()?, None));
        }
        let (key, new) = if let Some(key) = Key::read(&self.key)? {
            (key, None)
        } else {
            let key = Key::generate();
            key.write(&self.key, &self.stack).map_err(SecretError::io("the key cannot be written", &self.key))?;
            (key, Some(self.key.clone()))
        };
        self.write_recipient(&key)?;
        Ok((key, new))
    }

    fn write_recipient(&self, key: &Key) -> Result<(), SecretError> {
        let path = self.folder.join("recipient");
        replace_private(&path, format!("{}\n", key.public()).as_bytes())
            .map_err(SecretError::io("the folder of the secrets cannot be written", &path))
    }

    /// Where a value lies; `name` has been found to be a name.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.age"))
    }

    fn former_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.former.age"))
    }
}

fn encrypt_anew(key: &Key, path: &Path) -> Result<(), SecretError> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    let Some(value) = read_with(key, &name, path)? else { return Ok(()) };
    write(key, path, value.expose().as_bytes())?;
    // When it was set is told by the file's time, which must not change with the key.
    let kept = modified.and_then(|time| fs::File::options().append(true).open(path)?.set_modified(time));
    kept.map_err(SecretError::io("the time of a secret cannot be kept", path))
}

fn read_with(key: &Key, name: &str, path: &Path) -> Result<Option<Secret>, SecretError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SecretError::io("a secret cannot be read", path)(error)),
    };
    let damaged = |why: String| SecretError::Damaged { name: name.to_owned(), path: path.to_owned(), why };
    let value = key.decrypt(&bytes).map_err(damaged)?;
    let value = String::from_utf8(value).map_err(|_| damaged("it holds no text".to_owned()))?;
    Ok(Some(Secret::new(value)))
}

fn write(key: &Key, path: &Path, value: &[u8]) -> Result<(), SecretError> {
    let cannot = || SecretError::io("a secret cannot be kept", path);
    let bytes = key.encrypt(value).map_err(cannot())?;
    replace_private(path, &bytes).map_err(cannot())
}

/// Refuses what no environment can hold (environ(7)).
pub(super) fn check_value(value: &str) -> Result<(), SecretError> {
    let why = match value {
        "" => "it is empty",
        value if value.contains('\0') => "it contains a NUL byte",
        value if value.len() > MOST_BYTES => "it is too long",
        _ => return Ok(()),
    };
    Err(SecretError::Value { why })
}

#[cfg(test)]
mod tests;
