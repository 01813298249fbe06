//! `credstash man`

use std::path::PathBuf;

use crate::report::Failed;

/// Write the man pages into a folder
#[derive(clap::Args)]
#[command(before_help = "Example: credstash man ~/.local/share/man/man1")]
pub(crate) struct Args {
    /// Folder to write them to; it is made if it is not there
    folder: PathBuf,
}

pub(crate) fn run(args: &Args, definition: clap::Command) -> Result<(), Failed> {
    let written = std::fs::create_dir_all(&args.folder)
        .and_then(|()| clap_mangen::generate_to(with_examples(definition), &args.folder));
    written.map_err(|error| Failed::Message(format!("{}: {error}", args.folder.display())))
}

/// Man pages leave out what stands before a help text, and that is where the examples are.
fn with_examples(definition: clap::Command) -> clap::Command {
    definition.mut_subcommands(|command| match command.get_before_help().cloned() {
        Some(examples) => command.after_help(examples),
        None => command,
    })
}
