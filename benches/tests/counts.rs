//! What a delivery and a publish cost in counts, which are the same on any machine: allocations, system calls of the server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by a panic, and a skip is to be seen"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;

use fanfare_benches::{API_KEY, Crowd, Http, Message, Server, Sockets, message};
use fanfare_core::{AuthError, Hub, Limits};
use fanfare_websocket::{
    Api, ApiKey, ApiOptions, Credentials, Listener, ListenerLimits, Native, Shard, SocketLimits,
    TokenKey,
};
use futures::channel::oneshot;
use rustix::process::{Pid, Signal, kill_process};
use smol::LocalExecutor;

/// What one publish of the hub allocates, whatever the number of members: its entry, its frame, its receipt.
const ALLOCATIONS_MAX: u64 = 9;

#[test]
fn a_delivery_allocates_nothing() {
    let draft = message(256);
    let counts = [10, 1_000].map(|members| {
        let mut crowd = Crowd::new(members);
        // Until the log is full, what holds it grows.
        for _ in 0..2_000 {
            crowd.publish(&draft);
        }
        let counted = allocation_counter::measure(|| {
            for _ in 0..100 {
                assert_eq!(crowd.publish(&draft) as u64, members);
            }
        });
        counted.count_total / 100
    });
    let [few, many] = counts;
    assert_eq!(few, many, "a member costs allocations");
    assert!(many <= ALLOCATIONS_MAX, "{many} allocations a publish");
}

/// What one publish over HTTP allocates in the whole server, the hub's own among them; a node of a table now and then is more.
const HTTP_ALLOCATIONS_MAX: f64 = 15.5;

#[test]
fn a_publish_over_http_allocates_no_more_than_it_did() {
    let (native, executor) = (Native::new().unwrap(), Rc::new(LocalExecutor::new()));
    let nobody = |_: &_, _| Err(AuthError::BadToken);
    let hub = Hub::new(Limits::default(), [7; 32]);
    let shard = Shard::new(
        hub,
        native.clone(),
        SocketLimits::default(),
        nobody,
        &executor,
    );
    let credentials = Credentials {
        tokens: TokenKey::new(&[b's'; 32]).unwrap(),
        api_key: ApiKey::new(API_KEY).unwrap(),
    };
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), ListenerLimits::default()).unwrap();
    let address = listener.local_addr();
    let api = Api::new(shard.clone(), credentials, ApiOptions::default());
    let _serving = executor.spawn(listener.serve(shard, api).unwrap());
    let (ask, asked) = mpsc::channel::<(u32, oneshot::Sender<()>)>();
    // Another thread: what it allocates is not counted.
    let back_end = thread::spawn(move || {
        let mut back_end = Http::connect(address).unwrap();
        let line = format!("POST /v1/tasks/{TASK}/events");
        let text = "x".repeat(240);
        let body = format!(r#"{{"type":"chat:message","data":{{"text":"{text}"}}}}"#);
        let body = Some(("application/json", body.as_bytes()));
        for (publishes, done) in asked {
            for _ in 0..publishes {
                back_end.ask(&line, body).unwrap();
            }
            done.send(()).unwrap();
        }
    });
    let allocations = |publishes| {
        let (done, all) = oneshot::channel();
        ask.send((publishes, done)).unwrap();
        let counted = allocation_counter::measure(|| {
            native.block_on(&executor, all).unwrap();
        });
        counted.count_total as f64
    };
    // Until the log is full, what holds it grows.
    allocations(2_000);
    let few = allocations(100);
    let each = (allocations(500) - few) / 400.0;
    assert!(
        each <= HTTP_ALLOCATIONS_MAX,
        "{each} allocations a publish over HTTP"
    );
    drop(ask);
    back_end.join().unwrap();
}

const MEMBERS: u64 = 200;
const PUBLISHES: u64 = 50;
const TASK: &str = "550e8400-e29b-41d4-a716-446655440000";

