//! Waiting while the system is away or busy, so that an import survives a database that starts again.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::gps::Stopped;

/// How long the same thing is tried.
const PATIENCE: Duration = Duration::from_mins(5);
/// How long is waited at first, and at most; each time twice as long as before.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// From this wait on the operator is told, this often.
const TOLD_FROM: Duration = Duration::from_millis(400);
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The patience of one import, whose tasks tell the operator as one.
#[derive(Debug, Default)]
pub struct Patience {
    told: Mutex<Option<Instant>>,
}

impl Patience {
    /// Tries until it succeeds, fails in a way that does not pass, or has failed for five minutes.
    pub async fn with<T, A>(&self, mut attempt: impl FnMut() -> A) -> Result<T, Stopped>
    where
        A: Future<Output = Result<T, Stopped>>,
    {
        let (begun, mut wait) = (Instant::now(), FIRST_WAIT);
        loop {
            match attempt().await {
                Err(stopped) if stopped.may_pass() && begun.elapsed() < PATIENCE => {
                    if wait >= TOLD_FROM {
                        self.tell(&stopped);
                    }
                }
                done => return done,
            }
            tokio::time::sleep(wait).await;
            wait = LONGEST_WAIT.min(wait * 2);
        }
    }

    fn tell(&self, stopped: &Stopped) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            *told = Some(Instant::now());
            tracing::warn!(cause = %stopped, "the system is away or busy: the import waits, and goes on by itself");
        }
    }
}
