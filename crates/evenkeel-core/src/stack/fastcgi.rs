//! `fastcgi`: instances that are asked by FastCGI, as PHP's process manager is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::snapshot;

/// `fastcgi = { root = "/srv/www" }`: the edge asks instances by FastCGI 1.0 in place of HTTP. Each request has a
/// connection of its own, so that no worker of PHP is kept busy by an idle one. Scripts are told the length of a body, so
/// one in chunks is gathered first, up to 1 MiB; a larger one gets 411.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FastCgi {
    /// Folder of the scripts, as the instance sees it: `DOCUMENT_ROOT`. With `run`, a relative one counts from the folder
    /// in which the instance runs, so that each release has its own scripts; they are told whole paths.
    pub root: String,
    /// Script below `root` for every path that names none, as front controllers want it.
    #[serde(default = "FastCgi::default_index")]
    pub index: String,
    /// Ending of scripts. What follows it in a path is `PATH_INFO`.
    #[serde(default = "FastCgi::default_ending")]
    pub ending: String,
    /// Folders that have an index of their own, as `["/wp-admin/"]`: the edge does not see the files.
    #[serde(default)]
    pub folders: Vec<String>,
    /// More parameters, as `{ APP_ENV = "production" }`. They replace what the edge would say.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
}

impl FastCgi {
    fn default_index() -> String {
        "index.php".to_owned()
    }

    fn default_ending() -> String {
        ".php".to_owned()
    }

    /// What the edge is told.
    pub(super) fn compile(&self) -> snapshot::FastCgi {
        snapshot::FastCgi {
            root: self.root.trim_end_matches('/').to_owned(),
            index: self.index.clone(),
            ending: self.ending.clone(),
            folders: self.folders.clone(),
            params: self.params.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    /// Whether each instance has scripts of its own, below the folder in which it runs.
    pub fn is_relative(&self) -> bool {
        !self.root.starts_with('/')
    }

    /// Everything that is wrong with it: the key, and what.
    pub(super) fn faults(&self, run: bool) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let climbs = |path: &str| path.split('/').any(|part| part == "..");
        if self.root.is_empty() || climbs(&self.root) || self.root.contains('\0') {
            faults.push(("root", format!("`{}` is not the path of a folder", self.root)));
        } else if self.is_relative() && !run {
            faults.push(("root", format!("`{}` is not an absolute path", self.root)));
        }
        let is_script = self.index.ends_with(&self.ending) && self.index.len() > self.ending.len();
        if !is_script || self.index.starts_with('/') || climbs(&self.index) || self.index.contains('\0') {
            faults.push(("index", format!("`{}` is not a script below `root` that ends with `ending`", self.index)));
        }
        if !self.ending.starts_with('.') || self.ending.len() < 2 || self.ending.contains(['/', '\0']) {
            faults.push(("ending", format!("`{}` is not an ending, as `.php`", self.ending)));
        }
        for folder in &self.folders {
            if !folder.starts_with('/')
                || !folder.ends_with('/')
                || folder.len() < 3
                || folder.contains("//")
                || climbs(folder)
            {
                faults.push(("folders", format!("`{folder}` is not the path of a folder, as `/wp-admin/`")));
            }
        }
        for (name, value) in &self.params {
            let fits =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            if !fits || value.contains('\0') {
                faults.push(("params", format!("`{name}` cannot be a parameter: capitals, digits and underscores")));
            }
            if name == "HTTP_PROXY" {
                faults.push((
                    "params",
                    "`HTTP_PROXY` would be taken for the proxy of the script's own requests".to_owned(),
                ));
            }
        }
        faults
    }
}
