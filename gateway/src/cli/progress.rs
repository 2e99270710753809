//! How far a long command is.

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::output::note;

/// How often progress is told where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Tells how many of `total` things are done: a bar on a terminal, otherwise a line now and then.
pub async fn tell(things: &'static str, total: u64, done: Arc<AtomicU64>, quiet: bool) {
    let bar = (io::stderr().is_terminal() && !quiet).then(|| {
        let style =
            ProgressStyle::with_template(&format!("{{bar:40}} {{human_pos}}/{{human_len}} {things}, {{eta}} left"));
        ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    let mut tick = tokio::time::interval(if bar.is_some() { Duration::from_millis(200) } else { TELL_EVERY });
    tick.tick().await; // the first comes at once
    loop {
        tick.tick().await;
        let done = done.load(Ordering::Relaxed);
        match &bar {
            Some(bar) => bar.set_position(done),
            None => note(format_args!("{done} of {total} {things}")),
        }
    }
}