/// Counts of system calls by name, while it runs.
struct Trace {
    strace: Child,
    file: std::path::PathBuf,
}

impl Trace {
    /// `None` where this machine has no `strace`, or does not let it look.
    fn begin(pid: u32, dir: &Path) -> Option<Self> {
        let file = dir.join("calls");
        let mut strace = Command::new("strace")
            .args(["-f", "-c", "-U", "name,calls", "-o"])
            .arg(&file)
            .args(["-p", &pid.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let said = BufReader::new(strace.stderr.take()?).lines().next()?.ok()?;
        if said.contains("attached") {
            return Some(Self { strace, file });
        }
        eprintln!("strace: {said}");
        let _ = strace.wait();
        None
    }

    fn end(mut self) -> BTreeMap<String, u64> {
        kill_process(Pid::from_child(&self.strace), Signal::INT).unwrap();
        self.strace.wait().unwrap();
        let table = std::fs::read_to_string(&self.file).unwrap();
        let counts = table.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            Some((name.to_owned(), words.next()?.parse().ok()?))
        });
        counts.filter(|(name, _)| name != "total").collect()
    }
}

#[test]
fn a_delivery_costs_one_system_call() {
    let beside = Path::new(env!("CARGO_BIN_EXE_floor")).with_file_name("fanfare-server");
    if !beside.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        let built = cargo.args(["build", "-p", "fanfare-server"]).status();
        assert!(built.unwrap().success());
    }
    // What goes between threads is no part of a delivery.
    let server = Server::at(&beside, &["--memory", "--shards", "1"]).unwrap();
    let mut sockets = Sockets::new().unwrap();
    for user in 1..=MEMBERS {
        let path = format!("/v1/tasks/{TASK}/chat");
        sockets.open(&server, &path, &server.token(user)).unwrap();
    }
    let mut wait_for = |each: u64| {
        let mut texts = 0;
        while texts < each {
            sockets
                .turn(None, |_, message| {
                    texts += u64::from(matches!(message, Message::Text(_)));
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(texts, each);
    };
    wait_for(MEMBERS);
    let mut back_end = Http::connect(server.address).unwrap();
    let line = format!("POST /v1/tasks/{TASK}/events");
    let body = br#"{"type":"chat:message","data":{"text":"hello"}}"#;
    let mut publish = || {
        let body = Some(("application/json", &body[..]));
        back_end.ask(&line, body).unwrap();
        wait_for(MEMBERS);
    };
    publish();
    let dir = tempfile::tempdir().unwrap();
    let Some(trace) = Trace::begin(server.pid(), dir.path()) else {
        let required = std::env::var("FANFARE_TEST_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|it| it == "strace"),
            "FANFARE_TEST_REQUIRE names strace, and it can't look at the server"
        );
        eprintln!("SKIPPED: without strace nobody counts the server's system calls");
        return;
    };
    for _ in 0..PUBLISHES {
        publish();
    }
    let calls = trace.end();
    let of = |names: &[&str]| -> u64 { names.iter().filter_map(|name| calls.get(*name)).sum() };
    let writes = of(&["write", "writev", "sendto", "sendmsg"]);
    // One for each delivery, one for each answer.
    assert!(
        writes <= PUBLISHES * (MEMBERS + 1) + PUBLISHES / 5,
        "{writes} writes: {calls:?}"
    );
    // A request is read once: that nothing came behind it is known without a try.
    let reads = of(&["read", "readv", "recvfrom", "recvmsg"]);
    assert!(
        reads <= PUBLISHES + PUBLISHES / 5,
        "{reads} reads: {calls:?}"
    );
    // All else is for the publish, however many get it: the waits for it.
    let others = calls.values().sum::<u64>() - writes - reads;
    assert!(others <= PUBLISHES * 2, "{others} others: {calls:?}");
    server.stop().unwrap();
}
