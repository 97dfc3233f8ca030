//! What is said of a world that failed, and with which code the program ends.

use std::process::ExitCode;

use crate::names::Names;
use crate::plan::Plan;
use crate::trace;
use crate::world::{Failure, Report};

/// The exit codes, as `--help` and `docs/simulation.md` have them.
pub(crate) const USAGE: u8 = 2;
pub(crate) const SAFETY: u8 = 10;
pub(crate) const LIVENESS: u8 = 11;
pub(crate) const PANIC: u8 = 12;
pub(crate) const DETERMINISM: u8 = 13;
pub(crate) const COVERAGE: u8 = 14;
/// 128 and the number of SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// Characters of what broke a promise that are shown as they came.
const WHOLE_MAX: usize = 400;

pub(crate) const EXIT_CODES: &str = "Exit codes:
  0    every promise was kept
  2    wrong usage, or a plan that is none
  10   safety: a promise was broken
  11   liveness: something that was owed did not come
  12   a panic
  13   determinism: two runs of one plan differ
  14   coverage: a rare branch, a fault or a step that no seed came to
  15   a mutant that no oracle sees
  130  ended by Ctrl-C; what was done so far is printed";

impl Failure {
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Safety(_) => SAFETY,
            Self::Liveness(_) => LIVENESS,
            Self::Panic(_) => PANIC,
        })
    }

    /// What a shorter plan has to fail by, too: the oracle's name, or that there was a panic.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Safety(broken) | Self::Liveness(broken) => broken.oracle,
            Self::Panic(_) => "panic",
        }
    }
}

/// What went wrong, after which step, what was expected and seen.
pub(crate) fn story(plan: &Plan, report: &Report, failure: &Failure, told: &[String]) -> String {
    let names = Names::new(plan);
    let name = failure.name();
    let expected = promise(name);
    let seen = match failure {
        Failure::Safety(broken) | Failure::Liveness(broken) => broken.what.as_str(),
        Failure::Panic(words) => words.as_str(),
    };
    let mut lines = vec![format!("{name}: {}", names.shorten(seen))];
    if let (Failure::Safety(_), Some(last)) = (failure, &report.last) {
        lines.push(format!("  seen in   {}", trace::line(&names, last)));
        let whole = names.shorten(&last.to_string());
        let shown: String = whole.chars().take(WHOLE_MAX).collect();
        let rest = if shown.len() < whole.len() { "…" } else { "" };
        lines.push(format!("  which is  {shown}{rest}"));
    }
    if !expected.is_empty() {
        lines.push(format!("  expected  {expected}"));
    }
    let (taken, all) = (report.taken, plan.steps.len());
    lines.push(match taken.checked_sub(1).and_then(|last| told.get(last)) {
        Some(last) => format!("  after     step {taken} of {all}: {last}"),
        None => format!("  after     none of {all} steps"),
    });
    lines.join("\n")
}

/// What each oracle expects.
pub(crate) fn promise(oracle: &str) -> &'static str {
    match oracle {
        "order" => "in a room and epoch numbers rise, and one number is one event for all",
        "no_silent_gap" => "the next event is the one after the last, or a gap was told",
        "no_double" => "who resumes from a position gets nothing up to it",
        "nothing_after_leaving" => {
            "nothing comes through a room that was left, nor after a goodbye"
        }
        "delivered" => "when all faults are over, everybody who is there has everything",
        "no_leak" => "who gets an event is in one of its rooms, and it is as it was published",
        "not_doubled" => "one id is one event, and a retry is told the first",
        "kept" => "what was answered with 200 is in the history",
        "terminal" => "a task ends once",
        "same_moment" => "the state that is told with a position is the one of that moment",
        "offline" => {
            "a device without a position is sent all that it has not acknowledged, and nothing else"
        }
        "acked" => "a cursor never goes back, and only a device has one",
        "unread" => "after one event all of a user's devices are told one count, that of the inbox",
        "answered" => {
            "every message and every publish gets one answer, and a connection's answers come in the order of its messages"
        }
        "well_formed" => "what comes is of the protocol: frames, JSON, and what each has to say",
        "rights" => {
            "nothing takes effect without a right: after a token's end, a right's loss, a disconnection"
        }
        "trim" => "a log has all that is not over its limit, without a hole, and under its number",
        "bounded_memory" => {
            "what is held is bounded, and when all have left nothing of them is left"
        }
        "not_delayed" => "when all is well, events come at once, whatever others do",
        "drained" => {
            "who is there when a server drains is told when to come back, and all are gone in time"
        }
        "handed_on" => {
            "a client that ships hands on all that comes, once and in order, and tells each loss"
        }
        "epochs" => {
            "a durable room goes on in its epoch; a relaxed one begins a new one after a loss of power"
        }
        "on_bus" => {
            "a back end on the bus is sent each event once, in order and with all its rooms, or told a gap"
        }
        "not_kept" => "of what was answered with 507 nothing is ever seen",
        "panic" => "no input and no fault makes the server panic",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::generate;
    use crate::{coverage, oracle};

    const DOCUMENT: &str = include_str!("../../../docs/simulation.md");

    /// What stands in the first column of the tables below a heading.
    fn listed(heading: &str) -> Vec<&'static str> {
        let (_, section) = DOCUMENT.split_once(heading).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let names = section.lines().filter(|line| line.starts_with("| "));
        names
            .flat_map(|line| line.split('`').skip(1).step_by(2))
            .collect()
    }

    #[test]
    fn each_oracle_has_its_promise_here_and_in_the_document() {
        let listed = listed("## The judges");
        for oracle in oracle::names() {
            assert!(
                listed.contains(&oracle),
                "{oracle} is not in docs/simulation.md"
            );
            assert_ne!(promise(oracle), "", "{oracle}");
        }
    }

    #[test]
    fn each_fault_is_in_the_document() {
        let listed = listed("## The faults");
        for fault in coverage::faults() {
            assert!(
                listed.contains(&fault),
                "{fault} is not in docs/simulation.md"
            );
        }
    }

    #[test]
    fn each_step_is_in_the_document_with_its_fields() {
        let listed = listed("## The steps");
        for seed in 0..60 {
            for timed in generate(seed).steps {
                let step = serde_json::to_value(&timed.step).unwrap();
                let (name, fields) = step.as_object().unwrap().iter().next().unwrap();
                let fields = fields.as_object().unwrap().keys();
                for word in fields.chain([name]) {
                    assert!(
                        listed.contains(&word.as_str()),
                        "{word} of {step} is not in docs/simulation.md"
                    );
                }
            }
        }
    }

    #[test]
    fn each_exit_code_is_in_the_document() {
        for line in EXIT_CODES.lines().skip(1) {
            let code = line.split_whitespace().next().unwrap();
            assert!(DOCUMENT.contains(&format!("| {code} |")), "{code}");
        }
    }
}
