//! The examples as their readers try them: the commands of each README, pasted into a shell.
//!
//! Each test copies one folder of `examples/`, runs the README's blocks as they are written, on the ports that are
//! written there, and then harms what runs while clients use it. An engine that is not installed fails its test with
//! one line that says what to install. The tests take turns, since some of the engines are heavy.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../system/load.rs"]
#[allow(dead_code, reason = "the same clients as in the other tests, which use more of them")]
mod load;
#[path = "../system/ports.rs"]
mod ports;
mod readme;
mod rig;

use rig::{Example, Need};

use crate::load::Load;

const NODE: Need = Need { file: "node", package: "nodejs" };
const PYTHON: Need = Need { file: "python3", package: "python3" };
const JAVA: [Need; 2] =
    [Need { file: "java", package: "default-jdk-headless" }, Need { file: "javac", package: "default-jdk-headless" }];
const PHP_FPM: Need = Need { file: "/usr/sbin/php-fpm*", package: "php-fpm" };
const PHP: Need = Need { file: "/usr/lib/apache2/modules/libphp*.so", package: "libapache2-mod-php" };

/// What every README promises: its page, its operator's action, and that neither that nor a death is noticed.
fn as_written(name: &str, needs: &[Need], page: &str, service: &str) {
    let example = Example::start(name, needs);
    let shown = example.paste(1);
    assert!(shown.contains(page), "{shown}");
    let load = Load::start(example.port(), "/", 4);
    load.wait_for(20);
    example.paste(2);
    example.wait_until_well();
    example.kill_one_of(service);
    example.wait_until_well();
    load.wait_for(20);
    load.finish().assert_clean();
    example.stop();
}

/// What `keel init` writes for the same application, without the example's own stack file.
fn as_init_writes_it(name: &str, needs: &[Need], page: &str) {
    let example = Example::of_init(name, needs);
    let shown = example.get("/");
    assert!(shown.contains(page), "{shown}");
    example.stop();
}

#[test]
fn in_front_of_what_runs() {
    let example = Example::start("in-front", &[PYTHON]);
    let shown = example.paste(1);
    for port in ["8001", "8002"] {
        assert!(shown.contains(&format!("hello from port {port}")), "{shown}");
    }
    let load = Load::start(example.port(), "/", 4);
    load.wait_for(20);
    example.paste(2);
    example.wait_until("the drained server gets nothing", || {
        (0..8).all(|_| example.get("/").contains("hello from port 8002"))
    });
    let killed = example.kill_server("8001");
    load.wait_for(50);
    example.start_server("8001");
    example.keel(&["resume", "app/127.0.0.1:8001"]);
    example.wait_until("it gets requests again", || example.get("/").contains("hello from port 8001"));
    assert_ne!(killed, example.kill_server("8002"), "two servers");
    load.wait_for(50);
    load.finish().assert_clean();
    example.stop();
}

#[test]
fn node() {
    as_written("node", &[NODE], "hello from process", "app");
    as_init_writes_it("node", &[NODE], "hello from process");
}

#[test]
fn python() {
    as_written("python", &[PYTHON], "hello from process", "app");
    as_init_writes_it("python", &[PYTHON], "hello from process");
}

#[test]
fn java() {
    as_written("java", &JAVA, "hello from process", "app");
    as_init_writes_it("java", &JAVA, "hello from process");
}

#[test]
fn php() {
    as_written("php", &[PHP], "with PHP", "web");
    // It comes with PHP's command, whose own server is what can be written without an Apache.
    as_init_writes_it("php", &[PHP], "with PHP");
}

#[test]
fn php_fpm() {
    as_written("php-fpm", &[PHP_FPM], "hello from worker", "app");
}

#[test]
fn a_folder_of_files() {
    let example = Example::start("static", &[]);
    assert!(example.paste(1).contains("the first version"));
    let load = Load::start(example.port(), "/", 4);
    load.wait_for(50);
    example.kill_one_of("site");
    example.wait_until_well();
    example.paste(2);
    example.wait_until_well();
    assert!(example.get("/").contains("the second version"));
    example.keel(&["rollback", "site"]);
    example.wait_until_well();
    assert!(example.get("/").contains("the first version"));
    load.wait_for(50);
    load.finish().assert_clean();
    assert!(example.get("/nothing").contains("There is no such page"));
    example.stop();
    as_init_writes_it("static", &[], "the first version");
}

#[test]
fn a_canary() {
    let example = Example::start("canary", &[]);
    let shown = example.paste(1);
    for part in ["18 the present version", "2 the next version"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(shown.ends_with("\nthe next version\n"), "{shown}");
    let load = Load::start(example.port(), "/", 4);
    load.wait_for(50);
    example.paste(2);
    // Other requests come in between, so the parts are not exact here.
    let next = || (0..10).filter(|_| example.get("/").contains("the next version")).count();
    example.wait_until("it gets about half of them", || (3..=7).contains(&next()));
    example.kill_one_of("next");
    example.wait_until_well();
    load.wait_for(50);
    load.finish().assert_clean();
    example.stop();
}

/// A README has a heading, few commands, and each example stands in the index.
#[test]
fn the_index_has_every_example() {
    let index = std::fs::read_to_string(rig::examples().join("README.md")).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(rig::examples()).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            let name = entry.file_name().into_string().unwrap();
            assert!(index.contains(&format!("]({name}/)")), "{name} is not in examples/README.md");
            let blocks = readme::blocks(&std::fs::read_to_string(entry.path().join("README.md")).unwrap());
            assert_eq!(blocks.len(), 3, "{name}: start it, look at it, do something to it");
            assert!(blocks[0].starts_with(&format!("cd examples/{name}\n")), "{name}");
            assert!(blocks[0].ends_with("keel up\n"), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 8);
}
