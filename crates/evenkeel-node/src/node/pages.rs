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
    stack::{self, ErrorPage, Stack},
};

use super::Node;
use crate::NodeError;

/// Bodies by service; those of error pages by their place in the stack file, which no service's name can be.
pub(super) type Pages = BTreeMap<String, snapshot::Page>;

/// Reads the pages of a stack whose file lies in `dir`.
pub(super) fn read_all(stack: &Stack, dir: &Path) -> Result<Pages, NodeError> {
    wanted(stack).into_iter().map(|(name, page)| Ok((name.clone(), read_one(&name, &page, dir)?))).collect()
}

/// The pages of a stack that are not fully known from the stack file, and where each belongs.
fn wanted(stack: &Stack) -> Vec<(String, stack::Page)> {
    let pages = stack.services.iter().filter_map(|(name, service)| Some((name.clone(), service.page.clone()?)));
    let of_listeners = stack.listeners.iter().map(|(name, listener)| (place_of_listener(name), &listener.error_pages));
    let of_services = stack.services.iter().map(|(name, service)| (place_of_service(name), &service.error_pages));
    let errors = of_listeners.chain(of_services).flat_map(|(place, pages)| {
        pages
            .iter()
            .filter(|(_, page)| page.file.is_some())
            .filter_map(move |(key, page)| Some((place_of_page(&place, ErrorPage::statuses(key)?), page.page())))
    });
    pages.chain(errors).collect()
}

fn place_of_listener(name: &str) -> String {
    format!("listeners.{name}")
}

fn place_of_service(name: &str) -> String {
    format!("services.{name}")
}

fn place_of_page(place: &str, (first, last): (u16, u16)) -> String {
    format!("{place}.error_pages.{first}-{last}")
}

/// The page that a former snapshot has at this place.
fn recall(former: &Snapshot, place: &str) -> Option<snapshot::Page> {
    if let Some(page) = former.services.iter().find(|service| service.name == place).and_then(|s| s.page.clone()) {
        return Some(page);
    }
    let of_listeners = former.listeners.iter().map(|l| (place_of_listener(&l.name), &l.error_pages));
    let of_services = former.services.iter().map(|s| (place_of_service(&s.name), &s.answers.error_pages));
    let mut all = of_listeners
        .chain(of_services)
        .flat_map(|(its, pages)| pages.iter().map(move |page| (place_of_page(&its, page.statuses), page)));
    all.find(|(its, _)| its == place).map(|(_, page)| page.page.clone())
}

/// The same at a start: what cannot be read is taken from the last snapshot, or says itself what is missing. Returns
/// with the pages what is wrong with them.
pub(super) fn read_or_recall(stack: &Stack, dir: &Path, former: Option<&Snapshot>) -> (Pages, Option<String>) {
    let mut pages = Pages::new();
    let mut problem = None;
    for (name, page) in wanted(stack) {
        let read = read_one(&name, &page, dir).unwrap_or_else(|error| {
            problem = Some(error.split().0);
            former.and_then(|former| recall(former, &name)).unwrap_or_else(|| snapshot::Page {
                status: page.status,
                content_type: "text/plain; charset=utf-8".to_owned(),
                body: String::new(),
            })
        });
        pages.insert(name, read);
    }
    (pages, problem)
}

fn read_one(service: &str, page: &stack::Page, dir: &Path) -> Result<snapshot::Page, NodeError> {
    let body = match (&page.text, &page.file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => read_page(&dir.join(file)).map_err(|why| NodeError::Page {
            service: service.to_owned(),
            path: dir.join(file),
            why,
        })?,
        (None, None) => unreachable!("parsing accepts a page with a file or a text only"),
    };
    Ok(snapshot::Page { status: page.status, content_type: page.content_type(), body })
}

/// The body that a page's file has.
///
/// # Errors
/// Why it cannot be answered with, in words: it is not there, no file, too large or not UTF-8.
pub fn read_page(path: &Path) -> Result<String, String> {
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
        let mut answers = service.answers;
        self.fill_in(&place_of_service(&service.name), &mut answers.error_pages);
        snapshot::Service { away: self.is_away(&service.name), page, answers, ..service }
    }

    /// The same for a listener.
    pub(super) fn dress_listener(&self, listener: &mut snapshot::Listener) {
        self.fill_in(&place_of_listener(&listener.name), &mut listener.error_pages);
    }

    fn fill_in(&self, place: &str, pages: &mut [snapshot::ErrorPage]) {
        for page in pages {
            if let Some(read) = self.pages.get(&place_of_page(place, page.statuses)) {
                page.page.clone_from(read);
            }
        }
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

    #[test]
    fn error_pages_are_read_from_their_files_and_recalled_at_a_start() {
        let temp = tempfile::tempdir().unwrap();
        let text = "[stack]\nname = \"t\"\n[listeners.web]\nbind = \"127.0.0.1:1\"\n\
            error_pages = { \"404\" = { file = \"404.html\" }, \"500-599\" = { text = \"later\" } }\n\
            [services.a]\nrun = [\"a\"]\nerror_pages = { \"503\" = { file = \"a.txt\", content_type = \"text/x\" } }\n";
        let stack = stack::parse(text, "t.toml").unwrap();
        fs::write(temp.path().join("404.html"), "<p>no</p>").unwrap();
        let error = read_all(&stack, temp.path()).unwrap_err().to_string();
        assert!(error.contains("a.txt") && error.contains("services.a.error_pages.503-503"), "{error}");
        fs::write(temp.path().join("a.txt"), "soon").unwrap();
        let pages = read_all(&stack, temp.path()).unwrap();
        assert_eq!(pages.len(), 2, "what stands in the stack file itself is known already");
        let page = &pages["services.a.error_pages.503-503"];
        assert_eq!((page.content_type.as_str(), page.body.as_str()), ("text/x", "soon"));

        let mut listeners = stack::compile_listeners(&stack);
        listeners[0].error_pages[0].page.body = "kept".to_owned();
        let former = Snapshot {
            format: snapshot::FORMAT,
            version: 1,
            revision: 1,
            stack: "t".to_owned(),
            threads: 1,
            listeners,
            routes: Vec::new(),
            services: Vec::new(),
        };
        fs::remove_file(temp.path().join("404.html")).unwrap();
        let (pages, problem) = read_or_recall(&stack, temp.path(), Some(&former));
        assert_eq!(pages["listeners.web.error_pages.404-404"].body, "kept");
        assert!(problem.unwrap().contains("404.html"));
    }
}
