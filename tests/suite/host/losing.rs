//! A database loses its last entries under a running host, by a restore or because a standby takes over without them. What
//! the host remembers of them decides nothing.

use cnc_domain::{
    cloud_control::company,
    kernel::{Id, Message},
};

use super::{
    COMPANY, add, ask, code, entries, found,
    place::{Place, on_all},
    request,
    tally::{Command, Tally},
    total,
};
use crate::ledger::within;

on_all!(
    a_state_that_was_lost_decides_nothing,
    a_lost_state_that_was_only_consulted_decides_nothing,
    a_lost_state_is_shown_no_more,
    a_lost_suspension_is_over,
    a_shape_whose_adoption_was_lost_is_adopted_again,
);

async fn a_state_that_was_lost_decides_nothing(place: Place) {
    let host = place.founded().await;
    place.keep_copy().await;
    host.execute(add(1, 3, None)).await.expect("is answered");
    place.put_back().await;
    // Another entry, in the same place of the ledger and of the stream.
    let other = place.host(false).await;
    other.execute(add(1, 5, None)).await.expect("is answered");
    assert_eq!(code(&host.execute(add(1, 1, Some(5))).await.expect("is answered")), "too_much");
    assert_eq!(host.execute(add(1, 1, Some(6))).await.expect("is answered").sequence, 2);
    assert_eq!((total(&host, 1).await, total(&other, 1).await), (6, 6));
    assert_eq!(entries(&host).await.len(), 3);
}

async fn a_lost_state_that_was_only_consulted_decides_nothing(place: Place) {
    let host = place.founded().await;
    host.execute(add(1, 1, None)).await.expect("is answered");
    place.keep_copy().await;
    host.execute(add(2, 3, None)).await.expect("is answered");
    place.put_back().await;
    place.host(false).await.execute(add(2, 5, None)).await.expect("is answered");
    let spread = |most| ask(1, Command::Spread { to: vec![Id::number(2)], by: 1, most: Some(most), forgiving: false });
    assert_eq!(code(&host.execute(spread(5)).await.expect("is answered")), "too_much");
    assert_eq!(host.execute(spread(6)).await.expect("is answered").recorded, 2);
    assert_eq!((total(&host, 1).await, total(&host, 2).await), (2, 6));
}

async fn a_lost_state_is_shown_no_more(place: Place) {
    let host = place.founded().await;
    host.execute(add(1, 3, None)).await.expect("is answered");
    place.keep_copy().await;
    for _ in 0..3 {
        host.execute(add(1, 2, None)).await.expect("is answered");
    }
    let lately = async |number| {
        let shown = host.state_lately(COMPANY, "tally", super::id_of(number)).await.expect("is read");
        shown.and_then(|state| state.get::<Tally>().map(Tally::total))
    };
    host.execute(add(2, 1, None)).await.expect("is answered");
    assert_eq!((total(&host, 1).await, lately(1).await, lately(2).await), (9, Some(9), Some(1)));
    place.put_back().await;
    assert_eq!((total(&host, 1).await, total(&host, 2).await), (3, 0));
    within("what was so a second ago", async { while lately(1).await != Some(3) || lately(2).await.is_some() {} })
        .await;
    // It goes on where the ledger stands.
    assert_eq!(host.execute(add(1, 1, Some(4))).await.expect("is answered").sequence, 2);
    assert_eq!(host.execute(add(2, 1, Some(1))).await.expect("is answered").sequence, 1);
}

async fn a_lost_suspension_is_over(place: Place) {
    let host = place.founded().await;
    place.keep_copy().await;
    let suspend = Message::split(&company::Command::Suspend { reason: "unpaid".into() });
    host.execute(request("company", COMPANY.uuid(), suspend)).await.expect("is answered");
    assert_eq!(code(&host.execute(add(1, 1, None)).await.expect("is answered")), "company_suspended");
    place.put_back().await;
    assert_eq!(code(&host.execute(add(1, 1, None)).await.expect("is answered")), "");
}

async fn a_shape_whose_adoption_was_lost_is_adopted_again(place: Place) {
    let host = place.host(true).await;
    found(&host, COMPANY).await;
    let adopted = async || entries(&host).await.iter().filter(|entry| entry.event == "schema_adopted").count();
    assert_eq!(adopted().await, 2, "founded and schema_adopted");
    place.keep_copy().await;
    host.execute(add(1, 1, None)).await.expect("is answered");
    assert_eq!(adopted().await, 3);
    place.put_back().await;
    // What the company is, the host reads once a second.
    let again = async {
        while adopted().await < 3 {
            host.execute(add(1, 1, None)).await.expect("is answered");
        }
    };
    within("the shape is adopted", again).await;
}
