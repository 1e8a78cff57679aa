//! Users and groups of the machine, read from `/etc/passwd` and `/etc/group` (passwd(5), group(5)).
//!
//! Only these two files are consulted: a static binary has no name service switch. Whoever is defined elsewhere
//! must be given in them. Nothing is cached, since users change while we run.

use std::{fs, io};

/// What a process needs to run as somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, the primary one included.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Why a service cannot run as a user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    #[error("only root may start processes as somebody else")]
    NotRoot,
    #[error("there is no such user in /etc/passwd")]
    Unknown,
    #[error("{file} cannot be read: {source}")]
    Read { file: &'static str, source: io::Error },
}

impl UserError {
    /// What to do about it.
    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::NotRoot => "Run `keel up` as root, or remove `user` from the service.",
            Self::Unknown => "Create the user (useradd --system NAME), or correct `user` in the stack file.",
            Self::Read { .. } => "Make the file readable.",
        }
    }
}

/// Looks `name` up, which may be a number too, and checks that we may run processes as it.
pub(crate) fn resolve(name: &str) -> Result<User, UserError> {
    let read = |file: &'static str| fs::read_to_string(file).map_err(|source| UserError::Read { file, source });
    let user = find(name, &read("/etc/passwd")?, &read("/etc/group")?).ok_or(UserError::Unknown)?;
    let us = rustix::process::geteuid();
    if us.is_root() || us.as_raw() == user.uid { Ok(user) } else { Err(UserError::NotRoot) }
}

/// The name of a user, where `/etc/passwd` has one.
pub(crate) fn name_of(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let number = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&number))?;
    line.split(':').next().map(str::to_owned)
}

fn find(name: &str, passwd: &str, group: &str) -> Option<User> {
    let mut user = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [login, _, uid, gid, _, home, ..] = fields[..] else {
            return None;
        };
        let matches = login == name || (uid == name && !name.is_empty());
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        matches.then(|| User { name: login.to_owned(), uid, gid, groups: vec![gid], home: home.to_owned() })
    })?;
    for line in group.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = fields[..] else { continue };
        let Ok(gid) = gid.parse() else { continue };
        if members.split(',').any(|member| member == user.name) && !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken:x\n\
                          www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nodd:x:-1:5::/:\n";
    const GROUP: &str =
        "root:x:0:\nwww-data:x:33:\nssl-cert:x:101:postgres,www-data\nadm:x:4:www-data-2\nbad:x:z:www-data\n";

    #[test]
    fn finds_by_name_and_number_with_all_groups() {
        let www = find("www-data", PASSWD, GROUP).unwrap();
        assert_eq!((www.uid, www.gid, &www.groups[..], &*www.home), (33, 33, &[33, 101][..], "/var/www"));
        assert_eq!(find("33", PASSWD, GROUP), Some(www));
    }

    #[test]
    fn refuses_what_is_not_there() {
        for name in ["nobody-here", "", "broken", "odd", "www"] {
            assert_eq!(find(name, PASSWD, GROUP), None, "{name}");
        }
    }

    #[test]
    fn the_machines_own_files_are_read() {
        let root = resolve("root");
        if rustix::process::geteuid().is_root() {
            assert_eq!(root.unwrap().uid, 0);
        } else {
            assert!(matches!(root, Err(UserError::NotRoot)));
        }
        assert!(matches!(resolve("evenkeel-no-such-user"), Err(UserError::Unknown)));
    }
}
