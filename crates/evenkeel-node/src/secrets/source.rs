//! Where a value comes from that is not kept in the store: a file, the environment of `keel up`, or a credential.
//!
//! `keel up` takes variables that are sources out of its own environment before it starts anything, so that no
//! `/proc/PID/environ` shows them, and keeps them in a file without a name. The node process reads that file through
//! the guard, whose child it is.

use std::{collections::BTreeMap, env, fs, io, path::Path};

use evenkeel_core::{secret::Secret, stack::SecretSource};

use super::{SecretError, store::check_value};

/// Tells the node process the number that the guard has for the file of variables that were taken out.
pub const HANDED_VARIABLE: &str = "KEEL_HANDED";

/// Values of variables that `keel up` took out of its environment.
pub(super) type Handed = BTreeMap<String, Secret>;

/// Reads what `keel up` took out of its environment; nothing where it took nothing.
pub(super) fn handed(guard_pid: u32) -> io::Result<Handed> {
    let Some(number) = env::var(HANDED_VARIABLE).ok().and_then(|number| number.parse::<u32>().ok()) else {
        return Ok(Handed::new());
    };
    let text = Secret::new(fs::read_to_string(format!("/proc/{guard_pid}/fd/{number}"))?);
    serde_json::from_str(text.expose()).map_err(io::Error::other)
}

/// The value that a source gives now. `dir` is where the stack file lies.
pub(super) fn read(name: &str, source: &SecretSource, dir: &Path, handed: &Handed) -> Result<Secret, SecretError> {
    let fail = |why: String, fix| SecretError::Source { name: name.to_owned(), place: source.describe(), why, fix };
    let from_file = |path: &Path, fix| {
        let bytes = fs::read_to_string(path).map_err(|error| fail(error.to_string(), fix))?;
        Ok(without_newline(Secret::new(bytes)))
    };
    let value = if let Some(file) = &source.file {
        from_file(&dir.join(file), "Check the path, and that the user of keel may read the file.")?
    } else if let Some(variable) = &source.env {
        let of_ours = || env::var(variable).ok().map(Secret::new);
        handed.get(variable).cloned().or_else(of_ours).ok_or_else(|| {
            fail("the variable is not set".to_owned(), "Set it in the environment of `keel up`, and start that again.")
        })?
    } else {
        let credential = source.credential.as_deref().unwrap_or_default();
        let fix = "Name it in the unit by LoadCredential= or LoadCredentialEncrypted=, and start the unit again.";
        let folder = env::var_os("CREDENTIALS_DIRECTORY");
        let folder =
            folder.ok_or_else(|| fail("systemd passed no credentials (CREDENTIALS_DIRECTORY)".to_owned(), fix))?;
        from_file(&Path::new(&folder).join(credential), fix)?
    };
    check_value(value.expose()).map_err(|error| fail(error.split().0, "Correct the value there."))?;
    Ok(value)
}

/// Without one newline at the end, which an editor or `echo` left there.
fn without_newline(value: Secret) -> Secret {
    let text = value.expose();
    match text.strip_suffix('\n') {
        Some(rest) => Secret::new(rest.strip_suffix('\r').unwrap_or(rest)),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_handed_variables_give_values() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("pem"), "line one\nline two\n").unwrap();
        let handed = Handed::from([("TOKEN".to_owned(), Secret::new("from keel up"))]);
        let of = |source: &SecretSource| read("a", source, temp.path(), &handed);
        let file = |name: &str| SecretSource { file: Some(name.to_owned()), ..SecretSource::default() };
        assert_eq!(of(&file("pem")).unwrap().expose(), "line one\nline two");
        let missing = of(&file("none")).unwrap_err().to_string();
        assert!(missing.contains("`a`") && missing.contains("file none"), "{missing}");
        let variable = |name: &str| SecretSource { env: Some(name.to_owned()), ..SecretSource::default() };
        assert_eq!(of(&variable("TOKEN")).unwrap().expose(), "from keel up");
        assert!(of(&variable("KEEL_NO_SUCH_VARIABLE")).unwrap_err().to_string().contains("not set"));
        fs::write(temp.path().join("empty"), "\n").unwrap();
        assert!(of(&file("empty")).unwrap_err().to_string().contains("empty"));
    }
}
