//! A ledger that fails: who waits is told, nothing is half done, and it heals.

use std::sync::atomic::Ordering;

use cnc_commands::HostError;
use futures::future::join_all;

use super::{COMPANY, add, entries, found, host_over, keyed, total};
use crate::{
    faulty::{Faulty, Whim},
    ledger::{Ground, on_both},
};

on_both!(
    a_batch_that_fails_fails_all_who_wait_for_it_and_the_next_goes_well,
    a_back_end_that_panics_takes_only_its_batch
);

async fn a_batch_that_fails_fails_all_who_wait_for_it_and_the_next_goes_well(ground: Ground) {
    fails_and_heals(ground, Whim::Fails).await;
}

async fn a_back_end_that_panics_takes_only_its_batch(ground: Ground) {
    fails_and_heals(ground, Whim::Panics).await;
}

async fn fails_and_heals(ground: Ground, whim: Whim) {
    let ledger = Faulty::over(ground.ledger().await);
    let host = host_over(ledger.clone(), &ground, false).await;
    found(&host, COMPANY).await;
    // Known to the host, so that what fails is the append.
    host.execute(add(1, 1, None)).await.expect("is answered");
    ledger.does(whim);
    let give = |writer: usize| {
        let host = host.clone();
        tokio::spawn(async move { host.execute(keyed(add(1, 1, None), &writer.to_string())).await })
    };
    for outcome in join_all((0..40).map(give)).await {
        match (whim, outcome) {
            (Whim::Fails, Ok(Err(HostError::Fault(fault)))) => assert!(fault.passing, "{fault}"),
            // Where reading panics too, the task of the request is gone: the gateway's net holds it.
            (Whim::Panics, Ok(Err(HostError::Fault(_))) | Err(_)) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
    assert!(whim == Whim::Panics || ledger.failed.load(Ordering::Relaxed) > 0);
    ledger.does(Whim::Works);
    assert_eq!(total(&host, 1).await, 1, "nothing of it is there");
    // The same keys are free: a fault is not remembered.
    for outcome in join_all((0..40).map(give)).await {
        assert!(outcome.expect("ends").expect("is answered").rejection.is_none());
    }
    assert_eq!((total(&host, 1).await, entries(&host).await.len()), (41, 42));
}
