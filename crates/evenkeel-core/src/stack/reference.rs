//! The reference page and the JSON schema, made from the fields' documentation.

use std::fmt::Write;

use schemars::{Schema, schema_for};
use serde_json::{Map, Value};

use super::Stack;

/// The JSON schema of the stack file.
pub fn schema() -> Schema {
    schema_for!(Stack)
}

/// The schema as a file.
pub fn schema_json() -> String {
    let mut text = serde_json::to_string_pretty(&schema()).expect("a schema is plain JSON");
    text.push('\n');
    text
}

/// The reference page, in Markdown: one table for each part of the file, every key with its default.
pub fn markdown() -> String {
    let root = schema().to_value();
    let mut page = String::from(
        "# The stack file: reference\n\n<!-- Made from the fields' documentation by `cargo xtask docs`. -->\n\n\
         Strict TOML: an unknown key, a wrong type or a dangling name is an error. Durations are written as `250ms`,\n\
         `1s`, `5m`, `2h`, `7d`, sizes as `512B`, `64KiB`, `16MiB`, `1GB`.\n",
    );
    table(&root, &root, "", &mut page);
    page
}

/// One table, then one for each part that is a table itself. `path` is empty for the file as a whole.
fn table(root: &Value, node: &Value, path: &str, page: &mut String) {
    let Some(fields) = node.get("properties").and_then(Value::as_object) else {
        return;
    };
    let title = if path.is_empty() { "The file".to_owned() } else { format!("`{path}`") };
    let _ = write!(page, "\n## {title}\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
    for (name, field) in fields {
        let resolved = resolve(root, field);
        let _ = writeln!(
            page,
            "| `{name}` | {} | {} | {} |",
            kinds(root, field),
            default(node, name, field),
            cell(description(field, resolved))
        );
    }
    for (name, field) in fields {
        if let Some((part, suffix)) = part(root, field) {
            let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            table(root, part, &format!("{below}{suffix}"), page);
        }
    }
}

/// The table that a field holds, and what stands behind its name: nothing, `.NAME` or `[]`.
fn part<'a>(root: &'a Value, field: &'a Value) -> Option<(&'a Value, &'static str)> {
    let field = resolve(root, field);
    if field.get("properties").is_some() {
        return Some((field, ""));
    }
    let values = field.get("additionalProperties").filter(|values| values.is_object());
    if let Some(values) = values.map(|values| resolve(root, values)).filter(|v| v.get("properties").is_some()) {
        return Some((values, ".NAME"));
    }
    let items = field.get("items").map(|items| resolve(root, items))?;
    items.get("properties").map(|_| (items, "[]"))
}

/// Follows `$ref` and the non-null side of an optional field.
fn resolve<'a>(root: &'a Value, field: &'a Value) -> &'a Value {
    if let Some(name) = field.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/")) {
        return resolve(root, &root["$defs"][name]);
    }
    let sides = field.get("anyOf").and_then(Value::as_array);
    match sides.and_then(|sides| sides.iter().find(|side| side.get("$ref").is_some())) {
        Some(side) => resolve(root, side),
        None => field,
    }
}

fn description<'a>(field: &'a Value, resolved: &'a Value) -> &'a str {
    let own = field.get("description").or_else(|| resolved.get("description"));
    own.and_then(Value::as_str).unwrap_or_default()
}

/// What may stand there, in each form that a key has.
fn kinds(root: &Value, field: &Value) -> String {
    if let Some(name) = field.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/")) {
        return kinds(root, &root["$defs"][name]);
    }
    let sides = field.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    let mut forms: Vec<String> = Vec::new();
    for side in sides.filter(|side| side.get("type").is_none_or(|kind| kind != "null")) {
        let form = kinds(root, side);
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    if forms.is_empty() { kind(root, field) } else { forms.join(" or ") }
}

fn kind(root: &Value, field: &Value) -> String {
    if let Some(names) = field.get("enum").and_then(Value::as_array) {
        return names.iter().filter_map(Value::as_str).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    }
    // The same where each word has a description of its own.
    let words = field.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let words: Vec<String> = words.filter_map(|word| Some(format!("`{}`", word.get("const")?.as_str()?))).collect();
    if !words.is_empty() {
        return words.join(", ");
    }
    if let Some(pattern) = field.get("pattern").and_then(Value::as_str) {
        let kinds = [("KiB", "size"), ("(ms|", "duration"), (" *%$", "percentage")];
        let known = kinds.into_iter().find(|(sign, _)| pattern.contains(sign));
        return known.map_or("string", |(_, kind)| kind).to_owned();
    }
    match type_name(field) {
        Some("array") => field.get("items").map_or_else(
            || "array".to_owned(),
            |items| format!("array of {}", kind(root, resolve(root, items)).trim_start_matches("a ")),
        ),
        Some("object") => "table".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => "number".to_owned(),
        Some(other) => other.to_owned(),
        None => "address".to_owned(),
    }
}

fn type_name(field: &Value) -> Option<&str> {
    match field.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    }
}

fn default(node: &Value, name: &str, field: &Value) -> String {
    let required = node.get("required").and_then(Value::as_array);
    if required.is_some_and(|required| required.iter().any(|other| other == name)) {
        return "required".to_owned();
    }
    match field.get("default") {
        None | Some(Value::Null) => "–".to_owned(),
        Some(Value::Object(table)) => defaults_of(table),
        Some(Value::Array(items)) if items.is_empty() => "none".to_owned(),
        Some(value) => format!("`{value}`"),
    }
}

fn defaults_of(table: &Map<String, Value>) -> String {
    if table.is_empty() { "none".to_owned() } else { "see below".to_owned() }
}

fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}
