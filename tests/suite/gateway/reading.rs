//! Reading: states and views now and then, history, pages, the ledger, and what each role sees of a person.

use cnc_domain::{kernel::Timestamp, ledger::verify};
use cnc_tests::mover::{ADDRESS, Mover, answered};
use reqwest::Method;
use serde_json::{Value, json};

use super::mover;
use crate::ledger::{Ground, on_both};

on_both!(
    a_write_is_seen_by_who_waits_for_it,
    nobody_waits_for_a_position_that_the_ledger_does_not_have,
    a_state_can_be_read_as_of_a_position_and_a_time,
    a_view_can_be_read_as_of_a_position,
    pages_follow_one_another_and_filters_hold,
    history_is_paged_and_sealed,
    the_ledger_is_served_verbatim_and_resumes,
    personal_data_is_opened_for_who_may_see_it_and_for_nobody_else,
    what_one_role_was_shown_of_a_row_is_not_shown_to_another,
    a_journeys_track_is_read_piece_by_piece_in_the_order_of_time,
);

async fn rename(mover: &Mover, name: &str) -> u64 {
    let path = format!("/v1/location/{}/rename", mover.branches[0]);
    let answer = mover.post(&mover.token("admin").await, &path, &json!({ "name": name })).await.good();
    answer["position"].as_u64().expect("is a position")
}

async fn a_write_is_seen_by_who_waits_for_it(ground: Ground) {
    let mover = mover(ground).await;
    let admin = mover.token("admin").await;
    let path = format!("/v1/truck_journey/{}/tag", mover.journeys[0]);
    for nth in 0..5 {
        let written = mover.post(&admin, &path, &json!({ "tag": format!("tag-{nth}") })).await.good();
        let at_least = &written["position"];
        let row =
            mover.get(&admin, &format!("/v1/views/dispatch_board/{}?at_least={at_least}", mover.journeys[0])).await;
        assert!(
            row.headers["cnc-position"].to_str().expect("is text").parse::<u64>().expect("is one")
                >= at_least.as_u64().expect("is one")
        );
        assert!(row.good()["doc"]["tags"].to_string().contains(&format!("tag-{nth}")));
    }
}

async fn nobody_waits_for_a_position_that_the_ledger_does_not_have(ground: Ground) {
    let mover = mover(ground).await;
    let (admin, head) = (mover.token("admin").await, mover.head().await);
    for ahead in [head + 1, 1 << 53] {
        for path in ["alerts".to_owned(), format!("dispatch_board/{}", mover.journeys[0])] {
            let answer = mover.get(&admin, &format!("/v1/views/{path}?at_least={ahead}")).await;
            assert_eq!(answer.problem(400, "no_such_position")["position"], head, "{path} {ahead}");
        }
    }
    mover.get(&admin, &format!("/v1/views/alerts?at_least={head}")).await.good();
}

async fn a_state_can_be_read_as_of_a_position_and_a_time(ground: Ground) {
    let mover = mover(ground).await;
    let admin = mover.token("admin").await;
    let path = format!("/v1/location/{}", mover.branches[0]);
    let before = mover.head().await;
    let first = rename(&mover, "North").await;
    rename(&mover, "South").await;
    let name = |body: Value| body["state"].to_string();
    assert!(name(mover.get(&admin, &path).await.good()).contains("South"));
    assert!(name(mover.get(&admin, &format!("{path}?as_of={first}")).await.good()).contains("North"));
    assert!(name(mover.get(&admin, &format!("{path}?as_of={before}")).await.good()).contains("Branch 0"));
    mover.get(&admin, &format!("{path}?as_of=1")).await.problem(404, "not_found");
    let history = mover.get(&admin, &format!("{path}/history")).await.good();
    let at: Timestamp = serde_json::from_value(history["entries"][1]["at"].clone()).expect("is a time");
    assert!(name(mover.get(&admin, &format!("{path}?as_of={at}")).await.good()).contains("North"));
    mover.get(&admin, &format!("{path}?as_of=yesterday")).await.problem(400, "bad_query");
}

