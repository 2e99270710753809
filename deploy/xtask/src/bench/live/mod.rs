//! `bench live`: the split system, from a command to the browsers that see it.

mod bare;
mod history;
mod latency;
mod lean;
mod reads;
mod secured;
mod socket;
mod world;

pub use bare::serve;

use cnc_tests::postgres::Cluster;

use super::{Options, Outcome, Part, report::Report};

/// Runs all of it: what views cost under row security on a Postgres alone, the rest on one Postgres, one broker and three
/// processes.
pub async fn run(options: &Options) -> Outcome {
    let mut report = Report::default();
    if options.wants(Part::Secured) {
        secured::measure(&Cluster::start(), options, &mut report).await?;
    }
    if options.only == [Part::Secured] {
        return report.finish(options.json.as_deref());
    }
    let world = world::World::start().await?;
    if options.wants(Part::Latency) {
        latency::measure(&world, options, &mut report).await?;
    }
    if options.wants(Part::Reads) {
        reads::measure(&world, options, &mut report).await?;
    }
    if options.wants(Part::History) {
        history::measure(&world, options, &mut report).await?;
    }
    drop(world.postgres);
    report.finish(options.json.as_deref())
}
