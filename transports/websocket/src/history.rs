//! `GET` of a room's events: the query that it takes, and the page that it gives.

use fanfare_core::{History, Page, Position, RoomId, Start};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::problem::Problem;

/// Most events of a page.
const LIMIT_MAX: usize = 1_000;

/// The body of the answer.
#[derive(Serialize)]
struct Body {
    room: RoomId,
    epoch: String,
    first: u64,
    seq: u64,
    events: Vec<Box<RawValue>>,
    next: Option<String>,
}

/// Which order the events come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Oldest,
    Newest,
}

/// Reads what stands behind the `?`: `since`, or `order=newest` and `before`; and `limit`.
///
/// # Errors
/// A 400 that names the parameter which is wrong.
pub(crate) fn parse(query: Option<&str>) -> Result<History, Problem> {
    let (mut since, mut before, mut order, mut limit) = (None, None, None, None);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let twice = match &*name {
            "since" => since.replace(value.parse::<Position>()?).is_some(),
            "before" => before.replace(value.parse::<Position>()?).is_some(),
            "order" => order.replace(direction(&value)?).is_some(),
            "limit" => limit.replace(number(&value)?).is_some(),
            _ => false,
        };
        if twice {
            return Err(Problem::bad_request(format!(
                "`{name}` stands in the query more than once"
            )));
        }
    }
    let from = match (order.unwrap_or(Order::Oldest), since, before) {
        (Order::Oldest, None, None) => Start::Oldest,
        (Order::Oldest, Some(position), None) => Start::After(position),
        (Order::Newest, None, None) => Start::Newest,
        (Order::Newest, None, Some(position)) => Start::Before(position),
        (Order::Oldest, _, Some(_)) | (Order::Newest, Some(_), _) => {
            return Err(Problem::bad_request(
                "`since` goes with the oldest first, `before` with `order=newest`",
            ));
        }
    };
    let default = History::default();
    Ok(History {
        from,
        limit: limit.unwrap_or(default.limit),
        ..default
    })
}

fn direction(text: &str) -> Result<Order, Problem> {
    match text {
        "oldest" => Ok(Order::Oldest),
        "newest" => Ok(Order::Newest),
        _ => Err(Problem::bad_request(
            "`order` has to be `oldest` or `newest`",
        )),
    }
}

fn number(text: &str) -> Result<usize, Problem> {
    let number = text.parse().ok();
    number
        .filter(|number| (1..=LIMIT_MAX).contains(number))
        .ok_or_else(|| {
            Problem::bad_request(format!(
                "`limit` has to be a whole number from 1 to {LIMIT_MAX}"
            ))
        })
}

/// The body for a page of `room`, which was asked for at `path` by `asked`.
pub(crate) fn body(room: RoomId, page: &Page, path: &str, asked: &History) -> impl Serialize {
    let (epoch, limit) = (&page.epoch, asked.limit);
    let next = page.next.map(|seq| match &asked.from {
        Start::Oldest | Start::After(_) => format!("{path}?since={epoch}:{seq}&limit={limit}"),
        Start::Newest | Start::Before(_) => {
            format!("{path}?order=newest&before={epoch}:{seq}&limit={limit}")
        }
    });
    let events = page.events.iter().filter_map(|(seq, entry)| {
        let frame = entry.encode([(&room, *seq)], None);
        // What the core encodes is JSON.
        RawValue::from_string(frame.text().to_owned()).ok()
    });
    Body {
        room,
        epoch: epoch.to_string(),
        first: page.first.number(),
        seq: page.seq.number(),
        events: events.collect(),
        next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_or_refused_by_name() {
        let position = || "k3:9".parse::<Position>().unwrap();
        for (query, from, limit) in [
            (None, Start::Oldest, 100),
            (Some(""), Start::Oldest, 100),
            (Some("limit=1000&other=1"), Start::Oldest, 1_000),
            (Some("since=k3:9&limit=1"), Start::After(position()), 1),
            (
                Some("since=k3%3A9&order=oldest"),
                Start::After(position()),
                100,
            ),
            (Some("order=newest"), Start::Newest, 100),
            (
                Some("order=newest&before=k3:9"),
                Start::Before(position()),
                100,
            ),
        ] {
            let history = parse(query).unwrap();
            assert_eq!((history.from, history.limit), (from, limit), "{query:?}");
        }
        for (query, named) in [
            ("since=9", "position"),
            ("since=k3:-1", "position"),
            ("since=k3:1&since=k3:2", "since"),
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=ten", "limit"),
            ("order=up", "order"),
            ("before=k3:1", "before"),
            ("order=newest&since=k3:1", "since"),
        ] {
            let told = format!("{:?}", parse(Some(query)).unwrap_err());
            assert!(told.contains(named), "{query}: {told}");
        }
    }
}