async fn a_view_can_be_read_as_of_a_position(ground: Ground) {
    let mover = mover(ground).await;
    let admin = mover.token("admin").await;
    let before = mover.head().await;
    let path = format!("/v1/truck_journey/{}/cancel", mover.journeys[0]);
    mover.post(&admin, &path, &json!({ "reason": "rain" })).await.good();
    let board = mover.get(&admin, &format!("/v1/views/dispatch_board?at_least={}", before + 1)).await.good();
    assert_eq!(board["rows"].as_array().map(Vec::len), Some(1), "{board}");
    let past = mover.get(&admin, &format!("/v1/views/dispatch_board?as_of={before}&limit=1")).await.good();
    assert_eq!((past["rows"].as_array().map(Vec::len), &past["position"]), (Some(1), &json!(before)));
    let cursor = past["next"].as_str().expect("there is more").to_owned();
    let rest =
        mover.get(&admin, &format!("/v1/views/dispatch_board?as_of={before}&limit=1&cursor={cursor}")).await.good();
    assert_eq!((rest["rows"].as_array().map(Vec::len), &rest["next"]), (Some(1), &Value::Null));
    let row = format!("/v1/views/dispatch_board/{}", mover.journeys[0]);
    mover.get(&admin, &row).await.problem(404, "not_found");
    mover.get(&admin, &format!("{row}?as_of={before}")).await.good();
}

