//! Folders as people have them, and the files they lead to. Every file is read back by the stack file's own parser.

use std::{fs, path::Path};

use evenkeel_core::stack::{self, Stack};

use super::*;

/// A folder named `my-shop` with these files.
pub(super) fn made(files: &[(&str, &str)]) -> Made {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("My Shop");
    fs::create_dir(&dir).unwrap();
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    make(&dir)
}

/// The same, as a valid stack.
pub(super) fn stack_of(files: &[(&str, &str)]) -> (Stack, Made) {
    let made = made(files);
    let stack = stack::parse(&made.text, "keel.toml").unwrap_or_else(|faults| panic!("{faults}\n{}", made.text));
    assert_eq!(stack.stack.name, "my-shop");
    (stack, made)
}

pub(super) fn shown(files: &[(&str, &str)]) -> String {
    let (_, Made { text, found, .. }) = stack_of(files);
    format!("{}\n---\n{text}", found.join("\n"))
}

/// Who answers such a request, as the edge finds it: by host, then longest path, then order. A service's name, a status
/// of a page, or where a redirect leads; what becomes of the path for the instance stands behind.
pub(super) fn answer(stack: &Stack, listener: &str, host: &str, method: &str, path: &str) -> String {
    let fits = |route: &&stack::Route| {
        let prefix = route.path.trim_end_matches('/');
        let below = path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let listens = route.listener.as_ref().is_none_or(|name| name == listener);
        below
            && listens
            && route.headers.is_empty()
            && (route.methods.is_empty() || route.methods.iter().any(|one| one == method))
    };
    let weight = |route: &&stack::Route| {
        let name = route.host.as_deref();
        let of_host = match name.map(|name| name.strip_prefix("*.").map_or(Ok(name), Err)) {
            None => Some(0),
            Some(Ok(name)) => (name == host).then_some(usize::MAX),
            Some(Err(end)) => host.strip_suffix(end).filter(|rest| rest.ends_with('.')).map(|_| end.len()),
        };
        of_host.map(|of_host| (of_host, route.path.len()))
    };
    let all = stack.routes.iter().filter(fits).filter_map(|route| Some((weight(&route)?, route)));
    // Of equal ones the first.
    let best = all.reduce(|best, next| if next.0 > best.0 { next } else { best });
    let Some((_, route)) = best else { return "404".to_owned() };
    if let Some(redirect) = &route.redirect {
        return format!("{} {}", redirect.status, redirect.to);
    }
    let rewritten = route.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()).map(|path| format!(" {path}"));
    match &stack.services[&route.service].page {
        Some(page) => page.status.to_string(),
        None => format!("{}{}", route.service, rewritten.unwrap_or_default()),
    }
}

fn run_of(files: &[(&str, &str)]) -> String {
    let (stack, _) = stack_of(files);
    stack.services["web"].run.as_ref().unwrap().join(" ")
}

#[test]
fn nothing() {
    insta::assert_snapshot!(shown(&[("readme.txt", "hello")]));
}

#[test]
fn node() {
    let package =
        r#"{"name": "shop", "scripts": {"start": "NODE_OPTIONS=--enable-source-maps node server.js", "build": "tsc"}}"#;
    insta::assert_snapshot!(shown(&[("package.json", package), ("server.js", "")]));
}

