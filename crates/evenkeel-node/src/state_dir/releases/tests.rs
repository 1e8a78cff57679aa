//! Releases in a folder of their own: taken, refused, kept and taken away.

use evenkeel_core::journal::Reason;
use serde_json::json;

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
    assert!(dir.store_release("shop", &archive(b"x")[..], Some(&digest.to_uppercase()), 100, 8).unwrap().number == 9);
    let left = |dir: &StateDir| dir.releases("shop").iter().map(|stored| stored.number).collect::<Vec<_>>();
    for number in [1, 2, 3, 9] {
        deployed(&dir, number, None);
    }
    assert_eq!(dir.prune_releases("shop", 2, &BTreeSet::from([1])).len(), 1);
    assert_eq!(left(&dir), [1, 3, 4, 9], "4 waits to be deployed");
    assert!(dir.release_dir("shop", 1).join("file").exists() && !dir.release_dir("shop", 2).exists());
    let gone = dir.incoming();
    assert!(gone.len() == 1 && gone[0].join("file").exists(), "{gone:?}");
    remove_all(gone);
    assert!(dir.incoming().is_empty());
    // What was sent in vain does not stay, and keeps nothing out that was deployed.
    for _ in 0..4 {
        dir.store_release("shop", &archive(b"x")[..], None, 100, 0).unwrap();
    }
    dir.prune_releases("shop", 2, &BTreeSet::new());
    assert_eq!(left(&dir), [3, 9, 12, 13]);
    // One without an artefact of its own runs in the folder of a former one.
    deployed(&dir, 12, Some(3));
    deployed(&dir, 13, None);
    dir.prune_releases("shop", 2, &BTreeSet::new());
    assert_eq!(left(&dir), [3, 12, 13]);
}

#[test]
fn releases_that_failed_keep_no_good_one_out() {
    let (_temp, dir) = state();
    let deploys: Vec<Deploy> =
        (1..=9).map(|number| over(number, if number <= 2 { &Phase::Done } else { &Phase::RolledBack })).collect();
    for number in 1..=9 {
        dir.store_release("shop", &archive(b"x")[..], None, 100, 0).unwrap();
        deployed(&dir, number, None);
    }
    dir.judge_releases("shop", &deploys);
    dir.prune_releases("shop", 2, &BTreeSet::new());
    let left: Vec<_> = dir.releases("shop").into_iter().map(|stored| (stored.number, stored.fault)).collect();
    let why = || Some("rolled back: it answered 500".to_owned());
    assert_eq!(left, [(1, None), (2, None), (8, why()), (9, why())]);
    // One of them is deployed again, and another one takes its place.
    dir.judge_releases("shop", &[over(8, &Phase::Done), Deploy { kind: Kind::Rollback, ..over(9, &Phase::Done) }]);
    let judged: Vec<_> = dir.releases("shop").into_iter().map(|stored| (stored.whole, stored.fault)).collect();
    let left_by = Some("rolled back by root (uid 0)".to_owned());
    assert_eq!(judged[2..], [(true, left_by), (true, None)]);
}

/// A deploy in place of the release before it that has ended so.
fn over(number: u64, phase: &Phase) -> Deploy {
    let release =
        |number: u64| json!({ "number": number, "digest": "", "dir": null, "run": null, "env": {}, "deployed": 1 });
    let settings = json!({
        "watch_ms": 1, "canary": false, "share_percent": 1, "max_errors_percent": 1, "before_timeout_ms": 1
    });
    let deploy = json!({
        "number": number, "service": "shop", "kind": "deploy", "to": release(number), "from": release(number - 1),
        "by": "by root (uid 0)", "began": 1, "settings": settings, "phase": phase,
        "revision": 1, "reasons": [Reason::seen("it answered 500")],
    });
    serde_json::from_value(deploy).unwrap()
}

fn deployed(dir: &StateDir, number: u64, runs_in: Option<u64>) {
    let stored = dir.releases("shop").into_iter().find(|stored| stored.number == number).unwrap();
    let runs_in = Some(dir.release_dir("shop", runs_in.unwrap_or(number)).display().to_string());
    let env = std::collections::BTreeMap::new();
    let deployed = evenkeel_core::time::WallTime::default();
    let release = Release { number, digest: stored.digest.clone(), dir: runs_in, run: None, env, deployed };
    dir.save_release("shop", &Stored { release: Some(release), ..stored }).unwrap();
}

#[test]
fn artefacts_that_come_at_once_get_numbers_of_their_own() {
    let (_temp, dir) = state();
    let store = |content: u8| {
        let dir = dir.clone();
        std::thread::spawn(move || dir.store_release("shop", &archive(&[content; 5])[..], None, 100, 0).unwrap())
    };
    let threads: Vec<_> = (0..16).map(store).collect();
    let numbers: BTreeSet<u64> = threads.into_iter().map(|thread| thread.join().unwrap().number).collect();
    assert_eq!(numbers, (1..=16).collect());
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
    remove_all(dir.incoming());
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
