//! A task's snapshot, the position and the first live event are of one moment: nothing between is lost or doubled.

use fanfare_core::Draft;
use fanfare_loopback::{Handshake, Received, World, draft, task, user};
use serde_json::Value;

/// A task's life, with what a status leaves behind.
fn life() -> Vec<Draft> {
    let mut life = vec![draft("task:created", ()), draft("task:started", ())];
    for percent in 1..=4 {
        life.push(draft("task:status", percent));
        life.push(draft("task:status", percent + 100).ephemeral(None));
        life.push(draft("chat:message", percent));
    }
    life.push(draft("task:completed", ()));
    life
}

/// Status and last data as a client knows them: from the snapshot, and the events after it.
fn follow(received: &[Received]) -> (String, Value, Vec<u64>) {
    let (mut status, mut last, mut seqs) = (String::new(), Value::Null, Vec::new());
    let room = format!("task:{}", task(1));
    for it in received {
        let welcome = it.system("system:welcome");
        let standing = welcome.and_then(|welcome| welcome["rooms"].get(&room));
        if let Some(standing) = standing.or_else(|| it.system("system:joined")) {
            let at = |pointer| standing.pointer(pointer).unwrap();
            status = at("/state/status").as_str().unwrap().to_owned();
            last = at("/state/last").clone();
            seqs = vec![at("/seq").as_u64().unwrap()];
        }
        let Some(event) = it.event() else {
            continue;
        };
        match event.kind.as_str() {
            "task:status" => last = event.data.clone(),
            "chat:message" => {}
            other => status = other.replace("task:", ""),
        }
        if !event.ephemeral {
            seqs.extend(event.rooms.get(&task(1).into()));
        }
    }
    (status, last, seqs)
}

#[test]
fn whoever_comes_at_any_moment_of_a_tasks_life_knows_all_of_it() {
    let life = life();
    for comes_before in 0..=life.len() {
        for (joins, settles) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut world = World::new(1);
            let mut client = None;
            for moment in 0..=life.len() {
                if moment == comes_before {
                    client = Some(if joins {
                        let client = world.open(Handshake::notifications(user(7)));
                        world.join(client, task(1));
                        client
                    } else {
                        world.open(Handshake::chat(user(7), task(1)))
                    });
                }
                if let Some(draft) = life.get(moment) {
                    world.publish_to_task(task(1), &[], draft.clone());
                }
                if settles {
                    world.settle();
                }
            }
            let received = world.received(client.unwrap());
            let (status, last, seqs) = follow(&received);
            let name =
                format!("before {comes_before}, joins {joins}, settles {settles}: {received:?}");
            assert_eq!((status.as_str(), last), ("completed", 104.into()), "{name}");
            let expected: Vec<u64> = (seqs[0]..=11).collect();
            assert_eq!(seqs, expected, "{name}");
        }
    }
}
