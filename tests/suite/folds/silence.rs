//! A database that carries nothing any more under a running engine.

use std::sync::Arc;

use cnc_domain::kernel::fold;
use cnc_tests::{
    postgres::cluster,
    wire::{Mode, Wire},
};

use super::{
    ACME, Place, Running, put_in, till, views,
    world::{Ledgers, Sums},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folds_and_reads_go_on_after_their_connections_have_died_silently() {
    let direct = cluster().database().await;
    let wire = Wire::to(cluster().address()).await.expect("a wire");
    let place = Place::Postgres(direct.replace(&cluster().address().to_string(), &wire.address().to_string()));
    let feed = Arc::new(Ledgers::default());
    let running = Running::start(&feed, &place, views(&[fold::<Sums<1>>()])).await;
    let first = feed.tell(ACME, till(0), put_in(1));
    running.reached(ACME, "sums", first).await;
    assert_eq!(running.total(ACME, 0).await, Some(1));
    wire.set(Mode::Forgotten);
    let last = feed.tell(ACME, till(0), put_in(10));
    running.reached(ACME, "sums", last).await;
    running
        .until("it reads on another connection", async |running| {
            let read = running.store.get(ACME, "sums", &till(0).to_string(), None).await;
            read.is_ok_and(|found| found.row.is_some_and(|row| row.doc["total"] == 11))
        })
        .await;
    running.stop().await;
}
