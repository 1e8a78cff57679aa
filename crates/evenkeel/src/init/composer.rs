//! `composer.json`: a PHP application, run by PHP's built-in server or by Laravel's wrapper of it.
//!
//! The built-in server serves what it should for a first look and answers one request at a time in each of its
//! workers; PHP-FPM needs `FastCGI`, which this version does not speak, so the file says how to reach it
//! meanwhile.

use serde_json::Value;

use super::found::{Folder, Found, Service};

const SOURCE: &str = "composer.json";

/// Looks for it.
pub(super) fn find(folder: &Folder) -> Option<Found> {
    let composer: Value = serde_json::from_str(&folder.read(SOURCE)?).ok()?;
    let requires = |package: &str| composer["require"][package].is_string();
    let (what, service) = if folder.has("artisan") && requires("laravel/framework") {
        let run = ["php", "artisan", "serve", "--host=127.0.0.1", "--port={port}", "--no-reload"];
        let mut service = Service::run("web", run).comment("Laravel's own server.");
        if folder.read("bootstrap/app.php").is_some_and(|text| text.contains("'/up'")) {
            service = service.check("/up");
        }
        ("a Laravel application", service)
    } else {
        let root = ["public", "web", "htdocs", "www"].into_iter().find(|dir| folder.has(&format!("{dir}/index.php")));
        let root = root.or_else(|| folder.has("index.php").then_some("."))?;
        let router = format!("{root}/index.php");
        let mut run = vec!["php", "-S", "127.0.0.1:{port}", "-t", root];
        let front_controller = ["symfony/framework-bundle", "slim/slim", "laminas/laminas-mvc", "cakephp/cakephp"];
        if front_controller.into_iter().any(requires) {
            run.push(&router);
        }
        let comment = format!("PHP's built-in server, with {root}/ as its document root.");
        let what = if requires("symfony/framework-bundle") { "a Symfony application" } else { "a PHP application" };
        (what, Service::run("web", run).comment(comment))
    };
    let notes = vec![
        "PHP's built-in server is not made for the public: PHP_CLI_SERVER_WORKERS is how many requests an instance \
         serves at once."
            .to_owned(),
        "PHP-FPM speaks FastCGI, which this version of keel does not. With a web server in front of it, use \
         instances = [\"127.0.0.1:8081\"] instead of `run`."
            .to_owned(),
    ];
    Some(Found {
        source: SOURCE.to_owned(),
        what: what.to_owned(),
        services: vec![service.env("PHP_CLI_SERVER_WORKERS", "4")],
        notes,
        ..Found::default()
    })
}
