//! A connection whose message waits for the store: what it sends meanwhile, and what becomes of it when it goes.
//!
//! The store answers when the test says so.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use fanfare_core::{Change, Fetch, Fetched, History, Limits, StoreFailure, Table, TaskId, UserId};
use fanfare_websocket::{SocketLimits, Storage};
use futures::channel::oneshot;
use futures::future::{FutureExt, LocalBoxFuture};
use socket2::SockRef;
use support::{Got, Options, PATIENCE, Raw, Server, TASK, frame, open, request, to_user};

type Rows = BTreeMap<(Table, Vec<u8>), Arc<[u8]>>;

/// Says what becomes of one thing that the storage was asked for.
type Ask = oneshot::Sender<Result<(), StoreFailure>>;

/// Rows in memory, of which nothing is written or read before the test lets it.
struct ByHand {
    rows: Rc<RefCell<Rows>>,
    holds: Arc<AtomicBool>,
    commits: mpsc::Sender<Ask>,
    fetches: mpsc::Sender<Ask>,
}

impl ByHand {
    async fn let_go(
        asked: oneshot::Receiver<Result<(), StoreFailure>>,
    ) -> Result<(), StoreFailure> {
        asked.await.unwrap_or(Ok(()))
    }

    /// Where nothing is held, the asking end is dropped, which lets go.
    fn ask(&self, of: &mpsc::Sender<Ask>) -> oneshot::Receiver<Result<(), StoreFailure>> {
        let (sender, receiver) = oneshot::channel();
        if self.holds.load(Ordering::SeqCst) {
            // Nobody who is asked any more lets go too.
            let _ = of.send(sender);
        }
        receiver
    }
}

impl Storage for ByHand {
    fn commit(&self, changes: Vec<Change>) -> LocalBoxFuture<'static, Result<(), StoreFailure>> {
        let (rows, asked) = (Rc::clone(&self.rows), self.ask(&self.commits));
        async move {
            Self::let_go(asked).await?;
            let mut rows = rows.borrow_mut();
            for change in changes {
                match change {
                    Change::Put { table, key, value } => drop(rows.insert((table, key), value)),
                    Change::Delete { table, key } => drop(rows.remove(&(table, key))),
                    Change::DeleteRange { table, from, to } => {
                        rows.retain(|(of, key), _| *of != table || *key < from || *key > to);
                    }
                }
            }
            Ok(())
        }
        .boxed_local()
    }

    fn fetch(
        &self,
        fetches: Vec<Fetch>,
    ) -> LocalBoxFuture<'static, Result<Vec<Fetched>, StoreFailure>> {
        let (rows, asked) = (Rc::clone(&self.rows), self.ask(&self.fetches));
        async move {
            Self::let_go(asked).await?;
            let rows = rows.borrow();
            let found = fetches.into_iter().map(|fetch| {
                let range = rows.range((fetch.table, fetch.from)..=(fetch.table, fetch.to));
                let range = range.map(|((_, key), value)| (key.clone(), value.to_vec()));
                let mut rows: Vec<_> = range.collect();
                if fetch.newest_first {
                    rows.reverse();
                }
                let more = rows.len() > fetch.rows;
                rows.truncate(fetch.rows);
                Fetched { rows, more }
            });
            Ok(found.collect())
        }
        .boxed_local()
    }
}

/// The test's side of it.
struct Hand {
    holds: Arc<AtomicBool>,
    commits: mpsc::Receiver<Ask>,
    fetches: mpsc::Receiver<Ask>,
}

impl Hand {
    /// From here on the storage waits.
    fn hold(&self) {
        self.holds.store(true, Ordering::SeqCst);
    }

    /// From here on it does not.
    fn open(&self) {
        self.holds.store(false, Ordering::SeqCst);
    }

    fn commit(&self) -> Ask {
        self.commits.recv_timeout(PATIENCE).unwrap()
    }

