//! The database crashes, loses its connections, or has no room.

use cnc_tests::postgres::Cluster;

use super::*;

/// Appends `count` entries to truck `number`, each again with its key until it is done, whatever passes in between.
async fn insist(ledger: Arc<dyn Audit>, number: u128, count: u64) {
    for nth in 0..count {
        let batch =
            || vec![keyed(deed(company(1), truck(number), nth, &["cleaned"]), "tool:test", &format!("{number} {nth}"))];
        let done = async {
            loop {
                match append_all(&*ledger, batch()).await.map(|mut outcomes| outcomes.remove(0)) {
                    Ok(Ok(_)) | Ok(Err(AppendError::Repeated(_))) => break,
                    Err(fault) if fault.passing => tokio::task::yield_now().await,
                    other => panic!("{number} {nth}: {other:?}"),
                }
            }
        };
        within("an append", done).await;
    }
}

/// The ledger that was open all the time heals by itself.
async fn healed(ledger: &dyn Audit) {
    within("healing", async { while ledger.head(company(1)).await.is_err() {} }).await;
}

/// Four write while `trouble` happens again and again; afterwards everything is there once.
async fn write_through(ground: &Ground, each: u64, trouble: impl AsyncFn()) {
    let (ledger, company) = founded(ground).await;
    let mut writers = Vec::new();
    for number in 1..=4 {
        writers.push(tokio::spawn(insist(ground.ledger().await, number, each)));
    }
    while writers.iter().any(|writer| !writer.is_finished()) {
        trouble().await;
    }
    for writer in writers {
        writer.await.expect("written");
    }
    healed(&*ledger).await;
    assert_eq!(lines(&*ledger, company).await.len() as u64, 4 * each + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_connections_lose_nothing() {
    let ground = Ground::postgres().await;
    write_through(&ground, 60, async || {
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                         WHERE datname = current_database() AND pid <> pg_backend_pid()";
        ground.sql(terminate).await.expect("terminated");
        // Between two, something is appended.
        let ledger = ground.ledger().await;
        ledger.changed(0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_server_loses_nothing() {
    let cluster = Cluster::start();
    let ground = Ground::Postgres(cluster.database().await);
    let ledger = founded(&ground).await.0;
    for round in 1..=3 {
        let writer = tokio::spawn(insist(ledger.clone(), round, 60));
        within("some entries", async {
            while ledger.read_stream(company(1), "truck", truck(round), 0, 99).await.map_or(0, |lines| lines.len()) < 20
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
        cluster.crash();
        writer.await.expect("written");
    }
    healed(&*ledger).await;
    assert_eq!(lines(&*ledger, company(1)).await.len(), 181);
}
