//! Questions on the terminal, answered without echo.
//!
//! They go to `/dev/tty`, so that standard input and output may be files. The kernel edits the line, and what it takes
//! for one line is what can be answered; the echo is off before the question is seen, and on again after the answer, be
//! it Ctrl-C.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};

use credstash::Secret;
use nix::sys::signal::{Signal, raise};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::input::{LARGEST, stdin, too_large};
use crate::output::visible;
use crate::report::Failed;

/// What Ctrl-C sends.
const CTRL_C: u8 = 0x03;

/// The kernel drops what goes beyond this many bytes of a line, without a word (termios(3), canonical mode).
const LONGEST_LINE: usize = 4095;

/// Asks for one line. Without a terminal, the line is read from standard input.
pub(crate) fn ask(question: &str) -> Result<Secret, Failed> {
    match OpenOptions::new().read(true).write(true).open("/dev/tty") {
        Ok(terminal) => ask_on(&terminal, question),
        Err(_) => {
            let mut line = Zeroizing::new(Vec::new());
            BufReader::new(stdin()?).take(LARGEST as u64 + 1).read_until(b'\n', &mut line)?;
            match &**line {
                [] => Err(Failed::Message("there is no terminal to ask on, and standard input is empty".to_owned())),
                line if line.len() > LARGEST => Err(Failed::Message(too_large("the answer"))),
                [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] | line => Ok(Secret::new(line.to_vec())),
            }
        }
    }
}

fn ask_on(mut terminal: &File, question: &str) -> Result<Secret, Failed> {
    let silence = Silence::over(terminal)?;
    terminal.write_all(visible(question).as_bytes())?;
    let mut line = read_line(terminal)?;
    drop(silence);
    terminal.write_all(b"\n")?;
    match line.pop() {
        Some(b'\n') if line.len() >= LONGEST_LINE => Err(Failed::Message(format!(
            "a terminal takes lines of less than {LONGEST_LINE} bytes: give a longer value with @FILE or -"
        ))),
        Some(b'\n') if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') => Err(Failed::Message(
            "the answer holds a control character, and is not taken: give such a value with @FILE or -".to_owned(),
        )),
        Some(b'\n') => Ok(Secret::new(std::mem::take(&mut line))),
        Some(CTRL_C) => {
            raise(Signal::SIGINT).map_err(io::Error::from)?;
            Err(Failed::Message("interrupted".to_owned()))
        }
        _ => Err(Failed::Message("the answer ended before its line did, and is not taken".to_owned())),
    }
}

/// One line with what ended it.
fn read_line(mut terminal: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    // Large enough for every line, so that it never moves and leaves a copy behind.
    let mut line = Zeroizing::new(Vec::with_capacity(2 * (LONGEST_LINE + 1)));
    let mut part = Zeroizing::new([0; LONGEST_LINE + 1]);
    while !matches!(line.last(), Some(b'\n' | &CTRL_C)) && line.len() <= LONGEST_LINE {
        match terminal.read(&mut *part)? {
            0 => break,
            read => line.extend_from_slice(&part[..read]),
        }
    }
    Ok(line)
}

/// While it lives, the terminal shows nothing of what is typed, and Ctrl-C ends a line instead of the process.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn over(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        silent.local_flags.insert(LocalFlags::ICANON);
        silent.control_chars[SpecialCharacterIndices::VEOL as usize] = CTRL_C;
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(self.terminal, SetArg::TCSANOW, &self.before);
    }
}
