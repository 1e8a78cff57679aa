//! One table of the API's routes, from which both the router and its description are made.
//!
//! Whoever adds a route says with it what it is for, which role it needs, what it takes and what it answers; there is
//! no other way to add one. The description follows the specification of `OpenAPI`, version 3.1.0, and is made from the
//! same types that requests are read into and answers are written from, once somebody asks for it. Whether a request is
//! let through is not decided here but by `evenkeel_core::access`; a test asks every route with every role and compares.

use axum::{Router, handler::Handler, routing::MethodRouter};
use evenkeel_core::access::Role;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{Api, error};

/// Where schemas that several operations share stand.
const SCHEMAS: &str = "/components/schemas";

/// How a type says what it looks like.
type Looks = fn(&mut SchemaGenerator) -> Schema;

/// A media type, and what of that type looks like where that can be said.
type Content = (&'static str, Option<Looks>);

const JSON: &str = "application/json";

/// What an operation is for and what it exchanges.
#[derive(Clone, Copy)]
pub(super) struct Words {
    about: &'static str,
    /// The lowest role that may ask; `None` for what is open to everybody.
    role: Option<Role>,
    query: Option<Looks>,
    body: Option<Content>,
    /// The status of an answer that is no error.
    status: u16,
    answer: Content,
}

/// An operation for those who have this role or a higher one.
pub(super) const fn for_role(role: Role, about: &'static str) -> Words {
    Words { about, role: Some(role), query: None, body: None, status: 200, answer: (JSON, None) }
}

/// An operation for everybody.
pub(super) const fn for_everybody(about: &'static str) -> Words {
    Words { role: None, ..for_role(Role::Viewer, about) }
}

impl Words {
    /// With these fields in its query.
    pub(super) fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(T::json_schema), ..self }
    }

    /// With a body of JSON.
    pub(super) fn takes<T: JsonSchema>(self) -> Self {
        Self { body: Some((JSON, Some(T::json_schema))), ..self }
    }

    /// With a body of another kind.
    pub(super) const fn takes_as(self, content_type: &'static str) -> Self {
        Self { body: Some((content_type, None)), ..self }
    }

    /// Answers JSON.
    pub(super) fn answers<T: JsonSchema>(self) -> Self {
        Self { answer: (JSON, Some(T::json_schema)), ..self }
    }

    /// Answers one JSON document a line, as they come.
    pub(super) fn answers_lines<T: JsonSchema>(self) -> Self {
        Self { answer: ("application/x-ndjson", Some(T::json_schema)), ..self }
    }

    /// Answers something else.
    pub(super) const fn answers_as(self, content_type: &'static str) -> Self {
        Self { answer: (content_type, None), ..self }
    }

    /// Answers with another status than 200.
    pub(super) const fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

/// One method of one path.
struct Operation {
    method: &'static str,
    path: &'static str,
    words: Words,
}

/// All routes, while they are put together.
pub(super) struct Table {
    router: Router<Api>,
    operations: Vec<Operation>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { router: Router::new(), operations: Vec::new() }
    }

    /// `GET`, and `HEAD` with it.
    pub(super) fn get<T: 'static>(self, path: &'static str, words: Words, handler: impl Handler<T, Api>) -> Self {
        self.add("get", path, words, axum::routing::get(handler))
    }

    /// `POST`.
    pub(super) fn post<T: 'static>(self, path: &'static str, words: Words, handler: impl Handler<T, Api>) -> Self {
        self.add("post", path, words, axum::routing::post(handler))
    }

    /// `DELETE`.
    pub(super) fn delete<T: 'static>(self, path: &'static str, words: Words, handler: impl Handler<T, Api>) -> Self {
        self.add("delete", path, words, axum::routing::delete(handler))
    }

    fn add(mut self, method: &'static str, path: &'static str, words: Words, route: MethodRouter<Api>) -> Self {
        self.operations.push(Operation { method, path, words });
        Self { router: self.router.route(path, route), operations: self.operations }
    }

    /// What answers.
    pub(super) fn router(self) -> Router<Api> {
        self.router
    }

    /// What describes it.
    pub(super) fn describe(&self) -> Value {
        let mut schemas = Schemas::new();
        let mut paths = Map::new();
        for operation in &self.operations {
            let path = paths.entry(operation.path).or_insert_with(|| json!({}));
            path[operation.method] = operation.describe(&mut schemas);
        }
        let error = schema(&mut schemas.answers, error::Body::json_schema);
        let mut shared = schemas.answers.take_definitions(true);
        shared.insert("Error".to_owned(), error);
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Evenkeel",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "What the command line and the console ask a stack with: on its control socket as its \
                                user or root, and at the console's address with a token or a session.",
            },
            "paths": paths,
            "components": { "schemas": shared, "securitySchemes": ways_in() },
        })
    }
}

/// A field that is left out where it is empty must be in no request and need not be in an answer, so types look
/// different on the two ways. Requests are small and share nothing; answers share what they consist of.
struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = SCHEMAS.into());
        Self {
            requests: settings().with(|settings| settings.inline_subschemas = true).into_generator(),
            answers: settings().for_serialize().into_generator(),
        }
    }
}

