//! `rewrite`, `request_headers`, `response_headers`, `error_pages` and `compress`: what is accepted, what it becomes, and
//! what is refused with which words.

#![allow(clippy::unwrap_used)]

use evenkeel_core::{
    snapshot::{Compress, Encoding, FieldChanges, Rewrite},
    stack::{Stack, compile_listeners, compile_routes, compile_service, parse},
};

fn text(listener: &str, route: &str, service: &str) -> String {
    format!(
        "[stack]\nname = \"t\"\n[listeners.web]\nbind = \"127.0.0.1:8080\"\n{listener}\n[[routes]]\nservice = \"a\"\n\
         path = \"/api/v1\"\n{route}\n[services.a]\n{service}\n"
    )
}

fn stack(listener: &str, route: &str, service: &str) -> Stack {
    let service = if service.contains("page =") { service.to_owned() } else { format!("run = [\"a\"]\n{service}") };
    parse(&text(listener, route, &service), "t.toml").unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn what_is_written_becomes_part_of_the_snapshot() {
    let stack = stack(
        "error_pages = { \"500-599\" = { text = \"later\" }, \"404\" = { file = \"404.html\" } }",
        "rewrite = { strip_prefix = \"/api/\", add_prefix = \"/v2\", host = \"app.internal:81\" }\n\
         request_headers = { remove = [\"Cookie\"], set = { X-Tenant = \"{host}\" }, add = { accept = \"text/plain\" } }\n\
         response_headers = { set = { NEL = '{\"max_age\":1}' } }",
        "compress = { min = \"2KiB\", types = [\"Text/*\"] }\n\
         error_pages = { \"500-599\" = { text = \"b\" }, \"503\" = { text = \"<a>\", content_type = \"text/html\", of_instances = true } }",
    );
    let actions = &compile_routes(&stack)[0].actions;
    let rewrite = Rewrite {
        strip_prefix: Some("/api".into()),
        add_prefix: Some("/v2".into()),
        path: None,
        host: Some("app.internal:81".into()),
    };
    assert_eq!(actions.rewrite, rewrite);
    let pair = |a: &str, b: &str| vec![(a.to_owned(), b.to_owned())];
    let request = FieldChanges {
        remove: vec!["cookie".into()],
        set: pair("X-Tenant", "{host}"),
        add: pair("accept", "text/plain"),
    };
    assert_eq!(actions.request_fields, request);
    assert_eq!(actions.response_fields.set, pair("NEL", "{\"max_age\":1}"));
    let listener = &compile_listeners(&stack)[0];
    let first = &listener.error_pages[0];
    assert_eq!((first.statuses, first.page.content_type.as_str()), ((404, 404), "text/html; charset=utf-8"));
    assert_eq!(listener.error_pages[1].page.body, "later");
    let answers = compile_service("a", &stack.services["a"], Vec::new()).answers;
    let encodings = vec![Encoding::Zstd, Encoding::Br, Encoding::Gzip];
    assert_eq!(answers.compress, Some(Compress { encodings, min_bytes: 2048, types: vec!["text/*".into()] }));
    let pages: Vec<_> = answers.error_pages.iter().map(|page| (page.statuses, page.of_instances)).collect();
    assert_eq!(pages, [((503, 503), true), ((500, 599), false)], "the narrowest range comes first");
}

#[test]
fn compress_is_a_switch_or_a_table_and_off_by_default() {
    let compress = |service: &str| stack("", "", service).services["a"].compress.clone();
    assert_eq!((compress(""), compress("compress = false")), (None, None));
    let all = compress("compress = true").unwrap();
    assert_eq!(all.min.as_bytes(), 1024);
    assert!(all.types.iter().any(|kind| kind == "text/*") && all.types.iter().all(|kind| kind != "image/*"));
    assert_eq!(compress("compress = {}"), Some(all));
    let one = compress("compress = { encodings = [\"gzip\"] }").unwrap();
    assert_eq!(one.encodings, [Encoding::Gzip]);
    let off = compile_routes(&stack("", "", ""));
    assert!(off[0].actions.is_empty(), "nothing is done that was not asked for");
}

#[test]
fn what_would_be_unsafe_or_mean_nothing_is_refused() {
    let run = "run = [\"a\"]";
    let of_route = |route: &str| text("", route, run);
    let of_service = |service: &str| text("", "", &format!("{run}\n{service}"));
    for (file, said) in [
        (of_route("rewrite = { strip_prefix = \"api\" }"), "`api` is not a path"),
        (of_route("rewrite = { strip_prefix = \"/api?x\" }"), "is not a path"),
        (of_route("rewrite = { strip_prefix = \"/api/..\" }"), "is not a path"),
        (of_route("rewrite = { add_prefix = \"/a/%2E%2e/b\" }"), "is not a path"),
        (of_route("rewrite = { add_prefix = \"//evil\" }"), "is not a path"),
        (of_route("rewrite = { add_prefix = \"/a b\" }"), "is not a path"),
        (of_route("rewrite = { path = \"/a\\r\\nX: y\" }"), "is not a path"),
        (of_route("rewrite = { add_prefix = \"/\" }"), "`/` changes nothing"),
        (of_route("rewrite = { strip_prefix = \"/apis\" }"), "no request of this route begins with `/apis`"),
        (of_route("rewrite = { strip_prefix = \"/api/v1/x\", path = \"/y\" }"), "`path` replaces the whole path"),
        (of_route("rewrite = { host = \"a b\" }"), "`a b` is not a host"),
        (of_route("rewrite = { host = \"a:0\" }"), "is not a host"),
        (of_route("rewrite = { host = \"http://a\" }"), "is not a host"),
        (of_route("rewrite = { hots = \"a\" }"), "did you mean `host`?"),
        (of_route("request_headers = { set = { Host = \"a\" } }"), "use `rewrite.host`"),
        (of_route("request_headers = { remove = [\"Content-Length\"] }"), "`Content-Length` cannot be changed"),
        (of_route("request_headers = { add = { Transfer_Encoding = \"chunked\" } }"), "cannot be changed"),
        (of_route("request_headers = { set = { connection = \"close\" } }"), "cannot be changed"),
        (of_route("request_headers = { set = { TE = \"trailers\" } }"), "cannot be changed"),
        (of_route("request_headers = { remove = [\"upgrade\"] }"), "cannot be changed"),
        (of_route("request_headers = { remove = [\"proxy-connection\"] }"), "meant for one connection only"),
        (of_route("request_headers = { set = { X-Request-Id = \"a\" } }"), "networks that the listener trusts"),
        (of_route("request_headers = { remove = [\"idempotency-key\"] }"), "may be sent again"),
        (of_route("response_headers = { set = { trailer = \"a\" } }"), "cannot be changed"),
        (of_route("response_headers = { remove = [\"content-encoding\"] }"), "see `compress`"),
        (of_route("request_headers = { set = { \"X Y\" = \"a\" } }"), "`X Y` is not a name of a header field"),
        (of_route("request_headers = { set = { \"X:\" = \"a\" } }"), "is not a name of a header field"),
        (of_route("request_headers = { remove = [\"\"] }"), "is not a name of a header field"),
        (of_route("request_headers = { set = { X = \"a\\r\\nY: b\" } }"), "is not a value of a header field"),
        (of_route("request_headers = { add = { X = \"a\\u0000\" } }"), "is not a value of a header field"),
        (of_route("request_headers = { add = { X = \" a\" } }"), "without spaces at its ends"),
        (of_route("request_headers = { set = { X = \"{uri}\" } }"), "`{uri}` stands for nothing here"),
        (of_route("request_headers = { set = { X-A = \"1\", x-a = \"2\" } }"), "stands twice"),
        (text("error_pages = { \"404\" = { text = \"a\", of_instances = true } }", "", run), "is a key of services"),
        (text("error_pages = { \"200\" = { text = \"a\" } }", "", run), "`200` is not a status or a range"),
        (text("error_pages = { \"599-500\" = { text = \"a\" } }", "", run), "is not a status or a range"),
        (text("error_pages = { \"4xx\" = { text = \"a\" } }", "", run), "is not a status or a range"),
        (
            of_service("error_pages = { \"503\" = { text = \"a\" }, \"503-503\" = { text = \"b\" } }"),
            "`503-503` stands twice",
        ),
        (of_service("error_pages = { \"503\" = {} }"), "neither `file` nor `text`"),
        (of_service("error_pages = { \"503\" = { file = \"a\", text = \"b\" } }"), "both `file` and `text`"),
        (of_service("error_pages = { \"503\" = { text = \"b\", content_type = \"a\\nb\" } }"), "`content_type`"),
        (of_service("compress = \"gzip\""), "true, false or {"),
        (of_service("compress = { encodings = [] }"), "no content coding"),
        (of_service("compress = { encodings = [\"gzip\", \"gzip\"] }"), "`gzip` stands twice"),
        (of_service("compress = { encodings = [\"deflate\"] }"), "is not a value of"),
        (of_service("compress = { types = [] }"), "nothing would be compressed"),
        (of_service("compress = { types = [\"html\"] }"), "`html` is not a media type"),
        (of_service("compress = { types = [\"*/*\"] }"), "is not a media type"),
        (text("", "", "page = { text = \"a\" }\ncompress = true"), "a page is answered as it is"),
    ] {
        let refused = parse(&file, "t.toml").map_or_else(|faults| faults.to_string(), |_| "accepted".to_owned());
        assert!(refused.contains(said), "{file}\n{said}\n{refused}");
    }
}

#[test]
fn the_reference_tells_of_every_key() {
    let page = evenkeel_core::stack::reference::markdown();
    for table in [
        "## `routes[].rewrite`",
        "## `routes[].request_headers`",
        "## `listeners.NAME.error_pages.NAME`",
        "## `services.NAME.error_pages.NAME`",
        "## `services.NAME.compress`",
    ] {
        assert!(page.contains(table), "{table}");
    }
    let compress = page.split("## `services.NAME.compress`").nth(1).unwrap();
    let compress = compress.split("\n## ").next().unwrap();
    assert!(compress.contains("`[\"zstd\",\"br\",\"gzip\"]`") && compress.contains("`\"1KiB\"`"), "{compress}");
}
