//! `files = "public"`: a folder that is served as it is, by instances of `keel` itself.
//!
//! Such a service is run like any other: its instances are processes with ports of their own, started, probed,
//! restarted and replaced by the same rules as those of `run`. Here is what the key means and which command it
//! stands for; the server itself is a hidden command of the binary. Nothing here looks at the folder.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{check::Check, service::Service};

/// The binary that runs an instance's parent, whatever its name and place: proc(5).
const SELF: &str = "/proc/self/exe";

/// A folder of files to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Files {
    /// The folder, relative to the service's `dir`.
    pub dir: String,
    /// File in it that answers, with 200, for every path that has no file and no dot in its last part: what
    /// applications that route in the browser need.
    pub fallback: Option<String>,
}

impl Files {
    /// The command of one instance; `{port}` stands for its port.
    fn command(&self) -> Vec<String> {
        let mut command = [SELF, "__files", "--port", "{port}", "--dir", &self.dir].map(str::to_owned).to_vec();
        command.extend(self.fallback.iter().map(|file| format!("--fallback={file}")));
        command
    }

    /// What is wrong with the names, and what would be right.
    pub(super) fn fault(&self) -> Option<(&'static str, &'static str)> {
        if self.dir.is_empty() || self.dir.contains('\0') {
            return Some(("`files` names no folder", "as files = \"public\""));
        }
        let inside =
            |file: &String| !file.is_empty() && file.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        if !self.fallback.as_ref().is_none_or(inside) {
            return Some(("`fallback` is no file inside the folder", "as fallback = \"index.html\""));
        }
        None
    }
}

impl Service {
    /// Whether its instances are processes that `keel` starts: by `run` or `files`.
    pub fn is_run(&self) -> bool {
        self.run.is_some() || self.files.is_some()
    }

    /// The command of one instance, with `{port}` where its port belongs; `None` where something else runs them.
    pub fn command(&self) -> Option<Vec<String>> {
        self.run.clone().or_else(|| self.files.as_ref().map(Files::command))
    }

    /// An instance that serves files answers at `/`, if only that there is no page; it cannot serve when it says 5xx.
    pub(super) fn default_check_of_files() -> Check {
        Check { status: Some((200, 499)), ..Check::of_path("/") }
    }
}

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            dir: String,
            #[serde(default)]
            fallback: Option<String>,
        }
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = Files;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"folder\" or { dir = \"folder\", fallback = \"index.html\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Files, E> {
                Ok(Files { dir: text.to_owned(), fallback: None })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Files, A::Error> {
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Files { dir: table.dir, fallback: table.fallback })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Files {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Files".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "object"], "additionalProperties": false, "required": ["dir"], "properties": {
            "dir": { "type": "string", "description": "The folder, relative to the service's `dir`." },
            "fallback": { "type": "string", "default": null, "description":
                "File in it that answers, with 200, for every path that has no file and no dot in its last part." }
        } })
    }
}

#[cfg(test)]
mod tests {
    use crate::stack;

    fn parse(body: &str) -> Result<stack::Service, String> {
        let text = format!("[stack]\nname = \"t\"\n[services.site]\n{body}\n");
        stack::parse(&text, "t.toml").map(|stack| stack.services["site"].clone()).map_err(|faults| faults.to_string())
    }

    #[test]
    fn a_folder_stands_for_a_command_and_a_check() {
        let service = parse("files = \"public\"").unwrap();
        assert!(service.is_run());
        let command = service.command().unwrap().join(" ");
        assert_eq!(command, "/proc/self/exe __files --port {port} --dir public");
        let check = service.check.unwrap();
        assert_eq!((check.http.as_deref(), check.status), (Some("/"), Some((200, 499))));
        let service = parse("files = { dir = \"dist\", fallback = \"index.html\" }\ncheck = { tcp = true }").unwrap();
        assert!(service.command().unwrap().join(" ").ends_with("--dir dist --fallback=index.html"));
        assert!(service.check.unwrap().tcp, "a check of one's own stays");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (body, message) in [
            ("files = \"\"", "names no folder"),
            ("files = { dir = \"a\", fallback = \"../x\" }", "no file inside"),
            ("files = { dir = \"a\", fallback = \".env\" }", "no file inside"),
            ("files = { folder = \"a\" }", "unknown key `folder`"),
            ("files = 3", "files"),
            ("files = \"a\"\nrun = [\"b\"]", "both `run` and `files`"),
            ("files = \"a\"\ninstances = [\"b:1\"]", "both `instances` and `files`"),
        ] {
            let faults = parse(body).unwrap_err();
            assert!(faults.contains(message), "{body}: {faults}");
        }
    }
}
