//! `credstash list`

use credstash::Vault;

use crate::output::Output;
use crate::report::Failed;

/// List every version of every credential, with its comment
#[derive(clap::Args)]
#[command(before_help = "Example: credstash list")]
pub(crate) struct Args {}

pub(crate) async fn run(vault: &Vault, out: &mut Output) -> Result<(), Failed> {
    let entries = vault.list().await?;
    let width = entries.iter().map(|entry| entry.name.as_str().chars().count()).max().unwrap_or_default();
    let lines = entries.into_iter().map(|entry| {
        let comment = entry.comment.unwrap_or_default();
        format!("{:width$} -- version {} -- comment {comment}", entry.name.as_str(), entry.version)
    });
    Ok(out.lines(lines)?)
}
