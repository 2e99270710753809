//! Closed-loop load: a number of writers, each with one request under way at a time.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::Outcome;

/// Requests per second that `writers` writers complete in `time`. `request` is given the writer and the count of its
/// request. The first quarter of the time warms up and is not counted.
pub async fn per_second<F, R>(writers: usize, time: Duration, request: F) -> Outcome<f64>
where
    F: Fn(usize, u64) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), String>> + Send,
{
    let request = Arc::new(request);
    let done = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + time;
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (request, done) = (request.clone(), done.clone());
            tokio::spawn(async move {
                let mut count = 0;
                while Instant::now() < end {
                    request(writer, count).await?;
                    count += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), String>(())
            })
        })
        .collect();
    tokio::time::sleep(time / 4).await;
    let (warm, start) = (done.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep_until(end.into()).await;
    let (counted, seconds) = (done.load(Ordering::Relaxed) - warm, start.elapsed().as_secs_f64());
    for task in tasks {
        task.await??;
    }
    #[allow(clippy::cast_precision_loss, reason = "a count of requests")]
    Ok(counted as f64 / seconds)
}

/// The middle of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The figure that so many percent do not exceed.
pub fn percentile(figures: &[f64], percent: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list"
    )]
    let place = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
