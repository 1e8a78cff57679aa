//! What was closed stays closed: configurations with every way of keeping somebody out, and who answers then.

use evenkeel_core::stack::Stack;

use super::super::{
    Made,
    tests::{answer, stack_of},
};

/// A server on port 80 with these lines, and a group `app` behind it.
fn server(lines: &str) -> (Stack, Made) {
    let conf = format!("http {{\nupstream app {{ server 10.0.0.1:80; }}\nserver {{ listen 80;\n{lines}\n}} }}");
    stack_of(&[("nginx.conf", &conf)])
}

fn get(stack: &Stack, path: &str) -> String {
    answer(stack, "web", "a.example", "GET", path)
}

const OPEN: &str = "location / { proxy_pass http://app; }";

#[test]
fn a_protected_location_is_closed_and_the_rest_is_not() {
    for (guard, status) in [
        ("deny all;", "403"),
        ("allow 10.0.0.0/8; deny all;", "403"),
        ("deny 192.0.2.1; allow all;", "403"),
        ("auth_basic \"Staff\"; auth_basic_user_file /etc/nginx/htpasswd;", "403"),
        ("auth_request /auth;", "403"),
        ("auth_jwt realm;", "403"),
        ("satisfy any; allow 10.0.0.1; deny all; auth_basic x;", "403"),
        ("internal;", "404"),
        ("secure_link $arg_md5,$arg_expires; secure_link_md5 x;", "403"),
        ("valid_referers none blocked; if ($invalid_referer) { return 403; }", "403"),
        ("if ($http_x_key != secret) { return 401; }", "403"),
        ("if ($cookie_sid = \"\") { return 302 /login; }", "403"),
        ("if ($cookie_sid = \"\") { rewrite ^ /login redirect; }", "403"),
        ("include snippets/staff.conf;", "403"),
        ("access_by_lua_file /x.lua;", "403"),
    ] {
        let (stack, made) = server(&format!("{OPEN}\nlocation /admin/ {{ {guard} proxy_pass http://app; }}"));
        assert_eq!(get(&stack, "/admin/users"), status, "{guard}\n{}", made.text);
        assert_eq!(get(&stack, "/"), "app", "{guard}");
        assert_eq!(made.closed.len(), 1, "{guard}: {:?}", made.closed);
        assert!(made.closed[0].starts_with(&format!("/admin: {status} by nginx.conf line 5: `")), "{:?}", made.closed);
        let first = guard.split([' ', ';']).next().unwrap();
        let above = made.text.split("path = \"/admin\"").next().unwrap();
        let comment = &above[above.rfind("# CLOSED").unwrap()..];
        let word = if first == "satisfy" { "allow" } else { first };
        assert!(comment.contains("line 5") && comment.contains(word), "{guard}: {comment}");
        assert!(comment.contains("service = \"app\""), "{guard}: {comment}");
    }
}

#[test]
fn what_protects_nothing_closes_nothing() {
    for lines in [
        "allow all;",
        "allow all; deny 192.0.2.1;",
        "allow 10.0.0.1;",
        "auth_basic off;",
        "auth_request off;",
        "if ($host = www.a.example) { return 301 https://a.example$request_uri; }",
        "if ($scheme = http) { rewrite ^ https://$host$request_uri permanent; }",
        "include proxy_params;",
        "limit_except GET { }",
        "auth_basic_user_file x;",
    ] {
        let (stack, made) = server(&format!("location / {{ {lines} proxy_pass http://app; }}"));
        assert_eq!((get(&stack, "/x").as_str(), made.closed.len()), ("app", 0), "{lines}\n{}", made.text);
    }
}

