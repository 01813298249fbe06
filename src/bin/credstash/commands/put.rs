//! `credstash put`

use credstash::{Draft, Vault};

use super::write_options::WriteOptions;
use crate::input::{self, Beside};
use crate::output::Output;
use crate::report::Failed;
use crate::terminal;

/// The version of a first put, as in the original.
const DEFAULT_VERSION: &str = "1";

/// Store a credential
#[derive(clap::Args)]
#[command(before_help = "\
Example: credstash put -a db.password              ask for the value, store it as the next version
         pwgen 20 1 | tr -d '\\n' | credstash put -a db.password -
         credstash put tls.key @server.key env=prod")]
pub(crate) struct Args {
    /// Name of the credential
    pub(crate) credential: String,

    /// Value: @FILE for the bytes of a file, - for all of standard input; typed here it shows in the list of processes,
    /// and goes after -- if it begins with -. Without one it is asked for, if there is a terminal
    pub(crate) value: Option<String>,

    /// Encryption context: key=value pairs that every reader has to give again
    pub(crate) context: Vec<String>,

    #[command(flatten)]
    pub(crate) write: WriteOptions,

    /// Ask for the value on the terminal, without echo
    #[arg(short = 'P', long)]
    prompt: bool,
}

impl Args {
    /// Checks what was typed, and reads the value.
    pub(crate) fn check(self) -> Result<Draft, Failed> {
        let context = input::context(&self.context, Beside::Value)?;
        let asks = self.prompt || (self.value.is_none() && input::is_terminal());
        let secret = match asks {
            true => terminal::ask(&format!("{}: ", self.credential))?,
            false => input::value("value", self.value.unwrap_or_default())?,
        };
        self.write.draft(&self.credential, secret, context, DEFAULT_VERSION)
    }
}

pub(crate) async fn run(draft: Draft, vault: &Vault, out: &mut Output) -> Result<(), Failed> {
    let name = draft.name.clone();
    vault.put(draft).await?;
    Ok(out.line(&format!("{name} has been stored"))?)
}
