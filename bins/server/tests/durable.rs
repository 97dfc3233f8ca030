//! What outlives the server: the real process, killed and started again on what it left.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use server::raw::{Got, Raw};
use server::scene::{CHAT, EVENTS, NOTIFICATIONS, open};
use server::{API_KEY, Answer, SECRETS, Server, TASK, command, token};

/// A folder for a server's data, and the arguments that name it.
struct Data(tempfile::TempDir);

impl Data {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn start(&self) -> Server {
        Server::start(&["--data", self.folder()])
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("fanfare.redb")
    }

    /// A server that can't start: what it says, having exited with 1.
    fn refusal(&self, more: &[&str]) -> String {
        let arguments = [&["--listen", "127.0.0.1:0", "--data", self.folder()], more].concat();
        let output = command(&arguments, &SECRETS).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }
}

fn get(server: &Server, path: &str) -> Value {
    let bearer = format!("Authorization: Bearer {API_KEY}");
    let answer = server.request(&format!("GET {path}"), &[&bearer], "");
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

fn note(server: &Server, number: u64) -> Answer {
    let body = format!(r#"{{"type":"user:notification","id":"n{number}","data":{number}}}"#);
    server.publish("/v1/users/7/events", &body)
}

fn kill(server: Server) {
    server.signal(Signal::KILL);
    server.wait();
}

/// The numbers of a history's events with their data.
fn events(history: &Value) -> Vec<(u64, u64)> {
    let events = history["events"].as_array().unwrap();
    let event = |event: &Value| {
        let seq = event["rooms"]["user:7"].as_u64().unwrap();
        (seq, event["data"].as_u64().unwrap())
    };
    events.iter().map(event).collect()
}

fn device(server: &Server, name: &str) -> (Raw, Value) {
    open(server, &format!("{NOTIFICATIONS}?device={name}"), &token())
}

/// The next events, which have to be these numbers of user 7's room.
fn expect(client: &mut Raw, seqs: impl IntoIterator<Item = u64>, row: &str) {
    for seq in seqs {
        let event = client.json();
        assert_eq!(event["rooms"]["user:7"], seq, "{row}: {event}");
    }
}

#[test]
fn what_was_published_to_who_is_offline_survives_kill_9_once_in_order_and_in_the_same_epoch() {
    let data = Data::new();
    let server = data.start();
    let answers: Vec<_> = (1..=5).map(|number| note(&server, number)).collect();
    assert!(answers.iter().all(|it| it.status == 200), "{answers:?}");
    let epoch = answers[0].json()["rooms"]["user:7"]["epoch"].clone();
    kill(server);

    for start in 1..=2 {
        let server = data.start();
        let history = get(&server, "/v1/users/7/events");
        assert_eq!(events(&history), [1, 2, 3, 4, 5].map(|it| (it, it)));
        assert_eq!((&history["epoch"], &history["seq"]), (&epoch, &5.into()));
        let since = format!("user:7@{}:2", epoch.as_str().unwrap());
        let path = format!("{NOTIFICATIONS}?since={since}");
        let (mut client, welcome) = open(&server, &path, &token());
        let room = &welcome["data"]["rooms"]["user:7"];
        assert_eq!(room["recovered"], true, "start {start}: {welcome}");
        assert_eq!(welcome["data"]["inbox"]["unread"], 5, "{welcome}");
        expect(&mut client, 3..=5, "what was missed");
        kill(server);
    }
    let server = data.start();
    let (mut client, _) = open(&server, NOTIFICATIONS, &token());
    let room = note(&server, 6).json()["rooms"]["user:7"].clone();
    assert_eq!((&room["epoch"], &room["seq"]), (&epoch, &6.into()));
    expect(&mut client, [6], "what is new");
}

#[test]
fn an_ack_and_what_was_read_survive_kill_9() {
    let data = Data::new();
    let server = data.start();
    (1..=4).for_each(|number| drop(note(&server, number)));
    let (mut phone, _) = device(&server, "phone");
    expect(&mut phone, 1..=4, "the phone, new");
    phone.ask(r#"{"op":"ack","seq":3,"ref":1}"#);
    phone.ask(r#"{"op":"read","up_to":2,"ref":2}"#);
    kill(server);

    let server = data.start();
    let inbox = get(&server, "/v1/users/7/inbox");
    assert_eq!(inbox["unread"], 2, "{inbox}");
    let known = &inbox["devices"][0];
    assert_eq!(
        (&known["device"], &known["cursor"]),
        (&"phone".into(), &3.into())
    );
    let (mut phone, welcome) = device(&server, "phone");
    assert_eq!(welcome["data"]["inbox"]["unread"], 2, "{welcome}");
    // 5 is `inbox:read`.
    expect(&mut phone, 4..=5, "the phone again");
    let (mut tablet, _) = device(&server, "tablet");
    expect(&mut tablet, 3..=5, "the tablet, from the oldest unread on");
}

#[test]
fn a_retry_after_a_restart_is_a_duplicate_and_a_reused_id_is_refused() {
    let data = Data::new();
    for signal in [Signal::KILL, Signal::TERM] {
        let server = data.start();
        let first = note(&server, 1).json();
        server.signal(signal);
        server.wait();
        let server = data.start();
        let again = note(&server, 1).json();
        assert_eq!(again["duplicate"], true, "{signal:?}: {again}");
        assert_eq!(again["rooms"]["user:7"]["seq"], 1, "{signal:?}: {again}");
        assert_eq!(
            again["rooms"]["user:7"]["epoch"],
            first["rooms"]["user:7"]["epoch"]
        );
        let other = server.publish(
            "/v1/users/7/events",
            r#"{"type":"user:notification","id":"n1","data":2}"#,
        );
        assert_eq!((other.status, &*other.code()), (409, "id_reused"));
        assert_eq!(get(&server, "/v1/users/7/inbox")["seq"], 1);
    }
}

#[test]
fn a_tasks_life_goes_on_after_a_restart() {
    let data = Data::new();
    let server = data.start();
    for kind in ["created", "started", "completed"] {
        let body = format!(r#"{{"type":"task:{kind}","users":[7]}}"#);
        assert_eq!(server.publish(EVENTS, &body).status, 200, "{kind}");
    }
    kill(server);
    let server = data.start();
    let late = server.publish(EVENTS, r#"{"type":"task:failed"}"#);
    assert_eq!((late.status, &*late.code()), (409, "lifecycle"));
    let task = get(&server, &format!("/v1/tasks/{TASK}"));
    assert_eq!(
        (&task["state"]["status"], &task["seq"]),
        (&"completed".into(), &3.into())
    );
    let (_, welcome) = open(&server, CHAT, &token());
    let room = &welcome["data"]["rooms"][format!("task:{TASK}")];
    assert_eq!(room["state"]["status"], "completed", "{welcome}");

    assert_eq!(
        server.publish(EVENTS, r#"{"type":"task:deleted"}"#).status,
        200
    );
    kill(server);
    let server = data.start();
    let handshake = server::handshake(CHAT, &[&format!("Authorization: Bearer {}", token())]);
    assert_eq!(server.send(handshake).status, 410);
    let gone = server.publish(EVENTS, r#"{"type":"chat:message"}"#);
    assert_eq!((gone.status, &*gone.code()), (409, "gone"));
}

#[test]
fn an_orderly_end_and_relaxed_durability_keep_as_much() {
    for durability in ["immediate", "relaxed"] {
        let data = Data::new();
        let arguments = ["--data", data.folder(), "--durability", durability];
        for (number, signal) in [(1, Signal::TERM), (2, Signal::KILL), (3, Signal::INT)] {
            let server = Server::start(&arguments);
            assert_eq!(note(&server, number).status, 200, "{durability}");
            server.signal(signal);
            let (status, log) = server.wait();
            assert_eq!(status.success(), signal != Signal::KILL, "{log}");
        }
        let server = Server::start(&arguments);
        let history = get(&server, "/v1/users/7/events");
        assert_eq!(
            events(&history),
            [1, 2, 3].map(|it| (it, it)),
            "{durability}"
        );
    }
}

#[test]
fn in_memory_nothing_is_kept_and_no_folder_made() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let mut start = command(&["--memory", "--listen", "127.0.0.1:0"], &SECRETS);
        start.current_dir(&folder);
        Server::spawn(start)
    };
    let server = start();
    let first = note(&server, 1).json();
    kill(server);
    let server = start();
    let again = note(&server, 1).json();
    assert_eq!(again["duplicate"], false, "{again}");
    let epoch = |answer: &Value| answer["rooms"]["user:7"]["epoch"].clone();
    assert_ne!(epoch(&again), epoch(&first));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn without_a_word_about_it_the_data_is_in_a_folder_of_its_own_for_nobody_else_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let mut start = command(&["--dev", "--listen", "127.0.0.1:0"], &[]);
    start.env_remove("FANFARE_MEMORY").current_dir(&folder);
    let server = Server::spawn(start);
    let data = fs::canonicalize(&folder).unwrap().join("fanfare-data");
    let out = server.out_until("begins anew");
    let line = out
        .lines()
        .find(|line| line.contains("begins anew"))
        .unwrap();
    let named = line
        .split("kept in ")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    assert_eq!(fs::canonicalize(named).unwrap(), data, "{line}");
    let mode = fs::metadata(&data).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(data.join("fanfare.redb").is_file());
}

#[test]
fn a_second_server_on_the_same_data_is_refused_and_the_first_one_unharmed() {
    let data = Data::new();
    let server = data.start();
    let said = data.refusal(&[]);
    let file = data.file();
    for part in [
        file.to_str().unwrap(),
        "another process has this store open",
        "choose another",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(note(&server, 1).status, 200);
    // When the first one is gone, its lock is.
    kill(server);
    assert_eq!(events(&get(&data.start(), "/v1/users/7/events")), [(1, 1)]);
}

#[test]
fn data_that_is_damaged_foreign_or_nowhere_is_refused_by_its_name_and_left_as_it_is() {
    const NOTE: &str = "these bytes are nowhere else in the file";
    type Harm = fn(&Path);
    let rows: [(&str, Harm, &str); 4] = [
        (
            "a byte that changed",
            |file| {
                // Old pages may have it too, and in those it is no damage.
                let mut bytes = fs::read(file).unwrap();
                let last = NOTE.len() - 1;
                let found = bytes.windows(NOTE.len()).enumerate();
                let found = found.filter(|(_, it)| it == &NOTE.as_bytes());
                let found: Vec<_> = found.map(|(at, _)| at + last).collect();
                assert!(!found.is_empty());
                found.into_iter().for_each(|at| bytes[at] ^= 0x10);
                fs::write(file, bytes).unwrap();
            },
            "is damaged",
        ),
        (
            "cut off",
            |file| {
                let bytes = fs::read(file).unwrap();
                fs::write(file, &bytes[..bytes.len() / 3]).unwrap();
            },
            "is damaged",
        ),
        (
            "another file",
            |file| fs::write(file, "# notes\n").unwrap(),
            "is not a Fanfare store",
        ),
        (
            "a folder",
            |file| {
                fs::remove_file(file).unwrap();
                fs::create_dir(file).unwrap();
            },
            "",
        ),
    ];
    for (name, harm, part) in rows {
        let data = Data::new();
        let server = data.start();
        (1..=50).for_each(|number| drop(note(&server, number)));
        let body = format!(r#"{{"type":"note:added","data":"{NOTE}"}}"#);
        assert_eq!(server.publish("/v1/users/7/events", &body).status, 200);
        server.signal(Signal::TERM);
        server.wait();
        harm(&data.file());
        let before = fs::read(data.file()).ok();
        let said = data.refusal(&[]);
        assert!(
            said.contains(data.file().to_str().unwrap()),
            "{name}: {said}"
        );
        assert!(said.contains(part), "{name}: {said}");
        assert_eq!(fs::read(data.file()).ok(), before, "{name}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    for below in ["", "/data"] {
        let folder = format!("{}{below}", file.path().display());
        let arguments = ["--listen", "127.0.0.1:0", "--data", &folder];
        let output = command(&arguments, &SECRETS).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&folder) && said.contains("--data"), "{said}");
    }
}

/// By the limit on the size of the process's files, which is to the store as a disk that is full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_what_is_to_be_kept_delivers_the_rest_and_goes_on_when_there_is_space() {
    use rustix::process::{Resource, Rlimit, prlimit};

    let data = Data::new();
    let small = "ulimit -S -f 40960";
    let server = Server::in_shell(small, &["--data", data.folder()]);
    let (mut client, _) = open(&server, NOTIFICATIONS, &token());
    let large = |number: u64| {
        let (pad, more) = ("x".repeat(60_000), r#""type":"note:added""#);
        let body = format!(r#"{{{more},"id":"l{number}","data":{{"n":{number},"pad":"{pad}"}}}}"#);
        server.publish("/v1/users/7/events", &body)
    };
    let mut kept = 0;
    let refused = loop {
        let answer = large(kept + 1);
        if answer.status != 200 {
            break answer;
        }
        kept += 1;
        assert_eq!(client.json()["data"]["n"], kept);
        assert!(kept < 1_000, "it never is full");
    };
    assert_eq!((refused.status, &*refused.code()), (507, "store_full"));
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    assert_eq!(large(kept + 1).status, 507, "and stays so");

    // What needs no space is still done, and what is there can be read.
    let brief = r#"{"type":"note:added","ephemeral":true,"data":"brief"}"#;
    assert_eq!(server.publish("/v1/users/7/events", brief).status, 200);
    assert_eq!(client.json()["data"], "brief");
    assert_eq!(server.request("GET /readyz", &[], "").status, 200);
    let metrics = server.request("GET /metrics", &[], "").body;
    assert!(
        metrics.contains("\nfanfare_store_writable 0\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"{operation="commit",failure="full"}"#),
        "{metrics}"
    );
    let inbox = get(&server, "/v1/users/7/inbox");
    assert_eq!(inbox["seq"], kept, "{inbox}");
    server.log_until("publishes are refused with 507");

    let none = Rlimit {
        current: None,
        maximum: None,
    };
    prlimit(Some(server.pid()), Resource::Fsize, none).unwrap();
    let answer = large(kept + 1);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["duplicate"], false, "{answer:?}");
    assert_eq!(client.json()["data"]["n"], kept + 1);
    let metrics = server.request("GET /metrics", &[], "").body;
    assert!(
        metrics.contains("\nfanfare_store_writable 1\n"),
        "{metrics}"
    );
    kill(server);

    let server = data.start();
    let history = get(&server, "/v1/users/7/events?limit=1000");
    assert_eq!(
        history["seq"],
        kept + 1,
        "nothing that was refused is there"
    );
}

#[test]
fn a_client_sees_a_restart_as_a_goodbye_and_misses_nothing() {
    let data = Data::new();
    let server = data.start();
    let (mut client, welcome) = device(&server, "phone");
    let epoch = &welcome["data"]["rooms"]["user:7"]["epoch"];
    note(&server, 1);
    expect(&mut client, [1], "before");
    server.signal(Signal::TERM);
    assert!(matches!(client.close().0, Got::Close(Some(4001), _)));
    drop(client);
    server.wait();
    let server = data.start();
    note(&server, 2);
    let since = format!("user:7@{}:1", epoch.as_str().unwrap());
    let path = format!("{NOTIFICATIONS}?device=phone&since={since}");
    let (mut client, welcome) = open(&server, &path, &token());
    let room = &welcome["data"]["rooms"]["user:7"];
    assert_eq!(
        (&room["recovered"], &room["epoch"]),
        (&true.into(), epoch),
        "{welcome}"
    );
    expect(&mut client, [2], "after");
}
