//! What the tests of the page begin with.

use serde_json::{Value, json};

use crate::browser::Tab;
use crate::server::{Server, TASK};

pub(crate) fn serve() -> Server {
    Server::start(&["--dev"])
}

/// Opens the page for `user`, with `tasks` open, and waits for its connection.
pub(crate) fn page<'a>(tab: &Tab<'a>, server: &Server, user: u64, tasks: &[&str]) {
    let tasks: String = tasks.iter().map(|task| format!("&task={task}")).collect();
    tab.open(&format!("http://{}/#user={user}{tasks}", server.address));
    tab.until("document.querySelector('#link').dataset.state === 'live'");
}

/// Publishes to a task's room and to user 7, as `fanfare exec --user 7` does: what is of its life names it.
pub(crate) fn publish(server: &Server, task: &str, kind: &str, data: &Value) {
    let mut data = data.clone();
    if kind != "task:status" {
        data["task"] = task.into();
    }
    let body = json!({"type": kind, "users": [7], "data": data});
    let answer = server.publish(&format!("/v1/tasks/{task}/events"), &body.to_string());
    assert_eq!(answer.status, 200, "{kind}: {answer:?}");
}

/// Tasks of which one is at work, others ended in each way, with a chat and notifications.
pub(crate) fn busy(server: &Server) {
    let id = |n: u8| format!("0b{n:06x}-5d1c-4f6e-9a3b-7c2d4e6f8a90");
    for (n, title, end, data) in [
        (
            1,
            "pg_dump --format=custom shop",
            "completed",
            json!({"exit_code": 0, "duration_ms": 61_000}),
        ),
        (2, "npm test -- --run", "failed", json!({"exit_code": 1})),
        (
            3,
            "rsync -a photos/ backup:/srv/photos",
            "cancelled",
            json!({"signal": "INT"}),
        ),
    ] {
        publish(server, &id(n), "task:created", &json!({"title": title}));
        publish(server, &id(n), "task:started", &json!({}));
        publish(
            server,
            &id(n),
            "task:status",
            &json!({"lines": [{"stream": "stdout", "text": "at work"}], "progress": 0.3}),
        );
        publish(server, &id(n), &format!("task:{end}"), &data);
    }
    publish(
        server,
        TASK,
        "task:created",
        &json!({"title": "cargo build --release", "command": "cargo build --release"}),
    );
    publish(server, TASK, "task:started", &json!({}));
    let crates = [
        "libc",
        "proc-macro2",
        "quote",
        "unicode-ident",
        "syn",
        "cfg-if",
        "serde_core",
        "memchr",
        "itoa",
        "bytes",
        "pin-project-lite",
        "futures-core",
        "once_cell",
        "smallvec",
        "log",
        "async-io",
        "rustix",
        "polling",
        "fanfare-core",
    ];
    for (n, name) in crates.iter().enumerate() {
        let text = format!("\u{1b}[1m\u{1b}[32m   Compiling\u{1b}[0m {name} v1.{n}.0");
        let lines = json!([{"stream": "stdout", "text": text}]);
        publish(
            server,
            TASK,
            "task:status",
            &json!({"status": "running", "lines": lines, "progress": 0.02 * n as f64 + 0.26}),
        );
    }
    let lines = json!([
        {"stream": "stderr", "text": "warning: unused variable: `standing`, which is a line so long that it has to be broken somewhere --> core/src/hub/join.rs:117:13 in /home/somebody/src/fanfare/core/src/hub/join.rs"},
    ]);
    let partial = json!({"stream": "stdout", "text": "    Building [===============>         ] 118/190: fanfare-websocket"});
    publish(
        server,
        TASK,
        "task:status",
        &json!({"status": "running", "lines": lines, "partial": partial, "progress": 0.62}),
    );
    server.publish("/v1/users/7/events", &json!({"type": "user:notification", "data": {"text": "Your export is ready. It is kept for seven days."}}).to_string());
}
