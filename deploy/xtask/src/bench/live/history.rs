//! What a long history costs those who run: memory, and building a view anew.

use std::time::{Duration, Instant};

use super::{
    super::{
        Options, Outcome,
        report::{Report, Target},
    },
    world::World,
};

/// Fills another company's ledger, and looks at what folds and relay hold before and after.
pub async fn measure(world: &World, options: &Options, report: &mut Report) -> Outcome {
    let short = options.entries / 100;
    let company = world.fill(short).await?;
    even(world, &company.to_string()).await?;
    let before = [&world.folds, &world.relay].map(|part| part.resident_kib().unwrap_or(0));
    let started = Instant::now();
    let company = world.fill(options.entries).await?;
    even(world, &company.to_string()).await?;
    #[allow(clippy::cast_precision_loss, reason = "a count of entries")]
    let entries = options.entries as f64;
    let took = started.elapsed().as_secs_f64();
    report.add("entries/s appended, relayed and folded by all views", entries / took, "one a second", 1.0, None);
    for (part, before) in [&world.folds, &world.relay].into_iter().zip(before) {
        #[allow(clippy::cast_precision_loss, reason = "kibibytes of memory")]
        report.add(
            format!("KiB resident in {} after {} entries", part.name(), options.entries),
            part.resident_kib().unwrap_or(0) as f64,
            format!("the same after {short}"),
            before as f64,
            Some(Target::AtMost(1.2)),
        );
    }
    let started = Instant::now();
    world.split.ok(&["folds", "rebuild", "dispatch_board", "--company", &company.to_string()]);
    let built = entries / started.elapsed().as_secs_f64();
    report.add("entries/s folded into a new dispatch_board on Postgres", built, "one a second", 1.0, None);
    Ok(())
}

/// Waits until all folds of a company are even with its ledger.
async fn even(world: &World, company: &str) -> Outcome {
    let patience = Instant::now() + Duration::from_mins(30);
    while Instant::now() < patience {
        let status = world.split.json(&["folds", "status"]);
        let mut of_it = status.iter().filter(|fold| fold["company"] == company).peekable();
        if of_it.peek().is_some() && of_it.all(|fold| fold["lag"] == 0) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the folds never became even with the ledger".into())
}
