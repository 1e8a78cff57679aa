//! The key that secrets are encrypted with: an age identity in a file outside of the state directory, so that a copy
//! of the state directory gives nothing away.
//!
//! It is made once, where nothing has been encrypted yet, and never again: a key that is missing later is an error
//! with the way out. While it is being replaced the file holds both the new and the old one, the new one first, so
//! that a crash in the middle leaves everything readable.

use std::{
    env, fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use age::{secrecy::ExposeSecret, x25519};

use super::SecretError;
use crate::state_dir::replace_private;

/// Names the file of the key.
const KEY_VARIABLE: &str = "KEEL_SECRETS_KEY";

/// The credential that may hold the key (`LoadCredential=keel-key:…`, systemd.exec(5)).
const KEY_CREDENTIAL: &str = "keel-key";

/// Where the key of a stack belongs: `KEEL_SECRETS_KEY`, systemd's credential `keel-key`, `/etc/keel/STACK.key` for
/// root, and else `$XDG_CONFIG_HOME/keel/STACK.key` (XDG base directory specification).
pub fn key_path(stack: &str) -> PathBuf {
    let root = rustix::process::geteuid().is_root();
    place(stack, root, |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from), Path::exists)
}

fn place(stack: &str, root: bool, env: impl Fn(&str) -> Option<PathBuf>, exists: impl Fn(&Path) -> bool) -> PathBuf {
    if let Some(path) = env(KEY_VARIABLE) {
        return path;
    }
    let credential = env("CREDENTIALS_DIRECTORY").map(|dir| dir.join(KEY_CREDENTIAL));
    if let Some(path) = credential.filter(|path| exists(path)) {
        return path;
    }
    let name = format!("{stack}.key");
    if root {
        return Path::new("/etc/keel").join(name);
    }
    let home = || env("HOME").unwrap_or_else(|| PathBuf::from("/")).join(".config");
    env("XDG_CONFIG_HOME").filter(|dir| dir.is_absolute()).unwrap_or_else(home).join("keel").join(name)
}

/// The identities in a key file: what decrypts. The first one encrypts.
pub(super) struct Key(Vec<x25519::Identity>);

impl Key {
    /// Reads a key file; `None` where there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, SecretError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => age::secrecy::SecretString::from(text),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(SecretError::BadKey { path: path.to_owned() });
            }
            Err(error) => return Err(SecretError::io("the key of the secrets cannot be read", path)(error)),
        };
        let lines =
            text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let identities: Result<Vec<x25519::Identity>, _> = lines.map(str::parse).collect();
        match identities {
            Ok(identities) if !identities.is_empty() => Ok(Some(Self(identities))),
            _ => Err(SecretError::BadKey { path: path.to_owned() }),
        }
    }

    /// A new one, nowhere kept yet.
    pub(super) fn generate() -> Self {
        Self(vec![x25519::Identity::generate()])
    }

    /// This one first, and then what decrypts what another one encrypted.
    pub(super) fn before(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Only what encrypts.
    pub(super) fn newest(mut self) -> Self {
        self.0.truncate(1);
        self
    }

    /// Writes the file, for this user alone, and makes the folder where there is none.
    pub(super) fn write(&self, path: &Path, stack: &str) -> io::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let mut text = format!(
            "# The key of the secrets of the stack `{stack}`: back it up, apart from the state directory.\n\
             # Without it they cannot be read. By hand: age -d -i THIS_FILE secrets/NAME.age\n"
        );
        for identity in &self.0 {
            text.push_str(identity.to_string().expose_secret());
            text.push('\n');
        }
        let text = age::secrecy::SecretString::from(text);
        replace_private(path, text.expose_secret().as_bytes())
    }

    /// The public side of what encrypts (`age1…`), which may lie beside what it encrypted.
    pub(super) fn public(&self) -> String {
        self.encrypting().to_string()
    }

    /// Whether `public` is the public side of one of these.
    pub(super) fn has(&self, public: &str) -> bool {
        self.0.iter().any(|identity| identity.to_public().to_string() == public)
    }

    /// Encrypts.
    pub(super) fn encrypt(&self, value: &[u8]) -> io::Result<Vec<u8>> {
        age::encrypt(&self.encrypting(), value).map_err(io::Error::other)
    }

    /// Decrypts; an error says why not.
    pub(super) fn decrypt(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let decryptor = age::Decryptor::new_buffered(bytes).map_err(|error| error.to_string())?;
        let identities = self.0.iter().map(|identity| identity as &dyn age::Identity);
        let mut reader = decryptor.decrypt(identities).map_err(|error| error.to_string())?;
        let mut value = Vec::new();
        io::Read::read_to_end(&mut reader, &mut value).map_err(|error| error.to_string())?;
        Ok(value)
    }

    fn encrypting(&self) -> x25519::Recipient {
        self.0.first().expect("a key has at least one identity").to_public()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_place_follows_user_and_environment() {
        let path = |root, vars: &[(&str, &str)], credential: bool| {
            let env = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| PathBuf::from(value));
            place("shop", root, env, |_| credential).display().to_string()
        };
        assert_eq!(path(true, &[("HOME", "/root")], false), "/etc/keel/shop.key");
        assert_eq!(path(false, &[("HOME", "/home/a")], false), "/home/a/.config/keel/shop.key");
        let xdg = [("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/cfg"), ("CREDENTIALS_DIRECTORY", "/run/c")];
        assert_eq!(path(false, &xdg, false), "/cfg/keel/shop.key");
        assert_eq!(path(true, &xdg, true), "/run/c/keel-key");
        assert_eq!(path(true, &[("KEEL_SECRETS_KEY", "/k"), xdg[2]], true), "/k");
    }
}
