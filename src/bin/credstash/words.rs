//! Reads what is typed after a command as argparse does, on which the original is built, and writes it so that clap
//! reads the same.
//!
//! clap takes each word that begins with a hyphen for an option. argparse takes it for one only if it names one; else a word
//! with a space in it, as `-----BEGIN PRIVATE KEY-----` is, or a number is an argument like any other. Here the words are
//! told apart by argparse's rules (documentation of argparse, "Arguments containing -"), options are written in full, and
//! the arguments follow after `--`, where nothing is an option any more.
//!
//! No message repeats a word of put and putall: it may be a piece of a value.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use clap::{Arg, ArgAction, Command};

/// The words of a whole command line, as clap is to read them; or what is wrong with one, and what to type instead.
pub(crate) fn arrange(words: Vec<OsString>, definition: &Command) -> Result<Vec<OsString>, String> {
    let Some(at) = find_command(&words, definition) else { return Ok(words) };
    let Some(command) = definition.find_subcommand(&words[at]) else { return Ok(words) };
    let mut line = Line { command, definition, options: Vec::new(), arguments: Vec::new() };
    line.read(words[at + 1..].iter())?;
    let mut arranged = words[..=at].to_vec();
    arranged.extend(line.options);
    if !line.arguments.is_empty() {
        arranged.push("--".into());
        arranged.extend(line.arguments);
    }
    Ok(arranged)
}

/// Where the command is: the first word that is neither an option nor the value of one.
fn find_command(words: &[OsString], definition: &Command) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at).map(|word| word.as_bytes()) {
        let option = match word {
            [b'-', b'-', name @ ..] if !name.contains(&b'=') => long(definition.get_arguments(), name),
            [b'-', name] => short(definition.get_arguments(), *name),
            [b'-', _, ..] => None,
            _ => return Some(at),
        };
        at += if option.is_some_and(takes_value) { 2 } else { 1 };
    }
    None
}

/// What was typed after a command.
struct Line<'a> {
    command: &'a Command,
    definition: &'a Command,
    options: Vec<OsString>,
    arguments: Vec<OsString>,
}

/// What a word is.
enum Word<'a> {
    Argument,
    /// An option, and the value that is glued to it.
    Long(&'a Arg, Option<&'a [u8]>),
    /// Options of one letter: the first, and what follows it in the word.
    Short(&'a Arg, &'a [u8]),
    /// `--`: all that follows are arguments.
    End,
    /// For clap: help, and what it must refuse.
    Other,
}

