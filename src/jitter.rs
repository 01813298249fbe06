//! Random waits, so that those who met once do not meet again.

use std::time::Duration;

/// A random time below `limit`, evenly spread. Without random bytes it is half of it: those who wait still come apart
/// by their luck with what they wait for.
pub(crate) fn below(limit: Duration) -> Duration {
    let fraction = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    limit.mul_f64(fraction)
}
