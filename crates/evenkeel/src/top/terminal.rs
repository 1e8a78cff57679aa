//! The terminal: taken in raw mode on its alternate screen, and given back as it was on every way out: the end, an
//! error, a signal, a panic.

use std::thread;

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};
use tokio::sync::mpsc;

use super::{model::Model, view};
use crate::failure::Failure;

/// The screen while it is ours.
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes it. A panic gives it back before its message is written.
    pub(super) fn open() -> Result<Self, Failure> {
        ratatui::try_init().map(Self).map_err(|error| {
            // What was done so far is undone; where that fails too, there is no terminal.
            let _ = ratatui::try_restore();
            Failure::new("the terminal cannot be used").because(error).fix("keel top --once, or keel status --watch")
        })
    }

    pub(super) fn draw(&mut self, model: &Model) -> Result<(), Failure> {
        let drawn = self.0.draw(|frame| view::draw(frame, model));
        drawn.map(drop).map_err(|error| Failure::output(&error))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to give back.
        let _ = ratatui::try_restore();
    }
}

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// One that writes a character.
    Char(char),
    /// Arrow or page up, by so many lines.
    Up(usize),
    /// Arrow or page down.
    Down(usize),
    /// Escape.
    Escape,
    /// Ctrl-C.
    Interrupt,
    /// The size changed: nothing to do but to draw again.
    Resized,
}

/// Keys, read by a thread, since a terminal can only be waited for.
pub(super) struct Keys(mpsc::Receiver<Key>);

impl Keys {
    pub(super) fn start() -> Self {
        let (sender, receiver) = mpsc::channel(64);
        thread::spawn(move || {
            while let Ok(event) = event::read() {
                if let Some(key) = key_of(&event)
                    && sender.blocking_send(key).is_err()
                {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next one; `None` once the terminal is gone.
    pub(super) async fn next(&mut self) -> Option<Key> {
        self.0.recv().await
    }
}

fn key_of(event: &Event) -> Option<Key> {
    const PAGE: usize = 10;
    let key = match event {
        Event::Resize(..) => return Some(Key::Resized),
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        _ => return None,
    };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') if control => Some(Key::Interrupt),
        KeyCode::Char('l') if control => Some(Key::Resized),
        KeyCode::Char(c) if !control => Some(Key::Char(c)),
        KeyCode::Up => Some(Key::Up(1)),
        KeyCode::Down => Some(Key::Down(1)),
        KeyCode::PageUp => Some(Key::Up(PAGE)),
        KeyCode::PageDown => Some(Key::Down(PAGE)),
        KeyCode::Esc => Some(Key::Escape),
        _ => None,
    }
}
