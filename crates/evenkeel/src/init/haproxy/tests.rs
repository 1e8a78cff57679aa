//! Configurations as people have them, and who answers which request then.

use evenkeel_core::stack::{Stack, parse};

use super::super::{
    Made,
    tests::{answer, made, shown, stack_of},
};

/// A load balancer's configuration with defaults as Debian has them.
fn with(lines: &str) -> (Stack, Made) {
    stack_of(&[("haproxy.cfg", &format!("{DEBIAN}{lines}"))])
}

fn get(stack: &Stack, listener: &str, host: &str, path: &str) -> String {
    answer(stack, listener, host, "GET", path)
}

/// A section of requests with these rules, in front of the groups `app`, `api` and `admin`.
fn rules(lines: &str) -> (Stack, Made) {
    with(&format!(
        "frontend www\n bind *:80\n{lines}\nbackend app\n server a 10.0.0.1:80\nbackend api\n server a 10.0.0.2:80\n\
         backend admin\n server a 10.0.0.3:80\nbackend nobody\n http-request deny\n"
    ))
}

/// What a fresh installation comes with, in structure.
const DEBIAN: &str = "global\n\tlog /dev/log\tlocal0\n\tchroot /var/lib/haproxy\n\tstats socket /run/haproxy/admin.sock mode 660 level admin\n\
\tstats timeout 30s\n\tuser haproxy\n\tgroup haproxy\n\tdaemon\n\tca-base /etc/ssl/certs\n\
\tssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets\n\ndefaults\n\tlog\tglobal\n\tmode\thttp\n\
\toption\thttplog\n\toption\tdontlognull\n        timeout connect 5000\n        timeout client  50000\n\
        timeout server  50000\n\terrorfile 400 /etc/haproxy/errors/400.http\n\terrorfile 503 /etc/haproxy/errors/503.http\n\n";

const SHOP: &str = "frontend www
    bind *:80
    bind [::]:80 v4v6
    maxconn 20000
    option forwardfor
    http-request set-header X-Forwarded-Proto https if { ssl_fc }
    http-request del-header X-Remote-User
    acl is_api path_beg /api/
    acl static path_end .css .js
    use_backend api if is_api
    use_backend blog if { hdr(host) -i blog.example.com www.blog.example.com }
    use_backend files if static
    default_backend shop

backend shop
    balance leastconn
    option httpchk GET /healthz
    http-check expect status 200
    cookie SRV insert indirect nocache secure
    default-server inter 3s fall 3 rise 2
    server s1 10.0.0.1:8080 check cookie s1 weight 10 maxconn 200
    server s2 10.0.0.2:8080 check cookie s2 weight 20 maxconn 200
    server spare 10.0.0.9:8080 check backup
    http-response set-header X-Frame-Options DENY

backend api
    balance uri
    hash-type consistent
    timeout server 5s
    timeout queue 2s
    server a1 api.internal:3000 check

backend blog
    server b1 10.0.0.5:80
    server b2 10.0.0.6:443 ssl verify none

backend files
    server f1 10.0.0.7:80

listen db
    mode tcp
    bind 127.0.0.1:5432
    balance source
    option tcplog
    server p1 10.0.0.11:5432 check
    server p2 10.0.0.12:5432 check backup

listen stats
    bind *:8404
    stats enable
    stats uri /
";

#[test]
fn a_shop() {
    insta::assert_snapshot!(shown(&[("haproxy.cfg", &format!("{DEBIAN}{SHOP}"))]));
}

#[test]
fn a_fresh_installation_leads_nowhere() {
    let (_, made) = with("");
    assert!(made.found[0].contains("leads nobody to an instance"), "{:?}", made.found);
    assert!(made.text.contains("errorfile 400 /etc/haproxy/errors/400.http (see `error_pages`)"), "{}", made.text);
}

