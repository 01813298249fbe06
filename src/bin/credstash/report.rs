//! What is said when a command fails: one line that names the cause and what to do, on stderr, and an exit code.
//!
//! The library says what is; this is the place that knows what to type.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use credstash::{Error, Failure, FailureKind, Name, NoNextVersion, StoreError};

use crate::logging;
use crate::output::visible;

/// A command was used in a way that it is not made for.
const USAGE: u8 = 2;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It was typed wrongly: the usage is shown, exit 2.
    Usage(String),
    /// The vault refused or failed.
    Vault(Error),
    /// Something that the one line says all of.
    Message(String),
    /// All has been said already.
    Reported,
    /// Nobody reads standard output any more: nothing to say, and nobody to say it to.
    ClosedPipe,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Vault(error)
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::Vault(StoreError::from(failure).into())
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Message(error.to_string()),
        }
    }
}

/// Says why a command failed, and gives its exit code.
///
/// `definition` gives the command line's, for the usage of what was typed wrongly.
pub(crate) fn failed(failed: &Failed, definition: fn() -> clap::Command) -> ExitCode {
    match failed {
        Failed::Usage(message) => return usage_of_command(message, definition()),
        Failed::Vault(error) => say(&with_hint(error)),
        Failed::Message(message) => say(message),
        Failed::Reported | Failed::ClosedPipe => {}
    }
    ExitCode::FAILURE
}

/// Says what could not be parsed; help and version are no errors.
pub(crate) fn unparsed(error: &clap::Error, definition: fn() -> clap::Command) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => printed(error.print(), definition),
        // No command at all is a question for help.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            printed(definition().print_help(), definition)
        }
        ErrorKind::InvalidValue => usage_of_command(&invalid(error), definition()),
        _ => {
            let text = error.render().to_string();
            let mut parts = text.split("\n\n");
            let message = parts.next().unwrap_or_default().trim_start_matches("error: ").trim_end();
            match parts.find_map(|part| part.strip_prefix("Usage: ")) {
                Some(usage) => say_usage(usage.trim_end(), message),
                None => usage_of_command(message, definition()),
            }
        }
    }
}

/// Without the value, which may be a piece of a secret that begins as an option does.
fn invalid(error: &clap::Error) -> String {
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let option = context(ContextKind::InvalidArg);
    match context(ContextKind::ValidValue) {
        choices if choices.is_empty() => format!("argument {option}: a value is missing"),
        choices => format!("argument {option}: must be one of {choices}"),
    }
}

fn printed(result: io::Result<()>, definition: fn() -> clap::Command) -> ExitCode {
    match result.and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.into(), definition),
    }
}

/// One line on stderr that does not end the command.
pub(crate) fn warn(message: &str) {
    say(&format!("credstash: {message}"));
}

/// One line on stderr that says what is wrong with one credential of many.
pub(crate) fn about(name: &Name, error: &Error) {
    say(&format!("{name}: {}", with_hint(error)));
}

/// One line on stderr that says which credential of many was left out, and why.
pub(crate) fn left_out(name: &Name, error: &Error) {
    warn(&format!("left out {name}: {}", with_hint(error)));
}

fn say(line: &str) {
    // With stderr gone there is nobody left to tell.
    let line = visible(line);
    let _ = writeln!(io::stderr(), "{line}");
    logging::failure(&line);
}

/// A usage error beside the usage of the command that was typed.
fn usage_of_command(message: &str, mut definition: clap::Command) -> ExitCode {
    definition.build();
    let typed = std::env::args_os().skip(1).find_map(|word| definition.find_subcommand(word).cloned());
    let usage = typed.unwrap_or(definition).render_usage().to_string();
    say_usage(usage.trim_start_matches("Usage: "), message)
}

/// In the form of the original: the usage, then `credstash COMMAND: error: MESSAGE`.
fn say_usage(usage: &str, message: &str) -> ExitCode {
    let program: Vec<&str> = usage.split_whitespace().take_while(|word| word.starts_with(char::is_lowercase)).collect();
    let message: Vec<String> = message.lines().map(visible).collect();
    let _ = writeln!(io::stderr(), "usage: {usage}\n{}: error: {}", program.join(" "), message.join("\n"));
    ExitCode::from(USAGE)
}

