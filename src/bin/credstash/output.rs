//! Standard output: exact bytes for programs, and texts that cannot play tricks for people.

use std::io::{self, IsTerminal as _, Write as _};

/// Standard output. What is written arrives, or the command fails.
pub(crate) struct Output {
    is_terminal: bool,
}

impl Output {
    pub(crate) fn stdout() -> Self {
        Self { is_terminal: io::stdout().is_terminal() }
    }

    /// Writes these bytes, and no others.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// Writes a line that may hold names and comments. Where a person reads it, control characters are shown instead
    /// of sent: a comment could move the cursor or hide another line.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        let line = if self.is_terminal { visible(line) } else { line.to_owned() };
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// Writes many such lines at once.
    pub(crate) fn lines(&mut self, lines: impl IntoIterator<Item = String>) -> io::Result<()> {
        let mut text = String::new();
        for line in lines {
            text.push_str(&if self.is_terminal { visible(&line) } else { line });
            text.push('\n');
        }
        self.bytes(text.as_bytes())
    }
}

/// `text` with its control characters written as escapes, so that it is one line and harmless.
pub(crate) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() || is_direction_mark(character) {
            true => visible.extend(character.escape_default()),
            false => visible.push(character),
        }
    }
    visible
}

/// The marks that reorder text on a screen (Unicode Standard Annex 9).
fn is_direction_mark(character: char) -> bool {
    matches!(character, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_sent() {
        assert_eq!(visible("a\x1b[2Jb\nc"), r"a\u{1b}[2Jb\nc");
        assert_eq!(visible("x\u{202e}y"), r"x\u{202e}y");
        assert_eq!(visible("clé☃ 日本"), "clé☃ 日本");
    }
}
