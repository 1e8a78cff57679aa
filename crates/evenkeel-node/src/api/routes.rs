//! All routes of the API.
//!
//! Each says what it is for and which role it needs; `evenkeel_core::access` must agree, or a test fails.

use evenkeel_core::{
    access::Role::{Admin, Operator, Viewer},
    status::Status,
};

use super::{
    apply, console, deploy, describe, drills, events, history, logs,
    openapi::{Table, for_everybody, for_role},
    operate, scrape, secrets, stack, status, tokens, why,
};
use crate::{
    metrics,
    node::{Applied, Difference, History, InForce, Ordered, SecretsChanged},
};

/// The routes, with what they are for.
pub(super) fn table() -> Table {
    let table = drills::routes(reading(Table::new()));
    let table = operating(table);
    administering(table)
}

/// What a viewer may ask.
fn reading(table: Table) -> Table {
    table
        .get("/metrics", for_everybody("Everything that is counted.").answers_as(metrics::CONTENT_TYPE), scrape)
        .get("/v1/openapi.json", for_role(Viewer, "This description."), describe)
        .get("/v1/status", for_role(Viewer, "How the stack is.").answers::<Status>(), status)
        .get(
            "/v1/events",
            for_role(Viewer, "What happened and was decided: entries of the journal, oldest first.")
                .query::<events::Wanted>()
                .answers::<events::Page>(),
            events::list,
        )
        .get(
            "/v1/history",
            for_role(Viewer, "What was counted of a service over the last day, as points to be drawn.")
                .query::<history::Wanted>()
                .answers::<history::History>(),
            history::read,
        )
        .get(
            "/v1/why",
            for_role(Viewer, "How a subject is, or was at some time, and what led there.")
                .query::<why::Wanted>()
                .answers::<why::Why>(),
            why::explain,
        )
        .get(
            "/v1/logs",
            for_role(Viewer, "Lines of output, oldest first, and those that follow where asked.")
                .query::<logs::Wanted>()
                .answers_lines::<crate::logs::Line>(),
            logs::lines,
        )
        .get(
            "/v1/deploys",
            for_role(Viewer, "The deploys of a service, and the one under way.")
                .query::<deploy::Of>()
                .answers::<History>(),
            deploy::history,
        )
}

/// What an operator may ask for.
fn operating(table: Table) -> Table {
    table
        .post(
            "/v1/events",
            for_role(Operator, "Writes an entry into the journal.").takes::<events::Told>().status(201),
            events::record,
        )
        .post(
            "/v1/scale",
            for_role(Operator, "Runs so many instances of a service.").takes::<operate::Scale>().answers::<Ordered>(),
            operate::scale,
        )
        .post(
            "/v1/restart",
            for_role(Operator, "Replaces the processes of a service or an instance by new ones.")
                .takes::<operate::Subject>()
                .answers::<Ordered>(),
            operate::restart,
        )
        .post(
            "/v1/drain",
            for_role(Operator, "Gives an instance no new requests.").takes::<operate::Drain>().answers::<Ordered>(),
            operate::drain,
        )
        .post(
            "/v1/resume",
            for_role(Operator, "Ends a drain or a pause.").takes::<operate::Resume>().answers::<Ordered>(),
            operate::resume,
        )
        .post(
            "/v1/pause",
            for_role(Operator, "Stops automatic decisions for a time.").takes::<operate::Pause>().answers::<Ordered>(),
            operate::pause,
        )
        .post(
            "/v1/releases",
            for_role(Operator, "Stores an artefact: a tar archive, gzipped or not.")
                .query::<deploy::Artefact>()
                .takes_as("application/x-tar")
                .answers::<deploy::Stored>(),
            deploy::store,
        )
        .post(
            "/v1/deploy",
            for_role(Operator, "Begins to put another release in force.")
                .takes::<deploy::Deploy>()
                .answers::<History>(),
            deploy::deploy,
        )
        .post(
            "/v1/rollback",
            for_role(Operator, "Puts a former release in force, or ends the deploy under way.")
                .takes::<deploy::Rollback>()
                .answers::<History>(),
            deploy::rollback,
        )
}

/// What an admin may ask for.
fn administering(table: Table) -> Table {
    table
        .get("/v1/stack", for_role(Admin, "The stack file in force.").answers::<InForce>(), stack)
        .post(
            "/v1/apply",
            for_role(Admin, "Puts a stack file in force.").takes::<apply::Wanted>().answers::<Applied>(),
            apply::apply,
        )
        .post(
            "/v1/diff",
            for_role(Admin, "What a stack file would change.").takes::<apply::Wanted>().answers::<Difference>(),
            apply::diff,
        )
        .get(
            "/v1/secrets",
            for_role(Admin, "Names of secrets, where each comes from and who uses it.").answers::<secrets::All>(),
            secrets::list,
        )
        .post(
            "/v1/secrets",
            for_role(Admin, "Sets, rotates or removes a secret, or makes another key.")
                .takes::<secrets::Wanted>()
                .answers::<SecretsChanged>(),
            secrets::change,
        )
        .get("/v1/tokens", for_role(Admin, "All tokens, without their texts.").answers::<tokens::All>(), tokens::list)
        .post(
            "/v1/tokens",
            for_role(Admin, "Makes a token, whose text is told this once.")
                .takes::<tokens::Wanted>()
                .answers::<tokens::Made>(),
            tokens::create,
        )
        .delete("/v1/tokens/{name}", for_role(Admin, "Revokes a token."), tokens::revoke)
        .post(
            "/v1/console/links",
            for_role(Admin, "Makes a link that signs in to the console once.")
                .takes::<console::Wanted>()
                .answers::<console::Made>(),
            console::link,
        )
        .get(
            "/v1/console/sessions",
            for_role(Admin, "Who is signed in to the console.").answers::<console::All>(),
            console::sessions,
        )
        .delete(
            "/v1/console/sessions",
            for_role(Admin, "Signs everybody out of the console.").answers::<console::Ended>(),
            console::end_all,
        )
}
