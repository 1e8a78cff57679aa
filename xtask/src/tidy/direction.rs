//! Who may use whom: `keel → {guard, node, edge} → core` and `sim → core`.
//!
//! Guard, node and edge never see each other's code, for the code or for its tests; the applications know
//! nothing of Evenkeel; core and guard have closed lists of what they may use from outside. A crate that the
//! table does not know is a finding, so that a new one is a decision. `#[path]` and `include!` would reach
//! across crates behind cargo's back and are refused too.

use super::lexer::lex;
use super::{File, Finding, Tree};
use crate::metadata::{Kind, Package};

/// A crate and the crates of this workspace that it may use, for whatever purpose.
struct Place {
    name: &'static str,
    may_use: &'static [&'static str],
}

const CORE: &str = "evenkeel-core";
const GUARD: &str = "evenkeel-guard";

const PLACES: [Place; 7] = [
    Place { name: CORE, may_use: &[] },
    Place { name: GUARD, may_use: &[CORE] },
    Place { name: "evenkeel-node", may_use: &[CORE] },
    Place { name: "evenkeel-edge", may_use: &[CORE] },
    Place { name: "evenkeel-sim", may_use: &[CORE] },
    Place { name: "evenkeel", may_use: &[CORE, GUARD, "evenkeel-node", "evenkeel-edge", APPS] },
    Place { name: "xtask", may_use: &[] },
];

/// Stands for every package below `apps/`.
const APPS: &str = "apps/";

/// What core may use: nothing here has a clock, a socket, a file, a thread or randomness of its own.
const CORE_MAY_USE: [&str; 6] = ["schemars", "serde", "serde_json", "strsim", "thiserror", "toml"];
/// What core's tests may use besides.
const CORE_TESTS_MAY_USE: [&str; 2] = ["insta", "proptest"];
/// The guard is the parent of everything: what it links must be small enough to be trusted whole.
const GUARD_MAY_USE: [&str; 1] = ["rustix"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &tree.packages {
        findings.extend(inside(&tree.packages, package));
        findings.extend(outside(&tree.packages, package));
    }
    findings.extend(tree.files.iter().filter(|file| file.is_source()).flat_map(reaching_across));
    findings
}

/// Dependencies on other packages of the workspace.
fn inside(packages: &[Package], package: &Package) -> Vec<Finding> {
    let used = package.dependencies.iter().filter_map(|dependency| ours(packages, &dependency.name));
    if is_app(package) {
        let refused = used.filter(|used| !is_app(used));
        return refused.map(|used| finding(package, format!("an application must not use {}", used.name))).collect();
    }
    let Some(place) = PLACES.iter().find(|place| place.name == package.name) else {
        let message = "this crate has no place yet: say whom it may use in xtask/src/tidy/direction.rs";
        return vec![finding(package, message.to_owned())];
    };
    let allowed = |used: &Package| place.may_use.contains(&if is_app(used) { APPS } else { used.name.as_str() });
    let refused = used.filter(|used| !allowed(used));
    refused.map(|used| finding(package, format!("{} must not use {}", package.name, used.name))).collect()
}

/// Dependencies of core and guard on packages of others.
fn outside(packages: &[Package], package: &Package) -> Vec<Finding> {
    let foreign = package.dependencies.iter().filter(|dependency| ours(packages, &dependency.name).is_none());
    let refused = foreign.filter(|dependency| {
        let name = dependency.name.as_str();
        match (package.name.as_str(), dependency.kind) {
            (CORE, Kind::Dev) => !CORE_MAY_USE.contains(&name) && !CORE_TESTS_MAY_USE.contains(&name),
            (CORE, Kind::Normal) => !CORE_MAY_USE.contains(&name),
            (CORE, Kind::Build) => true,
            (GUARD, Kind::Normal | Kind::Build) => !GUARD_MAY_USE.contains(&name),
            _ => false,
        }
    });
    let message = |name: &str| format!("{name} is not on the list of what {} may use", package.name);
    refused.map(|dependency| finding(package, message(&dependency.name))).collect()
}

fn reaching_across(file: &File) -> Vec<Finding> {
    let tokens = lex(&file.text);
    let mut findings = Vec::new();
    for window in tokens.windows(4) {
        let path = window[0].is("#") && window[1].is("[") && window[2].is("path") && window[3].is("=");
        let include = window[0].is("include") && window[1].is("!");
        if path || include {
            findings.push(file.at(window[0].line, "code is reached through its crate, never by the path of a file"));
        }
    }
    findings
}

fn ours<'a>(packages: &'a [Package], name: &str) -> Option<&'a Package> {
    packages.iter().find(|package| package.name == name)
}

fn is_app(package: &Package) -> bool {
    package.folder.parent().is_some_and(|parent| parent.ends_with("apps"))
}