#[test]
fn protection_is_inherited_and_taken_back_as_in_the_file() {
    let (stack, made) = server(
        "auth_basic \"Staff\";\nlocation / { proxy_pass http://app; }\n\
         location /public/ { auth_basic off; proxy_pass http://app; }\n\
         location /api/ { auth_basic off; deny all; proxy_pass http://app; }\n\
         location = /health { return 200 \"ok\"; }\n\
         location /deep/ { location /deep/er/ { auth_basic off; proxy_pass http://app; } }",
    );
    let all: Vec<String> =
        ["/", "/public/x", "/api/x", "/health", "/deep/x", "/deep/er/x"].iter().map(|path| get(&stack, path)).collect();
    assert_eq!(all, ["403", "app", "403", "200", "403", "app"], "{}", made.text);

    let conf = "http { deny all;\nserver { listen 80; location / { proxy_pass http://10.0.0.1; }\n\
                location /o/ { allow all; proxy_pass http://10.0.0.1; } } }";
    let (stack, _) = stack_of(&[("nginx.conf", conf)]);
    assert_eq!((get(&stack, "/").as_str(), get(&stack, "/o/x").as_str()), ("403", "app"));

    let (stack, _) = server("deny all;\nlocation /o/ { allow all; proxy_pass http://app; }");
    assert_eq!(
        (get(&stack, "/else").as_str(), get(&stack, "/o/x").as_str()),
        ("403", "app"),
        "without a location for /"
    );
}

#[test]
fn one_path_alone_opens_nothing_below_it() {
    let (stack, made) =
        server("location / { deny all; proxy_pass http://app; }\nlocation = /health { proxy_pass http://app; }");
    assert_eq!(get(&stack, "/x"), "403");
    // Whatever lies below reaches the instance as the path itself.
    assert_eq!(get(&stack, "/health/secret"), "app /health", "{}", made.text);

    let (stack, made) =
        server(&format!("{OPEN}\nlocation = /x {{ deny all; }}\nlocation /x {{ proxy_pass http://app; }}"));
    assert_eq!(get(&stack, "/x"), "403", "{}", made.text);
    let (stack, made) = server(&format!("location = / {{ return 404; }}\n{OPEN}"));
    assert_eq!((get(&stack, "/x").as_str(), made.closed.len()), ("404", 1), "and that is said");
    assert!(made.text.contains("#   service = \"app\""), "{}", made.text);
    let (stack, _) = server(&format!("location = / {{ return 301 /app/; }}\n{OPEN}"));
    assert_eq!(get(&stack, "/x"), "app", "a redirect of / alone is not for everything");
}

#[test]
fn patterns_that_refuse_close_what_they_could_match() {
    for (location, closed, open) in [
        ("location ~ /\\. { deny all; }", &["/", "/.git/config", "/api/.env", "/x"][..], &["/firm/x", "/exact"][..]),
        ("location ~* \\.(bak|sql)$ { return 404; }", &["/", "/x.sql", "/api/x"], &["/firm/x"]),
        ("location ~ ^/(admin|private)/ { deny all; }", &["/admin/x", "/private"], &["/", "/api/x", "/public"]),
        ("location ~ ^/api/internal { auth_basic x; proxy_pass http://app; }", &["/api/internal/x"], &["/api/x", "/"]),
        ("location ~ ^/(api|x)/.*\\.key$ { deny all; }", &["/api/x", "/x/y"], &["/", "/y"]),
        ("location ~ ^/a { location ~ \\.php$ { deny all; } }", &["/a"], &["/"]),
        ("location ~^/admin { limit_except GET { deny all; } }", &["/admin/x"], &["/"]),
    ] {
        let lines = format!(
            "{OPEN}\nlocation /api/ {{ proxy_pass http://app; }}\nlocation ^~ /firm/ {{ proxy_pass http://app; }}\n\
             location = /exact {{ proxy_pass http://app/exact; }}\n{location}"
        );
        let (stack, made) = server(&lines);
        for path in closed {
            assert!(["403", "404"].contains(&get(&stack, path).as_str()), "{location} {path}\n{}", made.text);
        }
        for path in open {
            assert!(get(&stack, path).starts_with("app"), "{location} {path}\n{}", made.text);
        }
        assert!(made.closed.iter().all(|one| one.contains("line 8: `location ~")), "{:?}", made.closed);
    }
    let (stack, made) = server(&format!("{OPEN}\nlocation ~* \\.(css|js)$ {{ expires max; }}"));
    assert_eq!((get(&stack, "/x.js").as_str(), made.closed.len()), ("app", 0));
}

