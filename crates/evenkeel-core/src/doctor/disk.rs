//! Findings about the state directory and the folder of the sockets.

use super::{
    Finding, Observed,
    Severity::{Advice, Error, Warning},
    StateDir, bytes, counted,
};

/// Free room below which a journal, logs or a release may not fit any more.
const LEAST_FREE_BYTES: u64 = 256 << 20;

pub(super) fn findings(observed: &Observed) -> Vec<Finding> {
    let Some(state) = &observed.state else { return Vec::new() };
    [
        owner(state),
        version(state),
        mode(state),
        in_memory(state),
        full(state),
        inodes(state),
        set_aside(state),
        releases(state),
        secrets(state),
        runtime(state),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn owner(state: &StateDir) -> Option<Finding> {
    (state.owner != state.user).then(|| {
        let what = format!("the state directory belongs to user {}, and keel runs as user {}", state.owner, state.user);
        Finding::new(Error, "state-owner", "state", what)
            .seen(format!("stat {}", state.path))
            .fix(format!("chown -R {} {}", state.user, state.path))
    })
}

fn version(state: &StateDir) -> Option<Finding> {
    let text = state.version.as_ref()?.trim();
    let known = state.known_version;
    let (what, fix) = match text.parse::<u32>() {
        Ok(version) if version == known => return None,
        Ok(version) if version > known => (
            format!("the state directory was written by a newer keel (format {version}; this one knows {known})"),
            "use that newer keel again, or another --state-dir",
        ),
        _ => (
            "the VERSION of the state directory is damaged".to_owned(),
            "if nothing else wrote there: restore it with `echo 1 > VERSION` in that directory, or start with another \
             --state-dir",
        ),
    };
    let shown: String = text.chars().take(40).collect();
    Some(
        Finding::new(Error, "state-version", "state", what).seen(format!("{}/VERSION: {shown:?}", state.path)).fix(fix),
    )
}

fn mode(state: &StateDir) -> Option<Finding> {
    // Others may pass through it, so that a service's own user reaches its release; they may not list or write it.
    (state.mode & 0o066 != 0).then(|| {
        Finding::new(Warning, "state-mode", "state", "others may read or write the state directory")
            .seen(format!("its mode is {:04o} ({})", state.mode, state.path))
            .fix(format!("chmod go-rw {}", state.path))
    })
}

fn in_memory(state: &StateDir) -> Option<Finding> {
    let kind = state.in_memory.as_ref()?;
    let what = "the state directory lies in memory: revisions, releases and the journal are gone after a reboot";
    Some(
        Finding::new(Warning, "state-in-memory", "state", what)
            .seen(format!("{} is on {kind} (statfs(2))", state.path))
            .fix("keel up FILE --state-dir /var/lib/keel/NAME, or another folder on a disk"),
    )
}

fn full(state: &StateDir) -> Option<Finding> {
    let (total, free) = state.room_bytes?;
    let little = free < LEAST_FREE_BYTES.min(total / 10);
    little.then(|| {
        let severity = if free < (1 << 20) { Error } else { Warning };
        let what = format!("the disk of the state directory is nearly full: {} are free", bytes(free));
        Finding::new(severity, "disk-full", "state", what)
            .seen(format!("{} of {} at {} (statvfs(3))", bytes(free), bytes(total), state.path))
            .fix(format!("find what takes it: du -xh {} | sort -h | tail", state.path))
            .fix("smaller `[logs] size`, `[journal] size` or `deploy = { keep = … }` in the stack file")
    })
}

fn inodes(state: &StateDir) -> Option<Finding> {
    let (total, free) = state.inodes.filter(|(total, _)| *total > 0)?;
    (free < total / 50).then(|| {
        Finding::new(Warning, "inodes", "state", "the disk of the state directory has hardly any files left to give")
            .seen(format!("{free} of {total} inodes are free at {} (statvfs(3))", state.path))
            .fix("remove what has many small files, or put the state directory on another disk")
    })
}

fn set_aside(state: &StateDir) -> Option<Finding> {
    (!state.set_aside.is_empty()).then(|| {
        let what =
            format!("{} set aside", counted(state.set_aside.len() as u64, "damaged file was", "damaged files were"));
        let mut finding = Finding::new(Advice, "set-aside", "state", what);
        for name in &state.set_aside {
            finding = finding.seen(format!("{}/{name}", state.path));
        }
        finding.fix("look whether the disk is sound (dmesg), then remove what you do not need any more")
    })
}

fn releases(state: &StateDir) -> Option<Finding> {
    let (total, free) = state.room_bytes?;
    let all: u64 = state.releases.iter().map(|folder| folder.size_bytes).sum();
    (all > total / 4 && all > free).then(|| {
        let what = format!("releases take {}, more than is free", bytes(all));
        let mut finding = Finding::new(Warning, "releases", "state", what);
        for folder in &state.releases {
            let (count, size) = (counted(folder.count, "release", "releases"), bytes(folder.size_bytes));
            finding = finding.seen(format!("{}: {count}, {size} ({}/releases)", folder.service, state.path));
        }
        finding.fix("`deploy = { keep = 2 }` for that service, applied; the next deploy removes what is beyond it")
    })
}

fn secrets(state: &StateDir) -> Option<Finding> {
    let (secrets, exported) = state.secrets.filter(|(secrets, _)| *secrets > 0)?;
    (!exported).then(|| {
        let what = format!("{} can be read only with a key that is not there", counted(secrets, "secret", "secrets"));
        Finding::new(Error, "secrets-key", "secrets", what)
            .seen(format!("{}/secrets holds them, and no key file was found where it belongs", state.path))
            .fix("put the key back, or set the secrets again: keel secret set NAME")
    })
}

fn runtime(state: &StateDir) -> Option<Finding> {
    let runtime = state.runtime.as_ref()?;
    let owner = runtime.owner?;
    let wrong = if owner != state.user {
        format!("it belongs to user {owner}, and keel runs as user {}", state.user)
    } else if runtime.mode & 0o077 != 0 {
        format!("its mode is {:04o}, so that others could replace the sockets", runtime.mode)
    } else {
        return None;
    };
    Some(
        Finding::new(Error, "runtime-dir", "state", "the folder of the sockets is not safe to use")
            .seen(format!("{}: {wrong}", runtime.path))
            .fix(format!("chown {} {} && chmod 700 {}", state.user, runtime.path, runtime.path)),
    )
}
