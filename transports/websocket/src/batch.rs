//! Many publishes in one request: `application/x-ndjson`, an object a line, answered by a result a line, in order.
//!
//! Each line is on its own: one that is refused harms no other, and those before it are kept.

use std::collections::VecDeque;
use std::future::Future;

use bytes::Bytes;
use fanfare_core::{Error, Publish, Receipt};

use crate::problem::{Code, Problem};
use crate::publish::{self, Endpoint};

/// The media type.
pub(crate) const NDJSON: &str = "application/x-ndjson";
/// Lines after which others get their turn.
const TURN: usize = 64;
/// Lines that may wait for their answers, so that they share a commit.
const WAITING_MAX: usize = 256;

/// Most lines: an answer may be a hundred times as long as its line.
const LINES_MAX: usize = 10_000;

/// Refuses a batch of too many lines as a whole, before any is published.
///
/// # Errors
/// 413.
pub(crate) fn check(body: &[u8]) -> Result<(), Problem> {
    if lines(body).nth(LINES_MAX).is_none() {
        return Ok(());
    }
    let detail = format!("the batch has more than {LINES_MAX} lines, which is the limit");
    Err(Problem::new(Code::TooLarge, detail))
}

fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = body.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.trim_ascii().is_empty())
}

/// Publishes line by line, with `publish`, and answers line by line: a receipt, or problem details with their `status`.
/// Lines with nothing in them are passed over.
///
/// `publish` is called in the order of the lines, which does not wait for the answers; after some of them `rest` is waited for.
pub(crate) async fn run<F, R>(
    body: &Bytes,
    mut publish: impl FnMut(Publish) -> F,
    rest: impl Fn() -> R,
) -> Vec<u8>
where
    F: Future<Output = Result<Receipt, Error>>,
    R: Future<Output = ()>,
{
    let mut answers = Vec::new();
    let mut waiting = VecDeque::new();
    for (number, line) in lines(body).enumerate() {
        if number % TURN == TURN - 1 {
            rest().await;
        }
        if waiting.len() == WAITING_MAX
            && let Some(first) = waiting.pop_front()
        {
            answer(&mut answers, first).await;
        }
        waiting.push_back(publish::parse(line, Endpoint::Bus).map(&mut publish));
    }
    for line in waiting {
        answer(&mut answers, line).await;
    }
    answers
}

async fn answer<F>(answers: &mut Vec<u8>, line: Result<F, Problem>)
where
    F: Future<Output = Result<Receipt, Error>>,
{
    let result = match line {
        Ok(published) => published.await.map_err(Problem::from),
        Err(problem) => Err(problem),
    };
    match result {
        Ok(receipt) => answers.extend(receipt.to_json()),
        Err(problem) => answers.extend(problem.body()),
    }
    answers.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::ready;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use fanfare_core::{Hub, Limits, Now, Publisher};
    use futures::FutureExt;
    use futures::channel::oneshot;
    use smol::future::yield_now;

    use super::*;

    #[test]
    fn a_batch_is_bounded_in_lines_since_an_answer_may_be_longer_than_its_line() {
        for (lines, taken) in [(0, true), (LINES_MAX, true), (LINES_MAX + 1, false)] {
            let body = "\n1\r\n".repeat(lines);
            assert_eq!(check(body.as_bytes()).is_ok(), taken, "{lines}");
        }
    }

    #[test]
    fn a_bad_line_harms_no_other_and_answers_come_in_order() {
        let body = Bytes::from_static(
            b"{\"type\":\"a:b\",\"id\":\"1\"}\r\n\n{\"type\":\n  \n{\"type\":\"a:c\",\"id\":\"1\"}\n{\"type\":\"a:d\",\"id\":\"3\"}",
        );
        let mut hub = Hub::new(Limits::default(), [0; 32]);
        let answers = smol::block_on(run(
            &body,
            |publish| ready(Publisher::publish(&mut hub.at(Now::default()), publish)),
            yield_now,
        ));
        let answers = String::from_utf8(answers).unwrap();
        let answers: Vec<serde_json::Value> = answers
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let seen: Vec<_> = answers
            .iter()
            .map(|it| (it["id"].as_str(), it["status"].as_u64()))
            .collect();
        assert_eq!(
            seen,
            [
                (Some("1"), None),
                (None, Some(400)),
                (None, Some(409)),
                (Some("3"), None)
            ]
        );
    }
    #[test]
    fn lines_share_a_commit_and_no_more_than_the_bound_wait_for_it() {
        let lines = WAITING_MAX + 1;
        let body = Bytes::from("{\"type\":\"a:b\"}\n".repeat(lines));
        let asked = RefCell::new(VecDeque::new());
        let publish = |_| {
            let (sender, receiver) = oneshot::channel();
            asked.borrow_mut().push_back(sender);
            receiver.map(|answer| answer.unwrap_or(Err(Error::Draining)))
        };
        let mut answers = pin!(run(&body, publish, yield_now));
        let mut poll = || {
            answers
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        };
        while asked.borrow().len() < WAITING_MAX {
            assert!(poll().is_pending());
        }
        for _ in 0..3 {
            assert!(poll().is_pending());
            assert_eq!(asked.borrow().len(), WAITING_MAX);
        }
        let first = asked.borrow_mut().pop_front().unwrap();
        first.send(Err(Error::StoreFull)).unwrap();
        assert!(poll().is_pending());
        assert_eq!(asked.borrow().len(), WAITING_MAX);
        // The rest is told that nobody will answer.
        asked.borrow_mut().clear();
        let Poll::Ready(answers) = poll() else {
            panic!("not all are answered")
        };
        let statuses = answers.split(|byte| *byte == b'\n').map(|line| {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
            line["status"].as_u64()
        });
        let mut expected = vec![Some(503); lines];
        expected[0] = Some(507);
        expected.push(None);
        assert_eq!(statuses.collect::<Vec<_>>(), expected);
    }
}
