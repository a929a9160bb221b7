//! Waits that are polled for every token and fire once a stream at most. When the same task polls them
//! again, they touch neither the runtime's timers nor its lists of waiters.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Waits for a time that is postponed again and again. The timer fires at the earliest time that was
/// asked for, and is set again if the time was postponed meanwhile.
pub struct Alarm {
    timer: Pin<Box<Sleep>>,
    set_for: Instant,
    /// The task that the timer wakes.
    waker: Option<Waker>,
}

/// Waits for a token to be cancelled.
pub struct CancelWaiter {
    token: CancellationToken,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The task that the token wakes.
    waker: Option<Waker>,
}

impl Alarm {
    /// `first` is the first due time that is expected.
    pub fn new(first: Instant) -> Self {
        Self {
            timer: Box::pin(tokio::time::sleep_until(first)),
            set_for: first,
            waker: None,
        }
    }

    /// Waits until `due`, which may differ from the last call's.
    pub fn poll(&mut self, context: &mut Context<'_>, due: Instant) -> Poll<()> {
        loop {
            let timer_is_early_enough = self.set_for <= due && !self.timer.is_elapsed();
            if timer_is_early_enough && will_wake(self.waker.as_ref(), context) {
                return Poll::Pending;
            }
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            if !timer_is_early_enough {
                self.timer.as_mut().reset(due);
                self.set_for = due;
            }
            if self.timer.as_mut().poll(context).is_pending() {
                self.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
    }

    /// Whether the timer is set to a time after `now` and wakes the last task that polled.
    pub fn is_set(&self, now: Instant) -> bool {
        self.waker.is_some() && now < self.set_for
    }
}

impl CancelWaiter {
    pub fn new(token: CancellationToken) -> Self {
        Self {
            cancelled: Box::pin(token.clone().cancelled_owned()),
            token,
            waker: None,
        }
    }

    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if will_wake(self.waker.as_ref(), context) && !self.token.is_cancelled() {
            return Poll::Pending;
        }
        let cancelled = self.cancelled.as_mut().poll(context);
        self.waker = cancelled.is_pending().then(|| context.waker().clone());
        cancelled
    }
}

fn will_wake(waker: Option<&Waker>, context: &Context<'_>) -> bool {
    waker.is_some_and(|waker| waker.will_wake(context.waker()))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_alarm_that_is_moved_fires_in_time() {
        let begin = Instant::now();
        let mut alarm = Alarm::new(begin + SECOND);
        let mut due = begin + SECOND;
        // At first, postponed with every poll; one of these polls comes from the timer.
        let mut polls = 0;
        poll_fn(|context| {
            polls += 1;
            if polls < 4 {
                due = Instant::now() + 2 * SECOND;
                context.waker().wake_by_ref();
            }
            alarm.poll(context, due)
        })
        .await;
        assert!((2 * SECOND..3 * SECOND).contains(&begin.elapsed()));
        // Moved forward, it must not wait for the later time that its timer was set for.
        let begin = Instant::now();
        let mut far = true;
        poll_fn(|context| {
            let due = begin + if far { 60 * SECOND } else { SECOND };
            let polled = alarm.poll(context, due);
            if std::mem::take(&mut far) {
                context.waker().wake_by_ref();
            }
            polled
        })
        .await;
        assert!((SECOND..2 * SECOND).contains(&begin.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_task_that_polled_is_woken() {
        let begin = Instant::now();
        let (mut alarm, token) = (Alarm::new(begin + SECOND), CancellationToken::new());
        let mut waiter = CancelWaiter::new(token.clone());
        let mut context = Context::from_waker(Waker::noop());
        assert!(alarm.poll(&mut context, begin + SECOND).is_pending());
        assert!(waiter.poll(&mut context).is_pending());
        let waiting = tokio::spawn(async move {
            poll_fn(|context| alarm.poll(context, begin + SECOND)).await;
            poll_fn(|context| waiter.poll(context)).await;
        });
        tokio::time::sleep(2 * SECOND).await;
        token.cancel();
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_cancellation_is_seen_after_repeated_polls() {
        let token = CancellationToken::new();
        let mut waiter = CancelWaiter::new(token.clone());
        let mut polls = 0;
        poll_fn(|context| {
            polls += 1;
            let polled = waiter.poll(context);
            if polls == 3 {
                token.cancel();
            } else {
                context.waker().wake_by_ref();
            }
            polled
        })
        .await;
        assert_eq!(polls, 4);
    }
}
