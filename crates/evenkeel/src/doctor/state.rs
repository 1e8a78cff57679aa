//! Readings of a state directory: owner, room, what was set aside, what is in force.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use evenkeel_core::{
    doctor::{ReleaseFolder, RuntimeDir, StateDir},
    stack::{self, Stack},
};
use rustix::{
    fs::{statfs, statvfs},
    process::geteuid,
};

/// Types of file systems that live in memory (statfs(2)).
const IN_MEMORY: [(i128, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

/// Folders below `releases` that are added up, so that a huge one does not hold the answer back.
const MOST_FILES: usize = 100_000;

pub(super) fn read(dir: &Path, runtime: &Path) -> io::Result<StateDir> {
    let found = fs::metadata(dir)?;
    if !found.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    // The type's width differs between machines.
    let kind = statfs(dir).ok().map(|system| i128::from(system.f_type));
    let room = statvfs(dir).ok();
    Ok(StateDir {
        path: dir.display().to_string(),
        owner: found.uid(),
        user: geteuid().as_raw(),
        mode: found.permissions().mode() & 0o777,
        in_memory: IN_MEMORY.iter().find(|(magic, _)| Some(*magic) == kind).map(|(_, name)| (*name).to_owned()),
        room_bytes: room.as_ref().map(|room| (room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize)),
        inodes: room.map(|room| (room.f_files, room.f_favail)),
        version: fs::read_to_string(dir.join("VERSION")).ok(),
        known_version: evenkeel_node::STATE_VERSION,
        set_aside: set_aside(dir),
        releases: releases(&dir.join("releases")),
        secrets: None,
        runtime: Some(runtime_dir(runtime)),
    })
}

fn set_aside(dir: &Path) -> Vec<String> {
    let names = |folder: &Path, prefix: &str| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let aside =
            names.filter(|name| name.contains(".damaged") && !name.ends_with("-wal") && !name.ends_with("-shm"));
        aside.map(|name| format!("{prefix}{name}")).collect()
    };
    let mut found = names(dir, "");
    for folder in ["revisions", "instances", "deploys"] {
        found.extend(names(&dir.join(folder), &format!("{folder}/")));
    }
    found.sort();
    found
}

fn releases(folder: &Path) -> Vec<ReleaseFolder> {
    let services = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    let mut left = MOST_FILES;
    let mut found: Vec<ReleaseFolder> = services
        .map(|service| ReleaseFolder {
            service: service.file_name().to_string_lossy().into_owned(),
            count: fs::read_dir(service.path()).map_or(0, |entries| entries.flatten().count() as u64),
            size_bytes: size_of(&service.path(), &mut left),
        })
        .collect();
    found.sort_by(|a, b| a.service.cmp(&b.service));
    found
}

/// What a folder takes, links not followed.
fn size_of(folder: &Path, left: &mut usize) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let Ok(found) = entry.metadata() else { continue };
        bytes += if found.is_dir() { size_of(&entry.path(), left) } else { found.blocks() * 512 };
    }
    bytes
}

fn runtime_dir(path: &Path) -> RuntimeDir {
    let found = fs::metadata(path).ok();
    RuntimeDir {
        path: path.display().to_string(),
        owner: found.as_ref().map(MetadataExt::uid),
        mode: found.map_or(0, |found| found.permissions().mode() & 0o777),
    }
}

/// The stack file of the revision in force.
pub(super) fn kept_stack(dir: &Path) -> Option<Stack> {
    let number = current(dir)?;
    let name = format!("{number}.toml");
    let text = fs::read_to_string(dir.join("revisions").join(&name)).ok()?;
    stack::parse_leniently(&text, &name).ok().map(|(stack, _)| stack)
}

fn current(dir: &Path) -> Option<u64> {
    fs::read_to_string(dir.join("revisions/current")).ok()?.trim().parse().ok()
}

/// How many tokens the API for the network knows.
pub(super) fn tokens(dir: &Path) -> Option<u64> {
    let text = fs::read(dir.join("tokens.json")).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let count = value.as_array().map(Vec::len).or_else(|| value["tokens"].as_array().map(Vec::len));
    count.or_else(|| value.as_object().map(serde_json::Map::len)).map(|n| n as u64)
}

/// How many secrets the store holds, and whether the key to them is where it belongs.
pub(super) fn secrets_key(stack: &str, dir: &Path) -> Option<(u64, bool)> {
    let entries = fs::read_dir(dir.join("secrets")).ok()?.flatten();
    let kept = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "age")).count();
    Some((kept as u64, evenkeel_node::key_path(stack).exists()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_as_it_is() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        for folder in ["revisions", "releases/shop/1", "releases/shop/2", "instances"] {
            fs::create_dir_all(dir.join(folder)).unwrap();
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
        for (name, text) in [
            ("VERSION", "1\n"),
            ("journal.db.damaged", "x"),
            ("journal.db.damaged-wal", "x"),
            ("revisions/current", "3\n"),
            ("revisions/3.toml", "[stack]\nname = \"t\"\n[services.s]\nrun = [\"true\"]\n"),
            ("releases/shop/1/app", &"x".repeat(100_000)),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        let state = read(dir, &dir.join("no-run")).unwrap();
        assert_eq!((state.mode, state.owner, state.version.as_deref()), (0o711, state.user, Some("1\n")));
        assert_eq!(state.set_aside, ["journal.db.damaged"]);
        assert_eq!((state.releases[0].service.as_str(), state.releases[0].count), ("shop", 2));
        assert!(state.releases[0].size_bytes >= 100_000);
        assert!(state.runtime.unwrap().owner.is_none());
        assert_eq!(kept_stack(dir).unwrap().stack.name, "t");
        assert!(read(&dir.join("VERSION"), dir).is_err() && read(&dir.join("nowhere"), dir).is_err());
    }
}
