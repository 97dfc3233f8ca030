//! Many publishes in one request: `application/x-ndjson`, an object a line, answered by a result a line, in order.
//!
//! Each line is on its own: one that is refused harms no other, and those before it are kept.

use bytes::Bytes;
use fanfare_core::{Error, Publish, Receipt};
use smol::future::yield_now;

use crate::problem::{Code, Problem};
use crate::publish::{self, Endpoint};

/// The media type.
pub(crate) const NDJSON: &str = "application/x-ndjson";
/// Lines after which others get their turn.
const TURN: usize = 64;

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
pub(crate) async fn run(
    body: &Bytes,
    mut publish: impl AsyncFnMut(Publish) -> Result<Receipt, Error>,
) -> Vec<u8> {
    let mut answers = Vec::new();
    for (number, line) in lines(body).enumerate() {
        if number % TURN == TURN - 1 {
            yield_now().await;
        }
        let result = match publish::parse(line, Endpoint::Bus) {
            Ok(parsed) => publish(parsed).await.map_err(Problem::from),
            Err(problem) => Err(problem),
        };
        match result {
            // A receipt has string keys only: there is a JSON form.
            Ok(receipt) => answers.extend(serde_json::to_vec(&receipt).unwrap_or_default()),
            Err(problem) => answers.extend(problem.body()),
        }
        answers.push(b'\n');
    }
    answers
}

#[cfg(test)]
mod tests {
    use fanfare_core::{Hub, Limits, Now, Publisher};

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
        let answers = smol::block_on(run(&body, async |publish| {
            Publisher::publish(&mut hub.at(Now::default()), publish)
        }));
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
}
