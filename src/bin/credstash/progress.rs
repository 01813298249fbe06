//! A line on stderr that shows that something is going on: only on a terminal, only when it takes long, and gone
//! when it is done.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is done sooner than this shows nothing.
const PATIENCE: Duration = Duration::from_millis(400);

/// How often the line changes.
const INTERVAL: Duration = Duration::from_millis(100);

/// A progress line; it vanishes when it is dropped.
pub(crate) struct Progress {
    what: &'static str,
    started: Instant,
    is_terminal: bool,
    shown: AtomicBool,
    last_ms: AtomicU64,
}

impl Progress {
    /// A line such as `reading: 12 credentials`, of which `what` is the first word.
    pub(crate) fn new(what: &'static str) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { what, started: Instant::now(), is_terminal, shown: AtomicBool::new(false), last_ms: AtomicU64::new(0) }
    }

    /// Shows how far it is.
    pub(crate) fn show(&self, state: impl std::fmt::Display) {
        let elapsed = self.started.elapsed();
        if !self.is_terminal || elapsed < PATIENCE {
            return;
        }
        let now = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if now - self.last_ms.load(Ordering::Relaxed) < INTERVAL.as_millis() as u64 {
            return;
        }
        self.last_ms.store(now, Ordering::Relaxed);
        self.shown.store(true, Ordering::Relaxed);
        let _ = write!(io::stderr(), "\r\x1b[K{}: {state}", self.what);
    }

    /// Waits for `work`, and shows how long it has been going on.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => self.show(format_args!("{} s", self.started.elapsed().as_secs())),
            }
        }
    }

    /// Takes the line away, so that something else can be said.
    pub(crate) fn clear(&self) {
        if self.shown.swap(false, Ordering::Relaxed) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