    fn fetch(&self) -> Ask {
        self.fetches.recv_timeout(PATIENCE).unwrap()
    }
}

fn server(limits: Limits) -> (Server, Hand) {
    let (commits, commits_asked) = mpsc::channel();
    let (fetches, fetches_asked) = mpsc::channel();
    let hand = Hand {
        holds: Arc::default(),
        commits: commits_asked,
        fetches: fetches_asked,
    };
    let holds = Arc::clone(&hand.holds);
    let sockets = SocketLimits {
        linger_ms: HOUR_MS,
        ..SocketLimits::default()
    };
    let options = Options {
        limits,
        sockets,
        ..Options::default()
    };
    let server = Server::over(options, move || ByHand {
        rows: Rc::default(),
        holds,
        commits,
        fetches,
    });
    (server, hand)
}

const HOUR_MS: u64 = 3_600_000;

/// No bound but those that a test is about: what is to happen at once does not come by a deadline.
fn generous() -> Limits {
    Limits {
        messages_burst: 1_000_000,
        heartbeat_ms: HOUR_MS,
        auth_ms: HOUR_MS,
        ..Limits::default()
    }
}

fn send(number: u64) -> String {
    format!(
        r#"{{"op":"send","room":"task:{TASK}","type":"chat:message","data":{number},"ref":{number}}}"#
    )
}

