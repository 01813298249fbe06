//! The command line: parse, open, run, report, exit.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod config;
mod format;
mod global;
mod input;
mod logging;
mod open;
mod output;
mod process;
mod progress;
mod report;
mod terminal;
mod words;

/// What fuzz/ and the tests that replay its cases have in common.
#[cfg(test)]
#[path = "../../../fuzz/src/cases.rs"]
mod cases;

use std::alloc::System;
use std::process::ExitCode;

use zeroizing_alloc::ZeroAlloc;

/// Wipes every block when it is freed: values pass through buffers of libraries (the parser of the command line, those
/// of JSON and CSV, TLS), which do not wipe them themselves.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    process::forbid_core_dumps();
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(error) => return report::unparsed(&error, args::definition),
    };
    if let Err(reason) = logging::start(cli.global.log_level.as_deref(), cli.global.log_file.as_deref()) {
        report::warn(&reason);
    }
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => report::failed(&failed, args::definition),
    }
}

fn run(cli: args::Cli) -> Result<(), report::Failed> {
    // One thread is enough to wait on the network, and starts 0.25 ms sooner than several.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(commands::run(cli));
    // What is still under way is only what was prepared and then not needed.
    runtime.shutdown_background();
    done
}
