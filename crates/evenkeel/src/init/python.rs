//! A Python application: Django by `manage.py`, others by `app.py`, `main.py` or `wsgi.py` and what they require.
//!
//! WSGI applications get gunicorn, ASGI applications uvicorn; both must be installed, and the file says so where
//! the requirements do not name them. No code is imported or run.

use super::found::{Folder, Found, Service};

const MAIN_FILES: [&str; 4] = ["app.py", "main.py", "wsgi.py", "asgi.py"];

/// Looks for it.
pub(super) fn find(folder: &Folder) -> Option<Found> {
    let requires = ["requirements.txt", "pyproject.toml", "Pipfile"].into_iter().filter_map(|file| folder.read(file));
    let requires = requires.collect::<Vec<_>>().join("\n").to_lowercase();
    let (source, what, server, service) = match folder.read("manage.py") {
        Some(manage) => {
            let module = settings_module(&manage).unwrap_or_else(|| "project".to_owned());
            ("manage.py", "a Django application", "gunicorn", gunicorn(&format!("{module}.wsgi:application")))
        }
        None => plain(folder, &requires)?,
    };
    let mut notes = Vec::new();
    if !server.is_empty() && !requires.contains(server) {
        notes.push(format!("The requirements do not name {server}: install it, as `pip install {server}`."));
    }
    if server.is_empty() {
        notes.push("The program must listen on the port in the environment variable PORT.".to_owned());
    }
    if folder.has(".venv/bin/python") {
        notes.push(
            "Commands are looked for in PATH; for the virtual environment write `.venv/bin/` before them.".into(),
        );
    }
    Some(Found {
        source: source.to_owned(),
        what: what.to_owned(),
        services: vec![service.env("PYTHONUNBUFFERED", "1")],
        notes,
        ..Found::default()
    })
}

type Plain = (&'static str, &'static str, &'static str, Service);

fn plain(folder: &Folder, requires: &str) -> Option<Plain> {
    let (file, code) = MAIN_FILES.into_iter().find_map(|file| folder.read(file).map(|code| (file, code)))?;
    let module = file.trim_end_matches(".py");
    let uses = |package: &str| requires.contains(package) || code.to_lowercase().contains(&format!("import {package}"));
    let imports = |package: &str| uses(package) || code.to_lowercase().contains(&format!("from {package} "));
    let asgi = ["fastapi", "starlette", "litestar", "quart"].into_iter().any(imports) || file == "asgi.py";
    let wsgi = ["flask", "bottle", "pyramid", "falcon"].into_iter().any(imports) || file == "wsgi.py";
    Some(if asgi {
        let app = format!("{module}:{}", variable(&code));
        let run = ["uvicorn", &app, "--host", "127.0.0.1", "--port", "{port}"];
        (file, "an ASGI application", "uvicorn", Service::run("web", run))
    } else if wsgi {
        (file, "a WSGI application", "gunicorn", gunicorn(&format!("{module}:{}", variable(&code))))
    } else {
        (file, "a Python program", "", Service::run("web", ["python3", file]))
    })
}

fn gunicorn(app: &str) -> Service {
    Service::run("web", ["gunicorn", app, "--bind", "127.0.0.1:{port}", "--workers", "2"])
}

/// The name that the application object has.
fn variable(code: &str) -> &'static str {
    let assigned =
        |name: &str| code.lines().any(|line| line.strip_prefix(name).is_some_and(|l| l.trim_start().starts_with('=')));
    if !assigned("app") && assigned("application") { "application" } else { "app" }
}

/// `shop` of `os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")`.
fn settings_module(manage: &str) -> Option<String> {
    let (_, after) = manage.split_once("DJANGO_SETTINGS_MODULE")?;
    let value = after.split(['"', '\'']).find(|part| part.contains(".settings"))?;
    let module = value.split(".settings").next()?;
    let fits = !module.is_empty() && module.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
    fits.then(|| module.to_owned())
}