impl<'a> Line<'a> {
    fn read(&mut self, words: impl Iterator<Item = &'a OsString>) -> Result<(), String> {
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let (option, glued) = match self.tell(word)? {
                Word::Argument => {
                    self.arguments.push(word.clone());
                    continue;
                }
                Word::Other => {
                    self.options.push(word.clone());
                    continue;
                }
                Word::End => {
                    self.arguments.extend(words.cloned());
                    return Ok(());
                }
                Word::Long(option, glued) => (option, glued),
                Word::Short(first, rest) => self.flags(first, rest)?,
            };
            if !takes_value(option) {
                if glued.is_some() {
                    return Err(self.unreadable("an option that takes no value has one"));
                }
                self.options.push(written(option, None));
            } else if let Some(value) = glued {
                self.options.push(written(option, Some(value)));
            } else if takes_many(option) {
                self.options.push(written(option, None));
                while let Some(value) = words.next_if(|word| matches!(self.tell(word), Ok(Word::Argument))) {
                    self.options.push(value.clone());
                }
            } else {
                match words.next_if(|word| matches!(self.tell(word), Ok(Word::Argument))) {
                    Some(value) => self.options.push(written(option, Some(value.as_bytes()))),
                    None => {
                        return Err(self.unreadable(&format!("argument {}: expected one argument", spelled(option))));
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes the flags of a word such as `-av1`; gives the last of its options, with the value that is glued to it.
    fn flags(&mut self, first: &'a Arg, mut rest: &'a [u8]) -> Result<(&'a Arg, Option<&'a [u8]>), String> {
        let mut option = first;
        while !takes_value(option) {
            let Some((next, after)) = rest.split_first() else { return Ok((option, None)) };
            self.options.push(written(option, None));
            let of_command = short(self.command.get_arguments(), *next);
            option = of_command.ok_or_else(|| self.unreadable("an option that takes no value has one"))?;
            rest = after;
        }
        let value = rest.strip_prefix(b"=").unwrap_or(rest);
        Ok((option, Some(value).filter(|_| !rest.is_empty())))
    }

    fn tell(&self, word: &'a OsStr) -> Result<Word<'a>, String> {
        let (own, all) =
            (|| self.command.get_arguments(), || self.definition.get_arguments().filter(|arg| arg.is_global_set()));
        match word.as_bytes() {
            b"--" => Ok(Word::End),
            b"-h" => Ok(Word::Other),
            [b'-', b'-', rest @ ..] => {
                let (name, value) = match rest.iter().position(|byte| *byte == b'=') {
                    Some(at) => (&rest[..at], Some(&rest[at + 1..])),
                    None => (rest, None),
                };
                let is_help = !name.is_empty() && b"help".starts_with(name) && value.is_none();
                match long(own(), name).or_else(|| long(all(), name)) {
                    Some(option) => Ok(Word::Long(option, value)),
                    None if is_help => Ok(Word::Other),
                    None => self.no_option(word),
                }
            }
            // No option is a digit.
            [b'-', b'0'..=b'9' | b'.', ..] => Ok(Word::Argument),
            [b'-', b'h', ..] => Err(self.unreadable("-h takes no value")),
            // Options of every command stand alone behind one: with a value glued on, they could be the value of a put.
            [b'-', name] => match short(own(), *name).or_else(|| short(all(), *name)) {
                Some(option) => Ok(Word::Short(option, &[])),
                None => self.no_option(word),
            },
            [b'-', name, rest @ ..] => match short(own(), *name) {
                Some(option) => Ok(Word::Short(option, rest)),
                None => self.no_option(word),
            },
            _ => Ok(Word::Argument),
        }
    }

    fn no_option(&self, word: &OsStr) -> Result<Word<'a>, String> {
        if word.as_bytes().contains(&b' ') {
            return Ok(Word::Argument);
        }
        match self.takes_secrets() {
            true => Err(self.unreadable("a word that begins with - names no option, or begins the names of several")),
            // It says which option may have been meant.
            false => Ok(Word::Other),
        }
    }

    fn takes_secrets(&self) -> bool {
        matches!(self.command.get_name(), "put" | "putall")
    }

    fn unreadable(&self, reason: &str) -> String {
        match self.takes_secrets() {
            true => {
                format!("{reason} (a value that begins with - is given after --, or from a file or standard input)")
            }
            false => reason.to_owned(),
        }
    }
}

/// The option of this name, or the only one that begins so.
fn long<'a>(options: impl Iterator<Item = &'a Arg>, name: &[u8]) -> Option<&'a Arg> {
    let long = |arg: &'a Arg| arg.get_long().unwrap_or_default().as_bytes();
    let begun: Vec<_> = options.filter(|arg| !name.is_empty() && long(arg).starts_with(name)).collect();
    match &*begun {
        [only] => Some(only),
        several => several.iter().copied().find(|arg| long(arg) == name),
    }
}

fn short<'a>(mut options: impl Iterator<Item = &'a Arg>, name: u8) -> Option<&'a Arg> {
    options.find(|arg| arg.get_short() == Some(char::from(name)))
}

fn takes_value(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Set | ArgAction::Append)
}

fn takes_many(option: &Arg) -> bool {
    option.get_num_args().is_some_and(|range| range.max_values() > 1)
}

/// An option as clap reads it in one way only.
fn written(option: &Arg, value: Option<&[u8]>) -> OsString {
    let mut word = spelled(option).into_bytes();
    if let Some(value) = value {
        word.push(b'=');
        word.extend(value);
    }
    OsString::from_vec(word)
}

