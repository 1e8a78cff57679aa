//! The one live line of a command that waits: a spinner and how far it is, on standard error, gone at the end.
//!
//! It is there on a terminal only. Elsewhere nothing is printed: whoever reads a file wants the outcome.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the spinner turns, also while nothing is heard.
const TURN_EVERY: Duration = Duration::from_millis(100);

/// A live line; it goes when this is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Begins it. The line appears with the first words.
    pub(crate) fn new() -> Self {
        Self::on(ProgressDrawTarget::stderr())
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let style = ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is written here");
        Self(ProgressBar::with_draw_target(None, target).with_style(style))
    }

    /// Says how far it is.
    pub(crate) fn say(&self, words: String) {
        if self.0.is_finished() {
            self.0.reset();
        }
        self.0.set_message(words);
        self.0.enable_steady_tick(TURN_EVERY);
    }

    /// Prints a line of its own, which stays, on standard error.
    pub(crate) fn line(&self, text: &str) {
        self.0.suspend(|| eprintln!("{text}"));
    }

    /// Removes the line until there is something to say again.
    pub(crate) fn clear(&self) {
        self.0.disable_steady_tick();
        self.0.finish_and_clear();
    }

    /// Whether nobody sees it.
    pub(crate) fn is_hidden(&self) -> bool {
        self.0.is_hidden()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use indicatif::TermLike;

    use super::*;

    /// A terminal of one line.
    #[derive(Clone, Debug, Default)]
    struct Line(Arc<Mutex<String>>);

    impl TermLike for Line {
        fn width(&self) -> u16 {
            40
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().clear();
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_line_says_how_far_it_is_and_goes() {
        let line = Line::default();
        let progress = Progress::on(ProgressDrawTarget::term_like(Box::new(line.clone())));
        progress.say("shop 1 of 3 healthy".to_owned());
        progress.0.force_draw();
        let seen = line.0.lock().unwrap().clone();
        assert!(seen.contains("shop 1 of 3 healthy"), "{seen}");
        drop(progress);
        assert_eq!(*line.0.lock().unwrap(), "");
    }
}
