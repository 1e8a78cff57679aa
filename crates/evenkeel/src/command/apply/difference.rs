//! `keel apply --diff`: what a file would change of what is in force, and what becomes of overrides.
//!
//! It says more than a comparison of two files could: what is in force is the file and what commands changed since.
//! Values of environments are named, never shown.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ask;
use crate::{
    api::{Api, as_fix},
    context::{Context, shell_word},
    failure::{Exit, Failure},
    running::Running,
    style::harmless,
};

/// The answer of `POST /v1/diff`.
#[derive(Serialize, Deserialize)]
struct Difference {
    revision: u64,
    differs: bool,
    changes: Vec<String>,
    keys: Vec<String>,
    kept: Vec<String>,
    dropped: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<(String, String)>,
}

/// Shows the difference. Ends with [`Exit::Failed`] where there is one.
pub(super) async fn run(
    (api, running): (&Api, &Running),
    file: &Path,
    order: &Value,
    context: &Context,
) -> Result<Exit, Failure> {
    let found: Difference = ask(api, "/v1/diff", order).await?;
    let exit = if found.differs { Exit::Failed } else { Exit::Done };
    if context.json {
        context.json(&found)?;
        return Ok(exit);
    }
    if found.differs {
        context.line(format!("against revision {}, which is in force:", found.revision))?;
        for change in &found.changes {
            context.line(format!("  {}", harmless(change)))?;
        }
    } else {
        context.line(format!("no difference to revision {}, which is in force", found.revision))?;
    }
    if !found.keys.is_empty() {
        context.line("by keys:")?;
    }
    for key in &found.keys {
        context.line(format!("  {}", harmless(key)))?;
    }
    overrides(&found.kept, &found.dropped, context)?;
    if let Some((what, fix)) = &found.refused {
        context.line(format!("{} this file: {}", context.paint.bad("refused"), harmless(what)))?;
        context.line(format!("  {}", as_fix(&harmless(fix))))?;
    }
    let (next, why) = match (&found.refused, found.differs) {
        (None, true) => (format!("apply {}", shell_word(&file.display().to_string())), "puts it in force"),
        (Some(_), _) | (None, false) => ("status".to_owned(), "shows what is in force"),
    };
    context.next(&context.command(&running.state_dir, &next), why)?;
    Ok(exit)
}

/// Says what becomes of overrides.
pub(super) fn overrides(kept: &[String], dropped: &[String], context: &Context) -> Result<(), Failure> {
    for line in kept {
        context.line(format!("{} {}", context.paint.dim("override kept:   "), harmless(line)))?;
    }
    for line in dropped {
        context.line(format!("{} {}", context.paint.warn("override dropped:"), harmless(line)))?;
    }
    Ok(())
}