#[test]
fn answers_of_return_are_pages_and_redirects() {
    let (stack, made) = server(&format!(
        "{OPEN}\nlocation /gone {{ return 410; }}\nlocation /no {{ return 404; }}\nlocation /cut {{ return 444; }}\n\
         location = /robots.txt {{ default_type text/plain; return 200 \"User-agent: *\\nDisallow: /\"; }}\n\
         location /empty {{ return 204; }}\nlocation /one {{ return 303 https://b.example/x; }}\n\
         location /two {{ return https://b.example$request_uri; }}\nlocation /own {{ return 301 $scheme://b.example/; }}\n\
         location /odd {{ return 302 $arg_to; }}\nlocation /var {{ return 200 $remote_addr; }}\n\
         location /said {{ return 403 \"Not you\"; }}"
    ));
    for (path, said) in [
        ("/gone", "410"),
        ("/no/x", "404"),
        ("/cut", "403"),
        ("/robots.txt", "200"),
        ("/empty", "200"),
        ("/one", "303 https://b.example/x"),
        ("/two", "302 https://b.example{uri}"),
        ("/own", "301 http://b.example/"),
        ("/odd", "403"),
        ("/var", "403"),
        ("/said", "403"),
        ("/", "app"),
    ] {
        assert_eq!(get(&stack, path), said, "{path}\n{}", made.text);
    }
    assert!(made.text.contains("text = \"Not you\""), "{}", made.text);
    assert!(made.text.contains("text = \"User-agent: *\\\\nDisallow: /\""), "{}", made.text);
    assert_eq!(made.closed.len(), 2, "only what is not the same here: {:?}", made.closed);

    let (stack, _) = server("return 403;\nlocation / { proxy_pass http://app; }");
    assert!(stack.routes.iter().all(|route| route.service != "app"), "nothing comes after it");
}

#[test]
fn methods_that_are_free_go_on_and_others_do_not() {
    let (stack, made) = server("location / { limit_except GET POST { deny all; } proxy_pass http://app; }");
    let said = |method: &str| answer(&stack, "web", "a.example", method, "/x");
    assert_eq!(
        [said("GET"), said("HEAD"), said("POST"), said("DELETE")],
        ["app", "app", "app", "403"],
        "{}",
        made.text
    );
}

#[test]
fn a_client_certificate_closes_the_server() {
    let conf = "upstream app { server 10.0.0.1:80; }\nserver { listen 443 ssl; ssl_verify_client on;\n\
                location / { proxy_pass http://app; } }";
    let (stack, made) = stack_of(&[("nginx.conf", conf)]);
    assert_eq!(get(&stack, "/"), "403", "{}", made.text);
    assert!(made.closed[0].contains("ssl_verify_client on"), "{:?}", made.closed);
}

#[test]
fn what_one_server_closes_another_of_the_same_name_does_not_open() {
    let conf = "server { listen 443 ssl; server_name a.example; location / { proxy_pass http://10.0.0.1; } }\n\
                server { listen 8443 ssl; server_name a.example; deny all; location / { proxy_pass http://10.0.0.1; } }";
    let (stack, _) = stack_of(&[("nginx.conf", conf)]);
    assert_eq!(get(&stack, "/"), "403", "both are reached at one address for now");
}

#[test]
fn a_server_that_only_sends_clients_to_tls_is_left_out() {
    let conf = "server { listen 443 ssl; server_name a.example; location / { proxy_pass http://10.0.0.1; } }\n\
                server { if ($host = a.example) { return 301 https://$host$request_uri; }\n\
                listen 80; server_name a.example; return 404; }";
    let (stack, made) = stack_of(&[("nginx.conf", conf)]);
    assert_eq!(stack.listeners["web"].bind.to_string(), "127.0.0.1:8080", "{}", made.text);
    assert_eq!(get(&stack, "/"), "app");
}

#[test]
fn fields_that_are_not_known_are_taken_from_clients() {
    let (stack, made) = server("location / { proxy_set_header X-Client-Dn $ssl_client_s_dn; proxy_pass http://app; }");
    assert_eq!(stack.routes[0].request_headers.remove, ["x-client-dn"], "{}", made.text);
    assert!(made.text.replace("\n#", "").contains("clients cannot say it either"), "{}", made.text);
}

