//! One command a file: what can be typed after it, then what it does.

pub(crate) mod completions;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod getall;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod put;
pub(crate) mod putall;
pub(crate) mod setup;

mod read_many;
mod write_options;

use crate::args::{Cli, Command, definition};
use crate::open::{Access, open};
use crate::output::Output;
use crate::report::Failed;

/// Runs the command that was typed.
pub(crate) async fn run(cli: Cli) -> Result<(), Failed> {
    let Cli { global, command } = cli;
    let out = &mut Output::stdout();
    match command {
        Command::Completions(args) => completions::run(&args, definition(), out),
        Command::Man(args) => man::run(&args, definition()),
        Command::Setup(args) => setup::run(args, &global, out).await,
        Command::Delete(args) => delete::run(&args, &open(&global, None, Access::Read).await?, out).await,
        Command::Keys(_) => keys::run(&open(&global, None, Access::Read).await?, out).await,
        Command::List(_) => list::run(&open(&global, None, Access::Read).await?, out).await,
        // What is typed is checked, and input is read, before anything is opened.
        Command::Get(args) => {
            let request = args.check()?;
            request.run(&open(&global, None, Access::Read).await?, out).await
        }
        Command::Getall(args) => {
            let request = args.check()?;
            request.run(&open(&global, None, Access::Read).await?, out).await
        }
        Command::Put(args) => {
            let key = args.write.key.clone();
            let draft = args.check()?;
            put::run(draft, &open(&global, key.as_deref(), Access::Write).await?, out).await
        }
        Command::Putall(args) => {
            let key = args.write.key.clone();
            let drafts = args.check()?;
            putall::run(drafts, &open(&global, key.as_deref(), Access::Write).await?, out).await
        }
    }
}
