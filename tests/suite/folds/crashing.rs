//! A server that crashes under a process that goes on.

use std::sync::Arc;

use cnc_domain::kernel::fold;
use cnc_tests::postgres::Cluster;

use super::{
    ACME, Place, Running, put_in, till, views,
    world::{Ledgers, Sums},
};

const SET_BACK: [&str; 3] = [
    "UPDATE folds SET position = former.position, hash = former.hash FROM former WHERE folds.fold = former.fold",
    "DELETE FROM sums_v1",
    "INSERT INTO sums_v1 (company, build, key, location, position, doc, restricted)
     SELECT company, build, key, location, position, doc, restricted FROM former_sums",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crashed_server_has_lost_of_a_view_is_folded_again_though_there_is_no_news() {
    let cluster = Arc::new(Cluster::start());
    let place = Place::Postgres(cluster.database().await);
    let feed = Arc::new(Ledgers::default());
    let first = feed.tell(ACME, till(0), put_in(1));
    let running = Running::start(&feed, &place, views(&[fold::<Sums<1>>()])).await;
    running.reached(ACME, "sums", first).await;
    for keep in ["CREATE TABLE former AS SELECT * FROM folds", "CREATE TABLE former_sums AS SELECT * FROM sums_v1"] {
        place.sql(keep).await.expect("keeps");
    }
    let last = feed.tell(ACME, till(0), put_in(10));
    running.reached(ACME, "sums", last).await;
    // Nobody can time a crash so that it surely loses the last commit: it is taken back by hand, before.
    for back in SET_BACK {
        assert_eq!(place.sql(back).await, Ok(1));
    }
    let crashed = cluster.clone();
    tokio::task::spawn_blocking(move || crashed.crash()).await.expect("crashes");
    running
        .until("what was lost is folded again", async |running| {
            running.store.position(ACME, "sums").await.is_ok_and(|position| position == last)
        })
        .await;
    assert_eq!(running.total(ACME, 0).await, Some(11));
    running.stop().await;
}
