//! A jar: a Java application that was built by Maven or Gradle, or copied here.
//!
//! Spring Boot is recognised by the build file and told its port by an argument; any other program finds it in
//! `PORT`. Jars of sources, documentation and what a repackaging left over cannot be run and are passed over.

use super::found::{Folder, Found, Service};

const PLACES: [&str; 3] = ["target", "build/libs", "."];
const BUILD_FILES: [&str; 3] = ["pom.xml", "build.gradle", "build.gradle.kts"];

/// Looks for it.
pub(super) fn find(folder: &Folder) -> Option<Found> {
    let jar = PLACES.into_iter().find_map(|place| jar_in(folder, place))?;
    let build = BUILD_FILES.into_iter().find_map(|file| folder.read(file)).unwrap_or_default();
    let spring = build.contains("spring-boot") || build.contains("org.springframework.boot");
    let mut notes =
        vec!["Every instance has a heap of its own: set -Xmx so that all of them fit into memory.".to_owned()];
    let service = if spring {
        let run = ["java", "-jar", &jar, "--server.port={port}", "--server.shutdown=graceful"];
        let service = Service::run("web", run).comment("A Spring Boot application.");
        if build.contains("spring-boot-starter-actuator") {
            service.check("/actuator/health")
        } else {
            notes.push("spring-boot-starter-actuator gives the path /actuator/health for `check`.".to_owned());
            service
        }
    } else {
        notes.push("The program must listen on the port in the environment variable PORT.".to_owned());
        Service::run("web", ["java", "-jar", &jar])
    };
    let what = if spring { "a Spring Boot application" } else { "a Java application" };
    Some(Found { source: jar, what: what.to_owned(), services: vec![service], notes, ..Found::default() })
}

/// The largest jar that can be run: one with its dependencies inside is larger than one without.
fn jar_in(folder: &Folder, place: &str) -> Option<String> {
    let runs = |name: &str| {
        name.strip_suffix(".jar").is_some_and(|stem| {
            let other = ["-sources", "-javadoc", "-plain", "-tests"].iter().any(|end| stem.ends_with(end));
            !other && !stem.starts_with("original-") && stem != "gradle-wrapper"
        })
    };
    let jars = folder.files(place).into_iter().filter(|(name, _)| runs(name));
    let (name, _) = jars.max_by_key(|(_, size_bytes)| *size_bytes)?;
    Some(if place == "." { name } else { format!("{place}/{name}") })
}