#[test]
fn networks_that_are_believed() {
    let conf = "http { set_real_ip_from 10.0.0.0/8; set_real_ip_from ::1; real_ip_header X-Forwarded-For;\n\
                server { listen 80; location / { proxy_pass http://10.0.0.1; } }\n\
                server { listen 81 proxy_protocol; real_ip_header proxy_protocol; location / { proxy_pass http://10.0.0.1; } }\n\
                server { listen 82; real_ip_header X-Real-IP; location / { proxy_pass http://10.0.0.1; } } }";
    let (stack, made) = stack_of(&[("nginx.conf", conf)]);
    let [one, two, three] = ["web", "web-81", "web-82"].map(|name| &stack.listeners[name]);
    assert_eq!((one.trusted.len(), one.proxy_protocol), (2, false), "{}", made.text);
    assert_eq!((two.trusted.len(), two.proxy_protocol), (2, true));
    assert_eq!((three.trusted.len(), three.proxy_protocol), (0, false));
    assert!(made.text.contains("line 4: real_ip_header X-Real-IP"), "{}", made.text);
    let (stack, made) = server("listen 81 proxy_protocol;\nlocation / { proxy_pass http://app; }");
    assert!(stack.listeners.values().all(|one| !one.proxy_protocol));
    assert!(made.text.contains("listen 81 proxy_protocol (see `proxy_protocol`"), "{}", made.text);
}

#[test]
fn servers_of_tcp_and_udp() {
    let conf = "stream {\nupstream db { least_conn; server 10.0.0.1:5432; server 10.0.0.2:5432; }\n\
                server { listen 5432; proxy_pass db; }\nserver { listen 53 udp; proxy_pass 10.0.0.3:53; }\n\
                server { listen 9000; allow 10.0.0.0/8; deny all; proxy_pass db; }\n\
                server { listen 443; ssl_preread on; proxy_pass $name; } }";
    let (stack, made) = stack_of(&[("nginx.conf", conf)]);
    assert_eq!(stack.listeners.keys().collect::<Vec<_>>(), ["tcp-5432", "udp-53"], "{}", made.text);
    assert_eq!(stack.listeners["tcp-5432"].service.as_deref(), Some("db"));
    assert_eq!(stack.listeners["udp-53"].service.as_deref(), Some("udp-10-0-0-3"));
    assert!(
        made.closed[0].contains("not imported, nginx.conf line 5: `allow 10.0.0.0/8; deny all`"),
        "{:?}",
        made.closed
    );
    assert!(made.text.contains("line 6: listen 443"), "{}", made.text);
}

#[test]
fn a_pattern_within_a_place_is_asked_there_whatever_comes_before_others() {
    let (stack, _) = server(&format!(
        "{OPEN} location ^~ /files/ {{ proxy_pass http://app; location ~ \\.key$ {{ deny all; }} }} \
         location ^~ /static/ {{ proxy_pass http://app; }}"
    ));
    assert_eq!((get(&stack, "/files/a.key").as_str(), get(&stack, "/static/a").as_str()), ("403", "app"));
}

#[test]
fn of_two_locations_of_a_path_the_one_with_closed_methods_counts() {
    let (stack, _) = server(
        "location /x { proxy_pass http://app; } location /x/ { proxy_pass http://app; limit_except GET { deny all; } }",
    );
    assert_eq!(answer(&stack, "web", "a.example", "POST", "/x/y"), "403");
    assert_eq!(get(&stack, "/x/y"), "app");
}

#[test]
fn what_no_route_can_have_is_closed_as_a_whole() {
    let (stack, _) = server(&format!("{OPEN} location /. {{ deny all; }}"));
    assert_eq!(get(&stack, "/.git/config"), "403");
}

#[test]
fn what_follows_a_block_of_lua_is_read() {
    let (stack, _) = server(&format!(
        "{OPEN} location /a {{ header_filter_by_lua_block {{ -- it's {{\n local x = '}}' if x then y() end }} \
         proxy_pass http://app; }} location /admin {{ deny all; }}"
    ));
    assert_eq!((get(&stack, "/admin").as_str(), get(&stack, "/a").as_str()), ("403", "app"));
}
