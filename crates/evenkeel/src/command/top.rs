//! `keel top`: a live view of the stack on a terminal.

use std::{io::IsTerminal, time::Instant};

use ratatui::{Terminal, backend::TestBackend};

use crate::{
    api::Api,
    context::{Context, block_on},
    failure::{Exit, Failure},
    top::{self, model::Model, view},
};

/// Options of `keel top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one frame and end; needs no terminal
    #[arg(long)]
    once: bool,
}

/// Width and height of a frame where there is no terminal.
const FRAME: (u16, u16) = (80, 24);

/// Shows it until a key ends it, or once.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let running = context.running()?;
    if context.json || args.once {
        let (status, events) = block_on(top::ask(&Api::of(&running)))?;
        if context.json {
            context.json(&status)?;
            return Ok(Exit::Done);
        }
        let mut model = Model::new(false);
        model.heard(status, events, Instant::now(), &top::taken);
        context.line(frame(&model)?)?;
        let why = "goes on; q ends it";
        context.next(&context.command(&running.state_dir, "top"), why)?;
        return Ok(Exit::Done);
    }
    if !context.terminal || !std::io::stdin().is_terminal() {
        return Err(Failure::usage("`keel top` needs a terminal")
            .because("standard input or output leads elsewhere")
            .fix("keel top --once prints one frame; keel status --watch prints the status again and again"));
    }
    block_on(top::watch(&running, context.paint.colours()))?;
    context.next(&context.command(&running.state_dir, "status"), "says the same in lines")?;
    Ok(Exit::Done)
}

/// One frame as text.
fn frame(model: &Model) -> Result<String, Failure> {
    let cannot = |error: &dyn std::fmt::Display| Failure::new("the frame cannot be drawn").because(error);
    let mut terminal = Terminal::new(TestBackend::new(FRAME.0, FRAME.1)).map_err(|error| cannot(&error))?;
    terminal.draw(|frame| view::draw(frame, model)).map_err(|error| cannot(&error))?;
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(FRAME.0.into()).map(|line| {
        let text: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned()
    });
    Ok(lines.collect::<Vec<_>>().join("\n").trim_end().to_owned())
}
