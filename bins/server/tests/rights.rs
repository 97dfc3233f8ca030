//! Who gets in, who stays in, and what each may see and say there.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use server::raw::{Got, Raw, frame};
use server::scene::{CHAT, EVENTS, NOTIFICATIONS, SECRET, Scene, tell};
use server::{API_KEY, OURS, TASK, handshake, signed, token, token_of, token_until};

const OTHER: &str = "550e8400-e29b-41d4-a716-446655440001";
const ROOM: &str = "task:550e8400-e29b-41d4-a716-446655440000";

/// The close code that comes next, whatever comes before it, and the `retry` of its goodbye.
fn closed(client: &mut Raw) -> (u16, String) {
    let (last, goodbye) = client.close();
    let Got::Close(Some(code), _) = last else {
        panic!("no close but {last:?}")
    };
    assert_eq!(client.next(), Got::End, "{code}");
    let goodbye: Value = serde_json::from_str(&goodbye.unwrap()).unwrap();
    assert_eq!(goodbye["data"]["code"], code);
    (code, goodbye["data"]["retry"].as_str().unwrap().to_owned())
}

fn auth(token: &str) -> String {
    json!({"op": "auth", "token": token, "ref": "auth"}).to_string()
}

/// This second since the Unix epoch, and `seconds` more.
fn second(seconds: u64) -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + seconds
}

