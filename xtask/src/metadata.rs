//! What `cargo metadata` says about packages, reduced to what the checks need.
//!
//! Two views: `declared` is what the manifests of the workspace ask for and needs neither network nor lock
//! file; `resolved` is every package that is really built for the targets given. Values only: no rule lives
//! here.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::steps::cargo;

/// A package.
#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    /// Cargo's own identifier, unique in the graph.
    pub(crate) id: String,
    /// Its name in the registry.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its licence expression (SPDX), if it declares one.
    pub(crate) license: Option<String>,
    /// Where it comes from; nothing for a folder of this workspace.
    pub(crate) source: Option<String>,
    /// The folder of its manifest.
    pub(crate) folder: PathBuf,
    /// What its manifest asks for.
    pub(crate) dependencies: Vec<Dependency>,
}

/// A dependency that a manifest declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// The package's real name, whatever it is renamed to.
    pub(crate) name: String,
    /// What it is needed for.
    pub(crate) kind: Kind,
}

/// What a dependency is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By the code itself.
    Normal,
    /// By the build script.
    Build,
    /// By tests, examples and benches.
    Dev,
}

/// Packages, and which of them depends on which.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// Every package.
    pub(crate) packages: Vec<Package>,
    /// Pairs of identifiers: the first depends on the second.
    pub(crate) edges: Vec<(String, String)>,
}

/// The packages of the workspace with the dependencies that their manifests declare.
pub(crate) fn declared(root: &Path) -> Result<Vec<Package>, String> {
    let metadata = read(root, &["--no-deps"])?;
    packages(&metadata)
}

/// Every package that is built for the targets, with all features on, as the lock file fixes it.
pub(crate) fn resolved(root: &Path, targets: &[String]) -> Result<Graph, String> {
    let mut arguments = vec!["--all-features", "--locked"];
    for target in targets {
        arguments.extend(["--filter-platform", target]);
    }
    graph(&read(root, &arguments)?)
}

fn read(root: &Path, arguments: &[&str]) -> Result<Value, String> {
    let mut command = cargo(root);
    command.args(["metadata", "--format-version", "1"]).args(arguments);
    let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata is not JSON: {error}"))
}

fn graph(metadata: &Value) -> Result<Graph, String> {
    let mut graph = Graph { packages: packages(metadata)?, edges: Vec::new() };
    for node in array(&metadata["resolve"]["nodes"])? {
        for dependency in array(&node["dependencies"])? {
            graph.edges.push((text(&node["id"])?, text(dependency)?));
        }
    }
    Ok(graph)
}

fn packages(metadata: &Value) -> Result<Vec<Package>, String> {
    array(&metadata["packages"])?.iter().map(package).collect()
}

fn package(value: &Value) -> Result<Package, String> {
    let manifest = PathBuf::from(text(&value["manifest_path"])?);
    Ok(Package {
        id: text(&value["id"])?,
        name: text(&value["name"])?,
        version: text(&value["version"])?,
        license: value["license"].as_str().map(str::to_owned),
        source: value["source"].as_str().map(str::to_owned),
        folder: manifest.parent().unwrap_or(Path::new("")).to_path_buf(),
        dependencies: array(&value["dependencies"])?.iter().map(dependency).collect::<Result<_, _>>()?,
    })
}

fn dependency(value: &Value) -> Result<Dependency, String> {
    let kind = match value["kind"].as_str() {
        None => Kind::Normal,
        Some("build") => Kind::Build,
        Some("dev") => Kind::Dev,
        Some(other) => {
            return Err(format!("cargo metadata knows a kind of dependency that this does not: {other}"));
        }
    };
    Ok(Dependency { name: text(&value["name"])?, kind })
}

fn array(value: &Value) -> Result<&Vec<Value>, String> {
    value.as_array().ok_or_else(|| format!("cargo metadata: expected a list, found {value}"))
}

fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("cargo metadata: expected text, found {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_read_with_kinds_and_real_names() {
        let metadata = serde_json::json!({
            "packages": [{
                "id": "a 1", "name": "a", "version": "1.0.0", "license": "MIT", "source": null,
                "manifest_path": "/w/crates/a/Cargo.toml",
                "dependencies": [
                    { "name": "b", "rename": "innocent", "kind": null },
                    { "name": "c", "kind": "dev" },
                    { "name": "d", "kind": "build" },
                ],
            }],
            "resolve": { "nodes": [{ "id": "a 1", "dependencies": ["b 1"] }] },
        });
        let graph = graph(&metadata).expect("well formed");
        let package = &graph.packages[0];
        assert_eq!(package.folder, Path::new("/w/crates/a"));
        assert_eq!(package.dependencies[0], Dependency { name: "b".to_owned(), kind: Kind::Normal });
        assert_eq!(package.dependencies[1].kind, Kind::Dev);
        assert_eq!(package.dependencies[2].kind, Kind::Build);
        assert_eq!(graph.edges, [("a 1".to_owned(), "b 1".to_owned())]);
    }

    #[test]
    fn an_unexpected_shape_is_an_error_not_an_empty_answer() {
        assert!(packages(&serde_json::json!({})).is_err());
        assert!(graph(&serde_json::json!({ "packages": [] })).is_err());
    }
}
