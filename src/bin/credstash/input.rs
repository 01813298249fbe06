//! Where values come from: an argument, a file, or standard input.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use credstash::{Context, Secret};
use nix::unistd::User;
use zeroize::Zeroizing;

use crate::report::Failed;

/// The most that is read, in bytes: more than a row can hold, and than a document should. Input may have no end.
pub(crate) const LARGEST: usize = 64 << 20;

/// Reads the typed `text`: `-` is all of standard input, `@PATH` the bytes of a file, anything else is itself.
/// `argument` is what messages call it.
pub(crate) fn value(argument: &str, text: String) -> Result<Secret, Failed> {
    let bytes = match text.strip_prefix('@') {
        _ if text == "-" => read(stdin()?, LARGEST)?,
        None => return Ok(Secret::new(text.into_bytes())),
        Some(path) => File::open(expand_home(path))
            .and_then(|file| read(file, LARGEST))
            .map_err(|error| Failed::Usage(unreadable(argument, path, &error)))?,
    };
    match bytes {
        Some(bytes) => Ok(bytes),
        None => Err(Failed::Message(too_large(&format!("argument {argument}")))),
    }
}

pub(crate) fn too_large(input: &str) -> String {
    format!("{input}: holds more than {} MiB", LARGEST >> 20)
}

fn unreadable(argument: &str, path: &str, error: &io::Error) -> String {
    format!(
        "argument {argument}: Unable to read file {path} ({error}; what begins with @ but names no file must come from a file or -)"
    )
}

/// Standard input, without the buffer of [`io::stdin`], which stays in memory as long as the process lives.
pub(crate) fn stdin() -> io::Result<File> {
    io::stdin().as_fd().try_clone_to_owned().map(File::from)
}

/// All that `source` gives, unless it is more than `limit` bytes.
fn read(source: impl Read, limit: usize) -> io::Result<Option<Secret>> {
    let mut bytes = Zeroizing::new(Vec::new());
    source.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then(|| Secret::new(std::mem::take(&mut bytes))))
}

/// The same text that a shell would make of it: `~` is the home of this user, `~NAME` that of another.
fn expand_home(path: &str) -> PathBuf {
    let Some(rest) = path.strip_prefix('~') else { return PathBuf::from(path) };
    let (user, below) = rest.split_once('/').map_or((rest, None), |(user, below)| (user, Some(below)));
    let home = match user {
        "" => std::env::home_dir(),
        user => User::from_name(user).ok().flatten().map(|user| user.dir),
    };
    match (home, below) {
        (Some(home), Some(below)) => home.join(below),
        (Some(home), None) => home,
        // No such user: the name is taken as it is, as the original does.
        (None, _) => PathBuf::from(path),
    }
}

/// Whether somebody sits at standard input.
pub(crate) fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Whether a context is given beside a value: then a word may be a part of that value, and must not be repeated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    Nothing,
    Value,
}

/// Reads the `key=value` words at the end of a command.
pub(crate) fn context(words: &[String], beside: Beside) -> Result<Context, Failed> {
    let pair = |word: &String| {
        Context::parse_pair(word).map_err(|error| {
            Failed::Usage(match beside {
                Beside::Nothing => format!("argument context: '{word}' {error}"),
                Beside::Value => format!(
                    "argument context: a word after the value {error} (a value that holds spaces must be quoted)"
                ),
            })
        })
    };
    words.iter().map(pair).collect()
}

/// The document of putall, as text.
pub(crate) fn document(text: String) -> Result<Zeroizing<String>, Failed> {
    let bytes = value("credentials", text)?;
    match std::str::from_utf8(bytes.expose()) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(error) => Err(Failed::Message(format!("the document is not UTF-8: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn input_is_read_to_its_end_but_not_for_ever() {
        let limit = 100_000;
        for len in [0, 1, 99_999, limit] {
            let given: Vec<u8> = (0..=255).cycle().take(len).collect();
            let secret = read(&*given, limit).expect("read").expect("not too much");
            assert!(secret.expose() == given, "{len} bytes");
        }
        assert!(read(io::repeat(b'x').take(limit as u64 + 1), limit).expect("read").is_none());
        assert!(read(io::repeat(b'x'), limit).expect("read").is_none());
    }

    #[test]
    fn an_at_sign_names_a_file_and_its_bytes_stay() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("f");
        fs::write(&path, b"a\r\nb\r\xff\n").expect("written");
        let read = value("value", format!("@{}", path.display())).expect("read");
        assert_eq!(read.expose(), b"a\r\nb\r\xff\n");
        assert_eq!(value("value", "user@host".into()).expect("itself").expose(), b"user@host");
        for unreadable in ["@/nonexistent/file".to_owned(), format!("@{}", folder.path().display())] {
            let Err(Failed::Usage(message)) = value("value", unreadable) else { panic!("must be refused") };
            assert!(message.starts_with("argument value: Unable to read file"), "{message}");
        }
    }

    #[test]
    fn a_word_that_may_belong_to_the_value_is_not_repeated() {
        let words = ["horse".to_owned()];
        let Err(Failed::Usage(message)) = context(&words, Beside::Value) else { panic!("must be refused") };
        assert!(!message.contains("horse"), "{message}");
        let Err(Failed::Usage(message)) = context(&words, Beside::Nothing) else { panic!("must be refused") };
        assert_eq!(message, r#"argument context: 'horse' is not the form of "key=value""#);
    }

    #[test]
    fn a_tilde_is_a_home() {
        assert_eq!(expand_home("~root/x"), PathBuf::from("/root/x"));
        assert_eq!(expand_home("~no.such.user/x"), PathBuf::from("~no.such.user/x"));
        assert_eq!(expand_home("a~b"), PathBuf::from("a~b"));
    }
}