fn spelled(option: &Arg) -> String {
    format!("--{}", option.get_long().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::definition;

    /// How clap is to read what is typed after `credstash`.
    fn arranged(words: &[&str]) -> Result<Vec<String>, String> {
        let words = std::iter::once("credstash").chain(words.iter().copied()).map(OsString::from).collect();
        let arranged = arrange(words, &definition())?;
        Ok(arranged.into_iter().skip(1).map(|word| word.into_string().expect("UTF-8")).collect())
    }

    #[test]
    fn words_that_begin_with_a_hyphen_may_be_values() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMIIE=\n-----END PRIVATE KEY-----\n";
        for value in [pem, "- one\n- two", "---\na: b", "--foo bar", "-zfoo b", "-4a b", "-5", "-.5", "-1.5", "-", "- "]
        {
            assert_eq!(arranged(&["put", "a", value]), Ok(["put", "--", "a", value].map(String::from).into()));
            assert_eq!(
                arranged(&["put", "-a", "a", value, "k=v", "-c", value]),
                Ok(["put", "--autoversion", &format!("--comment={value}"), "--", "a", value, "k=v"]
                    .map(String::from)
                    .into())
            );
        }
    }

    #[test]
    fn options_are_written_in_full() {
        for (typed, full) in [
            (&["put", "a", "v", "-av1"][..], &["put", "--autoversion", "--version=1", "--", "a", "v"][..]),
            (&["put", "a", "-v=1"], &["put", "--version=1", "--", "a"]),
            (&["put", "a", "-v", "1", "--k", "key"], &["put", "--version=1", "--key=key", "--", "a"]),
            (&["put", "a", "--p"], &["put", "--prompt", "--", "a"]),
            (&["put", "a", "--pro"], &["put", "--prompt", "--", "a"]),
            (&["get", "a", "-t", "table"], &["get", "--table=table", "--", "a"]),
            (&["get", "a", "--timeout", "3"], &["get", "--timeout=3", "--", "a"]),
            (&["setup", "--t", "a=b", "c=d", "--pi"], &["setup", "--tags", "a=b", "c=d", "--pitr"]),
            (&["setup", "--s", "us-east-1"], &["setup", "--save-kms-region=us-east-1"]),
            (&["put", "--", "-a", "--", "v"], &["put", "--", "-a", "--", "v"]),
            (&["put", "--help"], &["put", "--help"]),
            (&["-t", "put", "get", "-n", "a"], &["-t", "put", "get", "--noline", "--", "a"]),
            (&["--table=x", "-n", "arn", "list", "--he"], &["--table=x", "-n", "arn", "list", "--he"]),
            (&["-t"], &["-t"]),
            (&["frobnicate", "-x"], &["frobnicate", "-x"]),
        ] {
            let full: Vec<String> = full.iter().copied().map(String::from).collect();
            assert_eq!(arranged(typed), Ok(full), "{typed:?}");
        }
    }

    #[test]
    fn what_may_be_a_value_is_not_repeated() {
        for words in [
            &["put", "a", "-xhunter2"][..],
            &["put", "a", "--hunter2"],
            &["put", "a", "-thunter2"],
            &["put", "a", "-hunter2"],
            &["put", "a", "-ahunter2"],
            &["put", "a", "--bind=hunter2"],
            &["put", "a", "-----BEGIN-hunter2"],
            &["putall", "--hunter2"],
        ] {
            let refused = arranged(words).expect_err("no option");
            assert!(!refused.contains("hunter2") && refused.contains("given after --"), "{words:?}: {refused}");
        }
        assert!(arranged(&["list", "--frobnicate"]).is_ok(), "clap refuses it");
        assert_eq!(
            arranged(&["put", "a", "-c"]).expect_err("nothing follows").split(" (").next(),
            Some("argument --comment: expected one argument")
        );
    }
}
