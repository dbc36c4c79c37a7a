//! What the person sees: lines that stay and, in a terminal, a picture below them that is drawn again and again.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

/// Cells and lines are plain text with these marks in it; a screen without colours leaves them out.
pub const BOLD: &str = "\x1b[1m";
pub const DIM: &str = "\x1b[2m";
pub const RED: &str = "\x1b[31m";
pub const GREEN: &str = "\x1b[32m";
pub const YELLOW: &str = "\x1b[33m";
pub const PLAIN: &str = "\x1b[0m";

/// Standard output.
#[derive(Debug)]
pub struct Screen {
    terminal: bool,
    colours: bool,
    /// Lines of the picture that stands at the end of the terminal.
    drawn: Mutex<usize>,
}

impl Screen {
    /// A terminal is drawn on; anything else gets lines. `NO_COLOR` is honoured.
    pub fn new() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let terminal = std::io::stdout().is_terminal() && set("TERM").is_none_or(|term| term != "dumb");
        Self { terminal, colours: terminal && set("NO_COLOR").is_none(), drawn: Mutex::new(0) }
    }

    /// Whether pictures are shown.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Prints lines that stay, above the picture.
    pub fn say(&self, lines: &str) {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let text = format!("{}{}\n", erase(*drawn), self.coloured(lines));
        *drawn = 0;
        put(&text);
    }

    /// Draws the picture in the place of the one before.
    pub fn draw(&self, picture: &[String]) {
        if !self.terminal {
            return;
        }
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        // Without wrapping, every line of the picture is one line of the terminal, however narrow that is.
        let mut text = format!("\x1b[?7l{}", erase(*drawn));
        for line in picture {
            text.push_str(&self.coloured(line));
            text.push('\n');
        }
        text.push_str("\x1b[?7h");
        *drawn = picture.len();
        put(&text);
    }

    /// Says what takes a while.
    pub fn progress(&self, line: &str) {
        if self.terminal { self.draw(&[line.to_owned()]) } else { self.say(line) }
    }

    /// Lets the picture stand; what is said from now on comes below it.
    pub fn leave(&self) {
        *self.drawn.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    }

    fn coloured(&self, text: &str) -> String {
        if self.colours { text.to_owned() } else { without_marks(text) }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

/// Moves to the first of so many lines and clears from there.
fn erase(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}A\x1b[J") }
}

fn without_marks(text: &str) -> String {
    [BOLD, DIM, RED, GREEN, YELLOW, PLAIN].iter().fold(text.to_owned(), |text, mark| text.replace(mark, ""))
}

fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any more: the demo goes on to its exit status.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_without_colours_shows_the_same_text() {
        let text = format!("{BOLD}a{PLAIN} {RED}b{PLAIN}");
        assert_eq!(without_marks(&text), "a b");
        let screen = Screen { terminal: false, colours: false, drawn: Mutex::new(0) };
        assert_eq!(screen.coloured(&text), "a b");
        assert_eq!(Screen { colours: true, ..screen }.coloured(&text), text);
    }
}