#[test]
fn the_first_rule_that_holds_leads_as_it_does_there() {
    let (stack, made) = rules(
        "use_backend api if { path_beg /api }\nuse_backend admin if { hdr(host) -i admin.example.com }\n\
         use_backend admin if { hdr_end(host) -i .staff.example.com } { path_beg /x }\n\
         use_backend api if { hdr(x-canary) 1 } METH_POST\ndefault_backend app",
    );
    for (host, path, said) in [
        ("a.example.com", "/", "app"),
        ("a.example.com", "/api/x", "api"),
        ("admin.example.com", "/", "admin"),
        ("admin.example.com", "/api", "api"),
        ("b.staff.example.com", "/x/y", "admin"),
        ("b.staff.example.com", "/y", "app"),
        ("b.staff.example.com", "/api", "api"),
    ] {
        assert_eq!(get(&stack, "www", host, path), said, "{host}{path}\n{}", made.text);
    }
    let conditional = stack.routes.iter().find(|route| !route.headers.is_empty()).unwrap();
    assert_eq!((conditional.headers["x-canary"].as_str(), &conditional.methods[..]), ("1", &["POST".to_owned()][..]));
    assert!(made.closed.is_empty(), "{:?}", made.closed);
}

#[test]
fn what_may_be_refused_is_closed() {
    for (lines, path, said, elsewhere) in [
        ("http-request deny if { path_beg /admin } !{ src 10.0.0.0/8 }", "/admin/x", "403", "app"),
        (
            "acl inside src 10.0.0.0/8\nhttp-request deny deny_status 404 if { path_beg /admin } !inside",
            "/admin",
            "404",
            "app",
        ),
        ("http-request auth realm x if { path_beg /admin } !{ http_auth(staff) }", "/admin/x", "403", "app"),
        ("http-request auth unless { http_auth(staff) }", "/x", "403", "403"),
        ("http-request tarpit if { path_beg /admin } { hdr_sub(user-agent) bot }", "/admin", "403", "app"),
        ("http-request reject if { src -f /etc/haproxy/bad.lst }", "/x", "403", "403"),
        ("http-request silent-drop if { path_beg /admin } unknown", "/admin", "403", "app"),
        ("tcp-request connection reject if { src -f /etc/haproxy/bad.lst }", "/x", "403", "403"),
        ("tcp-request content reject unless { src 10.0.0.0/8 }", "/x", "403", "403"),
        ("http-request deny unless { path_beg /public } || { src 10.0.0.0/8 }", "/x", "403", "403"),
        ("use_backend nobody if { path_beg /admin } { src 192.0.2.0/24 }", "/admin", "403", "app"),
        (
            "http-request redirect location /login if { path_beg /admin } !{ req.cook(sid) -m found }",
            "/admin",
            "403",
            "app",
        ),
        ("http-request use-service prometheus-exporter if { path_beg /metrics } unknown", "/metrics", "403", "app"),
        ("http-request deny if { path_beg /admin } { path_reg \\.php$ }", "/admin/x", "403", "app"),
        ("http-request deny if { path_beg,url_dec /admin }", "/x", "403", "403"),
        ("http-request deny if { path_beg -f /etc/paths }", "/x", "403", "403"),
    ] {
        let (stack, made) = rules(&format!("{lines}\ndefault_backend app"));
        assert_eq!(get(&stack, "www", "a.example", path), said, "{lines}\n{}", made.text);
        assert_eq!(get(&stack, "www", "a.example", "/elsewhere"), elsewhere, "{lines}\n{}", made.text);
        assert!(!made.closed.is_empty() && made.closed[0].contains("haproxy.cfg line "), "{lines}: {:?}", made.closed);
        assert!(made.text.contains("service = \"app\""), "{lines}: how to open it\n{}", made.text);
    }
}

#[test]
fn what_is_refused_in_any_case_is_refused_in_any_case() {
    let (stack, made) = rules(
        "http-request deny if { path_beg /admin }\nhttp-request deny deny_status 410 if { path_beg /old } METH_GET\n\
         http-request return status 200 content-type text/plain string \"fine\" if { path /ping }\nmonitor-uri /up\n\
         http-request deny if { hdr(host) -i bad.example }\nuse_backend nobody if { path_beg /no }\ndefault_backend app",
    );
    for (host, path, said) in [
        ("a.example", "/", "app"),
        ("a.example", "/admin/x", "403"),
        ("a.example", "/old", "410"),
        ("a.example", "/ping", "200"),
        ("a.example", "/up", "200"),
        ("a.example", "/no/x", "403"),
        ("bad.example", "/x", "403"),
    ] {
        assert_eq!(get(&stack, "www", host, path), said, "{host}{path}\n{}", made.text);
    }
    assert_eq!(answer(&stack, "www", "a.example", "POST", "/old"), "app");
    assert!(made.closed.is_empty(), "nothing is to be decided: {:?}", made.closed);
}

