//! `credstash keys`

use credstash::Vault;

use crate::output::Output;
use crate::report::Failed;

/// List the names of all credentials, one a line, sorted
#[derive(clap::Args)]
#[command(before_help = "Example: credstash keys")]
pub(crate) struct Args {}

pub(crate) async fn run(vault: &Vault, out: &mut Output) -> Result<(), Failed> {
    let mut names: Vec<_> = vault.list().await?.into_iter().map(|entry| entry.name).collect();
    names.dedup();
    Ok(out.lines(names.into_iter().map(|name| name.to_string()))?)
}
