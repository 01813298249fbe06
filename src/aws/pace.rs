//! Keeps the calls of one client at the rate that a service allows.
//!
//! The SDK retries a throttled call a few times; with many calls in flight those retries are throttled in turn, and
//! calls are lost. So it is kept from doing that, and here throttled calls wait for one another. After the first
//! refusal all calls take turns at a rate that each success raises by a constant and each refusal lowers by a factor:
//! additive increase, multiplicative decrease, as in TCP, and for its reason. Hosts that share a quota and know
//! nothing of each other come to equal shares of it (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms
//! for Congestion Avoidance", 1989). While nothing is refused, nothing waits, but for room in a window that grows with
//! each success: a fleet that starts at once does not send its whole work before it hears the first answer.

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
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use super::failure::classify;
use crate::failure::FailureKind;
use crate::jitter;

/// How long one call is tried again, from its first refusal on, before that is given to the caller. Of many hosts
/// that share a quota none must fail, and the last may have to wait for all others.
const PATIENCE: Duration = Duration::from_secs(300);

/// The least rate after the first refusal, in calls a second. It is higher where more calls than that got through.
const FIRST_RATE: f64 = 200.0;

/// No rate is lower, in calls a second.
const LOWEST_RATE: f64 = 0.5;

/// A rate above this is no limit, in calls a second: more than any quota of KMS or what one host can do.
const HIGHEST_RATE: f64 = 20_000.0;

/// What a success adds to the rate, in calls a second.
const RAISE: f64 = 0.3;

/// What a refusal multiplies the rate by.
const LOWER: f64 = 0.85;

/// What a refusal multiplies the rate by if no success came since the last one: the rate is far too high.
const LOWER_AGAIN: f64 = 0.5;

/// How late a turn may be taken and the next one still come in time: timers count in milliseconds.
const LAG: Duration = Duration::from_millis(5);

/// How many calls may be under way at first; each success makes room for one more.
const FIRST_WINDOW: usize = 32;

/// How many calls may be under way at last: more would be sooner done, but each holds some 70 KB and a connection.
const LAST_WINDOW: usize = 72;

/// The turns of the calls of one client.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Room for calls to be under way, which grows with success.
    window: Semaphore,
    rate: Mutex<Rate>,
    /// When the next turn is. Whoever waits for it holds this; the others queue.
    next_turn: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    /// Calls a second; no limit while nothing was refused.
    limit: Option<f64>,
    /// How often a refusal changed the limit. Calls that were under way together are refused together, and count as
    /// one refusal.
    refusals: u64,
    /// How many calls succeeded.
    successes: usize,
    /// How many had when the last refusal came.
    successes_at_refusal: usize,
    /// When the first call was made.
    began: Option<Instant>,
}

impl Rate {
    /// How many calls a second got through until now. What got through in the first moment tells little: quotas allow
    /// short bursts.
    fn so_far(&self) -> f64 {
        let elapsed = self.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        self.successes as f64 / elapsed.max(0.1)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { window: Semaphore::new(FIRST_WINDOW), rate: Mutex::default(), next_turn: tokio::sync::Mutex::default() }
    }
}

impl Pace {
    /// Makes the call `operation`, and makes it again while it is throttled.
    pub(crate) async fn run<T, E, F>(
        &self,
        operation: &str,
        call: impl FnMut() -> F,
    ) -> Result<T, SdkError<E, HttpResponse>>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + 'static,
    {
        let is_throttled = |error: &_| {
            let is_throttled = classify(operation, error).kind() == FailureKind::Throttled;
            if is_throttled {
                log::info!("{operation} is throttled; trying again");
            }
            is_throttled
        };
        self.repeat(is_throttled, call).await
    }

