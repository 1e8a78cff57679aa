//! A folder as people have them, asked over what the server itself calls for each request.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
};
use evenkeel_core::stack::Diagnostics;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    folder::Folder,
    missing, serve,
    site::{Site, answer},
};

/// What came back.
struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = temp.path().join("public").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    temp
}

fn ask_of(dir: &Path, fallback: Option<&str>, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let site = Site::new(Folder::new(dir), fallback.map(str::to_owned));
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (head, body) = answer(State(site), request.body(Body::empty()).unwrap()).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body: String::from_utf8_lossy(&body).into_owned() }
    })
}

fn get(temp: &tempfile::TempDir, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask_of(&temp.path().join("public"), None, "GET", path, headers)
}

#[test]
fn pages_and_folders() {
    let temp = folder(&[("index.html", "home"), ("a b/index.html", "below"), ("style.css", "body {}")]);
    let home = get(&temp, "/", &[]);
    assert_eq!((home.status, home.body.as_str(), home.header("content-type")), (StatusCode::OK, "home", "text/html"));
    assert_eq!(home.header("x-content-type-options"), "nosniff");
    assert_eq!(get(&temp, "/a%20b/?x=1", &[]).body, "below");
    let redirect = get(&temp, "/a%20b", &[]);
    assert_eq!((redirect.status, redirect.header("location")), (StatusCode::TEMPORARY_REDIRECT, "/a%20b/"));
    assert_eq!(get(&temp, "/style.css", &[]).header("content-type"), "text/css");
    let head = ask_of(&temp.path().join("public"), None, "HEAD", "/", &[]);
    assert_eq!((head.status, head.body.as_str(), head.header("content-length")), (StatusCode::OK, "", "4"));
    let post = ask_of(&temp.path().join("public"), None, "POST", "/", &[]);
    assert_eq!((post.status, post.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET,HEAD"));
}

#[test]
fn what_is_not_there_has_a_page_of_its_own() {
    let temp = folder(&[("index.html", "home"), ("empty/x.txt", "x")]);
    for path in ["/nothing", "/empty/", "/index.html/x", "/%00", "/x%ff", "/a/../../b"] {
        let bare = get(&temp, path, &[]);
        assert_eq!((bare.status, bare.body.as_str()), (StatusCode::NOT_FOUND, ""), "{path}");
    }
    fs::write(temp.path().join("public/404.html"), "no such page").unwrap();
    let page = get(&temp, "/nothing", &[("range", "bytes=0-1"), ("if-none-match", "*")]);
    assert_eq!((page.status, page.body.as_str()), (StatusCode::NOT_FOUND, "no such page"));
    assert_eq!((page.header("etag"), page.header("cache-control")), ("", "no-cache"));
    assert_eq!(get(&temp, "/empty/", &[]).body, "no such page", "a folder is not listed");
}

#[test]
fn nothing_hidden_and_nothing_outside() {
    let temp = folder(&[
        (".env", "SECRET"),
        (".git/config", "x"),
        ("a/.htpasswd", "x"),
        ("in.txt", "inside"),
        ("b/page.txt", "x"),
    ]);
    let public = temp.path().join("public");
    fs::create_dir(public.join(".well-known")).unwrap();
    fs::write(public.join(".well-known/security.txt"), "Contact: us").unwrap();
    fs::write(temp.path().join("outside.txt"), "SECRET").unwrap();
    symlink("../outside.txt", public.join("out.txt")).unwrap();
    symlink(temp.path(), public.join("up")).unwrap();
    symlink("in.txt", public.join("link.txt")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, public.join("pipe"), rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    for path in [
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/a/.htpasswd",
        "/out.txt",
        "/up/outside.txt",
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/a/..%2f..%2foutside.txt",
        "/b%2fpage.txt",
        "/b%2Fpage.txt",
        "/pipe",
    ] {
        let refused = get(&temp, path, &[]);
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{path}");
        assert!(!refused.body.contains("SECRET"), "{path}");
    }
    assert_eq!(get(&temp, "/link.txt", &[]).body, "inside", "a link that stays inside is a file");
    assert_eq!(get(&temp, "/.well-known/security.txt", &[]).body, "Contact: us");
}

#[test]
fn conditions_and_ranges() {
    let temp = folder(&[("a.txt", "0123456789")]);
    let long_ago = SystemTime::now() - Duration::from_hours(24);
    fs::File::options().write(true).open(temp.path().join("public/a.txt")).unwrap().set_modified(long_ago).unwrap();
    let whole = get(&temp, "/a.txt", &[]);
    let (etag, modified) = (whole.header("etag"), whole.header("last-modified"));
    assert!(!etag.is_empty() && !modified.is_empty());
    let same = get(&temp, "/a.txt", &[("if-none-match", etag)]);
    assert_eq!((same.status, same.header("cache-control")), (StatusCode::NOT_MODIFIED, "no-cache"));
    assert_eq!(get(&temp, "/a.txt", &[("if-modified-since", modified)]).status, StatusCode::NOT_MODIFIED);
    let part = get(&temp, "/a.txt", &[("range", "bytes=2-4")]);
    assert_eq!((part.status, part.body.as_str()), (StatusCode::PARTIAL_CONTENT, "234"));
    assert_eq!(part.header("content-range"), "bytes 2-4/10");
    assert_eq!(get(&temp, "/a.txt", &[("range", "bytes=20-")]).status, StatusCode::RANGE_NOT_SATISFIABLE);
    let changed = get(&temp, "/a.txt", &[("range", "bytes=2-4"), ("if-range", "\"other\"")]);
    assert_eq!((changed.status, changed.body.len()), (StatusCode::OK, 10), "a part of something else is no part");
    fs::write(temp.path().join("public/a.txt"), "changed").unwrap();
    let now = get(&temp, "/a.txt", &[("if-none-match", etag)]);
    assert_eq!((now.status, now.body.as_str()), (StatusCode::OK, "changed"));
}

#[test]
fn files_compressed_beforehand() {
    let temp = folder(&[("a.js", "plain"), ("a.js.gz", "zipped"), ("a.js.br", "brotli")]);
    let ask = |accepted: &str| get(&temp, "/a.js", &[("accept-encoding", accepted)]);
    for (accepted, body, encoding) in
        [("gzip", "zipped", "gzip"), ("gzip, br", "brotli", "br"), ("identity", "plain", ""), ("gzip;q=0", "plain", "")]
    {
        let answer = ask(accepted);
        assert_eq!((answer.body.as_str(), answer.header("content-encoding")), (body, encoding), "{accepted}");
        assert_eq!(answer.header("vary"), "accept-encoding");
        assert_eq!(answer.header("content-type"), "text/javascript");
    }
    assert_ne!(ask("br").header("etag"), ask("identity").header("etag"));
}

#[test]
fn a_digest_in_the_name_is_for_good() {
    let names = ["app-BxK2d9aF.js", "main.8f3a1c2d.css", "index-download.js", "photo-20240115.jpg", "app.js"];
    let temp = folder(&names.map(|name| (name, "x")));
    for (name, for_good) in names.into_iter().zip([true, true, false, false, false]) {
        let control = get(&temp, &format!("/{name}"), &[]).header(header::CACHE_CONTROL.as_str()).to_owned();
        assert_eq!(control == "public, max-age=31536000, immutable", for_good, "{name}: {control}");
    }
    assert_eq!(get(&temp, "/gone-8f3a1c2d.js", &[]).header("cache-control"), "no-cache", "it may come");
}

#[test]
fn a_fallback_answers_for_pages_and_not_for_files() {
    let temp = folder(&[("my app.html", "app"), ("404.html", "none")]);
    let ask =
        |path: &str, headers: &[_]| ask_of(&temp.path().join("public"), Some("my app.html"), "GET", path, headers);
    let page = ask("/orders/7", &[("range", "bytes=0-0")]);
    assert_eq!((page.status, page.body.as_str(), page.header("cache-control")), (StatusCode::OK, "app", "no-cache"));
    let file = ask("/gone.js", &[]);
    assert_eq!((file.status, file.body.as_str()), (StatusCode::NOT_FOUND, "none"));
    let etag = page.header("etag");
    assert_eq!(ask("/orders/8", &[("if-none-match", etag)]).status, StatusCode::NOT_MODIFIED);
}

#[test]
fn a_folder_may_be_replaced_and_one_that_is_gone_is_no_missing_page() {
    let temp = folder(&[("index.html", "one")]);
    let public = temp.path().join("public");
    fs::rename(&public, temp.path().join("old")).unwrap();
    assert_eq!(get(&temp, "/", &[]).status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(Folder::new(&public).check().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    symlink("old", &public).unwrap();
    assert_eq!(get(&temp, "/", &[]).body, "one");
    Folder::new(&public).check().unwrap();
}

#[test]
fn a_folder_that_is_not_there_is_shown_in_the_stack_file() {
    let temp = folder(&[("index.html", "")]);
    let file = temp.path().join("keel.toml");
    let faults = |files: &str| {
        let text = format!("[stack]\nname = \"t\"\n\n[services.site]\nfiles = {files}\n");
        let stack = evenkeel_core::stack::parse(&text, "keel.toml").unwrap();
        let mut found = Diagnostics::none(&file.display().to_string(), &text);
        missing(temp.path(), &stack, &mut found);
        let said = found.to_string().replace(temp.path().to_str().unwrap(), "DIR");
        if found.has_errors() { Err(said) } else { Ok(()) }
    };
    assert_eq!(faults("\"public\""), Ok(()));
    assert_eq!(faults("{ dir = \"public\", fallback = \"index.html\" }"), Ok(()));
    insta::assert_snapshot!(faults("\"pubic\"").unwrap_err(), @r#"
    error: the folder `DIR/pubic` of service `site` does not exist
      --> DIR/keel.toml:5:9
      |
    5 | files = "pubic"
      |         ^^^^^^^
      = help: create it, or name the folder that has the pages
    "#);
    assert!(faults("\"public/index.html\"").unwrap_err().contains("is no folder"));
    let fallback = faults("{ dir = \"public\", fallback = \"app.html\" }").unwrap_err();
    assert!(fallback.contains("has no `app.html`"), "{fallback}");
}

#[test]
fn what_is_in_flight_at_the_end_is_finished() {
    const SIZE_BYTES: usize = 16 << 20;
    let temp = folder(&[("big.bin", &"x".repeat(SIZE_BYTES))]);
    let site = Site::new(Folder::new(&temp.path().join("public")), None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, site, async move { stopped.await.unwrap() }));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /big.bin HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut got = vec![0; 1];
        client.read_exact(&mut got).await.unwrap();
        stop.send(()).unwrap();
        client.read_to_end(&mut got).await.unwrap();
        let head = got.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(got.len() - head, SIZE_BYTES);
        served.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    });
}
