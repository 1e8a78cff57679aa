//! A key that is lost, wrong or replaced, damaged files, and what is no value.

use super::*;

const VALUE: &str = "sk_live_0123456789";

fn store() -> (tempfile::TempDir, SecretStore) {
    let temp = tempfile::tempdir().unwrap();
    let store = SecretStore::new("shop", &temp.path().join("state"), temp.path().join("etc/shop.key"));
    (temp, store)
}

fn said(result: Result<impl Sized, SecretError>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

fn value(secret: Option<Secret>) -> String {
    secret.map(|secret| secret.expose().to_owned()).unwrap_or_default()
}

#[test]
fn values_are_kept_encrypted_for_this_user_alone() {
    let (temp, store) = store();
    assert_eq!(store.get("stripe").unwrap(), None);
    assert!(!store.key_path().exists(), "looking makes no key");
    let first = store.set("stripe", &Secret::new(VALUE)).unwrap();
    assert_eq!(first, Stored { replaced: false, new_key: Some(store.key_path().to_owned()) });
    let again = store.set("stripe", &Secret::new("another value")).unwrap();
    assert_eq!(again, Stored { replaced: true, new_key: None });
    assert_eq!(value(store.get("stripe").unwrap()), "another value");
    assert_eq!(value(store.former("stripe").unwrap()), VALUE);
    assert_eq!(store.names().unwrap().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["stripe"]);
    for entry in fs::read_dir(temp.path().join("state/secrets")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()), "{}", path.display());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    assert_eq!(fs::metadata(store.key_path()).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(store.remove("stripe").unwrap() && !store.remove("stripe").unwrap());
    assert_eq!(store.former("stripe").unwrap(), None);
}

#[test]
fn a_name_leads_nowhere_else() {
    let (temp, store) = store();
    store.set("stripe", &Secret::new(VALUE)).unwrap();
    fs::copy(temp.path().join("state/secrets/stripe.age"), temp.path().join("outside.age")).unwrap();
    for name in ["../../outside", "./stripe", "hash.key", "stripe.former", ""] {
        assert_eq!(store.get(name).unwrap(), None, "{name}");
        assert!(!store.remove(name).unwrap(), "{name}");
        assert!(said(store.set(name, &Secret::new(VALUE))).contains("cannot be the name"), "{name}");
    }
    assert!(temp.path().join("outside.age").exists());
}

#[test]
fn a_key_that_is_gone_wrong_or_damaged_is_never_made_again() {
    let (temp, store) = store();
    store.set("stripe", &Secret::new(VALUE)).unwrap();
    let right = fs::read(store.key_path()).unwrap();
    fs::remove_file(store.key_path()).unwrap();
    for text in [said(store.get("stripe")), said(store.set("other", &Secret::new("value")))] {
        assert!(text.contains("is not at") && text.contains("backup"), "{text}");
    }
    assert!(!store.key_path().exists());

    let other = SecretStore::new("x", &temp.path().join("other"), store.key_path().to_owned());
    other.set("a", &Secret::new("value")).unwrap();
    let text = said(store.get("stripe"));
    assert!(text.contains("not the one that the secrets"), "{text}");

    fs::write(store.key_path(), "no key\n").unwrap();
    assert!(said(store.get("stripe")).contains("holds no key"));
    fs::write(store.key_path(), right).unwrap();
    assert_eq!(value(store.get("stripe").unwrap()), VALUE);
}

#[test]
fn a_damaged_file_is_named() {
    let (temp, store) = store();
    store.set("stripe", &Secret::new(VALUE)).unwrap();
    store.set("mail", &Secret::new("value")).unwrap();
    let file = temp.path().join("state/secrets/stripe.age");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    for damaged in [&bytes[..], &bytes[..40], b""] {
        fs::write(&file, damaged).unwrap();
        let text = said(store.get("stripe"));
        assert!(text.contains("`stripe` is damaged") && text.contains("keel secret set stripe"), "{text}");
    }
    assert_eq!(value(store.get("mail").unwrap()), "value", "the others are not touched by it");
    store.set("stripe", &Secret::new("new one")).unwrap();
    assert_eq!(value(store.get("stripe").unwrap()), "new one");
}

#[test]
fn another_key_and_a_crash_in_the_middle_leave_everything_readable() {
    let (temp, store) = store();
    store.set("stripe", &Secret::new(VALUE)).unwrap();
    let (hash_key, _) = store.hash_key().unwrap();
    let set_at = store.names().unwrap();
    let first = fs::read_to_string(store.key_path()).unwrap();
    store.rotate_key().unwrap();
    let second = fs::read_to_string(store.key_path()).unwrap();
    assert_ne!(first, second);
    assert_eq!(value(store.get("stripe").unwrap()), VALUE);
    assert_eq!(store.hash_key().unwrap().0, hash_key, "fingerprints do not change with the key");
    assert_eq!(store.names().unwrap(), set_at);

    // As a crash would leave it: a new key in front, and only one file encrypted with it.
    store.set("mail", &Secret::new("value")).unwrap();
    let both = Key::generate().before(Key::read(store.key_path()).unwrap().unwrap());
    both.write(store.key_path(), "shop").unwrap();
    encrypt_anew(&both, &temp.path().join("state/secrets/mail.age")).unwrap();
    assert_eq!(value(store.get("mail").unwrap()) + &value(store.get("stripe").unwrap()), format!("value{VALUE}"));
    store.rotate_key().unwrap();
    assert_eq!(value(store.get("stripe").unwrap()), VALUE);
    let lines = fs::read_to_string(store.key_path()).unwrap();
    assert_eq!(lines.matches("AGE-SECRET-KEY-1").count(), 1);
}

#[test]
fn what_is_no_value_or_no_name_is_refused() {
    let (_temp, store) = store();
    for (wrong, said_so) in [("", "empty"), ("a\0b", "NUL"), (&"x".repeat(MOST_BYTES + 1), "too long")] {
        assert!(said(store.set("a", &Secret::new(wrong))).contains(said_so));
    }
    for name in ["", "../x", "a.b", "1a"] {
        assert!(said(store.set(name, &Secret::new("value"))).contains("cannot be the name"), "{name}");
    }
    assert!(!store.key_path().exists());
}
