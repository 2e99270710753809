//! The relay loses nothing, whatever dies, forgets or is in its way.

use std::{sync::atomic::Ordering, time::Duration};

use async_nats::jetstream::message::PublishMessage;
use cnc_commands::relay::RelayOptions;
use cnc_domain::ledger::{AppendError, Hash, Head, PAYLOAD_BYTES_MAX, subject};
use cnc_tests::{
    nats::{Broker, Brokers},
    postgres::Cluster,
};
use serde_json::value::RawValue;

use super::relay::{Ground, Working, arrived, options, settled, stored, until};
use crate::ledger::{append_all, company, deed, truck};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_relay_leaves_nothing_out_and_repeats_nothing() {
    let ground = Ground::new().await;
    ground.found(3).await;
    for round in 1..=4 {
        for number in 1..=3 {
            ground.fill(company(number), round, 200).await;
        }
        let relay = ground.relay(options()).await;
        // Somewhere in between.
        until("it to be at work", async || relay.published() > 0).await;
        relay.kill().await;
    }
    let relay = ground.relay(options()).await;
    ground.all_arrive_once(1..=3).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_that_think_they_hold_the_same_do_no_harm() {
    let ground = Ground::new().await;
    ground.found(2).await;
    // Leases that are over as soon as they are given: each takes everything from the other, and goes on for a while.
    let lease = Duration::ZERO;
    let (first, second) = (
        ground.relay(RelayOptions { lease, ..options() }).await,
        ground.relay(RelayOptions { lease, ..options() }).await,
    );
    let mut round = 0;
    until("both to have published the same", async || {
        round += 1;
        for number in 1..=2 {
            ground.fill(company(number), round, 10).await;
        }
        let all = 2 * (1 + 10 * u64::try_from(round).expect("is small"));
        round >= 20 && first.published() > 0 && second.published() > 0 && first.published() + second.published() > all
    })
    .await;
    ground.all_arrive_once(1..=2).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_gets_the_rest_when_it_is_there_again() {
    let ground = Ground::new().await;
    ground.found(3).await;
    let relay = ground.relay(options()).await;
    for round in 1..=3 {
        for number in 1..=3 {
            ground.fill(company(number), 2 * round, 300).await;
        }
        until("it to be at work", async || relay.published() > 0).await;
        ground.broker.kill();
        for number in 1..=3 {
            ground.fill(company(number), 2 * round + 1, 10).await;
        }
        ground.broker.start_again();
    }
    ground.all_arrive(1..=3).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lost_its_storage_gets_all_that_it_would_still_keep() {
    let ground = Ground::new().await;
    ground.found(1).await;
    let keep = Duration::from_hours(1);
    let relay = ground.relay(RelayOptions { keep, ..options() }).await;
    until("it to hold the company", async || relay.companies() == 1).await;
    let long_ago = "2026-07-01T12:00:00Z".parse().expect("a time");
    ground.fill_at(long_ago, company(1), 1, 20).await;
    ground.fill(company(1), 2, 20).await;
    let lines = ground.lines(company(1)).await;
    // What is older it may leave out already: it looks how much to publish once it has found the stream.
    let (jetstream, all) = (ground.broker.jetstream().await, subject::entries_of(company(1)));
    until("the last to be published", async || {
        stored(&jetstream, all.clone()).await.last().map(|stored| &stored.body) == lines.last()
    })
    .await;
    ground.broker.wipe();
    let again = arrived(&ground.broker.jetstream().await, company(1), 20).await;
    assert_eq!(again, lines[21..]);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_somebody_deleted_is_made_and_filled_again() {
    let ground = Ground::new().await;
    ground.found(1).await;
    let relay = ground.relay(options()).await;
    ground.fill(company(1), 1, 20).await;
    ground.all_arrive_once([1]).await;
    ground.broker.jetstream().await.delete_stream(subject::STREAM).await.expect("deleted");
    ground.fill(company(1), 2, 1).await;
    ground.all_arrive([1]).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lost_its_last_messages_gets_them_again() {
    let ground = Ground::new().await;
    ground.found(2).await;
    let relay = ground.relay(options()).await;
    ground.fill(company(1), 1, 20).await;
    ground.all_arrive_once(1..=2).await;
    ground.broker.remember();
    ground.fill(company(1), 2, 20).await;
    ground.all_arrive_once(1..=2).await;
    relay.stop().await;
    ground.broker.forget_what_followed();
    assert_eq!(stored(&ground.broker.jetstream().await, subject::ALL_ENTRIES.into()).await.len(), 22);
    // Another relay finds out.
    let relay = ground.relay(options()).await;
    ground.all_arrive_once(1..=2).await;
    relay.stop().await;
}

/// What a client had on its way, when the broker died, may arrive before anybody looked: the stream is as long again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lost_its_last_messages_and_took_others_gets_them_again() {
    let ground = Ground::new().await;
    ground.found(1).await;
    let relay = ground.relay(options()).await;
    ground.all_arrive_once([1]).await;
    ground.broker.remember();
    ground.fill(company(1), 1, 20).await;
    ground.all_arrive_once([1]).await;
    relay.stop().await;
    ground.broker.forget_what_followed();
    ground.fill(company(1), 2, 40).await;
    let jetstream = ground.broker.jetstream().await;
    for (line, position) in ground.lines(company(1)).await.into_iter().zip(1..).skip(21) {
        let head = Head { position, hash: Hash::of(&line) };
        let message = PublishMessage::build().message_id(subject::message_id(company(1), head)).payload(line.into());
        let subject = subject::of_entry_named(&company(1).to_string(), "truck", "cleaned");
        jetstream.send_publish(subject, message).await.expect("sent").await.expect("stored");
    }
    let relay = ground.relay(options()).await;
    ground.all_arrive([1]).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_company_that_cannot_go_on_holds_up_no_other() {
    let ground = Ground::on(Broker::with_config("max_payload: 8192\n")).await;
    ground.found(3).await;
    let mut append = deed(company(1), truck(1), 0, &["cleaned"]);
    let note = format!("{{\"note\":\"{}\"}}", "x".repeat(20_000));
    append.drafts[0].payload = RawValue::from_string(note).expect("JSON");
    append_all(&ground.ledger, vec![append]).await.expect("appended").remove(0).expect("appended");
    let relay = ground.relay(options()).await;
    for number in 1..=3 {
        ground.fill(company(number), 2, 300).await;
    }
    ground.all_arrive_once(2..=3).await;
    until("it to be told", async || relay.metrics.failed.load(Ordering::Relaxed) > 0).await;
    assert_eq!(arrived(&ground.broker.jetstream().await, company(1), 1).await.len(), 1);
    // The operator sees to it.
    ground.broker.reload("max_payload: 65536\n");
    ground.broker.kill();
    ground.broker.start_again();
    ground.all_arrive_once(1..=3).await;
    relay.stop().await;
}

/// A broker that is told nothing takes what is recorded at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_entry_is_published() {
    let ground = Ground::new().await;
    ground.found(1).await;
    let mut append = deed(company(1), truck(1), 0, &["cleaned"]);
    let note = format!("{{\"note\":\"{}\"}}", "x".repeat(PAYLOAD_BYTES_MAX - 11));
    assert_eq!(note.len(), PAYLOAD_BYTES_MAX);
    append.drafts[0].payload = RawValue::from_string(note).expect("JSON");
    append_all(&ground.ledger, vec![append]).await.expect("no fault").remove(0).expect("appended");
    let relay = ground.relay(options()).await;
    ground.all_arrive_once([1]).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_database_is_waited_for() {
    let cluster = Cluster::start();
    let mut ground = Ground::new().await;
    ground.url = cluster.database().await;
    ground.ledger = cnc_commands::ledger::PostgresLedger::connect(&ground.url).await.expect("connected");
    ground.ledger.migrate().await.expect("migrated");
    ground.found(1).await;
    let relay = ground.relay(options()).await;
    for round in 1..=3 {
        ground.fill(company(1), round, 50).await;
        cluster.crash();
        until("the database to be there", async || takes(&ground, 100 + round).await && head(&ground).await).await;
    }
    ground.all_arrive_once([1]).await;
    relay.stop().await;
}

/// Whether an entry is taken, or was by an attempt whose answer was lost.
async fn takes(ground: &Ground, number: u128) -> bool {
    let outcome = append_all(&ground.ledger, vec![deed(company(1), truck(number), 0, &["cleaned"])]).await;
    outcome.is_ok_and(|outcomes| matches!(outcomes[0], Ok(_) | Err(AppendError::Conflict { .. })))
}

async fn head(ground: &Ground) -> bool {
    cnc_domain::ledger::Feed::head(&ground.ledger, company(1)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_brokers_may_lose_any_one_of_them() {
    let brokers = Brokers::three();
    let ground = Ground::new().await;
    ground.found(2).await;
    let jetstream = async_nats::jetstream::new(brokers.client().await);
    let relay = Working::start(ground.ledger.clone(), jetstream.clone(), RelayOptions { replicas: 3, ..options() });
    for node in 0..3 {
        for number in 1..=2 {
            ground.fill(company(number), node + 1, 50).await;
        }
        let published = 2 * (1 + 50 * u64::try_from(node).expect("is small"));
        until("it to be at work", async || relay.published() > published).await;
        brokers.kill(usize::try_from(node).expect("is small"));
        let lines = ground.lines(company(1)).await;
        let again = arrived(&jetstream, company(1), lines.len()).await;
        assert_eq!(settled(again), lines);
        brokers.start_again(usize::try_from(node).expect("is small"));
    }
    relay.stop().await;
}
