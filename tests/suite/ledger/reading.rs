//! Reading by company and by stream, and being told that there is more.

use super::*;

on_both!(
    every;
    a_company_is_read_in_pages,
    a_stream_is_read_in_pages,
    a_page_is_also_limited_in_bytes,
    appends_of_this_process_are_noticed,
    appends_of_another_process_are_noticed,
);

fn positions(lines: &[String]) -> Vec<u64> {
    lines.iter().map(|line| cnc_domain::ledger::Entry::read(line).expect("an entry").position).collect()
}

async fn two_streams(ground: &Ground) -> (Arc<dyn Audit>, CompanyId) {
    let (ledger, company) = founded(ground).await;
    for sequence in 0..5 {
        append(&*ledger, deed(company, truck(1), sequence, &["cleaned"])).await.expect("appended");
        append(&*ledger, deed(company, truck(2), sequence, &["cleaned"])).await.expect("appended");
    }
    (ledger, company)
}

async fn a_company_is_read_in_pages(ground: Ground) {
    let (ledger, company) = two_streams(&ground).await;
    let read = async |after, limit| positions(&ledger.read(company, after, limit).await.expect("read"));
    assert_eq!(read(0, 4).await, [1, 2, 3, 4]);
    assert_eq!(read(4, 4).await, [5, 6, 7, 8]);
    assert_eq!(read(8, usize::MAX).await, [9, 10, 11]);
    assert!(read(11, 4).await.is_empty() && read(u64::MAX, 4).await.is_empty());
}

async fn a_stream_is_read_in_pages(ground: Ground) {
    let (ledger, company) = two_streams(&ground).await;
    let read = async |after, limit| {
        positions(&ledger.read_stream(company, "truck", truck(2), after, limit).await.expect("read"))
    };
    assert_eq!(read(0, 2).await, [3, 5]);
    assert_eq!(read(2, 9).await, [7, 9, 11]);
    assert!(read(5, 9).await.is_empty());
    assert!(ledger.read_stream(company, "truck", truck(3), 0, 9).await.expect("read").is_empty());
    assert!(ledger.read_stream(company, "company", truck(2), 0, 9).await.expect("read").is_empty());
}

async fn a_page_is_also_limited_in_bytes(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let payload = format!(r#"{{"words":"{}"}}"#, "w".repeat(1 << 20));
    for sequence in 0..12 {
        let mut wish = deed(company, truck(1), sequence, &[]);
        wish.drafts.push(draft(truck(1), sequence + 1, "noted", &payload));
        append(&*ledger, wish).await.expect("appended");
    }
    let page = ledger.read(company, 0, 1_000).await.expect("read");
    assert!((2..=12).contains(&page.len()), "{} lines", page.len());
    assert_eq!(lines(&*ledger, company).await.len(), 13);
    // A reading that was cut off leaves the connection as it was.
    assert_eq!(positions(&ledger.read(company, 11, 9).await.expect("read")), [12, 13]);
}

/// Reads `reader` until it has entry 2, waiting where there is nothing new.
async fn until_it_comes(reader: &dyn Audit, company: CompanyId, mut seen: u64) {
    while reader.read(company, 1, 9).await.expect("read").is_empty() {
        seen = reader.changed(seen).await.cursor;
    }
}

async fn appends_of_this_process_are_noticed(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let seen = ledger.changed(0).await.cursor;
    append(&*ledger, deed(company, truck(1), 0, &["bought"])).await.expect("appended");
    // It came before anyone waited, and is not missed.
    within("a change of the same process", until_it_comes(&*ledger, company, seen)).await;
    within("the count", ledger.changed(seen)).await;
}

async fn appends_of_another_process_are_noticed(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let other = ground.ledger().await;
    let waiting = tokio::spawn(async move {
        let seen = other.changed(0).await.cursor;
        until_it_comes(&*other, company, seen).await;
    });
    append(&*ledger, deed(company, truck(1), 0, &["bought"])).await.expect("appended");
    within("a change of another process", waiting).await.expect("noticed");
}
