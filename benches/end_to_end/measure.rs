//! Runs a command to its end and says what it took.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde_json::{Value, json};

use crate::loopback::Counts;

/// The first argument with which this program is a launcher: see [`launch`].
pub(crate) const LAUNCH: &str = "--launch";

/// What one run of a command took.
pub(crate) struct Run {
    wall: f64,
    cpu: f64,
    memory: f64,
    pub(crate) stdout: Vec<u8>,
    pub(crate) counts: Counts,
}

impl Run {
    /// Runs a command that must end well.
    pub(crate) fn of(command: &Command) -> Self {
        let mut launcher = Command::new(std::env::current_exe().expect("this program has a path"));
        launcher.arg(LAUNCH).arg(command.get_program()).args(command.get_args()).env_clear();
        launcher.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(folder) = command.get_current_dir() {
            launcher.current_dir(folder);
        }
        let output = launcher.output().expect("this program runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?} fails: {stderr}");
        let took: Value = serde_json::from_str(stderr.lines().last().unwrap_or_default()).expect("the launcher's line");
        let number = |name: &str| took[name].as_f64().expect("a number");
        Self {
            wall: number("wall"),
            cpu: number("cpu"),
            memory: number("memory"),
            stdout: output.stdout,
            counts: Counts::default(),
        }
    }

    /// Seconds from its start to its end.
    pub(crate) fn wall(&self) -> f64 {
        self.wall
    }

    /// Milliseconds of processor time, in the program and in the kernel on its behalf.
    pub(crate) fn cpu(&self) -> f64 {
        self.cpu * 1e3
    }

    /// The most memory that it had at a time, in megabytes.
    pub(crate) fn memory(&self) -> f64 {
        self.memory / 1e6
    }

    /// How many round trips it waited for one after the other.
    pub(crate) fn round_trips(&self) -> f64 {
        self.counts.round_trips()
    }

    /// How many calls it made.
    pub(crate) fn calls(&self) -> f64 {
        count(self.counts.all_calls())
    }
}

/// A count as a figure.
pub(crate) fn count(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a small number"))
}

/// Runs the command in `args`; the last line on stderr says what it took. This is a process of its own because the
/// kernel sums up what all children took, and because a child is charged with the memory of the process that forked
/// it: a launcher has little.
pub(crate) fn launch(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut command = Command::new(args.next().expect("a program to launch"));
    let start = Instant::now();
    let status = command.args(args).status().expect("the program runs");
    let wall = start.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel knows");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    let took = json!({
        "wall": wall.as_secs_f64(),
        "cpu": Duration::from_micros(micros.unsigned_abs()).as_secs_f64(),
        "memory": usage.max_rss() * unit,
    });
    writeln!(std::io::stderr(), "\n{took}").expect("the bench reads it");
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
