//! Many publishes in one request: `application/x-ndjson`, an object a line, answered by a result a line, in order.
//!
//! Each line is on its own: one that is refused harms no other, and those before it are kept.

use bytes::Bytes;
use fanfare_core::{Error, Publish, Receipt};
use smol::future::yield_now;

use crate::problem::Problem;
use crate::publish::{self, Endpoint};

/// The media type.
pub(crate) const NDJSON: &str = "application/x-ndjson";
/// Lines after which others get their turn.
const TURN: usize = 64;

/// Publishes line by line, with `publish`, and answers line by line: a receipt, or problem details with their `status`.
/// Lines with nothing in them are passed over.
pub(crate) async fn run(
    body: &Bytes,
    mut publish: impl AsyncFnMut(Publish) -> Result<Receipt, Error>,
) -> Vec<u8> {
    let mut answers = Vec::new();
    let lines = body.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.trim_ascii().is_empty());
    for (number, line) in lines.enumerate() {
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
