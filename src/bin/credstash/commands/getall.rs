//! `credstash getall`

use credstash::{Context, Select, Vault};

use super::get::selected;
use super::read_many::ReadOptions;
use crate::input::{self, Beside};
use crate::output::Output;
use crate::report::Failed;

/// Print all credentials
#[derive(clap::Args)]
#[command(before_help = "\
Example: credstash getall env=prod
         credstash getall -f dotenv > .env
         vars=$(credstash getall -f shell); eval \"$vars\"   with set -e before it")]
pub(crate) struct Args {
    /// Encryption context: the key=value pairs with which they were stored
    context: Vec<String>,

    /// Version of each to print [default: the newest]
    #[arg(short, long, value_name = "VERSION")]
    version: Option<String>,

    #[command(flatten)]
    read: ReadOptions,
}

/// A getall that makes sense.
pub(crate) struct Request {
    context: Context,
    select: Select,
    read: ReadOptions,
}

impl Args {
    pub(crate) fn check(self) -> Result<Request, Failed> {
        let context = input::context(&self.context, Beside::Nothing)?;
        Ok(Request { context, select: selected(self.version.as_deref())?, read: self.read })
    }
}

impl Request {
    pub(crate) async fn run(self, vault: Vault, out: &mut Output) -> Result<(), Failed> {
        let vault = &self.read.vault(vault)?;
        let mut text = self.read.read(vault, None, &self.select, &self.context).await?;
        // The original ends each of its formats with one more line feed here than after a get with a pattern.
        text.extend(self.read.format.ending());
        Ok(out.bytes(&text)?)
    }
}