fn with_hint(error: &Error) -> String {
    match hint(error) {
        Some(hint) => format!("{} ({hint})", message(error).trim_end_matches('.')),
        None => message(error),
    }
}

/// The words of the original, where it has some.
fn message(error: &Error) -> String {
    match error {
        Error::Store(StoreError::NotFound { name, version: None }) => {
            format!("Item {{'name': {}}} couldn't be found.", python_repr(name.as_str()))
        }
        Error::Store(StoreError::NotFound { name, version: Some(version) }) => format!(
            "Item {{'name': {}, 'version': {}}} couldn't be found.",
            python_repr(name.as_str()),
            python_repr(version.as_str())
        ),
        Error::Store(StoreError::Exists { name, version }) => format!(
            "{name} version {version} is already in the credential store. Use the -v flag to specify a new version, or -a to store the next one"
        ),
        error => error.to_string(),
    }
}

/// What to type, where somebody could know.
fn hint(error: &Error) -> Option<String> {
    match error {
        Error::Store(StoreError::NotSetUp { place, .. }) => {
            Some(format!("if {place} is the right one, make it with: credstash setup"))
        }
        Error::Store(StoreError::NotAStore { .. }) => Some("name another one with -t TABLE or --store URL".to_owned()),
        Error::Unbound { .. } => Some("if you trust what it holds, store that again with put -a --bind".to_owned()),
        Error::NoNextVersion { error: NoNextVersion::SortsBefore { suggestion, .. }, .. } => {
            suggestion.as_ref().map(|next| format!("store it once with -v {next}, from which -a can count on"))
        }
        Error::Key { error: credstash::KeyError::Generate { failure, .. }, .. }
            if failure.kind() == FailureKind::KeyUnusable =>
        {
            Some("name another key with -k, or make one and give it this alias".to_owned())
        }
        error => error.failure().and_then(|failure| hint_for(failure.kind())).map(str::to_owned),
    }
}

fn hint_for(kind: FailureKind) -> Option<&'static str> {
    match kind {
        FailureKind::NoCredentials => Some(
            "give AWS credentials: a profile with -p, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the machine",
        ),
        FailureKind::RejectedCredentials => {
            Some("the credentials are not valid here or not any more: log in again, with aws sso login for example")
        }
        FailureKind::Denied => Some("the IAM policy of the caller, or that of the key, does not allow this"),
        FailureKind::Unreachable => Some("check the network, the region, HTTPS_PROXY and AWS_ENDPOINT_URL"),
        FailureKind::Tls => {
            Some("if a proxy or endpoint has its own certificate authority, name its file in AWS_CA_BUNDLE")
        }
        FailureKind::Unavailable => Some("the service has a fault: try again later"),
        FailureKind::Throttled => Some("the service asks for fewer calls: try again later"),
        _ => None,
    }
}

/// A text as Python's `repr` writes it, as far as printable text goes.
fn python_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut repr = String::from(quote);
    for character in text.chars() {
        match character {
            '\\' => repr.push_str("\\\\"),
            '\n' => repr.push_str("\\n"),
            '\r' => repr.push_str("\\r"),
            '\t' => repr.push_str("\\t"),
            character if character == quote => repr.extend(['\\', quote]),
            character if character.is_ascii_control() => repr.push_str(&format!("\\x{:02x}", u32::from(character))),
            character => repr.push(character),
        }
    }
    repr.push(quote);
    repr
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_python_quotes_them() {
        assert_eq!(python_repr("db.password"), "'db.password'");
        assert_eq!(python_repr("it's"), "\"it's\"");
        assert_eq!(python_repr("'\""), "'\\'\"'");
        assert_eq!(python_repr("a\nb\x01\\é"), "'a\\nb\\x01\\\\é'");
    }
}