#[test]
fn one_path_that_is_free_opens_nothing_below_it() {
    let (stack, made) = rules("http-request deny unless { path /health }\ndefault_backend app");
    assert_eq!(get(&stack, "www", "a.example", "/health/secret"), "app /health", "{}", made.text);
    assert_eq!(get(&stack, "www", "a.example", "/x"), "403");
    let (stack, made) = rules("http-request deny if { path / }\ndefault_backend app");
    assert_eq!((get(&stack, "www", "a.example", "/x").as_str(), made.closed.len()), ("403", 1), "and that is said");
    let (stack, _) = rules("http-request redirect location /app/ if { path / }\ndefault_backend app");
    assert_eq!(get(&stack, "www", "a.example", "/x"), "app");
}

#[test]
fn limits_on_how_often_are_no_closed_doors() {
    let (stack, made) = rules(
        "stick-table type ip size 100k expire 30s store http_req_rate(10s)\nhttp-request track-sc0 src\n\
         http-request deny deny_status 429 if { sc_http_req_rate(0) gt 100 }\ndefault_backend app",
    );
    assert_eq!(get(&stack, "www", "a.example", "/"), "app", "{}", made.text);
    assert!(
        made.text.replace("\n#", "").contains("(see `rate` of a route)") && made.closed.is_empty(),
        "{}",
        made.text
    );
}

#[test]
fn rules_of_a_group_hold_for_whoever_is_led_there() {
    let (stack, made) = with(
        "frontend www\n bind *:80\n use_backend admin if { path_beg /admin }\n default_backend app\n\
         backend app\n server a 10.0.0.1:80\nbackend admin\n http-request deny unless { src 10.0.0.0/8 }\n\
         server a 10.0.0.2:80\n",
    );
    assert_eq!(get(&stack, "www", "a.example", "/admin"), "403", "{}", made.text);
    assert_eq!(get(&stack, "www", "a.example", "/"), "app");
    assert!(made.text.contains("#   service = \"admin\""), "{}", made.text);
    assert!(stack.services.contains_key("admin"), "so that it can be opened");
}

#[test]
fn tls_keeps_its_clients_inside() {
    let conf = "frontend plain\n bind :80\n redirect scheme https code 301 if !{ ssl_fc }\n\
                frontend secure\n bind :443 ssl crt /etc/site.pem alpn h2,http/1.1\n default_backend app\n\
                frontend staff\n bind :8443 ssl crt x ca-file y verify required\n default_backend app\n\
                backend app\n server a 10.0.0.1:80\n";
    let (stack, made) = with(conf);
    let binds: Vec<String> = stack.listeners.values().map(|one| one.bind.to_string()).collect();
    assert_eq!(binds, ["127.0.0.1:8080", "127.0.0.1:8081"], "{}", made.text);
    assert_eq!(get(&stack, "secure", "a.example", "/"), "app");
    assert_eq!(get(&stack, "staff", "a.example", "/"), "403", "a certificate was asked for");

    let both = "frontend www\n bind :80\n bind :443 ssl crt x\n http-request redirect scheme https unless { ssl_fc }\n\
                default_backend app\nbackend app\n server a 10.0.0.1:80\n";
    let (stack, made) = with(both);
    assert_eq!(stack.listeners["www"].bind.to_string(), "127.0.0.1:8080", "{}", made.text);
    let (stack, made) = with(
        "frontend www\n bind :80\n redirect scheme https code 301\n default_backend app\n\
                              frontend in\n bind 127.0.0.1:81\n default_backend app\nbackend app\n server a 10.0.0.1:80\n",
    );
    assert_eq!(get(&stack, "www", "a.example", "/"), "301 https://{host}{uri}", "{}", made.text);
}

#[test]
fn connections_that_may_be_refused_are_not_imported() {
    let tcp = |lines: &str| {
        with(&format!(
            "listen db\n mode tcp\n bind :5432\n{lines}\n server a 10.0.0.1:5432\nlisten web\n bind :80\n server a 10.0.0.2:80\n"
        ))
    };
    let (stack, made) = tcp("tcp-request connection reject if !{ src 10.0.0.0/8 }");
    assert!(!stack.listeners.contains_key("db"), "{}", made.text);
    assert!(made.closed[0].contains("listen db: not imported, by haproxy.cfg line "), "{:?}", made.closed);
    let (stack, made) = tcp("use_backend other if { req.ssl_sni -i a.example }");
    assert!(!stack.listeners.contains_key("db"), "{}", made.text);
    let (stack, made) = tcp("tcp-request connection reject if { src_conn_rate gt 10 }");
    assert_eq!(stack.listeners["db"].service.as_deref(), Some("db"), "{}", made.text);
}