async fn pages_follow_one_another_and_filters_hold(ground: Ground) {
    let mover = mover(ground).await;
    let admin = mover.token("admin").await;
    let base = format!("/v1/views/dispatch_board?at_least={}", mover.head().await);
    for sort in ["key", "-key", "window.start", "-window.start"] {
        let (mut keys, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = mover.get(&admin, &format!("{base}&limit=1&sort={sort}{cursor}")).await.good();
            keys.extend(page["rows"].as_array().into_iter().flatten().map(|row| row["key"].clone()));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        keys.sort_by_key(ToString::to_string);
        keys.dedup();
        assert_eq!(keys.len(), 2, "{sort}");
    }
    let one = mover.get(&admin, &format!("{base}&location={}", mover.branches[1])).await.good();
    assert_eq!(one["rows"][0]["key"], mover.journeys[1].to_string());
    assert_eq!(one["rows"].as_array().map(Vec::len), Some(1));
    for wrong in [
        "sort=colour",
        "colour=red",
        "limit=0",
        "limit=100000",
        "cursor=nonsense",
        "limit=1&limit=2",
        "stage=x&stage=y",
    ] {
        mover.get(&admin, &format!("{base}&{wrong}")).await.problem(400, "bad_query");
    }
}

async fn history_is_paged_and_sealed(ground: Ground) {
    let mover = mover(ground).await;
    let admin = mover.token("admin").await;
    for name in ["North", "South", "East"] {
        rename(&mover, name).await;
    }
    let path = format!("/v1/location/{}/history", mover.branches[0]);
    let page = mover.get(&admin, &format!("{path}?limit=3")).await.good();
    assert_eq!((page["entries"].as_array().map(Vec::len), &page["next"]), (Some(3), &json!(3)));
    let rest = mover.get(&admin, &format!("{path}?limit=3&after=3")).await.good();
    assert_eq!((rest["entries"].as_array().map(Vec::len), &rest["next"]), (Some(1), &Value::Null));
    let journey =
        mover.get(&admin, &format!("/v1/truck_journey/{}/history", mover.journeys[0])).await.good().to_string();
    assert!(journey.contains("\"sealed\"") && !journey.contains("Planted"));
}

async fn the_ledger_is_served_verbatim_and_resumes(ground: Ground) {
    let mover = mover(ground).await;
    let auditor = mover.token("auditor").await;
    let whole = mover.request(Method::GET, "/v1/ledger").bearer_auth(&auditor).send().await.expect("answers");
    assert_eq!(whole.headers()["content-type"], "application/x-ndjson");
    let head = whole.headers()["cnc-head"].to_str().expect("is text").parse().expect("is a head");
    let text = whole.text().await.expect("is text");
    assert_eq!(verify(text.lines(), Some(head)).expect("is unbroken"), head);
    assert!(!text.contains("Planted"));
    let answer = mover.get(&auditor, "/v1/ledger/head").await.good();
    assert_eq!((&answer["position"], &answer["hash"]), (&json!(head.position), &json!(head.hash)));
    let (first, rest): (Vec<&str>, Vec<&str>) = (text.lines().take(3).collect(), text.lines().skip(3).collect());
    let part =
        |query: String| answered(mover.request(Method::GET, &format!("/v1/ledger?{query}")).bearer_auth(&auditor));
    assert_eq!(lines(&part("limit=3".into()).await.body), first);
    assert_eq!(lines(&part("after=3".into()).await.body), rest);
    assert!(lines(&part(format!("after={}", head.position)).await.body).is_empty());
}

fn lines(body: &Value) -> Vec<&str> {
    body.as_str().unwrap_or_default().lines().collect()
}

async fn personal_data_is_opened_for_who_may_see_it_and_for_nobody_else(ground: Ground) {
    let mover = mover(ground).await;
    let path = format!("/v1/truck_journey/{}", mover.journeys[0]);
    let seen = mover.get(&mover.token("dispatcher").await, &path).await.good().to_string();
    assert!(seen.contains(ADDRESS), "{seen}");
    for role in ["auditor", "coo", "accountant"] {
        let seen = mover.get(&mover.token(role).await, &path).await.good().to_string();
        assert!(!seen.contains("Planted") && seen.contains("[sealed]"), "{role}: {seen}");
    }
}

async fn what_one_role_was_shown_of_a_row_is_not_shown_to_another(ground: Ground) {
    let mover = mover(ground).await;
    let (admin, journey, member) = (mover.token("admin").await, mover.journeys[0], mover.hire(0).await);
    let crew = json!({ "members": [{ "member": member, "driver": false }] });
    let written = mover.post(&admin, &format!("/v1/truck_journey/{journey}/assign_crew"), &crew).await.good();
    let row = format!("/v1/views/dispatch_board/{journey}?at_least={}", written["position"]);
    let mut tokens = Vec::new();
    for role in ["dispatcher", "auditor", "manager"] {
        tokens.push((role, mover.token(role).await));
    }
    for _ in 0..5 {
        for (role, token) in &tokens {
            let seen = mover.get(token, &row).await.good()["doc"]["crew"][0]["name"].clone();
            assert_eq!(seen, if *role == "auditor" { "[sealed]" } else { "Ada Planted" }, "{role}");
        }
    }
    // A branch that is not theirs is not there for them, though others of their role were just shown it.
    mover.get(&mover.token_at("auditor", 1).await, &row).await.problem(404, "not_found");
    // What is read again is what it was, but for where the view stands.
    let (mut one, mut other) = (mover.get(&tokens[1].1, &row).await.good(), mover.get(&tokens[1].1, &row).await.good());
    for answer in [&mut one, &mut other] {
        assert_eq!(answer["view"], "dispatch_board");
        assert!(answer["view_position"].take().as_u64() >= written["position"].as_u64());
        answer["doc"]["minutes_in_stage"].take();
    }
    assert_eq!(one, other);
    for nth in 0..5 {
        let tag = json!({ "tag": format!("tag-{nth}") });
        let written = mover.post(&admin, &format!("/v1/truck_journey/{journey}/tag"), &tag).await.good();
        let row = format!("/v1/views/dispatch_board/{journey}?at_least={}", written["position"]);
        let seen = mover.get(&tokens[1].1, &row).await.good();
        assert!(seen["doc"]["tags"].to_string().contains(&format!("tag-{nth}")), "{seen}");
    }
}

async fn a_journeys_track_is_read_piece_by_piece_in_the_order_of_time(ground: Ground) {
    let mover = mover(ground).await;
    let (admin, dispatcher, journey) = (mover.token("admin").await, mover.token("dispatcher").await, mover.journeys[0]);
    let device = uuid::Uuid::now_v7();
    let at = |second: u32| Timestamp::from_seconds(1_700_000_000 + i64::from(second));
    let mut position = Value::Null;
    for chunk in (0..20_u32).rev() {
        let fixes: Vec<Value> =
            (0..3).map(|nth| json!({ "at": at(3 * chunk + nth), "lat_e7": nth, "lon_e7": chunk })).collect();
        let body = json!({ "device": device, "chunk": chunk, "fixes": fixes });
        let path = format!("/v1/truck_journey/{journey}/record_gps");
        position = mover.post(&admin, &path, &body).await.good()["position"].clone();
    }
    let track = format!("/v1/views/journey_track?journey={journey}&sort=first_at&limit=2&at_least={position}");
    let (mut parts, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = mover.get(&dispatcher, &format!("{track}{cursor}")).await.good();
        parts.extend(page["rows"].as_array().expect("has rows").clone());
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let [line, pieces @ ..] = parts.as_slice() else { panic!("there is nothing") };
    assert_eq!((&line["doc"]["part"], &line["doc"]["count"]), (&json!("journey"), &json!(60)));
    assert_eq!(pieces.len(), 3, "twenty chunks, eight in a piece");
    let fixes = pieces.iter().flat_map(|piece| piece["doc"]["track"].as_array().expect("is opened"));
    let times: Vec<Value> = fixes.map(|fix| fix["at"].clone()).collect();
    assert_eq!(times, (0..60).map(|second| json!(at(second))).collect::<Vec<_>>());
    // Who may not see places sees that there are some.
    let closed = mover.get(&mover.token("auditor").await, &track).await.good();
    assert_eq!(
        (&closed["rows"][1]["doc"]["track"], &closed["rows"][1]["doc"]["closed_chunks"]),
        (&json!([]), &json!(8))
    );
}
