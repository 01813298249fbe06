//! The log: nothing unless asked for. Only this program's own lines, which hold no secret; those of the AWS SDK show
//! whole requests and are left out.
//!
//! The levels are Python's, and as in the original a command that succeeds is silent at each of them; DEBUG tells of
//! waits and retries, and TRACE, a level of our own, of every call.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use env_logger::Target;
use env_logger::fmt::Formatter;
use log::{LevelFilter, Record};

use crate::output::visible;

/// Whether the log is a file.
static IN_FILE: AtomicBool = AtomicBool::new(false);

/// Puts the message of a failure into the log, if that is a file: on stderr it stands already.
pub(crate) fn failure(message: &str) {
    if IN_FILE.load(Ordering::Relaxed) {
        log::error!(target: "credstash", "{message}");
    }
}

/// Starts the log, at `level` and to `file`, or else to stderr. A log that cannot be had as it was asked for is no
/// reason to withhold a credential: the error says what is there instead, and the command goes on.
pub(crate) fn start(level: Option<&str>, file: Option<&Path>) -> Result<(), String> {
    if level.is_none() && file.is_none() {
        return Ok(());
    }
    let target = match file.map(open).transpose() {
        Ok(Some(file)) => Target::Pipe(Box::new(file)),
        Ok(None) => Target::Stderr,
        Err(error) => return Err(format!("the log file cannot be opened, so there is none: {error}")),
    };
    let known = level.map_or(Some(LevelFilter::Warn), parse_level);
    IN_FILE.store(file.is_some(), Ordering::Relaxed);
    // A version or name that somebody else stored may hold what moves a cursor, or ends a line.
    let write = |out: &mut Formatter, record: &Record<'_>| {
        let message = visible(&record.args().to_string());
        writeln!(out, "[{} {:<5} {}] {message}", out.timestamp(), record.level(), record.target())
    };
    let mut builder = env_logger::Builder::new();
    builder.filter_module("credstash", known.unwrap_or(LevelFilter::Warn)).format(write).target(target).init();
    match (known, level) {
        (None, Some(name)) => {
            Err(format!("--log-level {name} is not one of ERROR, WARNING, INFO, DEBUG, TRACE; taking WARNING"))
        }
        _ => Ok(()),
    }
}

/// A new file is for its owner only: names of credentials are nobody else's business.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Python's level names and numbers, which scripts written for the original give.
fn parse_level(name: &str) -> Option<LevelFilter> {
    match name.to_ascii_uppercase().as_str() {
        "CRITICAL" | "FATAL" | "ERROR" | "50" | "40" => Some(LevelFilter::Error),
        "WARNING" | "WARN" | "30" => Some(LevelFilter::Warn),
        "INFO" | "20" => Some(LevelFilter::Info),
        "DEBUG" | "10" => Some(LevelFilter::Debug),
        "TRACE" | "NOTSET" | "0" => Some(LevelFilter::Trace),
        _ => None,
    }
}
