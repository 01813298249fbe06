//! Where values come from: an argument, a file, or standard input.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::PathBuf;

use credstash::{Context, Secret};
use nix::unistd::User;
use zeroize::Zeroizing;

use crate::report::Failed;

/// Reads the typed `text`: `-` is all of standard input, `@PATH` the bytes of a file, anything else is itself.
/// `argument` is what usage messages call it.
pub(crate) fn value(argument: &str, text: String) -> Result<Secret, Failed> {
    if text == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(Secret::new(bytes));
    }
    match text.strip_prefix('@') {
        None => Ok(Secret::new(text.into_bytes())),
        Some(path) => fs::read(expand_home(path))
            .map(Secret::new)
            .map_err(|error| Failed::Usage(format!("argument {argument}: Unable to read file {path} ({error})"))),
    }
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
    use super::*;

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
