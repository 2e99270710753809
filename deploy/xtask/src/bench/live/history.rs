//! What a long history costs those who run: memory, and building a view anew.

use std::time::{Duration, Instant};

use super::{
    super::{
        Options, Outcome,
        report::{Report, Target},
    },
    world::World,
};

/// Fills ever longer ledgers of other companies, and looks at what folds and relay hold after each.
pub async fn measure(world: &World, options: &Options, report: &mut Report) -> Outcome {
    let lengths = [options.entries / 100, options.entries / 10, options.entries];
    let (mut resident, mut took, mut company) = (Vec::new(), Duration::ZERO, world.company);
    for entries in lengths {
        let started = Instant::now();
        company = world.fill(entries).await?;
        even(world, &company.to_string()).await?;
        took = started.elapsed();
        resident.push([&world.folds, &world.relay].map(|part| part.resident_kib().unwrap_or(0)));
    }
    #[allow(clippy::cast_precision_loss, reason = "a count of entries")]
    let entries = options.entries as f64;
    let rate = entries / took.as_secs_f64();
    report.add("entries/s appended, relayed and folded by all views", rate, "one a second", 1.0, None);
    for (place, part) in [&world.folds, &world.relay].into_iter().enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "kibibytes of memory")]
        report.add(
            format!("KiB resident in {} after {} entries", part.name(), options.entries),
            resident[2][place] as f64,
            format!("the same after {} ({} after {})", lengths[1], resident[0][place], lengths[0]),
            resident[1][place] as f64,
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
