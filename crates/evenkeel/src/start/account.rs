//! The user that the edge runs as (passwd(5)).

use crate::failure::Failure;

/// The overflow user of every Linux system, where `nobody` has no entry.
const NOBODY: (u32, u32) = (65_534, 65_534);

/// User and group of the edge: `None` where `keel` is not root and the edge runs as whoever started it.
pub(super) fn edge_user(wanted: Option<&str>) -> Result<Option<(u32, u32)>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let Some(name) = wanted else {
        return Ok(Some(find(&accounts, "nobody").unwrap_or(NOBODY)));
    };
    find(&accounts, name).map(Some).ok_or_else(|| {
        Failure::usage(format!("there is no user `{name}`"))
            .at("[edge] user")
            .because("/etc/passwd has no such entry")
            .fix(format!("make it (`useradd --system {name}`), or remove the key: then it is `nobody`"))
    })
}

fn find(accounts: &str, name: &str) -> Option<(u32, u32)> {
    let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn entries_are_found_by_their_whole_name() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n";
        assert_eq!(find(accounts, "nobody"), Some((65_534, 65_533)));
        assert_eq!(find(accounts, "nobod"), None);
    }
}
