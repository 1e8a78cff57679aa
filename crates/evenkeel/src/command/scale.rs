//! `keel scale`: another number of instances.

use serde_json::json;

use super::ordered::{Patience, finish, give};
use crate::{
    api::Api,
    context::{Context, block_on},
    failure::{Exit, Failure},
};

/// Options of `keel scale`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service
    service: String,
    /// How many instances, or `auto` for what the stack file says; 0 stops them all
    #[arg(value_name = "N|auto", value_parser = count, allow_negative_numbers = true)]
    replicas: Count,
    #[command(flatten)]
    patience: Patience,
}

/// A number, or what the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count(Option<u32>);

fn count(text: &str) -> Result<Count, String> {
    match text {
        "auto" => Ok(Count(None)),
        _ => text.parse().map(|n| Count(Some(n))).map_err(|_| "a number of instances, or `auto`".to_owned()),
    }
}

/// Orders it and waits until there are so many.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    let api = Api::of(&running);
    block_on(async {
        let order = json!({ "service": args.service, "replicas": args.replicas.0 });
        let ordered = give(&api, "/v1/scale", &order).await?;
        finish((&api, &running), &args.service, &ordered, &args.patience, context).await
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_auto() {
        assert_eq!(count("5"), Ok(Count(Some(5))));
        assert_eq!(count("auto"), Ok(Count(None)));
        assert!(count("-1").is_err() && count("many").is_err());
    }
}
