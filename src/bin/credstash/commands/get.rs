//! `credstash get`

use credstash::{Asked, Context, Name, Pattern, Select, Vault};

use super::read_many::ReadOptions;
use crate::input::{self, Beside};
use crate::output::Output;
use crate::report::Failed;

/// Print a credential, or all whose names match a pattern
#[derive(clap::Args)]
#[command(before_help = "\
Example: credstash get db.password
         credstash get db.password -v 3 env=prod
         credstash get 'db.*' -f dotenv")]
pub(crate) struct Args {
    /// Name of the credential; * stands for any run of characters, all else for itself
    credential: String,

    /// Encryption context: the key=value pairs with which it was stored
    context: Vec<String>,

    /// Do not end the value with a line feed
    #[arg(short, long)]
    noline: bool,

    /// Version to print [default: the newest]
    #[arg(short, long, value_name = "VERSION")]
    version: Option<String>,

    #[command(flatten)]
    read: ReadOptions,
}

/// A get that makes sense.
pub(crate) struct Request {
    credential: String,
    context: Context,
    select: Select,
    noline: bool,
    read: ReadOptions,
}

impl Args {
    pub(crate) fn check(self) -> Result<Request, Failed> {
        let context = input::context(&self.context, Beside::Nothing)?;
        let select = selected(self.version.as_deref())?;
        Ok(Request { credential: self.credential, context, select, noline: self.noline, read: self.read })
    }
}

/// What `-v` selects; an empty version means the newest, as in the original.
pub(super) fn selected(version: Option<&str>) -> Result<Select, Failed> {
    match version {
        None | Some("") => Ok(Select::Latest),
        Some(text) => Asked::new(text).map(Select::Exactly).map_err(|error| Failed::Message(error.to_string())),
    }
}

impl Request {
    pub(crate) async fn run(self, vault: Vault, out: &mut Output) -> Result<(), Failed> {
        let vault = &self.read.vault(vault)?;
        if self.credential.contains(Pattern::WILDCARD) {
            let pattern = Pattern::new(&self.credential);
            let text = self.read.read(vault, Some(&pattern), &self.select, &self.context).await?;
            return Ok(out.bytes(&text)?);
        }
        let name = Name::new(self.credential).map_err(|error| Failed::Message(error.to_string()))?;
        let secret = vault.get(&name, &self.select, &self.context).await?;
        out.bytes(secret.expose())?;
        if !self.noline {
            out.bytes(b"\n")?;
        }
        Ok(())
    }
}
