//! What is told of secrets: changes, absences, users; and what is not: values.

use std::fs;

use evenkeel_core::stack::parse;

use super::*;

/// A stack whose service uses one secret of a file and one of the store.
fn stack(dir: &Path) -> Stack {
    let file = dir.join("from-file");
    let text = format!(
        "[stack]\nname = \"t\"\n[services.app]\nrun = [\"x\"]\nenv = {{ A = \"secret:kept\", B = \"secret:filed\" }}\n\
         [secrets.filed]\nfile = \"{}\"\n",
        file.display()
    );
    parse(&text, "t.toml").unwrap()
}

fn secrets(root: &Path) -> Secrets {
    Secrets {
        store: SecretStore::new("t", root, root.join("t.key")),
        fingerprints_file: root.join("secrets/fingerprints.json"),
        handed: Handed::new(),
        hash_key: None,
        values: BTreeMap::new(),
        fingerprints: fs::read(root.join("secrets/fingerprints.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default(),
        mask: Mask::default(),
    }
}

#[test]
fn a_change_is_told_and_an_absence_is_none() {
    let temp = tempfile::tempdir().unwrap();
    let (root, stack) = (temp.path(), stack(temp.path()));
    let mut secrets = secrets(root);
    let error = secrets.check(&stack, root, |_| true).unwrap_err().to_string();
    assert!(error.contains("cannot be had") && error.contains("from-file"), "{error}");
    let error = secrets.check(&stack, root, |name| name == "kept").unwrap_err().to_string();
    assert!(error.contains("no secret `kept`"), "only what is needed is looked for: {error}");
    secrets.check(&stack, root, |_| false).unwrap();
    fs::write(root.join("from-file"), "filed value\n").unwrap();
    let error = secrets.check(&stack, root, |_| true).unwrap_err().to_string();
    assert!(error.contains("no secret `kept`, which service `app` asks for"), "{error}");
    assert!(error.contains("keel secret set kept"), "{error}");
    secrets.store.set("kep", &Secret::new("yet another")).unwrap();
    assert!(secrets.check(&stack, root, |_| true).unwrap_err().to_string().contains("Did you mean `kep`?"));
    secrets.store.set("kept", &Secret::new("kept value")).unwrap();
    secrets.check(&stack, root, |_| true).unwrap();

    let first = secrets.refresh(&stack, root);
    assert!(first.changed.is_empty() && first.missing.is_empty(), "what is seen for the first time has not changed");
    assert_eq!(secrets.value("filed").unwrap().expose(), "filed value");
    assert_eq!(secrets.mask.text("a kept value, a filed value"), "a [secret kept], a [secret filed]");
    let before = secrets.fingerprint("filed").to_owned();
    fs::write(root.join("from-file"), "other value").unwrap();
    let service = &stack.services["app"];
    assert_eq!(secrets.refresh_for(service, &stack, root).changed, ["filed"]);
    assert_ne!(secrets.fingerprint("filed"), before);
    assert_eq!(secrets.mask.text("filed value other value"), "[secret filed] [secret filed]", "both are masked");

    // A file that is away for a while is no change, also for a successor.
    let known = secrets.fingerprint("filed").to_owned();
    fs::remove_file(root.join("from-file")).unwrap();
    let mut next = self::secrets(root);
    assert_eq!(next.refresh(&stack, root).missing.len(), 1);
    assert_eq!(next.fingerprint("filed"), known);
    assert_eq!(next.value("filed"), None);
    fs::write(root.join("from-file"), "other value").unwrap();
    assert!(next.refresh(&stack, root).changed.is_empty());
}

#[test]
fn fingerprints_give_nothing_away() {
    let temp = tempfile::tempdir().unwrap();
    let stack = stack(temp.path());
    fs::write(temp.path().join("from-file"), "1234").unwrap();
    let mut one = secrets(temp.path());
    one.store.set("kept", &Secret::new("1234")).unwrap();
    one.refresh(&stack, temp.path());
    assert_ne!(one.fingerprint("kept"), one.fingerprint("filed"), "equal values of two names cannot be told");
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("from-file"), "1234").unwrap();
    let mut two = secrets(other.path());
    two.refresh(&self::stack(other.path()), other.path());
    assert_ne!(one.fingerprint("filed"), two.fingerprint("filed"), "another stack has another key");
}

#[test]
fn the_list_names_sources_and_users() {
    let temp = tempfile::tempdir().unwrap();
    let stack = stack(temp.path());
    let secrets = secrets(temp.path());
    secrets.store.set("spare", &Secret::new("spare value")).unwrap();
    let listed = secrets.list(&stack, temp.path()).unwrap();
    let rows: Vec<_> =
        listed.iter().map(|one| (one.name.as_str(), one.services.len(), one.problem.is_some())).collect();
    assert_eq!(rows, [("filed", 1, true), ("kept", 1, true), ("spare", 0, false)]);
    assert_eq!(listed[2].source, "store");
    assert!(listed[2].set.is_some());
}

#[test]
fn a_process_that_runs_shows_what_to_mask() {
    let temp = tempfile::tempdir().unwrap();
    let (stack, secrets) = (stack(temp.path()), secrets(temp.path()));
    let mut process = std::process::Command::new("sleep")
        .arg("1000")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("A", "a value of old")
        .env("C", "no secret")
        .spawn()
        .unwrap();
    secrets.mask_values_of(process.id(), &stack.services["app"]);
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(secrets.mask.text("a value of old, no secret"), "[secret kept], no secret");
}

#[test]
fn a_key_that_everybody_may_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let temp = tempfile::tempdir().unwrap();
    let (stack, mut secrets) = (stack(temp.path()), secrets(temp.path()));
    secrets.store.set("kept", &Secret::new("kept value")).unwrap();
    assert_eq!(secrets.refresh(&stack, temp.path()).shared_key, None);
    let key = secrets.store.key_path().to_owned();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(secrets.refresh(&stack, temp.path()).shared_key, Some(key));
}