fn ping(number: u64) -> String {
    format!(r#"{{"op":"ping","ref":{number}}}"#)
}

fn text(message: &str) -> Vec<u8> {
    frame(0x81, message.as_bytes())
}

/// Everybody's turn comes several times: whatever can go on has gone on.
fn turns(bystander: &mut Raw) {
    for number in 0..10 {
        assert_eq!(bystander.ask(&ping(number))["ref"], number);
    }
}

/// The reference of the next reply, behind events.
fn replied(client: &mut Raw) -> u64 {
    let reply = client.json_of("system:reply");
    assert_eq!(reply["data"]["ok"], true, "{reply}");
    reply["data"]["ref"].as_u64().unwrap()
}

/// The numbers of the kept events of the task's room, and the data of each.
fn log(server: &Server) -> Vec<(u64, u64)> {
    let task: TaskId = TASK.parse().unwrap();
    let history = History {
        limit: 1_000,
        ..History::default()
    };
    let page = server.run(move |shard| {
        Box::pin(async move { shard.history(task.into(), history).await.unwrap() })
    });
    let events = page.events.iter();
    events
        .map(|(seq, entry)| {
            let data = entry.event().data.as_str().parse().unwrap();
            (seq.number(), data)
        })
        .collect()
}

#[test]
fn what_is_sent_behind_a_message_that_waits_is_answered_in_its_order_when_the_store_is_done() {
    let (server, hand) = server(generous());
    let mut bystander = open(server.address, "/user/8");
    let mut client = open(server.address, "/task/7");
    hand.hold();
    let read = server.counters().messages_read;
    // Each third waits for the store by itself; the pings between do not.
    let is_send = |number: u64| number % 3 == 1;
    let messages = (1..=30).map(|number| {
        let of = if is_send(number) { send } else { ping };
        text(&of(number))
    });
    client.send(&messages.collect::<Vec<_>>().concat());
    for number in 1..=30 {
        if is_send(number) {
            let commit = hand.commit();
            turns(&mut bystander);
            let more = server.counters().messages_read - read;
            // Those of the bystander count too: ten a time.
            let sends = number.div_ceil(3);
            assert_eq!(more - 10 * sends, (number + 1).min(30), "one is read ahead");
            commit.send(Ok(())).unwrap();
        }
        assert_eq!(replied(&mut client), number);
    }
    hand.open();
    let expected: Vec<(u64, u64)> = (1..).zip((1..=30).step_by(3)).take(10).collect();
    assert_eq!(log(&server), expected);
}

#[test]
fn a_flood_behind_a_message_that_waits_stays_in_the_sockets() {
    const FLOOD: usize = 64 << 20;
    let (server, hand) = server(generous());
    let mut bystander = open(server.address, "/user/8");
    let mut client = open(server.address, "/task/7");
    hand.hold();
    client.say(&send(1));
    let commit = hand.commit();
    let read = server.counters().messages_read;
    let padding = " ".repeat(60_000);
    let numbers = 2..;
    let mut flood = numbers.map(|number| text(&(ping(number) + &padding)));
    // As much as goes, until nothing more does though everybody had a turn.
    client.stream.set_nonblocking(true).unwrap();
    let (mut sent, mut messages, mut frame) = (0, 1, flood.next().unwrap());
    let mut begun = 0;
    loop {
        let before = sent;
        loop {
            match client.stream.write(&frame[begun..]) {
                Ok(written) => (sent, begun) = (sent + written, begun + written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error} after {sent} bytes"),
            }
            if begun == frame.len() {
                (frame, begun, messages) = (flood.next().unwrap(), 0, messages + 1);
            }
            assert!(sent < FLOOD, "the server takes whatever comes");
        }
        turns(&mut bystander);
        if sent == before {
            break;
        }
    }
    let turns_taken = server.counters().messages_read - read;
    assert_eq!(turns_taken % 10, 1, "one is read, and no more");
    hand.open();
    commit.send(Ok(())).unwrap();
    client.stream.set_nonblocking(false).unwrap();
    client.send(&frame[begun..]);
    for number in 1..=messages + 1 {
        assert_eq!(replied(&mut client), number);
    }
}

#[test]
fn a_client_that_goes_while_its_message_waits_is_gone_at_once_and_what_it_sent_is_kept() {
    type Goes = fn(&mut Raw);
    let ways: [(&str, Goes); 3] = [
        ("an end", |client| client.half_close()),
        ("a reset", |client| {
            let linger = Some(std::time::Duration::ZERO);
            SockRef::from(&client.stream).set_linger(linger).unwrap();
            client.stream = std::net::TcpListener::bind(("127.0.0.1", 0))
                .and_then(|here| std::net::TcpStream::connect(here.local_addr()?))
                .unwrap();
        }),
        ("a close frame", |client| {
            client.send(&frame(0x88, &1_000_u16.to_be_bytes()));
            assert_eq!(client.next(), Got::Close(Some(1_000), String::new()));
            client.half_close();
        }),
    ];
    for (number, (name, goes)) in (1..).zip(ways) {
        let (server, hand) = server(generous());
        let mut client = open(server.address, "/task/7");
        hand.hold();
        client.say(&send(number));
        let commit = hand.commit();
        goes(&mut client);
        server.until(name, |server| server.connections() == 0);
        hand.open();
        commit.send(Ok(())).unwrap();
        // The answer finds nobody, and the event is there.
        server.until(name, |server| log(server) == [(1, number)]);
        assert_eq!(server.counters().panics, 0, "{name}");
    }
}

#[test]
fn a_client_that_falls_silent_behind_a_message_that_waits_is_closed_by_its_heartbeat() {
    let (server, hand) = server(Limits {
        heartbeat_ms: 50,
        pong_ms: 50,
        ..generous()
    });
    let mut client = open(server.address, "/task/7");
    hand.hold();
    // The second one is not taken, so that nothing behind it is read.
    client.send(&[text(&send(1)), text(&send(2))].concat());
    let commit = hand.commit();
    let (last, goodbye) = client.close();
    let no_heartbeat = matches!(&last, Got::Close(Some(4012), _));
    assert!(no_heartbeat && goodbye.is_some(), "{last:?} {goodbye:?}");
    client.half_close();
    server.until("it is gone", |server| server.connections() == 0);
    hand.open();
    commit.send(Ok(())).unwrap();
    // What it held of the client went with it.
    server.until("the first is kept", |server| log(server) == [(1, 1)]);
}

#[test]
fn a_client_that_answers_pings_while_its_message_waits_is_not_closed() {
    let (server, hand) = server(Limits {
        heartbeat_ms: 20,
        ..generous()
    });
    let mut client = open(server.address, "/task/7");
    hand.hold();
    client.say(&send(1));
    let commit = hand.commit();
    // The next one comes only where the answer to this was read.
    for _ in 0..10 {
        assert_eq!(client.next(), Got::Ping);
        client.send(&frame(0x8a, b""));
    }
    commit.send(Ok(())).unwrap();
    assert_eq!(replied(&mut client), 1);
}

#[test]
fn a_store_that_fails_while_messages_wait_is_told_to_each_of_them() {
    for (failure, expected) in [
        (StoreFailure::Full, ["store_full", "3"]),
        (StoreFailure::Failed, ["unavailable", "unavailable"]),
    ] {
        let (server, hand) = server(generous());
        let mut bystander = open(server.address, "/user/8");
        let mut client = open(server.address, "/task/7");
        hand.hold();
        client.send(&[text(&send(1)), text(&ping(2)), text(&send(3))].concat());
        let commit = hand.commit();
        // One that comes meanwhile waits for the next commit, and was built on this one.
        let publish = server.publishing(to_user(9, "1"));
        hand.fetch().send(Ok(())).unwrap();
        turns(&mut bystander);
        hand.open();
        commit.send(Err(failure)).unwrap();
        let refused = publish.recv_blocking().unwrap().unwrap_err();
        assert_eq!(refused.code(), expected[0], "{failure:?}");
        let told = [1, 2, 3].map(|number| {
            let mut reply = client.json_of("system:reply");
            assert_eq!(reply["data"]["ref"], number, "{failure:?}: {reply}");
            reply["data"].take()
        });
        assert_eq!(told[0]["error"]["code"], expected[0], "{failure:?}");
        assert_eq!(told[1]["ok"], true, "{failure:?}");
        let last = told[2]["error"]["code"].as_str().unwrap_or("3");
        assert_eq!(last, expected[1], "{failure:?}: {}", told[2]);
        let kept: &[(u64, u64)] = if expected[1] == "3" { &[(1, 3)] } else { &[] };
        assert_eq!(log(&server), kept, "{failure:?}");
    }
}

#[test]
fn a_client_whose_rooms_can_not_be_read_is_told_to_come_back() {
    let (server, hand) = server(generous());
    hand.hold();
    // Messages that came with the handshake wait too, and go with it.
    let mut early = request("/task/7", "").into_bytes();
    early.extend(text(&ping(1)));
    let mut client = Raw::connect(server.address);
    client.send(&early);
    let mut client = client.accepted();
    let rooms = [hand.fetch(), hand.fetch()];
    for ask in rooms {
        ask.send(Err(StoreFailure::Failed)).unwrap();
    }
    let (last, goodbye) = client.close();
    assert!(matches!(&last, Got::Close(Some(4014), _)), "{last:?}");
    assert!(goodbye.unwrap().contains(r#""retry":"after""#));
    client.half_close();
    server.until("it is gone", |server| server.connections() == 0);
    hand.open();
    assert_eq!(open(server.address, "/task/7").ask(&ping(2))["ref"], 2);
}

#[test]
fn a_client_closed_by_the_server_while_its_message_waits_goes_before_the_store_answers() {
    let (server, hand) = server(generous());
    let mut client = open(server.address, "/task/7");
    hand.hold();
    client.send(&[text(&send(1)), text(&send(2)), text(&send(3))].concat());
    let commit = hand.commit();
    server.run(|shard| Box::pin(async move { shard.disconnect(UserId::new(7)) }));
    let (last, _) = client.close();
    assert!(matches!(&last, Got::Close(Some(4503), _)), "{last:?}");
    client.half_close();
    server.until("it is gone", |server| server.connections() == 0);
    hand.open();
    commit.send(Ok(())).unwrap();
    server.until("the first is kept", |server| log(server) == [(1, 1)]);
}
