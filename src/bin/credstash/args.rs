//! What can be typed. Every flag and position of the original is here, and means the same.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands::{completions, delete, get, getall, keys, list, man, put, putall, setup};
use crate::global::Global;
use crate::words::arrange;

const EXAMPLES: &str = "\
Examples:
  credstash setup                               make the table, once
  credstash put db.password                     ask for the value on the terminal
  credstash put -a db.password @new-password    rotate: store the file as the next version
  credstash get db.password                     print the newest version
  credstash get 'db.*' env=prod                 all that match, as JSON
  credstash --store local put db.password       with no cloud at all

In a boot script:
  DB_PASSWORD=$(credstash get db.password)
  export DB_PASSWORD";

/// Keeps an organisation's credentials: versioned, immutable, sealed with one-time keys.
#[derive(Parser)]
#[command(name = "credstash", version, about, after_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Completions(completions::Args),
    Delete(delete::Args),
    Get(get::Args),
    Getall(getall::Args),
    Keys(keys::Args),
    List(list::Args),
    Man(man::Args),
    Put(put::Args),
    Putall(putall::Args),
    Setup(setup::Args),
}

/// The definition from which parsing, help, completions and man pages come.
pub(crate) fn definition() -> clap::Command {
    // As argparse does: long options may be shortened, `-5` is a value, the last of a repeated option counts. After a command
    // [`arrange`] sees to the first two.
    let last_counts = |command: clap::Command| command.args_override_self(true);
    last_counts(Cli::command()).infer_long_args(true).allow_negative_numbers(true).mut_subcommands(last_counts)
}

pub(crate) fn parse() -> Result<Cli, clap::Error> {
    parse_from(std::env::args_os())
}

fn parse_from(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let definition = definition();
    let words = arrange(words.into_iter().collect(), &definition);
    let words = words.map_err(|message| clap::Error::raw(ErrorKind::UnknownArgument, message))?;
    let matches = definition.try_get_matches_from(words)?;
    Cli::from_arg_matches(&matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Command, clap::Error> {
        let words = format!("credstash {words}");
        parse_from(words.split(' ').map(OsString::from)).map(|cli| cli.command)
    }

    fn put(words: &str) -> put::Args {
        match parse(words) {
            Ok(Command::Put(args)) => args,
            _ => panic!("not a put: {words}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn options_stand_anywhere() {
        for words in ["put a v k=v -a", "put -a a v k=v", "put a v -a k=v", "put a -a v k=v", "put a v --auto k=v"] {
            let args = put(words);
            assert_eq!((args.credential.as_str(), args.value.as_deref()), ("a", Some("v")), "{words}");
            assert!(args.write.autoversion, "{words}");
            assert_eq!(args.context, ["k=v"], "{words}");
        }
    }

    #[test]
    fn values_glue_on_and_the_last_counts() {
        for words in ["put a v -v1", "put a v --version=1", "put a v -v 9 -v 1", "put a v -av1", "put a v -v=1"] {
            assert_eq!(put(words).write.version.as_deref(), Some("1"), "{words}");
        }
        assert_eq!(put("put a -5").value.as_deref(), Some("-5"));
        assert_eq!(put("put a -1.5").value.as_deref(), Some("-1.5"));
        assert_eq!(put("put -- -a v").credential, "-a");
    }

    #[test]
    fn wrong_usage_is_refused() {
        for words in
            ["bogus", "get", "delete", "delete a b", "keys x", "get a -f xml", "list --frobnicate", "put a b -v"]
        {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
