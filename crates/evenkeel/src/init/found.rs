//! What the finders say: services, listeners, routes and notes, still without the form of a file.
//!
//! [`Folder`] reads files of the application's folder and bounds how much; it owns nothing but the path. Names are
//! made valid here, so that no finder can write a file that its own validation refuses.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// The most that is read of any file.
const MAX_BYTES: u64 = 1 << 20;

/// The application's folder.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// This folder.
    pub(super) fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// The beginning of a file, if it can be read.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        let file = fs::File::open(self.0.join(name)).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
    }

    /// Whether there is a file or folder of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    /// Names and sizes of the files in a folder of it, in order of their names.
    pub(super) fn files(&self, below: &str) -> Vec<(String, u64)> {
        let entries = fs::read_dir(self.0.join(below)).into_iter().flatten().flatten();
        let file = |entry: fs::DirEntry| {
            let meta = fs::metadata(entry.path()).ok().filter(fs::Metadata::is_file)?;
            Some((entry.file_name().to_str()?.to_owned(), meta.len()))
        };
        let mut files: Vec<(String, u64)> = entries.filter_map(file).collect();
        files.sort();
        files
    }
}

/// What one finder found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The file that led to it.
    pub(super) source: String,
    /// What it is, in a few words.
    pub(super) what: String,
    /// Bound addresses, by name; without one the default is written.
    pub(super) listeners: BTreeMap<String, Listener>,
    /// Where requests go; without one everything goes to the first service.
    pub(super) routes: Vec<Route>,
    /// The services, the one for clients first.
    pub(super) services: Vec<Service>,
    /// What a reader must know, and what could not be translated.
    pub(super) notes: Vec<String>,
    /// Places whose protection could not be carried over, so that nobody gets in there.
    pub(super) closed: Vec<String>,
}

/// A bound address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listener {
    /// Address and port.
    pub(super) bind: String,
    /// Further keys with their values as they stand in the file.
    pub(super) more: Vec<(&'static str, String)>,
}

impl Listener {
    /// Whether it speaks HTTP, so that routes lead from it.
    pub(super) fn is_http(&self) -> bool {
        !self.has("protocol")
    }

    /// Whether it has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.more.iter().any(|(name, _)| *name == key)
    }
}

/// A match and the service it leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    /// What stands above it as a comment.
    pub(super) comments: Vec<String>,
    /// A listener's name.
    pub(super) listener: Option<String>,
    /// A host.
    pub(super) host: Option<String>,
    /// A path.
    pub(super) path: String,
    /// A service's name; empty where the route leads elsewhere.
    pub(super) service: String,
    /// Further keys with their values as they stand in the file.
    pub(super) more: Vec<(&'static str, String)>,
}

/// A service.
#[derive(Debug)]
pub(super) struct Service {
    /// Its name.
    pub(super) name: String,
    /// What stands above it as a comment.
    pub(super) comments: Vec<String>,
    /// Where its instances come from.
    pub(super) source: Source,
    /// Environment.
    pub(super) env: BTreeMap<String, String>,
    /// How an instance is chosen; `None` for the default.
    pub(super) balance: Option<&'static str>,
    /// Further keys with their values as they stand in the file.
    pub(super) more: Vec<(&'static str, String)>,
    /// Path of a check that is known to exist.
    pub(super) check: Option<String>,
    /// Written as a comment: it needs a decision before it can run.
    pub(super) asleep: bool,
    /// Its answers are compressed.
    pub(super) compress: bool,
}

/// Where instances come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A command.
    Run(Vec<String>),
    /// Addresses and weights.
    Instances(Vec<(String, u32)>),
    /// A folder of files, and the one that answers for paths without any.
    Files(String, Option<&'static str>),
    /// The edge's own answer.
    Page(Page),
}

/// An answer of the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Status code.
    pub(super) status: u16,
    /// Body.
    pub(super) text: String,
    /// What it is, where it is no plain text.
    pub(super) content_type: Option<String>,
}

impl Service {
    /// A service that runs this command.
    pub(super) fn run(name: &str, command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self::of(name, Source::Run(command))
    }

    /// A service that serves this folder.
    pub(super) fn files(dir: &str, fallback: Option<&'static str>) -> Self {
        Self::of("web", Source::Files(dir.to_owned(), fallback))
    }

    /// A service of these addresses.
    pub(super) fn fixed(name: &str, instances: Vec<(String, u32)>) -> Self {
        Self::of(name, Source::Instances(instances))
    }

    /// A service that is an answer.
    pub(super) fn page(name: &str, page: Page) -> Self {
        Self::of(name, Source::Page(page))
    }

    fn of(name: &str, source: Source) -> Self {
        Self {
            name: name.to_owned(),
            comments: Vec::new(),
            source,
            env: BTreeMap::new(),
            balance: None,
            more: Vec::new(),
            check: None,
            asleep: false,
            compress: false,
        }
    }

    /// With a comment above it.
    pub(super) fn comment(mut self, text: impl Into<String>) -> Self {
        self.comments.push(text.into());
        self
    }

    /// With a variable.
    pub(super) fn env(mut self, key: &str, value: &str) -> Self {
        self.env.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With a check of this path.
    pub(super) fn check(mut self, path: &str) -> Self {
        self.check = Some(path.to_owned());
        self
    }
}

/// `text` as a name of the stack file: lower-case letters, digits and hyphens, a letter first, at most 40.
pub(super) fn name(text: &str, default: &str) -> String {
    let mut name = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_lowercase() || (c.is_ascii_digit() && !name.is_empty()) {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        if name.len() == 40 {
            break;
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { default.to_owned() } else { name.to_owned() }
}
