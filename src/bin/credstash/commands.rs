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

use std::time::Duration;

use futures_util::FutureExt as _;

use crate::args::{Cli, Command, definition};
use crate::open::{Access, open};
use crate::output::Output;
use crate::report::Failed;

/// Runs the command that was typed. What is typed after it is checked, and its input is read, before anything is opened and
/// before the time of `--timeout` begins.
pub(crate) async fn run(cli: Cli) -> Result<(), Failed> {
    let Cli { global, command } = cli;
    let (global, out) = (&global, &mut Output::stdout());
    let work = match command {
        Command::Completions(args) => return completions::run(&args, definition(), out),
        Command::Man(args) => return man::run(&args, definition()),
        Command::Setup(args) => setup::run(args, global, out).boxed_local(),
        Command::Delete(args) => {
            async move { delete::run(&args, &open(global, None, Access::Read).await?, out).await }.boxed_local()
        }
        Command::Keys(_) => async { keys::run(&open(global, None, Access::Read).await?, out).await }.boxed_local(),
        Command::List(_) => async { list::run(&open(global, None, Access::Read).await?, out).await }.boxed_local(),
        Command::Get(args) => {
            let request = args.check()?;
            async { request.run(open(global, None, Access::Read).await?, out).await }.boxed_local()
        }
        Command::Getall(args) => {
            let request = args.check()?;
            async { request.run(open(global, None, Access::Read).await?, out).await }.boxed_local()
        }
        Command::Put(args) => {
            let key = args.write.key.clone();
            let draft = args.check()?;
            async move { put::run(draft, &open(global, key.as_deref(), Access::Write).await?, out).await }.boxed_local()
        }
        Command::Putall(args) => {
            let key = args.write.key.clone();
            let drafts = args.check()?;
            async move { putall::run(drafts, &open(global, key.as_deref(), Access::Write).await?, out).await }
                .boxed_local()
        }
    };
    tokio::time::timeout(global.timeout, work).await.unwrap_or_else(|_| Err(gave_up(global.timeout)))
}

fn gave_up(limit: Duration) -> Failed {
    let seconds = limit.as_secs_f64();
    Failed::Message(format!(
        "gave up after {seconds} s, the limit that --timeout sets; a write that was under way may have been done all the same"
    ))
}
