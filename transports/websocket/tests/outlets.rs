//! Connections that are served by several threads: one server to everybody.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

mod support;

use support::{Got, Options, Outlet, Raw, Server, open, to_task};

const THREADS: usize = 2;
const CLIENTS: usize = 9;

fn spread() -> (Server, Vec<Outlet>, Vec<Raw>) {
    let (server, outlets) = Server::spread(Options::default(), THREADS);
    let clients = (1..=CLIENTS).map(|user| open(server.address, &format!("/task/{user}")));
    let clients = clients.collect();
    (server, outlets, clients)
}

#[test]
fn connections_are_spread_evenly_and_all_get_everything_in_order() {
    let (server, outlets, mut clients) = spread();
    assert_eq!(server.connections(), CLIENTS);
    for outlet in &outlets {
        assert_eq!(outlet.held().connections, CLIENTS / (THREADS + 1));
    }
    for number in 0..200 {
        let receipt = server.publish(to_task(&number.to_string()));
        assert_eq!(receipt.rooms()[0].connected, CLIENTS);
    }
    for client in &mut clients {
        for number in 0..200 {
            assert_eq!(client.json()["data"], number);
        }
    }
    let counters = server.counters();
    assert_eq!(counters.opened, CLIENTS as u64);
    assert_eq!(counters.frames_written, 201 * CLIENTS as u64);
}

#[test]
fn who_goes_makes_room_in_the_thread_that_served_it() {
    let (server, outlets, mut clients) = spread();
    let before: Vec<usize> = outlets.iter().map(|it| it.held().connections).collect();
    // In turn, so that each thread has lost as many.
    clients.truncate(CLIENTS - 3);
    server.until("three are gone", |server| {
        server.connections() == CLIENTS - 3
    });
    server.until("each thread has two", |_| {
        outlets.iter().all(|it| it.held().connections == 2)
    });
    clients.extend((0..3).map(|_| open(server.address, "/task/1")));
    let after: Vec<usize> = outlets.iter().map(|it| it.held().connections).collect();
    assert_eq!(after, before);
    server.publish(to_task("1"));
    assert!(clients.iter_mut().all(|client| client.json()["data"] == 1));
}

#[test]
fn clients_of_all_threads_speak_to_one_hub_and_are_answered() {
    let (_server, _outlets, mut clients) = spread();
    for (number, client) in clients.iter_mut().enumerate() {
        for reference in 0..10 {
            let op = format!(r#"{{"op":"ping","ref":{reference}}}"#);
            assert_eq!(client.ask(&op)["ref"], reference, "{number}");
        }
    }
}

#[test]
fn a_drain_ends_the_connections_of_all_threads_and_the_threads_end_with_their_server() {
    let (server, outlets, mut clients) = spread();
    let readers = std::thread::spawn(move || {
        for client in &mut clients {
            let (last, goodbye) = client.close();
            assert!(matches!(last, Got::Close(Some(4001), _)), "{last:?}");
            assert!(goodbye.is_some());
        }
    });
    assert!(server.run(|shard| Box::pin(async move { shard.drain(10_000).await })));
    readers.join().unwrap();
    assert_eq!(server.connections(), 0);
    drop(server);
    outlets.into_iter().for_each(Outlet::join);
}