#[test]
fn what_belongs_to_each_group() {
    let (stack, made) = rules(
        "use_backend two if { path_beg /two }\nuse_backend three if { path_beg /three }\ndefault_backend one\n\
         backend one\n balance hdr(X-User)\n cookie S prefix\n option httpchk\n http-check send meth GET uri /up hdr Host a.example\n\
         server a 10.1.0.1:80 check inter 500 disabled\n server b 10.1.0.2:80 check inter 500 send-proxy-v2\n\
         backend two\n balance random\n retries 1\n server a [::1]:80 slowstart 10s\n server b 10.1.0.4\n server c unix@/run/x\n\
         backend three\n balance first\n stick on src\n server a 10.1.0.5:80 weight 0\n server b 10.1.0.6:80 backup",
    );
    let one = made.text.split("[services.one]").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(one.contains("balance = \"maglev\"\nhash_by = \"header:x-user\""), "{one}");
    assert!(one.contains("check = { http = \"/up\", host = \"a.example\", interval = \"500ms\" }"), "{one}");
    assert!(one.contains("proxy_protocol = \"v2\"") && one.contains("instances = [\"10.1.0.2:80\"]"), "{one}");
    let two = made.text.split("[services.two]").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(two.contains("slow_start = \"10000ms\"") && two.contains("retries = { max = 1 }"), "{two}");
    assert!(stack.services["three"].sticky.is_some() && stack.services["three"].fixed().len() == 1);
    for left_out in ["cookie S prefix", "server c unix@/run/x", "server b 10.1.0.4 (no address", "balance first"] {
        assert!(made.text.contains(left_out), "{left_out}\n{}", made.text);
    }
}

#[test]
fn each_group_has_a_cookie_of_its_own() {
    let (stack, made) = with(
        "frontend www\n bind :80\n use_backend two if { path_beg /two }\n default_backend one\nbackend one\n cookie S insert\n\
         server a 10.0.0.1:80 cookie a\nbackend two\n cookie S insert\n server a 10.0.0.2:80 cookie a\n",
    );
    assert!(stack.services.values().all(|service| service.sticky.is_some()));
    assert!(made.text.contains("cookie = \"S\"") && made.text.contains("cookie = \"S-two\""), "{}", made.text);
}

#[test]
fn a_damaged_configuration_still_leads_to_a_valid_file() {
    let text = format!("{DEBIAN}{SHOP}http-request deny if {{ src 1.2.3.4 }} || !{{ path /x }} unless or ! {{");
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end) && end % 7 == 0) {
        let (before, after) = text.split_at(end);
        stack_of(&[("haproxy.cfg", before)]);
        if end % 21 == 0 {
            stack_of(&[("haproxy.cfg", after)]);
        }
    }
    let many: Vec<String> =
        (0..300).map(|n| format!("use_backend app if {{ path_beg /{n} }} {{ hdr(host) h{n}.example }}\n")).collect();
    let many = many.concat();
    let made =
        made(&[("haproxy.cfg", &format!("{DEBIAN}frontend w\n bind :80\n{many}backend app\n server a 10.0.0.1:80\n"))]);
    parse(&made.text, "keel.toml").unwrap();
}

#[test]
fn whoever_may_be_led_to_a_group_that_refuses_is_closed_out() {
    let (stack, _) = with(
        "frontend www\n bind *:80\n use_backend staff if { path_reg ^/adm }\n \
         default_backend app\nbackend staff\n http-request deny unless { src 10.0.0.0/8 }\n server a 10.0.0.1:80\n\
         backend app\n server a 10.0.0.1:80\n",
    );
    assert_eq!(get(&stack, "www", "a.example", "/admin"), "403");
    let (stack, _) = rules(" use_backend api if { path_reg ^/api }\n default_backend app");
    assert_eq!(get(&stack, "www", "a.example", "/api"), "app", "a group that lets everybody in closes nothing");
    let (stack, _) = rules(" reqideny ^[^\\ ]*\\ /admin\n default_backend app");
    assert_eq!(get(&stack, "www", "a.example", "/admin"), "403");
}
