//! Random scripts, each judged by a model that shares no code with the core: `docs/guarantees.md` has the promises.
//!
//! The scripts are the same in every run. Others, and more: `PROPTEST_RNG_SEED=7 PROPTEST_CASES=20000`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this is how tests fail"
)]

mod history;
mod lifecycle;
mod oracle;
mod plan;
mod run;
mod viewer;

use plan::Plan;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::collections::BTreeMap;

const CASES: u32 = 600;

fn config() -> Config {
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_RNG_SEED").is_some() {
        return config;
    }
    Config {
        cases: config.cases.max(CASES),
        rng_seed: RngSeed::Fixed(17),
        ..config
    }
}

/// Scripts that are run twice.
const TWICE: u32 = 150;

fn every_promise_is_kept(plans: impl Strategy<Value = Plan>, expected: &[&[&'static str]]) {
    let seen: std::cell::RefCell<BTreeMap<&str, u64>> = std::cell::RefCell::default();
    let mut runner = TestRunner::new(config());
    let result = runner.run(&plans, |plan: Plan| {
        let marks = plan.run().map_err(TestCaseError::fail)?;
        for (mark, count) in marks {
            *seen.borrow_mut().entry(mark).or_default() += count;
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    // What no script came to was not tested.
    for mark in expected.concat() {
        assert!(
            seen.borrow().contains_key(mark),
            "no script had: {mark}; {seen:?}"
        );
    }
}

#[test]
fn every_promise_is_kept_in_every_script() {
    every_promise_is_kept(plan::plans(), &[&oracle::MARKS]);
}

#[test]
fn every_promise_is_kept_over_a_store_with_failures_restarts_and_crashes() {
    every_promise_is_kept(
        plan::stored_plans(),
        &[&oracle::MARKS, &oracle::STORE_MARKS],
    );
}

#[test]
fn two_runs_of_a_script_over_a_store_are_the_same_byte_for_byte_in_every_step() {
    let config = Config {
        cases: config().cases.min(TWICE),
        ..config()
    };
    let result = TestRunner::new(config).run(&plan::stored_plans(), |plan: Plan| {
        let differs = plan.differs().map_err(TestCaseError::fail)?;
        prop_assert_eq!(differs, None, "the first that differs");
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
