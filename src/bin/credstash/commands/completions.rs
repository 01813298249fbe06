//! `credstash completions`

use clap_complete::Shell;

use crate::output::Output;
use crate::report::Failed;

/// Print the completions of a shell
#[derive(clap::Args)]
#[command(before_help = "Example: credstash completions bash > ~/.local/share/bash-completion/completions/credstash")]
pub(crate) struct Args {
    /// Shell that is to complete
    shell: Shell,
}

pub(crate) fn run(args: &Args, mut definition: clap::Command, out: &mut Output) -> Result<(), Failed> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "credstash", &mut script);
    Ok(out.bytes(&script)?)
}
