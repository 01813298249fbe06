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

/// How long one call is tried again before its refusal is given to the caller.
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
    turns: Mutex<Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    /// None while nothing was refused.
    interval: Option<Duration>,
    /// When the next turn is.
    next: Option<Instant>,
    /// How often the interval was changed by a refusal. Calls that were under way together are refused together, and
    /// count as one refusal.
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
        let deadline = Instant::now() + PATIENCE;
        loop {
            let refusals = self.take_turn().await;
            let result = call().await;
            match &result {
                Ok(_) => self.speed_up(),
                Err(error) if classify(operation, error).kind() == FailureKind::Throttled => {
                    self.slow_down(refusals);
                    if Instant::now() < deadline {
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
        let (turn, refusals) = self.turns().take(Instant::now());
        if let Some(turn) = turn {
            sleep_until(turn).await;
        }
        refusals
    }

    fn slow_down(&self, refusals: u64) {
        let mut turns = self.turns();
        if turns.refusals == refusals {
            turns.refusals += 1;
            let slower = turns.interval.map_or(FIRST_INTERVAL, |interval| interval.mul_f64(SLOWER));
            turns.interval = Some(slower.min(LONGEST_INTERVAL));
        }
    }

    fn speed_up(&self) {
        let mut turns = self.turns();
        let faster = turns.interval.map(|interval| interval.mul_f64(FASTER));
        turns.interval = faster.filter(|interval| *interval >= SHORTEST_INTERVAL);
    }

    /// The numbers are whole at any time, so a poisoned lock is as good as any.
    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Turns {
    fn take(&mut self, now: Instant) -> (Option<Instant>, u64) {
        let turn = self.interval.map(|interval| {
            let turn = self.next.map_or(now, |next| next.max(now));
            self.next = Some(turn + interval);
            turn
        });
        (turn, self.refusals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_until_somebody_is_refused() {
        let pace = Pace::default();
        assert_eq!(pace.turns().take(Instant::now()), (None, 0));
        pace.speed_up();
        assert_eq!(pace.turns().take(Instant::now()), (None, 0));
    }

    #[test]
    fn calls_refused_together_slow_down_once_and_then_take_turns() {
        let pace = Pace::default();
        for _ in 0..64 {
            pace.slow_down(0);
        }
        let now = Instant::now();
        let turns: Vec<_> = (0..3).map(|_| pace.turns().take(now)).collect();
        assert_eq!(turns, [0, 1, 2].map(|turn| (Some(now + FIRST_INTERVAL * turn), 1)));
        pace.slow_down(1);
        assert_eq!(pace.turns().interval, Some(FIRST_INTERVAL.mul_f64(SLOWER)));
    }

    #[test]
    fn success_brings_the_full_rate_back() {
        let pace = Pace::default();
        (0..100).for_each(|refusals| pace.slow_down(refusals));
        assert_eq!(pace.turns().interval, Some(LONGEST_INTERVAL));
        (0..400).for_each(|_| pace.speed_up());
        assert_eq!(pace.turns().interval, None);
    }
}
