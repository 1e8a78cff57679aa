//! Units of systemd that start `keel up`: found in the folders where systemd looks, drop-ins included.

use std::{
    fs,
    path::{Path, PathBuf},
};

use evenkeel_core::doctor::{Unit, UnitSetting};

use crate::{failure::Failure, unit};

/// Where systemd looks for a system's units, the most important first (systemd.unit(5)).
const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The units with what is wrong with them, and the files that were found to start `keel up`.
pub(super) fn read(named: Option<&Path>) -> Result<(Vec<Unit>, Vec<PathBuf>), Failure> {
    let mut texts: Vec<(PathBuf, String)> = Vec::new();
    if let Some(path) = named {
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::usage("the unit cannot be read").at_path(path).because(error).fix("name a unit file of systemd")
        })?;
        if !starts_keel(&text) {
            return Err(Failure::usage("this unit does not start `keel up`")
                .at_path(path)
                .because("none of its `ExecStart=` lines has both words")
                .fix("name the unit that does: grep -l 'keel.* up' /etc/systemd/system/*.service"));
        }
        texts.push((path.to_owned(), with_drop_ins(path, text, &[])));
    } else {
        texts.extend(find(&FOLDERS.map(PathBuf::from)));
    }
    let units = texts.iter().map(|(path, text)| judged(path, text)).collect();
    Ok((units, texts.into_iter().map(|(path, _)| path).collect()))
}

fn judged(path: &Path, text: &str) -> Unit {
    let settings = unit::findings(text).into_iter().map(|found| UnitSetting {
        key: found.key.to_owned(),
        is: found.is,
        should: found.should.to_owned(),
        why: found.why.to_owned(),
    });
    Unit { path: path.display().to_string(), settings: settings.collect() }
}

fn starts_keel(text: &str) -> bool {
    text.lines().map(str::trim).filter_map(|line| line.strip_prefix("ExecStart=")).any(|command| {
        let mut words = command.split_whitespace();
        let keel =
            words.next().is_some_and(|program| program.rsplit(['/', '@', '-', '+', '!', ':']).next() == Some("keel"));
        keel && words.any(|word| word == "up")
    })
}

fn find(folders: &[PathBuf]) -> Vec<(PathBuf, String)> {
    let mut found: Vec<(PathBuf, String)> = Vec::new();
    for folder in folders {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "service")) {
            // A unit of the same name further up hides this one; so does a second name of the same folder.
            let hidden = found.iter().any(|(known, _)| known.file_name() == path.file_name());
            let text = fs::read_to_string(&path).unwrap_or_default();
            if !hidden && starts_keel(&text) {
                let text = with_drop_ins(&path, text, folders);
                found.push((path, text));
            }
        }
    }
    found
}

/// The unit's text and, behind it, that of its drop-ins: a later setting overrides.
fn with_drop_ins(path: &Path, mut text: String, folders: &[PathBuf]) -> String {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return text };
    let own = path.parent().map(Path::to_owned).into_iter();
    let mut parts: Vec<PathBuf> = own
        .chain(folders.iter().cloned())
        .flat_map(|folder| fs::read_dir(folder.join(format!("{name}.d"))).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    parts.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    parts.dedup();
    for part in parts {
        text.push('\n');
        text.push_str(&fs::read_to_string(part).unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_start_keel_are_found_with_their_drop_ins() {
        let temp = tempfile::tempdir().unwrap();
        let (etc, lib) = (temp.path().join("etc"), temp.path().join("lib"));
        for folder in [&etc, &lib, &etc.join("shop.service.d")] {
            fs::create_dir_all(folder).unwrap();
        }
        let shop = "[Service]\nExecStart=/usr/bin/keel up /etc/keel/shop.toml\nKillMode=process\n";
        fs::write(etc.join("shop.service"), shop).unwrap();
        fs::write(lib.join("shop.service"), "[Service]\nExecStart=/opt/keel up\n").unwrap();
        fs::write(lib.join("other.service"), "[Service]\nExecStart=/usr/bin/steel up\n").unwrap();
        fs::write(etc.join("shop.service.d/kill.conf"), "[Service]\nKillMode=control-group\n").unwrap();
        let found = find(&[etc.clone(), lib]);
        assert_eq!(found.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(), [etc.join("shop.service")]);
        let unit = judged(&found[0].0, &found[0].1);
        assert!(unit.settings.iter().any(|setting| setting.key == "KillMode"), "{unit:?}");
        assert!(read(Some(&temp.path().join("none.service"))).is_err());
    }

    #[test]
    fn a_command_line_is_told_from_its_like() {
        for (line, starts) in [
            ("ExecStart=/usr/local/bin/keel up /etc/keel.toml", true),
            ("ExecStart=-/opt/keel --state-dir /x up", true),
            ("ExecStart=/usr/bin/keel validate x", false),
            ("ExecStartPre=/usr/bin/keel up", false),
        ] {
            assert_eq!(starts_keel(line), starts, "{line}");
        }
    }
}