fn finding(package: &Package, message: String) -> Finding {
    let parts: Vec<_> = package.folder.iter().map(std::ffi::OsStr::to_string_lossy).collect();
    let folder = parts[parts.len().saturating_sub(2)..].join("/");
    Finding { path: format!("{folder}/Cargo.toml"), line: None, message }
}

#[cfg(test)]
mod tests {
    use super::super::tests::tree_of;
    use super::*;
    use crate::metadata::Dependency;

    fn package(folder: &str, name: &str, uses: &[(&str, Kind)]) -> Package {
        let dependency = |(name, kind): &(&str, Kind)| Dependency { name: (*name).to_owned(), kind: *kind };
        Package {
            name: name.to_owned(),
            folder: format!("/w/{folder}").into(),
            dependencies: uses.iter().map(dependency).collect(),
            ..Package::default()
        }
    }

    /// The workspace as it should be, with one package replaced or added.
    fn findings(changed: &Package) -> Vec<Finding> {
        let uses_core = [(CORE, Kind::Normal)];
        let mut packages = vec![
            package("crates/evenkeel-core", CORE, &[("serde", Kind::Normal), ("proptest", Kind::Dev)]),
            package("crates/evenkeel-guard", GUARD, &[(CORE, Kind::Normal), ("rustix", Kind::Normal)]),
            package("crates/evenkeel-node", "evenkeel-node", &uses_core),
            package("crates/evenkeel-edge", "evenkeel-edge", &[(CORE, Kind::Normal), ("tokio", Kind::Normal)]),
            package("crates/evenkeel-sim", "evenkeel-sim", &uses_core),
            package("apps/shop", "evenkeel-shop", &[("axum", Kind::Normal)]),
            package("xtask", "xtask", &[]),
        ];
        packages.retain(|package| package.name != changed.name);
        packages.push(changed.clone());
        check(&Tree { files: Vec::new(), packages })
    }

    #[test]
    fn the_design_passes() {
        let uses = [CORE, GUARD, "evenkeel-node", "evenkeel-edge", "evenkeel-shop", "clap"];
        let binary = package("crates/evenkeel", "evenkeel", &uses.map(|name| (name, Kind::Normal)));
        assert_eq!(findings(&binary), []);
    }

    #[test]
    fn guard_node_and_edge_never_see_each_other() {
        let three = [GUARD, "evenkeel-node", "evenkeel-edge"];
        for name in three {
            for other in three.into_iter().filter(|other| *other != name) {
                for kind in [Kind::Normal, Kind::Build, Kind::Dev] {
                    let found = findings(&package(&format!("crates/{name}"), name, &[(other, kind)]));
                    assert_eq!(found.len(), 1, "{name} uses {other} as {kind:?}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_points_upwards() {
        for (folder, name, used) in [
            ("crates/evenkeel-core", CORE, GUARD),
            ("crates/evenkeel-core", CORE, "evenkeel-shop"),
            ("crates/evenkeel-sim", "evenkeel-sim", "evenkeel-edge"),
            ("crates/evenkeel-edge", "evenkeel-edge", "evenkeel-shop"),
            ("apps/shop", "evenkeel-shop", CORE),
            ("xtask", "xtask", CORE),
        ] {
            let found = findings(&package(folder, name, &[(used, Kind::Normal)]));
            assert_eq!(found.len(), 1, "{name} uses {used}: {found:?}");
            assert_eq!(found[0].path.rsplit('/').next(), Some("Cargo.toml"));
        }
    }

    #[test]
    fn core_and_guard_have_closed_lists() {
        for name in ["tokio", "mio", "rustix", "libc", "rand", "getrandom", "chrono", "time", "jiff"] {
            for kind in [Kind::Normal, Kind::Build, Kind::Dev] {
                let found = findings(&package("crates/evenkeel-core", CORE, &[(name, kind)]));
                assert_eq!(found.len(), 1, "core uses {name} as {kind:?}");
            }
        }
        assert_eq!(findings(&package("crates/evenkeel-core", CORE, &[("proptest", Kind::Normal)])).len(), 1);
        assert_eq!(findings(&package("crates/evenkeel-guard", GUARD, &[("tokio", Kind::Normal)])).len(), 1);
        assert_eq!(findings(&package("crates/evenkeel-guard", GUARD, &[("tempfile", Kind::Dev)])), []);
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        assert_eq!(findings(&package("crates/evenkeel-new", "evenkeel-new", &[])).len(), 1);
        assert_eq!(findings(&package("apps/press", "evenkeel-press", &[])), []);
    }

    #[test]
    fn a_file_of_another_crate_is_not_reached_by_path() {
        let path = "crates/evenkeel-node/src/lib.rs";
        assert_eq!(check(&tree_of(path, "#[path = \"../../evenkeel-edge/src/http.rs\"]\nmod http;")).len(), 1);
        assert_eq!(check(&tree_of(path, "include!(\"../../evenkeel-edge/src/http.rs\");")).len(), 1);
        assert_eq!(check(&tree_of(path, "let page = include_str!(\"page.html\"); // include!(x)")), []);
    }
}
