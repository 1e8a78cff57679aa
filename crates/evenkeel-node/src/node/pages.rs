//! Pages: what the edge answers by itself, read from their files when a revision is put in force.
//!
//! A page is the last resort, so it never depends on a disk later: its body is part of the snapshot. At a start,
//! where a file that is gone must not keep a stack down, the body of the last snapshot serves, and a problem says so.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::Path,
};

use evenkeel_core::{
    snapshot::{self, Snapshot},
    stack::{self, Stack},
};

use super::Node;
use crate::NodeError;

/// Bodies by service.
pub(super) type Pages = BTreeMap<String, snapshot::Page>;

/// Reads the pages of a stack whose file lies in `dir`.
pub(super) fn read_all(stack: &Stack, dir: &Path) -> Result<Pages, NodeError> {
    let pages = stack.services.iter().filter_map(|(name, service)| Some((name, service.page.as_ref()?)));
    pages.map(|(name, page)| Ok((name.clone(), read_one(name, page, dir)?))).collect()
}

/// The same at a start: what cannot be read is taken from the last snapshot, or says itself what is missing. Returns
/// with the pages what is wrong with them.
pub(super) fn read_or_recall(stack: &Stack, dir: &Path, former: Option<&Snapshot>) -> (Pages, Option<String>) {
    let mut pages = Pages::new();
    let mut problem = None;
    for (name, page) in stack.services.iter().filter_map(|(name, service)| Some((name, service.page.as_ref()?))) {
        let read = read_one(name, page, dir).unwrap_or_else(|error| {
            problem = Some(error.split().0);
            let former = former.and_then(|former| former.services.iter().find(|service| service.name == *name));
            former.and_then(|service| service.page.clone()).unwrap_or_else(|| snapshot::Page {
                status: page.status,
                content_type: "text/plain; charset=utf-8".to_owned(),
                body: String::new(),
            })
        });
        pages.insert(name.clone(), read);
    }
    (pages, problem)
}

fn read_one(service: &str, page: &stack::Page, dir: &Path) -> Result<snapshot::Page, NodeError> {
    let body = match (&page.text, &page.file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => read_file(&dir.join(file)).map_err(|why| NodeError::Page {
            service: service.to_owned(),
            path: dir.join(file),
            why,
        })?,
        (None, None) => unreachable!("parsing accepts a page with a file or a text only"),
    };
    Ok(snapshot::Page { status: page.status, content_type: page.content_type(), body })
}

fn read_file(path: &Path) -> Result<String, String> {
    // Opening a pipe would wait for whoever writes into it.
    if !fs::metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err("it is no file".to_owned());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(stack::Page::MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > stack::Page::MOST_BYTES {
        return Err("it is larger than 64 KiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

impl Node {
    /// From now on these are answered.
    pub(super) fn take_pages(&mut self, pages: Pages) {
        self.pages = pages;
        self.problems.remove("pages");
    }

    /// Adds to a compiled service what the stack file alone does not say.
    pub(super) fn dress(&self, service: snapshot::Service) -> snapshot::Service {
        let page = self.pages.get(&service.name).cloned();
        snapshot::Service { away: self.is_away(&service.name), page, ..service }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(page: &str) -> Stack {
        stack::parse(&format!("[stack]\nname = \"t\"\n[services.sorry]\npage = {page}\n"), "t.toml").unwrap()
    }

    #[test]
    fn a_page_is_read_with_its_kind_and_refused_where_it_cannot_be() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("sorry.html"), "<h1>Back soon</h1>").unwrap();
        let html = stack("{ file = \"sorry.html\" }");
        let pages = read_all(&html, temp.path()).unwrap();
        let page = &pages["sorry"];
        assert_eq!((page.status, page.content_type.as_str()), (503, "text/html; charset=utf-8"));
        assert_eq!(page.body, "<h1>Back soon</h1>");
        let text = read_all(&stack("{ text = \"no\", status = 404 }"), temp.path()).unwrap();
        assert_eq!((text["sorry"].status, text["sorry"].body.as_str()), (404, "no"));

        fs::write(temp.path().join("sorry.html"), vec![b'x'; (64 << 10) + 1]).unwrap();
        let error = read_all(&html, temp.path()).unwrap_err().to_string();
        assert!(error.contains("sorry.html") && error.contains("larger than 64 KiB"), "{error}");
        fs::write(temp.path().join("sorry.html"), [0xff]).unwrap();
        let pipe = temp.path().join("pipe.html");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let error = read_all(&stack("{ file = \"pipe.html\" }"), temp.path()).unwrap_err().to_string();
        assert!(error.contains("no file"), "{error}");
        assert!(read_all(&html, temp.path()).unwrap_err().to_string().contains("UTF-8"));
    }

    #[test]
    fn at_a_start_the_last_snapshot_helps_out() {
        let temp = tempfile::tempdir().unwrap();
        let gone = stack("{ file = \"gone.html\" }");
        let (pages, problem) = read_or_recall(&gone, temp.path(), None);
        assert_eq!((pages["sorry"].status, pages["sorry"].body.as_str()), (503, ""));
        assert!(problem.unwrap().contains("gone.html"));
        let page = snapshot::Page { status: 503, content_type: "text/html".to_owned(), body: "kept".to_owned() };
        let service = stack::compile_service("sorry", &gone.services["sorry"], Vec::new());
        let former = Snapshot {
            format: snapshot::FORMAT,
            version: 1,
            revision: 1,
            stack: "t".to_owned(),
            threads: 1,
            listeners: Vec::new(),
            routes: Vec::new(),
            services: vec![snapshot::Service { page: Some(page), ..service }],
        };
        assert_eq!(read_or_recall(&gone, temp.path(), Some(&former)).0["sorry"].body, "kept");
    }
}
