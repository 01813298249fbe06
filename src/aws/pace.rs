//! Keeps the calls of one client below the rate at which a service throttles them.
//!
//! The SDK retries a throttled call a few times; with many calls in flight those retries are throttled in turn, and
//! calls are lost. So it is kept from doing that, and here throttled calls wait for one another: after the first refusal all calls take turns, and the
//! interval between turns grows when a call is refused and shrinks when one gets through (additive-increase,
//! multiplicative-decrease of the rate, as TCP does it). While nothing is refused, nothing waits.

use std::error::Error;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::retries::classifiers::{
    ClassifyRetry, RetryAction, RetryClassifierPriority, RetryReason,
};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::ErrorKind;
use tokio::time::{Instant, sleep_until};

use super::failure::classify;
use crate::failure::FailureKind;

/// How long one call is tried again, from its first refusal on, before that is given to the caller.
const PATIENCE: Duration = Duration::from_secs(60);

/// The interval after the first refusal: 200 calls a second.
const FIRST_INTERVAL: Duration = Duration::from_millis(5);

/// No interval is longer: one call a second.
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// An interval below this is none: a thousand calls a second.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// What a refusal does to the interval.
const SLOWER: f64 = 1.5;

/// What a call that got through does to the interval.
const FASTER: f64 = 0.98;

/// The turns of the calls of one client.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    rate: Mutex<Rate>,
    /// When the last turn was. Whoever waits for the next one holds it; the others queue for it.
    last_turn: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    /// The time between turns; none while nothing was refused.
    interval: Option<Duration>,
    /// How often a refusal changed the interval. Calls that were under way together are refused together, and count
    /// as one refusal.
    refusals: u64,
}

impl Pace {
    /// Makes the call `operation`, and makes it again while it is throttled.
    pub(crate) async fn run<T, E, F>(
        &self,
        operation: &str,
        mut call: impl FnMut() -> F,
    ) -> Result<T, SdkError<E, HttpResponse>>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let mut deadline = None;
        loop {
            let refusals = self.take_turn().await;
            let result = call().await;
            match &result {
                Ok(_) => self.speed_up(),
                Err(error) if classify(operation, error).kind() == FailureKind::Throttled => {
                    self.slow_down(refusals);
                    let now = Instant::now();
                    if now < *deadline.get_or_insert(now + PATIENCE) {
                        log::info!("{operation} is throttled; trying again");
                        continue;
                    }
                }
                Err(_) => {}
            }
            return result;
        }
    }

    /// Waits for the next turn; gives the number of refusals at its time.
    async fn take_turn(&self) -> u64 {
        if self.rate().interval.is_some() {
            let mut last_turn = self.last_turn.lock().await;
            // The interval of now, not that of when the queue was joined.
            let next_turn = last_turn.zip(self.rate().interval).map(|(last, interval)| last + interval);
            if let Some(next_turn) = next_turn {
                sleep_until(next_turn).await;
            }
            *last_turn = Some(Instant::now());
        }
        self.rate().refusals
    }

    fn slow_down(&self, refusals: u64) {
        let mut rate = self.rate();
        if rate.refusals == refusals {
            rate.refusals += 1;
            let slower = rate.interval.map_or(FIRST_INTERVAL, |interval| interval.mul_f64(SLOWER));
            rate.interval = Some(slower.min(LONGEST_INTERVAL));
        }
    }

    fn speed_up(&self) {
        let mut rate = self.rate();
        let faster = rate.interval.map(|interval| interval.mul_f64(FASTER));
        rate.interval = faster.filter(|interval| *interval >= SHORTEST_INTERVAL);
    }

    /// The numbers are whole at any time, so a poisoned lock is as good as any.
    fn rate(&self) -> MutexGuard<'_, Rate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the SDK from trying throttled calls again by itself, out of turn.
#[derive(Debug)]
pub(crate) struct LeaveThrottledToPace;

impl ClassifyRetry for LeaveThrottledToPace {
    fn classify_retry(&self, _: &InterceptorContext) -> RetryAction {
        RetryAction::NoActionIndicated
    }

    fn classify_retry_v2(&self, _: &InterceptorContext, verdict: &RetryAction) -> RetryAction {
        match verdict {
            RetryAction::RetryIndicated(RetryReason::RetryableError { kind: ErrorKind::ThrottlingError, .. }) => {
                RetryAction::RetryForbidden
            }
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "leave throttled calls to Pace"
    }

    /// After those of the SDK, whose verdict it reads.
    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_until_somebody_is_refused() {
        let pace = Pace::default();
        let start = Instant::now();
        pace.speed_up();
        for _ in 0..100 {
            assert_eq!(pace.take_turn().await, 0);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_refused_together_slow_down_once_and_then_take_turns() {
        let pace = Pace::default();
        for _ in 0..64 {
            pace.slow_down(0);
        }
        let start = Instant::now();
        for turn in 0..3 {
            assert_eq!(pace.take_turn().await, 1);
            assert!(start.elapsed() >= FIRST_INTERVAL * turn, "turn {turn}");
        }
        pace.slow_down(1);
        assert_eq!(pace.rate().interval, Some(FIRST_INTERVAL.mul_f64(SLOWER)));
    }

    #[test]
    fn success_brings_the_full_rate_back() {
        let pace = Pace::default();
        (0..100).for_each(|refusals| pace.slow_down(refusals));
        assert_eq!(pace.rate().interval, Some(LONGEST_INTERVAL));
        (0..400).for_each(|_| pace.speed_up());
        assert_eq!(pace.rate().interval, None);
    }
}
