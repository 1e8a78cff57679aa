//! What the product is allowed to be built from: licences, sources, banned crates, single versions.
//!
//! The policy is `deny.toml`, read here and by `cargo deny` alike, so there is one list and not two. This
//! check needs no tool but cargo and takes a second; `cargo deny check`, where installed, adds advisories.
//! A key of that file which this reader does not know is left to `cargo deny`.

mod policy;
mod spdx;

use std::path::Path;

use crate::metadata::{self, Graph, Package};
use policy::Policy;

/// Checks every package that the workspace builds. `Ok` says how many there were, `Err` lists the problems,
/// one a line.
pub(crate) fn run(root: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(root.join("deny.toml")).map_err(|error| format!("deny.toml: {error}"))?;
    let policy = Policy::parse(&text)?;
    let graph = metadata::resolved(root, &policy.targets)?;
    let problems = check(&policy, &graph);
    if problems.is_empty() { Ok(format!("{} packages", graph.packages.len())) } else { Err(problems.join("\n")) }
}

fn check(policy: &Policy, graph: &Graph) -> Vec<String> {
    let mut problems = Vec::new();
    for package in &graph.packages {
        problems.extend(licence(policy, package));
        problems.extend(source(policy, package));
        if let Some(reason) = policy.banned.get(&package.name) {
            let users = users(graph, package);
            problems.push(format!("{} {} is banned ({reason}); {users}", package.name, package.version));
        }
    }
    for (name, reason) in &policy.single {
        let found: Vec<&Package> = graph.packages.iter().filter(|package| package.name == *name).collect();
        if found.len() > 1 {
            let all: Vec<String> =
                found.iter().map(|package| format!("{} ({})", package.version, users(graph, package))).collect();
            problems.push(format!("{name} is there more than once ({reason}): {}", all.join(", ")));
        }
    }
    problems
}

fn licence(policy: &Policy, package: &Package) -> Option<String> {
    let subject = format!("{} {}", package.name, package.version);
    let Some(expression) = &package.license else {
        return Some(format!("{subject} declares no licence"));
    };
    match spdx::refused(expression, &policy.licences) {
        Ok(refused) if refused.is_empty() => None,
        Ok(refused) => {
            let refused = refused.join(", ");
            Some(format!("{subject} is `{expression}`: {refused} is not allowed in deny.toml"))
        }
        Err(problem) => Some(format!("{subject} declares `{expression}`: {problem}")),
    }
}

fn source(policy: &Policy, package: &Package) -> Option<String> {
    let source = package.source.as_ref()?;
    let known = policy.registries.iter().any(|registry| source == &format!("registry+{registry}"));
    (!known).then(|| format!("{} {} comes from {source}, not from a known registry", package.name, package.version))
}

/// Who depends on a package directly, in words.
fn users(graph: &Graph, package: &Package) -> String {
    let depends = |user: &&Package| graph.edges.iter().any(|(from, to)| *from == user.id && *to == package.id);
    let mut users: Vec<&str> = graph.packages.iter().filter(depends).map(|user| user.name.as_str()).collect();
    users.sort_unstable();
    users.dedup();
    format!("used by {}", if users.is_empty() { "nothing".to_owned() } else { users.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "https://github.com/rust-lang/crates.io-index";

    fn policy() -> Policy {
        let text = format!(
            "graph.targets = [\"x86_64-unknown-linux-gnu\"]
             licenses.allow = [\"MIT\"]
             bans.deny = [{{ crate = \"ring\", reason = \"one provider\" }},
                          {{ crate = \"lib\", deny-multiple-versions = true, reason = \"one copy\" }}]
             sources.allow-registry = [\"{REGISTRY}\"]"
        );
        Policy::parse(&text).expect("well formed")
    }

    fn package(name: &str, version: &str, license: &str) -> Package {
        Package {
            id: format!("{name} {version}"),
            name: name.to_owned(),
            version: version.to_owned(),
            license: Some(license.to_owned()),
            source: Some(format!("registry+{REGISTRY}")),
            ..Package::default()
        }
    }

    fn problems(packages: Vec<Package>, edges: &[(&str, &str)]) -> Vec<String> {
        let edges = edges.iter().map(|(user, used)| ((*user).to_owned(), (*used).to_owned())).collect();
        check(&policy(), &Graph { packages, edges })
    }

    #[test]
    fn allowed_packages_pass() {
        assert_eq!(problems(vec![package("a", "1", "MIT OR GPL-3.0"), package("lib", "1", "MIT")], &[]), [""; 0]);
    }

    #[test]
    fn a_licence_outside_the_list_or_none_at_all_is_refused() {
        let found = problems(vec![package("a", "1", "MIT AND GPL-3.0")], &[]);
        assert_eq!(found, ["a 1 is `MIT AND GPL-3.0`: GPL-3.0 is not allowed in deny.toml"]);
        let found = problems(vec![Package { license: None, ..package("a", "1", "") }], &[]);
        assert_eq!(found, ["a 1 declares no licence"]);
    }

    #[test]
    fn a_banned_crate_is_named_with_its_users() {
        let packages = vec![package("ring", "0.17", "MIT"), package("tls", "2", "MIT")];
        let found = problems(packages, &[("tls 2", "ring 0.17")]);
        assert_eq!(found, ["ring 0.17 is banned (one provider); used by tls"]);
    }

    #[test]
    fn a_second_version_is_refused_only_of_crates_that_must_be_single() {
        let found = problems(vec![package("lib", "1", "MIT"), package("lib", "2", "MIT")], &[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("lib is there more than once (one copy)"), "{found:?}");
        assert_eq!(problems(vec![package("x", "1", "MIT"), package("x", "2", "MIT")], &[]), [""; 0]);
    }

    #[test]
    fn a_git_source_is_refused_and_a_folder_of_ours_is_not() {
        let git = Package { source: Some("git+https://example.com/a".to_owned()), ..package("a", "1", "MIT") };
        let ours = Package { source: None, ..package("b", "1", "MIT") };
        let found = problems(vec![git, ours], &[]);
        assert_eq!(found, ["a 1 comes from git+https://example.com/a, not from a known registry"]);
    }

    #[test]
    fn the_projects_own_policy_bans_what_the_design_bans() {
        let text = std::fs::read_to_string(crate::root().join("deny.toml")).expect("deny.toml is there");
        let policy = Policy::parse(&text).expect("deny.toml is well formed");
        for name in ["ring", "openssl", "openssl-sys", "native-tls"] {
            assert!(policy.banned.contains_key(name), "{name}");
        }
        assert!(policy.single.contains_key("libsqlite3-sys"));
        assert!(!policy.licences.iter().any(|licence| licence.contains("GPL")));
    }
}
