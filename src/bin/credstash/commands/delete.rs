//! `credstash delete`

use credstash::{Name, Vault};

use crate::output::Output;
use crate::report::Failed;

/// Delete every version of a credential
#[derive(clap::Args)]
#[command(before_help = "Example: credstash delete db.password")]
pub(crate) struct Args {
    /// Name of the credential; * has no meaning here
    credential: String,
}

pub(crate) async fn run(args: &Args, vault: &Vault, out: &mut Output) -> Result<(), Failed> {
    let name = Name::new(args.credential.as_str()).map_err(|error| Failed::Message(error.to_string()))?;
    let mut written = Ok(());
    // What was begun is finished, whether anybody reads of it or not.
    let deleted = vault
        .delete(&name, |version| {
            let line = format!("Deleting {name} -- version {version}");
            written = std::mem::replace(&mut written, Ok(())).and_then(|()| out.line(&line));
        })
        .await;
    deleted?;
    Ok(written?)
}