    async fn repeat<T, E, F>(&self, is_throttled: impl Fn(&E) -> bool, mut call: impl FnMut() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut deadline = None;
        loop {
            let (refusals, result) = {
                // The window is never closed.
                let _room = self.window.acquire().await;
                (self.take_turn().await, call().await)
            };
            match &result {
                Ok(_) => self.raise(),
                Err(error) if is_throttled(error) => {
                    self.lower(refusals);
                    let now = Instant::now();
                    if now < *deadline.get_or_insert(now + PATIENCE) {
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
        if self.rate().limit.is_some() {
            let mut next_turn = self.next_turn.lock().await;
            let this_turn = next_turn.unwrap_or_else(Instant::now);
            sleep_until(this_turn).await;
            // The limit of now, not that of when the queue was joined. Irregular intervals keep hosts that began
            // together from going on together.
            let interval = self.rate().limit.map_or(Duration::ZERO, |limit| Duration::from_secs_f64(limit.recip()));
            *next_turn = Some(this_turn.max(Instant::now() - LAG) + interval / 2 + jitter::below(interval));
        }
        let mut rate = self.rate();
        rate.began.get_or_insert_with(Instant::now);
        rate.refusals
    }

    fn lower(&self, refusals: u64) {
        let mut rate = self.rate();
        if rate.refusals == refusals {
            let factor = if rate.successes == rate.successes_at_refusal { LOWER_AGAIN } else { LOWER };
            rate.limit = Some(match rate.limit {
                Some(limit) => (limit * factor).max(LOWEST_RATE),
                None => rate.so_far().max(FIRST_RATE),
            });
            rate.refusals += 1;
            rate.successes_at_refusal = rate.successes;
        }
    }

    fn raise(&self) {
        let mut rate = self.rate();
        rate.limit = rate.limit.map(|limit| limit + RAISE).filter(|limit| *limit <= HIGHEST_RATE);
        rate.successes += 1;
        if FIRST_WINDOW + rate.successes <= LAST_WINDOW {
            self.window.add_permits(1);
        }
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
    use std::sync::Arc;

    use futures_util::StreamExt as _;
    use futures_util::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_until_somebody_is_refused() {
        let pace = Pace::default();
        let start = Instant::now();
        pace.raise();
        for _ in 0..100 {
            assert_eq!(pace.take_turn().await, 0);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_refused_together_lower_the_rate_once_and_then_take_turns() {
        let pace = Pace::default();
        for _ in 0..64 {
            pace.lower(0);
        }
        assert_eq!(pace.rate().limit, Some(FIRST_RATE));
        let start = Instant::now();
        for _ in 0..=100 {
            assert_eq!(pace.take_turn().await, 1);
        }
        let mean = start.elapsed().as_secs_f64() / 100.0;
        assert!((0.8..1.2).contains(&(mean * FIRST_RATE)), "a turn takes {mean} s");
    }

    #[test]
    fn refusals_in_a_row_lower_the_rate_faster() {
        let pace = Pace::default();
        let limits: Vec<_> = (0..3).map(|refusals| (pace.lower(refusals), pace.rate().limit).1).collect();
        assert_eq!(limits, [1.0, LOWER_AGAIN, LOWER_AGAIN * LOWER_AGAIN].map(|factor| Some(FIRST_RATE * factor)));
        pace.raise();
        let raised = pace.rate().limit.expect("a limit");
        pace.lower(3);
        assert_eq!(pace.rate().limit, Some(raised * LOWER));
        (4..100).for_each(|refusals| pace.lower(refusals));
        assert_eq!(pace.rate().limit, Some(LOWEST_RATE));
    }

    #[test]
    fn successes_widen_the_window_and_bring_the_full_rate_back() {
        let pace = Pace::default();
        assert_eq!(pace.window.available_permits(), FIRST_WINDOW);
        pace.lower(0);
        (0..100_000).for_each(|_| pace.raise());
        assert_eq!(pace.window.available_permits(), LAST_WINDOW);
        assert_eq!(pace.rate().limit, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_refuses_for_ever_is_given_up() {
        let pace = Pace::default();
        let start = Instant::now();
        let given_up = pace.repeat(|Throttled| true, || async { Err::<(), _>(Throttled) }).await;
        assert!(given_up.is_err());
        let waited = start.elapsed();
        assert!((PATIENCE..PATIENCE + Duration::from_secs(5)).contains(&waited), "{waited:?}");
    }

    /// A service with a quota of calls a second: a bucket, which is full at first.
    struct Service {
        quota: f64,
        bucket: f64,
        began: Instant,
        seen: Mutex<Seen>,
    }

    struct Seen {
        /// How many calls the bucket held after the last one, and when that was.
        left: (f64, Instant),
        /// How many calls were allowed and refused in each second.
        seconds: Vec<(u32, u32)>,
    }

    #[derive(Debug)]
    struct Throttled;

    impl Service {
        fn new(quota: f64, bucket: f64) -> Arc<Self> {
            let began = Instant::now();
            Arc::new(Self {
                quota,
                bucket,
                began,
                seen: Mutex::new(Seen { left: (bucket, began), seconds: Vec::new() }),
            })
        }

        /// A call that takes 10 ms there and back.
        async fn call(&self) -> Result<(), Throttled> {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let answer = self.answer();
            tokio::time::sleep(Duration::from_millis(5)).await;
            answer
        }

        fn answer(&self) -> Result<(), Throttled> {
            let Seen { left: (left, when), seconds } = &mut *self.seen.lock().expect("no panic while it is locked");
            *left = (*left + when.elapsed().as_secs_f64() * self.quota).min(self.bucket);
            *when = Instant::now();
            let second = self.began.elapsed().as_secs() as usize;
            seconds.resize(seconds.len().max(second + 1), (0, 0));
            if *left < 1.0 {
                seconds[second].1 += 1;
                return Err(Throttled);
            }
            *left -= 1.0;
            seconds[second].0 += 1;
            Ok(())
        }
    }

    /// One host that makes as many calls, with the window full; gives when it is done.
    async fn host(service: Arc<Service>, calls: usize) -> Duration {
        let pace = Pace::default();
        stream::iter(0..calls)
            .map(|_| pace.repeat(|Throttled| true, || service.call()))
            .buffer_unordered(LAST_WINDOW)
            .for_each(|answer| async move { answer.expect("no call fails") })
            .await;
        service.began.elapsed()
    }

    /// With a bucket of a tenth of a second, which forgives little. The turns are random, so the median of some runs is
    /// what counts.
    #[tokio::test(start_paused = true)]
    async fn one_host_under_a_quota() {
        for (calls, quota) in [(300, 200.0), (1000, 200.0), (300, 20.0), (20_000, 5500.0)] {
            let ideal = (calls as f64 - quota / 10.0) / quota;
            let mut runs = Vec::new();
            for _ in 0..5 {
                let service = Service::new(quota, quota / 10.0);
                let took = host(Arc::clone(&service), calls).await.as_secs_f64();
                let refused: u32 =
                    service.seen.lock().expect("not locked").seconds.iter().map(|(_, refused)| refused).sum();
                runs.push((took / ideal, f64::from(refused) / calls as f64));
            }
            runs.sort_by(|one, other| one.0.total_cmp(&other.0));
            let (of_ideal, refused) = runs[2];
            assert!(of_ideal < 1.15, "{calls} calls at {quota}/s: {runs:?}");
            assert!(refused < 0.3, "{calls} calls at {quota}/s: {runs:?}");
        }
    }

    /// The plot in benches/README.md is what this prints.
    #[expect(clippy::print_stdout)]
    #[tokio::test(start_paused = true)]
    async fn a_fleet_under_one_quota() {
        let (hosts, calls, quota) = (1000, 200, 5500.0);
        let service = Service::new(quota, quota);
        let fleet = (0..hosts).map(|_| tokio::spawn(host(Arc::clone(&service), calls)));
        let done = futures_util::future::try_join_all(fleet).await.expect("no host fails");
        let took = done.iter().max().expect("there are hosts").as_secs_f64();
        let ideal = (hosts * calls) as f64 / quota;
        println!("second allowed refused");
        for (second, (allowed, refused)) in service.seen.lock().expect("not locked").seconds.iter().enumerate() {
            println!("{second:6} {allowed:7} {refused:7} {}", "#".repeat(*allowed as usize / 200));
        }
        println!("{took:.1} s, where the quota alone takes {ideal:.1} s");
        assert!(took < 1.2 * ideal, "{took} s of {ideal} s");
    }
}