impl Operation {
    fn describe(&self, schemas: &mut Schemas) -> Value {
        let Self { method, path, words } = self;
        let mut parameters = in_path(path);
        if let Some(query) = words.query {
            parameters.extend(in_query(&schema(&mut schemas.requests, query)));
        }
        let words_of_path = path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty() && *word != "v1");
        let mut said = json!({
            "operationId": std::iter::once(*method).chain(words_of_path).collect::<Vec<_>>().join("-"),
            "summary": words.about,
            "parameters": parameters,
            "responses": { words.status.to_string(): {
                "description": "What was asked for.",
                "content": content(&mut schemas.answers, words.answer),
            }},
        });
        if let Some(body) = words.body {
            said["requestBody"] = json!({ "required": true, "content": content(&mut schemas.requests, body) });
        }
        said["security"] = json!([]);
        if let Some(role) = words.role {
            said["x-keel-role"] = json!(role);
            // To change something, a session needs both.
            let session =
                if *method == "get" { json!({ "session": [] }) } else { json!({ "session": [], "page": [] }) };
            said["security"] = json!([{ "token": [] }, session]);
            said["responses"]["401"] = problem("Neither a valid token nor a session was shown.");
            said["responses"]["403"] = problem("The role is too low, or a page elsewhere asks.");
            said["responses"]["default"] = problem("It was not done: `error` says why, and `hint` what helps.");
        }
        said
    }
}

fn content(schemas: &mut SchemaGenerator, (content_type, looks): Content) -> Value {
    let looks = looks.map_or_else(|| json!({}), |looks| json!({ "schema": schema(schemas, looks) }));
    json!({ content_type: looks })
}

fn schema(schemas: &mut SchemaGenerator, looks: Looks) -> Value {
    let mut schema = looks(schemas);
    // The name of a type of ours says nothing to whoever reads this.
    schema.remove("title");
    schema.to_value()
}

fn problem(about: &str) -> Value {
    let schema = json!({ "$ref": format!("#{SCHEMAS}/Error") });
    json!({ "description": about, "content": { JSON: { "schema": schema } } })
}

/// The parts of a path in braces.
fn in_path(path: &str) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })).collect()
}

/// The fields of an object as parameters of a query.
fn in_query(object: &Value) -> Vec<Value> {
    let required = |name: &str| {
        let names = object["required"].as_array();
        names.is_some_and(|names| names.iter().any(|required| required == name))
    };
    let properties = object["properties"].as_object();
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let about = schema.as_object_mut().and_then(|schema| schema.remove("description")).unwrap_or_else(|| json!(""));
        json!({ "name": name, "in": "query", "required": required(name), "description": about, "schema": schema })
    };
    properties.into_iter().flatten().map(parameter).collect()
}

/// What one shows.
fn ways_in() -> Value {
    json!({
        "token": { "type": "http", "scheme": "bearer", "description": "Made by `keel token create`." },
        "session": {
            "type": "apiKey", "in": "cookie", "name": "keel_session_PORT",
            "description": "The cookie of the console, by its port. A page elsewhere may not ask with it.",
        },
        "page": {
            "type": "apiKey", "in": "header", "name": "X-Keel-Csrf",
            "description": "What the console's page holds in `<meta name=\"csrf\">`, with every change.",
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use evenkeel_core::access;

    use super::*;
    use crate::api::routes;

    /// A route that nobody gave a role would silently ask for the highest one.
    #[test]
    fn every_route_has_the_role_that_it_says() {
        let table = routes::table();
        assert!(table.operations.len() >= 25);
        for Operation { method, path, words } in &table.operations {
            let Some(role) = words.role else {
                assert_eq!(*path, "/metrics", "nothing else is open to everybody");
                continue;
            };
            assert!(access::is_known(path), "{path} stands in no table of core/access.rs");
            assert_eq!(access::required(&method.to_uppercase(), path), role, "{method} {path}");
        }
    }

    #[test]
    fn the_description_is_whole() {
        let table = routes::table();
        let description = table.describe();
        let mut names = BTreeSet::new();
        for Operation { method, path, words } in &table.operations {
            let said = &description["paths"][path][method];
            assert!(names.insert(said["operationId"].as_str().unwrap()), "{method} {path} has the name of another");
            assert!(words.about.ends_with('.') && said["summary"] == words.about, "{method} {path}");
            let (content_type, _) = words.answer;
            assert!(said["responses"][words.status.to_string()]["content"][content_type].is_object());
        }
        let why = &description["paths"]["/v1/why"]["get"]["parameters"];
        assert_eq!(why[0]["name"], "at_ms");
        let scale = &description["paths"]["/v1/scale"]["post"]["requestBody"]["content"][JSON]["schema"];
        assert_eq!(scale["required"], json!(["service"]));
        let revoke = &description["paths"]["/v1/tokens/{name}"]["delete"]["parameters"][0];
        assert!(revoke["name"] == "name" && revoke["in"] == "path");
        // Whatever is referred to is there.
        let text = description.to_string();
        for name in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(description["components"]["schemas"][name].is_object(), "{name}");
        }
        assert!(description["components"]["schemas"]["InstanceStatus"].is_object());
    }
}
