//! The harness itself: what the other tests take for granted about their brokers.

use async_nats::jetstream::{Context, stream};
use cnc_tests::nats::{Broker, Brokers};

async fn stream(jetstream: &Context, copies: usize) {
    let config = stream::Config {
        name: "TEST".into(),
        subjects: vec!["test.>".into()],
        num_replicas: copies,
        ..Default::default()
    };
    jetstream.create_stream(config).await.expect("made");
}

async fn publish(jetstream: &Context, body: &'static str) {
    jetstream.publish("test.one", body.into()).await.expect("sent").await.expect("stored");
}

async fn stored(jetstream: &Context) -> Option<u64> {
    Some(jetstream.get_stream("TEST").await.ok()?.cached_info().state.messages)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_has_all_that_is_left_of_its_storage() {
    let broker = Broker::start();
    let before = broker.jetstream().await;
    stream(&before, 1).await;
    publish(&before, "kept").await;
    broker.kill();
    assert!(async_nats::connect(broker.url()).await.is_err());
    broker.start_again();
    assert_eq!(stored(&broker.jetstream().await).await, Some(1));
    broker.remember();
    let between = broker.jetstream().await;
    publish(&between, "lost").await;
    assert_eq!(stored(&between).await, Some(2));
    broker.forget_what_followed();
    assert_eq!(stored(&broker.jetstream().await).await, Some(1));
    broker.wipe();
    assert_eq!(stored(&broker.jetstream().await).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_brokers_go_on_when_one_is_killed() {
    let brokers = Brokers::three();
    let jetstream = async_nats::jetstream::new(brokers.client().await);
    stream(&jetstream, 3).await;
    publish(&jetstream, "first").await;
    brokers.kill(1);
    let again = async {
        loop {
            let sent = jetstream.publish("test.one", "second".into()).await;
            if sent.expect("sent").await.is_ok() {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), again).await.expect("two are enough");
    brokers.start_again(1);
    assert!(stored(&jetstream).await >= Some(2));
}
