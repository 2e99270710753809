//! A short set of what `cargo xtask faults` does at length.

use std::path::Path;

use cnc_tests::faults::{Fault, Run, run};

macro_rules! survives {
    ($($test:ident: $fault:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let program = Path::new(env!("CARGO_BIN_EXE_cnc_under_test"));
            let row = run(Fault::$fault, &Run { program, seed: 7, strikes: 2, writers: 4 }).await;
            assert!(row.verdict.is_clean(), "{row}\n{:?}", row.verdict);
            assert!(row.verdict.acknowledged > 0 && row.verdict.entries > row.verdict.acknowledged);
        })*
    };
}

survives! {
    nothing_is_lost_or_doubled_when_any_part_is_killed_cut_off_or_lied_to: Any,
    one_of_three_brokers_is_not_missed: KillNode,
    a_relay_that_was_left_behind_does_no_harm: TwoRelays,
    clocks_that_step_forward_and_back_lose_and_double_nothing: ClockSteps,
}