#[test]
fn node_variants() {
    let start = |script: &str| format!(r#"{{"scripts": {{"start": "{script}"}}}}"#);
    assert_eq!(run_of(&[("package.json", &start("next start"))]), "npm start");
    assert_eq!(run_of(&[("package.json", &start("next start")), ("yarn.lock", "")]), "yarn start");
    assert_eq!(run_of(&[("package.json", &start("node a.js && node b.js"))]), "npm start");
    assert_eq!(run_of(&[("package.json", r#"{"main": "lib/x.js"}"#), ("lib/x.js", "")]), "node lib/x.js");
    assert_eq!(run_of(&[("package.json", "{}"), ("index.js", "")]), "node index.js");
    let (_, fixed) = stack_of(&[("package.json", &start("next start -p 3000"))]);
    assert!(fixed.text.contains("a port of its own"), "{}", fixed.text);
    let (_, assets) = stack_of(&[("package.json", r#"{"scripts": {"build": "vite build"}}"#)]);
    assert!(assets.found[0].contains("nothing that could be run"));
}

#[test]
fn php() {
    let composer = r#"{"require": {"php": ">=8.2", "symfony/framework-bundle": "7.*"}}"#;
    insta::assert_snapshot!(shown(&[("composer.json", composer), ("public/index.php", "<?php")]));
}

#[test]
fn laravel() {
    let files = [
        ("composer.json", r#"{"require": {"laravel/framework": "^12.0"}}"#),
        ("artisan", ""),
        ("bootstrap/app.php", "health: '/up',"),
        ("package.json", r#"{"scripts": {"build": "vite build"}}"#),
    ];
    insta::assert_snapshot!(shown(&files));
}

#[test]
fn spring() {
    let pom = "<artifactId>spring-boot-starter-actuator</artifactId>";
    let files = [
        ("pom.xml", pom),
        ("target/shop-1.0.jar", "long enough"),
        ("target/shop-1.0-sources.jar", "much longer than it"),
    ];
    insta::assert_snapshot!(shown(&files));
}

#[test]
fn jar_variants() {
    assert_eq!(run_of(&[("build/libs/a.jar", "xx"), ("build/libs/a-plain.jar", "xxx")]), "java -jar build/libs/a.jar");
    assert_eq!(run_of(&[("tool.jar", "x")]), "java -jar tool.jar");
}

#[test]
fn procfile() {
    let text = "worker: bundle exec sidekiq -c 5\n\
                web: RAILS_ENV=production bundle exec puma -p ${PORT:-3000} -C 'config/puma.rb'\n\
                release: bin/rails db:migrate\n# a comment\n\
                clock: cd jobs && ruby clock.rb\n";
    insta::assert_snapshot!(shown(&[("Procfile", text), ("package.json", r#"{"scripts": {"start": "vite"}}"#)]));
}

#[test]
fn procfile_variants() {
    let shell = run_of(&[("Procfile", "web: java $JAVA_OPTS -jar x.jar --server.port=$PORT")]);
    assert_eq!(shell, "sh -c exec java $JAVA_OPTS -jar x.jar --server.port=$PORT");
    let (stack, _) = stack_of(&[("Procfile", "API_1: ./serve $PORT\nAPI_1: x\nother: y")]);
    assert_eq!(stack.routes[0].service, "api-1", "the first line, as there is no `web`");
    let wide = [("Procfile", "web: gunicorn app:app --bind 0.0.0.0:$PORT")];
    assert_eq!(run_of(&wide), "gunicorn app:app --bind 127.0.0.1:{port}");
    assert!(stack_of(&wide).1.text.contains("`web` bound every address"));
    let shell = [("Procfile", "web: gunicorn app:$APP -b 0.0.0.0:${PORT}")];
    assert_eq!(run_of(&shell), "sh -c exec gunicorn app:$APP -b 127.0.0.1:${PORT}");
    let (_, junk) = stack_of(&[("Procfile", "\u{feff}:::\nno line\n: x\nweb:   \n")]);
    assert!(junk.found[0].contains("nothing that could be run"));
}

#[test]
fn django() {
    let manage = r#"os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")"#;
    insta::assert_snapshot!(shown(&[("manage.py", manage), ("requirements.txt", "Django==5.2\n")]));
}

#[test]
fn python_variants() {
    let fastapi =
        [("main.py", "from fastapi import FastAPI\napp = FastAPI()"), ("requirements.txt", "fastapi\nuvicorn")];
    assert_eq!(run_of(&fastapi), "uvicorn main:app --host 127.0.0.1 --port {port}");
    let flask = [("app.py", "import flask\napplication = flask.Flask('x')"), ("pyproject.toml", "")];
    assert_eq!(run_of(&flask), "gunicorn app:application --bind 127.0.0.1:{port} --workers 2");
    assert_eq!(run_of(&[("main.py", "print(1)")]), "python3 main.py");
}

#[test]
fn rust() {
    let manifest = "[package]\nname = \"shop\"\nversion = \"1.0.0\"\n";
    insta::assert_snapshot!(shown(&[("Cargo.toml", manifest), ("src/main.rs", "")]));
}

#[test]
fn go() {
    let files = [("go.mod", "module example.com/team/shop/v2\n\ngo 1.24\n"), ("cmd/shop/main.go", "")];
    insta::assert_snapshot!(shown(&files));
    let (_, library) = stack_of(&[("go.mod", "module example.com/lib\n")]);
    assert!(library.found[0].contains("nothing that could be run"));
}

#[test]
fn pages() {
    let package = r#"{"scripts": {"build": "vite build"}, "dependencies": {"react-router-dom": "7"}}"#;
    insta::assert_snapshot!(shown(&[("package.json", package), ("dist/index.html", "")]));
    let (stack, here) = stack_of(&[("index.html", ""), ("nginx.conf", "events {}")]);
    assert_eq!(stack.services["web"].files.as_ref().unwrap().dir, ".");
    assert!(here.text.contains("also keel.toml"), "{}", here.text);
    let program = [("package.json", "{}"), ("server.js", ""), ("public/index.html", "")];
    assert_eq!(run_of(&program), "node server.js", "what can be run serves its own pages");
}

const NGINX: &str = r#"
worker_processes auto;
events { worker_connections 1024; }
http {
    include mime.types;
    gzip on;
    upstream shop {
        least_conn;
        server 10.0.0.5:8080 weight=3 max_fails=2;
        server 10.0.0.6:8080;
        server 10.0.0.7:8080 backup;
        keepalive 32;
    }
    upstream unused { server 10.9.9.9; }
    server {
        listen 80;
        listen [::]:80;
        listen 443 ssl http2;
        server_name shop.example.com .example.org ~^www\d+\.example\.net$;
        client_max_body_size 20m;
        location / {
            proxy_pass http://shop;
            proxy_set_header Host $host;
            proxy_set_header X-Tenant "a {b};";
        }
        location /api/ { proxy_pass http://127.0.0.1:3000; }
        location /old/ { proxy_pass http://shop/new/; }
        location ~ \.php$ { fastcgi_pass unix:/run/php.sock; }
        location /static { root /var/www; }
    }
    server {
        listen 127.0.0.1:8081;
        location = /health { proxy_pass http://app.internal; }
    }
}
"#;

#[test]
fn a_proxy_configuration() {
    insta::assert_snapshot!(shown(&[("nginx.conf", NGINX), ("package.json", "{}"), ("index.js", "")]));
}

#[test]
fn headers_paths_and_compression_of_a_proxy() {
    let text = r#"server { listen 80; gzip on; gzip_types text/css; add_header X-Frame-Options DENY always;
        proxy_set_header X-Tenant a;
        error_page 502 /502.html;
        location /api/ { proxy_pass http://127.0.0.1:3000/; }
        location /old { proxy_pass http://127.0.0.1:3000/new/; proxy_set_header Host app.internal:81;
            proxy_set_header Cookie ""; proxy_set_header X-Client "$remote_addr $host"; proxy_set_header X-Odd $scheme; }
        location = /one { proxy_pass http://127.0.0.1:3000/two; proxy_hide_header X-Powered-By;
            add_header X-A "1"; add_header Content-Length 3 always; }
        location /odd { proxy_pass http://127.0.0.1:3000/../x; } }"#;
    insta::assert_snapshot!(shown(&[("nginx.conf", text)]));
}

#[test]
fn a_proxy_with_tls_alone_stays_inside() {
    let text = "server { listen 80; server_name a.example; return 301 https://$host$request_uri; }
        server { listen 443 ssl; server_name a.example; location / { proxy_pass http://127.0.0.1:3000/; } }";
    let (stack, made) = stack_of(&[("nginx.conf", text)]);
    let listener = &stack.listeners[stack.routes[0].listener.as_ref().unwrap()];
    assert_eq!(listener.bind.to_string(), "127.0.0.1:8080");
    assert!(made.text.contains("line 2: listen 443 ssl (TLS is described"), "{}", made.text);
}

#[test]
fn limits_parts_and_redirects_of_a_proxy() {
    let conf = "limit_req_zone $binary_remote_addr zone=one:10m rate=10r/s;
        limit_req_zone $http_x_api_key zone=key:10m rate=30r/m;
        limit_req_zone $server_name zone=all:10m rate=1r/s;
        split_clients \"${remote_addr}AAA\" $variant { 5% next; * main; }
        upstream main { server 10.0.0.1:80; } upstream next { server 10.0.0.2:80; }
        server { listen 80; server_name a.example; limit_req zone=one burst=20 nodelay;
            location / { proxy_pass http://$variant; limit_conn addr 5; mirror /copy; }
            location /api { proxy_pass http://main; limit_req zone=key; limit_req zone=one; }
            location /old { return 301 /new$request_uri; }
            location /odd { return 301 $scheme://x; }
            location /gone { proxy_pass http://main; limit_req zone=all; } }
        server { listen 80; server_name www.a.example; return 301 http://a.example$request_uri; }";
    let (stack, made) = stack_of(&[("nginx.conf", conf)]);
    let shown: Vec<String> = stack
        .routes
        .iter()
        .map(|route| {
            let rates: Vec<String> =
                route.rate.0.iter().map(|r| format!("{}/{}+{} {}", r.requests, r.per, r.burst, r.by)).collect();
            let to = route.redirect.as_ref().map(|redirect| format!(" {} {}", redirect.status, redirect.to));
            let split: Vec<String> =
                route.split.iter().map(|split| format!(" {}% {}", split.percent, split.service)).collect();
            format!(
                "{} {}{} [{}]{}",
                route.path,
                route.service,
                to.unwrap_or_default(),
                rates.join(", "),
                split.concat()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "/ main [10/1s+11 address] 5% next",
            "/api main [30/1m+0 header:x-api-key, 10/1s+0 address]",
            "/old  301 /new{uri} []",
            "/odd  301 http://x []",
            "/gone main []",
            "/  301 http://a.example{uri} []",
        ]
    );
    for left_out in ["limit_req_zone $server_name", "limit_conn addr 5", "mirror /copy", "limit_req zone=all"] {
        assert!(made.text.contains(left_out), "{left_out}:\n{}", made.text);
    }
}

#[test]
fn how_a_proxy_chooses_an_address() {
    let conf = "upstream a { hash $http_x_user consistent; server 10.0.0.1:80; }
        upstream b { hash $cookie_sid; server 10.0.0.1:80; }
        upstream c { random two least_conn; server 10.0.0.1:80; }
        upstream d { least_conn; sticky cookie at expires=1h httponly secure; server 10.0.0.1:80 slow_start=30s; }
        upstream e { hash $request_uri; sticky learn create=$x; server 10.0.0.1:80 slow_start=10; }
        server { listen 80; location /a { proxy_pass http://a; } location /b { proxy_pass http://b; }
            location /c { proxy_pass http://c; } location /d { proxy_pass http://d; }
            location / { proxy_pass http://e; } }";
    let (stack, made) = stack_of(&[("nginx.conf", conf)]);
    let service = |name: &str| {
        let start = made.text.find(&format!("[services.{name}]")).unwrap();
        let keys = made.text[start..].lines().skip(2).take_while(|line| !line.is_empty());
        keys.filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(service("a"), "balance = \"consistent-hash\"\nhash_by = \"header:x-user\"\nhash_bound = 0");
    assert_eq!(service("b"), "balance = \"maglev\"\nhash_by = \"cookie:sid\"");
    assert_eq!(service("c"), "balance = \"power-of-two\"");
    let sticky = "sticky = { cookie = \"at\", max_age = \"3600s\", secure = true }\nslow_start = \"30000ms\"";
    assert_eq!(service("d"), format!("balance = \"least-connections\"\n{sticky}"));
    assert_eq!(service("e"), "balance = \"weighted-round-robin\"\nslow_start = \"10000ms\"");
    assert_eq!(stack.services.len(), 5);
    for left_out in ["hash $request_uri", "sticky learn"] {
        assert!(made.text.contains(left_out), "{left_out}:\n{}", made.text);
    }
}

#[test]
fn a_proxy_that_leads_nowhere_leaves_its_notes() {
    let conf = "server { location / { fastcgi_pass unix:/run/php.sock; } }";
    let (_, alone) = stack_of(&[("nginx.conf", conf)]);
    assert!(alone.text.contains("line 1: fastcgi_pass unix:/run/php.sock"), "{}", alone.text);
    let (stack, _) = stack_of(&[("nginx.conf", conf), ("package.json", "{}"), ("index.js", "")]);
    assert_eq!(stack.services["web"].run.as_ref().unwrap()[0], "node");
}

#[test]
fn a_location_that_leads_nowhere_is_not_called_translated() {
    let conf = "upstream app { server 10.0.0.1:80; }\nserver { listen 80;\nlocation / { proxy_pass http://app; }\n\
                location = /gone { fastcgi_pass x; }\n}\n";
    let (_, made) = stack_of(&[("nginx.conf", conf)]);
    assert!(made.text.contains("line 4: location = /gone (it leads to no instance)"), "{}", made.text);
    assert!(!made.text.contains("translated"), "{}", made.text);
}

#[test]
fn a_damaged_configuration_still_leads_to_a_valid_file() {
    let text = NGINX.trim();
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        let (before, after) = text.split_at(end);
        stack_of(&[("nginx.conf", before)]);
        if end % 7 == 0 {
            stack_of(&[("nginx.conf", after)]);
        }
    }
    stack_of(&[("nginx.conf", &"a {".repeat(100_000))]);
    stack_of(&[("nginx.conf", "server { location / { proxy_pass http://x:99999; } } } } server {;")]);
}

#[test]
fn a_file_that_is_there_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join(FILE);
    fs::write(&file, "mine").unwrap();
    let failure = write(&file, "new", false).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    write(&file, "new", true).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "new");
}

#[test]
fn names_fit() {
    for (dir, name) in
        [("/srv/My Shop!", "my-shop"), ("/", "app"), ("/x/123-go", "go"), ("/x/---", "app"), ("/x/ü", "app")]
    {
        assert_eq!(stack_name(Path::new(dir)), name);
    }
    assert_eq!(stack_name(Path::new(&format!("/x/{}", "a-".repeat(40)))).len(), 39);
}