#[test]
fn who_sends_no_token_in_time_is_closed_with_4502_whatever_else_it_says() {
    let mut scene = Scene::start(&["--auth-timeout", "300ms"]);
    let mut silent = Raw::upgrade(scene.address, &handshake(CHAT, &[]));
    let mut speaks = Raw::upgrade(scene.address, &handshake(CHAT, &[]));
    for op in [
        json!({"op": "ping", "ref": 1}),
        json!({"op": "join", "room": ROOM, "ref": 1}),
        json!({"op": "leave", "room": ROOM, "ref": 1}),
        json!({"op": "send", "room": ROOM, "type": "chat:message", "data": SECRET, "ref": 1}),
    ] {
        let reply = speaks.ask(&op.to_string());
        assert_eq!(reply["error"]["code"], "unauthenticated", "{op}: {reply}");
    }
    speaks.send(&frame(0x89, b"still here"));
    assert_eq!(speaks.next(), Got::Pong(b"still here".to_vec()));
    scene.tell(EVENTS, r#"{"type":"chat:message"}"#);
    for (name, client) in [("silent", &mut silent), ("speaks", &mut speaks)] {
        let goodbye = client.json();
        assert_eq!(
            goodbye["type"], "system:goodbye",
            "{name}: nothing of any room"
        );
        assert_eq!(
            client.next(),
            Got::Close(Some(4502), "no token in time".to_owned())
        );
        scene.assert_unharmed(name);
    }
}

#[test]
fn a_first_message_with_a_token_that_does_not_name_the_task_is_4507() {
    let mut scene = Scene::start(&[]);
    for tasks in ["[]".to_owned(), format!(r#"["{OTHER}"]"#)] {
        let mut client = Raw::upgrade(scene.address, &handshake(CHAT, &[]));
        client.say(&auth(&token_of(7, &tasks)));
        assert_eq!(closed(&mut client), (4507, "never".to_owned()), "{tasks}");
        scene.assert_unharmed(&tasks);
    }
}

#[test]
fn a_token_that_ends_on_a_live_connection_is_said_before_and_nothing_of_any_room_comes_after() {
    let mut scene = Scene::start(&["--expiring-notice", "500ms"]);
    let (mut client, welcome) = scene.open(CHAT, &token_until(7, r#"["*"]"#, second(2)));
    assert!(welcome["data"]["expires_at"].is_string(), "{welcome}");
    let mut backend = scene.connect();
    let over = AtomicBool::new(false);
    let told = std::thread::scope(|threads| {
        let publishing = threads.spawn(|| {
            let mut told = 0;
            while !over.load(Ordering::Relaxed) {
                let body = format!(r#"{{"type":"chat:message","users":[7],"data":"{SECRET}"}}"#);
                assert_eq!(tell(&mut backend, EVENTS, &body).status, 200);
                told += 1;
            }
            told
        });
        let (mut seq, mut expiring) = (0, None);
        let goodbye = loop {
            let json = client.json();
            match json["type"].as_str().unwrap() {
                "chat:message" => {
                    seq += 1;
                    assert_eq!(json["rooms"], json!({ROOM: seq, "user:7": seq}));
                }
                "system:expiring" => {
                    assert!(json["data"]["in_ms"].as_u64().unwrap() <= 500, "{json}");
                    assert_eq!(expiring.replace(seq), None, "it is said once");
                }
                _ => break json,
            }
        };
        assert_eq!(goodbye["type"], "system:goodbye", "{goodbye}");
        assert_eq!(goodbye["data"]["code"], 4005, "{goodbye}");
        assert_eq!(goodbye["data"]["retry"], "now", "{goodbye}");
        assert!(
            expiring.is_some_and(|at| at < seq),
            "events come until the end"
        );
        assert_eq!(
            client.next(),
            Got::Close(Some(4005), "token expired".to_owned())
        );
        assert_eq!(client.next(), Got::End);
        over.store(true, Ordering::Relaxed);
        assert!(seq > 0);
        publishing.join().unwrap()
    });
    assert!(told > 0);
    scene.assert_unharmed("expired");
}

#[test]
fn a_token_is_renewed_in_place() {
    let mut scene = Scene::start(&["--expiring-notice", "500ms"]);
    let first = second(2);
    let (mut client, _) = scene.open(CHAT, &token_until(7, r#"["*"]"#, first));
    client.json_of("system:expiring");
    let reply = client.ask(&auth(&token_until(7, r#"["*"]"#, first + 2)));
    assert_eq!(
        (&reply["ok"], &reply["ref"]),
        (&true.into(), &"auth".into()),
        "{reply}"
    );
    assert!(reply["expires_at"].is_string(), "{reply}");
    // Said 1.5 s after the first one has ended.
    client.json_of("system:expiring");
    scene.tell(EVENTS, r#"{"type":"chat:message"}"#);
    assert_eq!(client.json()["type"], "chat:message");
    scene.assert_unharmed("renewed");
}

#[test]
fn a_renewal_takes_what_the_new_token_does_not_give() {
    let mut scene = Scene::start(&[]);
    let (mut client, _) = scene.open(CHAT, &token());
    let join = json!({"op": "join", "room": format!("task:{OTHER}"), "ref": 1}).to_string();
    assert_eq!(client.ask(&join)["ok"], true);
    client.say(&auth(&token_of(7, &format!(r#"["{OTHER}"]"#))));
    assert_eq!(
        client.json()["data"],
        json!({"room": ROOM, "reason": "forbidden"})
    );
    assert_eq!(client.json_of("system:reply")["data"]["ok"], true);
    scene.tell(
        EVENTS,
        &format!(r#"{{"type":"chat:message","data":"{SECRET}"}}"#),
    );
    let others = format!("/v1/tasks/{OTHER}/events");
    scene.tell(&others, r#"{"type":"chat:message"}"#);
    assert_eq!(client.json()["rooms"], json!({format!("task:{OTHER}"): 1}));
    let join = json!({"op": "join", "room": ROOM, "ref": 2}).to_string();
    assert_eq!(client.ask(&join)["error"]["code"], "forbidden");
    scene.assert_unharmed("fewer tasks");
    for (name, token) in [
        ("another user's", token_of(9, r#"["*"]"#)),
        (
            "one that has ended",
            token_until(7, r#"["*"]"#, 1_000_000_000),
        ),
        ("none", SECRET.to_owned()),
    ] {
        let mut client = scene.client();
        client.say(&auth(&token));
        assert_eq!(closed(&mut client), (4500, "never".to_owned()), "{name}");
        scene.assert_unharmed(name);
    }
}

#[test]
fn who_resumes_with_a_token_that_no_longer_names_the_room_gets_nothing_of_it() {
    let mut scene = Scene::start(&[]);
    let (before, welcome) = scene.open(CHAT, &token());
    let epoch = welcome["data"]["rooms"][ROOM]["epoch"].as_str().unwrap();
    drop(before);
    let missed = format!(r#"{{"type":"chat:message","data":"{SECRET}"}}"#);
    scene.tell(EVENTS, &missed);
    let fewer = token_of(7, &format!(r#"["{OTHER}"]"#));
    // At its own endpoint, beside another task's, and by joining: each from the position that it had.
    let since = format!("since={ROOM}@{epoch}:0");
    let refused = handshake(
        &format!("{CHAT}?{since}"),
        &[&format!("Authorization: Bearer {fewer}")],
    );
    assert_eq!(scene.send(refused).status, 403);
    let endpoint = format!("/v1/tasks/{OTHER}/chat?{since}");
    for (name, path) in [
        ("another", endpoint),
        ("own", format!("{NOTIFICATIONS}?{since}")),
    ] {
        let (mut client, welcome) = scene.open(&path, &fewer);
        assert!(
            welcome["data"]["rooms"][ROOM].is_null(),
            "{name}: {welcome}"
        );
        let join =
            json!({"op": "join", "room": ROOM, "since": {"epoch": epoch, "seq": 0}, "ref": 1});
        assert_eq!(
            client.ask(&join.to_string())["error"]["code"],
            "forbidden",
            "{name}"
        );
    }
    let (mut allowed, _) = scene.open(&format!("{CHAT}?{since}"), &token());
    assert_eq!(allowed.json()["rooms"], json!({ROOM: 1}));
    scene.assert_unharmed("resumes");
}

#[test]
fn a_room_that_is_not_allowed_is_refused_in_the_same_words_whether_it_exists_or_not() {
    let mut scene = Scene::start(&["--message-bytes", "2MiB", "--errors-per-minute", "1000"]);
    let (exists, deleted) = (OTHER, "550e8400-e29b-41d4-a716-446655440002");
    for (task, kind) in [
        (exists, "task:started"),
        (deleted, "task:started"),
        (deleted, "task:deleted"),
    ] {
        let body = format!(r#"{{"type":"{kind}","users":[9]}}"#);
        assert_eq!(
            scene
                .tell(&format!("/v1/tasks/{task}/events"), &body)
                .status,
            200
        );
    }
    let (mut client, _) = scene.open(CHAT, &token_of(7, &format!(r#"["{TASK}"]"#)));
    let mut words = Vec::new();
    for room in [
        &format!("task:{exists}"),
        &format!("task:{deleted}"),
        "task:550e8400-e29b-41d4-a716-446655440003",
        "user:8",
        "user:9",
        "user:10",
        "user:7",
    ] {
        let of = |op: &str| {
            json!({"op": op, "room": room, "type": "chat:message", "ref": 1}).to_string()
        };
        words.push(client.ask(&of("join"))["error"].to_string());
        for op in ["leave", "send"] {
            let reply = client.ask(&of(op)).to_string();
            assert!(reply.contains(r#""ok":false"#), "{op} {room}: {reply}");
        }
        scene.assert_unharmed(room);
    }
    words.dedup();
    assert_eq!(
        words,
        [r#"{"code":"forbidden","message":"not allowed: your token does not name this room"}"#]
    );
    let long = json!({"op": "join", "room": SECRET.repeat((1 << 20) / SECRET.len()), "ref": 1});
    let reply = client.ask(&long.to_string());
    assert_eq!(reply["error"]["code"], "bad_request", "{reply}");
    assert!(reply.to_string().len() < 1_000, "{reply}");
    // Nothing of all these rooms came meanwhile, and nothing does.
    let more = format!(r#"{{"type":"chat:message","data":"{SECRET}"}}"#);
    for path in [
        &format!("/v1/tasks/{exists}/events"),
        "/v1/users/9/events",
        EVENTS,
    ] {
        assert_eq!(scene.tell(path, &more).status, 200, "{path}");
    }
    assert_eq!(client.json()["rooms"], json!({ROOM: 1}));
    scene.assert_unharmed("1 MiB");
}

#[test]
fn a_client_sends_what_its_token_allows_and_never_what_is_the_servers_or_the_back_ends() {
    let mut scene = Scene::start(&["--errors-per-minute", "1000"]);
    let may_all = signed(&format!(
        r#"{{"sub":"7","exp":4000000000,"tasks":["*"],"send":["*"],{OURS}}}"#
    ));
    let may_none = signed(&format!(
        r#"{{"sub":"7","exp":4000000000,"tasks":["*"],"send":[],{OURS}}}"#
    ));
    let mut seq = 0;
    for (name, token, kind, code) in [
        ("by default", token(), "chat:message", ""),
        ("by default", token(), "build:message", "forbidden"),
        ("by default", token(), "task:completed", "forbidden"),
        ("by default", token(), "system:reply", "forbidden"),
        ("all", may_all.clone(), "build:message", ""),
        ("all", may_all.clone(), "task:completed", "forbidden"),
        ("all", may_all.clone(), "task:whatever", "forbidden"),
        ("all", may_all.clone(), "system:reply", "forbidden"),
        ("all", may_all, "inbox:read", "forbidden"),
        ("none", may_none, "chat:message", "forbidden"),
    ] {
        let row = format!("{name}: {kind}");
        let (mut client, _) = scene.open(CHAT, &token);
        let send = json!({"op": "send", "room": ROOM, "type": kind, "data": SECRET, "ref": 1});
        let reply = client.ask(&send.to_string());
        if code.is_empty() {
            seq += 1;
            assert_eq!(reply["seq"], seq, "{row}: {reply}");
        } else {
            assert_eq!(reply["error"]["code"], code, "{row}: {reply}");
        }
        scene.assert_unharmed(&row);
    }
}

#[test]
fn a_position_from_the_future_or_of_a_foreign_epoch_is_a_gap_and_changes_nothing() {
    let mut scene = Scene::start(&[]);
    let body = r#"{"type":"chat:message","users":[7]}"#;
    let receipt = scene.tell(EVENTS, body).json();
    let epoch = receipt["rooms"][ROOM]["epoch"].as_str().unwrap();
    let mut seq = 1;
    for (name, epoch, since) in [
        ("the future", epoch, 1_000),
        ("the last future", epoch, (1_u64 << 53) - 1),
        ("a foreign epoch", "AAAA", 1),
    ] {
        let query = format!("since={ROOM}@{epoch}:{since},user:7@{epoch}:{since}");
        let (mut client, welcome) = scene.open(&format!("{CHAT}?{query}"), &token());
        for room in [ROOM, "user:7"] {
            let standing = &welcome["data"]["rooms"][room];
            assert_eq!(standing["recovered"], false, "{name}: {welcome}");
            assert_eq!(standing["seq"], seq, "{name}: {welcome}");
        }
        let (mut joins, _) = scene.open(NOTIFICATIONS, &token());
        joins.say(
            &json!({"op": "join", "room": ROOM, "since": {"epoch": epoch, "seq": since}})
                .to_string(),
        );
        assert_eq!(joins.json()["data"]["recovered"], false, "{name}");
        for (client, gaps) in [(&mut client, 2), (&mut joins, 1)] {
            for _ in 0..gaps {
                let gap = client.json();
                assert_eq!(gap["type"], "system:gap", "{name}: {gap}");
                assert!(gap["data"]["reason"].is_string(), "{name}: {gap}");
            }
        }
        // What is kept after the gap may come; the next event is the next number for all.
        seq += 1;
        let receipt = scene.tell(EVENTS, body).json();
        assert_eq!(receipt["rooms"][ROOM]["seq"], seq, "{name}");
        for client in [&mut client, &mut joins] {
            while client.json()["rooms"] != json!({ROOM: seq, "user:7": seq}) {}
        }
        scene.assert_unharmed(name);
    }
}

#[test]
fn a_user_has_as_many_connections_as_are_allowed_and_a_back_end_closes_them_all() {
    let mut scene = Scene::start(&["--connections-per-user", "3"]);
    let mut clients: Vec<Raw> = (0..3).map(|_| scene.client()).collect();
    let bearer = format!("Authorization: Bearer {}", token());
    let mut fourth = Raw::upgrade(scene.address, &handshake(CHAT, &[&bearer]));
    assert_eq!(closed(&mut fourth), (4504, "never".to_owned()));
    scene.assert_unharmed("one too many");
    let answer = scene.tell("/v1/users/7/disconnect", "");
    assert_eq!(answer.json()["disconnected"], 3);
    for client in &mut clients {
        assert_eq!(closed(client), (4503, "never".to_owned()));
    }
    scene.assert_unharmed("disconnected");
    drop(scene.client());
}

#[test]
fn a_back_end_on_the_bus_listens_and_may_say_nothing() {
    let mut scene = Scene::start(&[]);
    let bearer = format!("Authorization: Bearer {API_KEY}");
    let mut bus = Raw::upgrade(
        scene.address,
        &handshake("/v1/bus?types=chat:*", &[&bearer]),
    );
    assert_eq!(bus.json()["type"], "system:welcome");
    for op in [
        json!({"op": "join", "room": ROOM, "ref": 1}),
        json!({"op": "leave", "room": ROOM, "ref": 1}),
        json!({"op": "send", "room": ROOM, "type": "chat:message", "data": SECRET, "ref": 1}),
    ] {
        let reply = bus.ask(&op.to_string());
        assert_eq!(reply["error"]["code"], "forbidden", "{op}: {reply}");
        scene.assert_unharmed(&op.to_string());
    }
    // The number shows that nothing was sent before.
    scene.tell(EVENTS, r#"{"type":"chat:message","users":[9]}"#);
    assert_eq!(bus.json()["rooms"], json!({ROOM: 1, "user:9": 1}));
    bus.say(&auth(&token()));
    let reply = bus.json_of("system:reply");
    assert_eq!(reply["data"]["ok"], false, "{reply}");
    scene.assert_unharmed("a token");
    bus.send(&frame(0x82, SECRET.as_bytes()));
    assert_eq!(closed(&mut bus), (1003, "never".to_owned()));
    scene.assert_unharmed("binary");
}
