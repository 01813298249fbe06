//! The formats in which many credentials are written. All are text; which values and names fit is for each to say.
//!
//! A format either writes everything, so that its reader gets the same names and values back, or names what it
//! cannot write. None can make its reader run anything.

mod csv;
mod dotenv;
mod json;
mod shell;
mod yaml;

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credstash::{Name, Secret};
use zeroize::Zeroizing;

use crate::report;

/// How several credentials are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One object, sorted, in ASCII
    Json,
    /// A line name,value for each
    Csv,
    /// A line NAME='value' for each, with the name in upper case, for sh and dotenv readers
    Dotenv,
    /// One block mapping, sorted, in ASCII
    Yaml,
    /// A line export NAME='value' for each, for eval; the name in upper case, and _ for what is no letter or digit
    Shell,
}

/// How values that are no text are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Binary {
    /// As base64; which ones is said on stderr
    Base64,
}

/// Why credentials cannot be written in a format: a line for each of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit(pub(crate) Vec<String>);

/// One credential to write: its name, and its value as text.
type Item<'a> = (&'a str, Cow<'a, str>);

impl Format {
    /// Writes `secrets`, all of them, sorted by name.
    pub(crate) fn write(
        self,
        secrets: &BTreeMap<Name, Secret>,
        binary: Option<Binary>,
    ) -> Result<Zeroizing<Vec<u8>>, Unfit> {
        let items = texts(secrets, binary)?;
        let written = match self {
            Self::Json => Ok(json::write(&items)),
            Self::Csv => Ok(csv::write(&items)),
            Self::Dotenv => dotenv::write(&items),
            Self::Yaml => Ok(yaml::write(&items)),
            Self::Shell => shell::write(&items),
        };
        written.map(Zeroizing::new).map_err(Unfit)
    }

    /// What follows the credentials when all of them are printed: one more line feed in the formats of the original.
    pub(crate) fn ending(self) -> &'static [u8] {
        match self {
            Self::Shell => b"",
            _ => b"\n",
        }
    }
}

fn texts(secrets: &BTreeMap<Name, Secret>, binary: Option<Binary>) -> Result<Vec<Item<'_>>, Unfit> {
    let mut unfit = Vec::new();
    let mut items = Vec::with_capacity(secrets.len());
    for (name, secret) in secrets {
        match (std::str::from_utf8(secret.expose()), binary) {
            (Ok(text), _) => items.push((name.as_str(), Cow::Borrowed(text))),
            (Err(_), Some(Binary::Base64)) => {
                report::warn(&format!("{name} is not UTF-8 text, and written as base64"));
                items.push((name.as_str(), Cow::Owned(STANDARD.encode(secret.expose()))));
            }
            (Err(_), None) => unfit.push(format!(
                "{name}: its value is not UTF-8 text (print it alone with get, or give --binary base64)"
            )),
        }
    }
    if unfit.is_empty() { Ok(items) } else { Err(Unfit(unfit)) }
}

/// Writes each item with `line`, given the variable that `variable` makes of its name; gives either all lines or every
/// refusal. Of two names that would be one variable a reader would get one value.
fn assignments(
    items: &[Item<'_>],
    variable: impl Fn(&str) -> Result<String, String>,
    line: impl Fn(&str, &str) -> Result<String, String>,
) -> Result<Vec<u8>, Vec<String>> {
    let mut names_of: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, _) in items {
        if let Ok(variable) = variable(name) {
            names_of.entry(variable).or_default().push(name);
        }
    }
    let assignment = |name: &str, value: &str| {
        let variable = variable(name)?;
        check_variable(&variable)?;
        if let Some(other) = names_of[&variable].iter().find(|other| **other != name) {
            return Err(format!("it would be the variable {variable}, and so would {other}"));
        }
        line(&variable, value)
    };
    let (mut text, mut unfit) = (Vec::new(), Vec::new());
    for (name, value) in items {
        match assignment(name, value) {
            Ok(line) => text.extend(line.into_bytes()),
            Err(reason) => unfit.push(format!("{name}: {reason}")),
        }
    }
    if unfit.is_empty() { Ok(text) } else { Err(unfit) }
}

/// Refuses the variables by which a shell or a loader chooses what to run: whoever may store a credential could
/// otherwise run a program wherever it is read.
fn check_variable(variable: &str) -> Result<(), String> {
    const OF_SHELLS: [&str; 8] =
        ["BASH_ENV", "BASHOPTS", "FPATH", "IFS", "PATH", "PROMPT_COMMAND", "SHELLOPTS", "ZDOTDIR"];
    const OF_LOADERS: [&str; 4] = ["DYLD_", "GCONV_PATH", "GLIBC_TUNABLES", "LD_"];
    let is_prompt = matches!(variable.as_bytes(), [b'P', b'S', b'0'..=b'9']);
    let chooses =
        is_prompt || OF_SHELLS.contains(&variable) || OF_LOADERS.iter().any(|prefix| variable.starts_with(prefix));
    match chooses {
        true => Err(format!("it would set {variable}, by which a shell or a loader chooses what to run")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_no_text_is_named_or_encoded() {
        let secrets: BTreeMap<_, _> = [("bin", Secret::new(vec![0xff, 0])), ("text", Secret::from("x"))]
            .map(|(name, secret)| (Name::new(name).expect("a valid name"), secret))
            .into();
        let refused = Format::Json.write(&secrets, None).expect_err("one is no text");
        assert!(matches!(&refused.0[..], [message] if message.starts_with("bin:")), "{refused:?}");
        let written = Format::Csv.write(&secrets, Some(Binary::Base64)).expect("encoded");
        assert_eq!(&written[..], b"bin,/wA=\ntext,x\n");
    }

    #[test]
    fn variables_that_choose_what_to_run_are_refused() {
        for refused in ["PATH", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "PS4", "IFS", "BASH_ENV"] {
            assert!(check_variable(refused).is_err(), "{refused}");
        }
        for taken in ["PSQL_PASSWORD", "PS", "LDAP_PASSWORD", "PATHS", "DB_PASSWORD"] {
            assert!(check_variable(taken).is_ok(), "{taken}");
        }
    }
}
