//! A short set of simulated runs. `cargo xtask simulate` runs thousands.

use cnc_tests::simulation::{Run, Scenario, run};

const COMMANDS: u64 = 24;

fn simulate(seed: u64, told: bool) -> Run {
    run(Scenario { seed, commands: COMMANDS, told }).expect("a run starts")
}

#[test]
fn the_system_keeps_its_promises_through_simulated_storms() {
    let (mut deaths, mut steps) = (0, 0);
    for seed in 1..=12 {
        let run = simulate(seed, false);
        let again = format!("cargo xtask simulate --seed {seed} --count 1 --steps {COMMANDS} --trace");
        assert_eq!(run.broken, None, "seed {seed}; again: {again}");
        deaths += run.deaths;
        steps += run.steps;
    }
    assert!(deaths > 20 && steps > 10_000, "there was hardly a storm: {deaths} deaths in {steps} steps");
}

/// In this run two processes carry out the same command in the same microsecond, so that the first entry of a batch whose
/// answer was lost stands there byte for byte, recorded by the other; the rest of the batch does not.
#[test]
fn a_batch_whose_first_entry_another_process_recorded_is_not_taken_for_recorded() {
    let run = run(Scenario { seed: 100_151, commands: 40, told: false }).expect("a run starts");
    assert_eq!(run.broken, None);
}

/// In this run the broker loses its last messages while a relay publishes, and what the relay sends over the new connection
/// makes the stream as long again.
#[test]
fn a_stream_that_is_as_long_again_is_not_taken_for_whole() {
    let run = run(Scenario { seed: 200_025, commands: 40, told: false }).expect("a run starts");
    assert_eq!(run.broken, None);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 4] {
        let (one, other) = (simulate(seed, true), simulate(seed, true));
        let parted = one.trace.iter().zip(&other.trace).position(|(one, other)| one != other);
        assert_eq!(parted, None, "seed {seed} parts at {:?}", parted.map(|at| (&one.trace[at], &other.trace[at])));
        assert_eq!((one.hash, one.steps, one.took), (other.hash, other.steps, other.took));
    }
    assert_ne!(simulate(5, false).hash, simulate(6, false).hash);
}
