//! What a stranger sees who runs a command as a task: the page's first purpose.

use serde_json::json;

use crate::browser::browser_or_skip;
use crate::server::{API_KEY, TASK};
use crate::stage::{page, publish, serve};

#[test]
fn a_task_is_seen_from_its_creation_to_its_end_by_its_user_and_by_nobody_else() {
    let browser = browser_or_skip!();
    let server = serve();
    let (seven, again, eight) = (browser.first(), browser.window(), browser.window());
    page(&seven, &server, 7, &[]);
    page(&again, &server, 7, &[]);
    page(&eight, &server, 8, &[]);

    publish(
        &server,
        TASK,
        "task:created",
        &json!({"title": "cargo build", "command": "cargo build"}),
    );
    for tab in [&seven, &again] {
        tab.until_text(".panel .status", "created");
        tab.until_text(".panel .title", "cargo build");
        tab.until_text("#notes", "Task created");
    }
    publish(&server, TASK, "task:started", &json!({}));
    seven.until_text(".panel .status", "started");
    for (line, progress) in [("Compiling one", 0.25), ("Compiling two", 0.5)] {
        let lines = json!([{"stream": "stderr", "text": line}]);
        let data = json!({"status": "running", "lines": lines, "progress": progress});
        publish(&server, TASK, "task:status", &data);
        for tab in [&seven, &again] {
            tab.until_text(".panel .lines", line);
            tab.until(&format!(
                "document.querySelector('.panel progress').value === {progress}"
            ));
        }
    }
    assert_eq!(seven.text(".panel .percent"), "50 %");
    publish(
        &server,
        TASK,
        "task:completed",
        &json!({"exit_code": 0, "duration_ms": 1200}),
    );
    for tab in [&seven, &again] {
        tab.until_text(".panel .status", "completed");
        tab.until_text("#notes", "Task completed");
        // It comes over another connection than the note.
        tab.until_text(".panel .lines", "exit code 0");
    }
    let lines = "[...document.querySelectorAll('.panel .lines p')].map((line) => line.textContent)";
    assert_eq!(
        seven.value(lines),
        json!(["Compiling one", "Compiling two", "completed: exit code 0"])
    );

    // A tab that comes later is told the same, and not by what was on the way there.
    page(&again, &server, 7, &[]);
    page(&again, &server, 7, &[TASK]);
    again.until_text(".panel .lines", "exit code 0");
    assert_eq!(again.value(lines), seven.value(lines));
    assert_eq!(again.text(".panel .status"), "completed");
    assert_eq!(again.text(".panel .percent"), "100 %");

    // What is user 8's own comes after all of that on the same connection: so nothing of it did.
    let note = json!({"type": "user:notification", "data": {"text": "for eight"}});
    server.publish("/v1/users/8/events", &note.to_string());
    eight.until_text("#notes", "for eight");
    assert_eq!(
        eight.value("document.querySelectorAll('#notes li').length"),
        1
    );
    assert_eq!(eight.value("document.querySelectorAll('.panel').length"), 0);
    browser.assert_quiet();
}

#[test]
fn who_looks_on_one_device_has_looked_on_all() {
    let (browser, phone) = (browser_or_skip!(), browser_or_skip!());
    let server = serve();
    let devices = [browser.first(), phone.first()];
    for device in &devices {
        page(device, &server, 7, &[]);
    }
    for text in ["one", "two"] {
        let note = json!({"type": "user:notification", "data": {"text": text}});
        server.publish("/v1/users/7/events", &note.to_string());
    }
    for device in &devices {
        device.until_text("#count", "2");
    }
    devices[0].click("#mark-seen");
    for device in &devices {
        device.until("document.querySelector('#count').hidden");
    }
    let key = format!("Authorization: Bearer {API_KEY}");
    let inbox = server.request("GET /v1/users/7/inbox", &[&key], "").json();
    assert_eq!(inbox["unread"], 0, "{inbox}");
}

#[test]
fn who_comes_for_the_first_time_sees_what_the_user_has_not_read() {
    let (browser, phone) = (browser_or_skip!(), browser_or_skip!());
    let server = serve();
    for text in ["one", "two"] {
        let note = json!({"type": "user:notification", "data": {"text": text}});
        server.publish("/v1/users/7/events", &note.to_string());
    }
    let tab = browser.first();
    // Whoever goes without a look finds it again.
    for _visit in 0..2 {
        tab.open("about:blank");
        page(&tab, &server, 7, &[]);
        tab.until_text("#count", "2");
        assert_eq!(
            tab.value("document.querySelectorAll('#notes .new').length"),
            2
        );
    }
    tab.click("#mark-seen");
    tab.until("document.querySelector('#count').hidden");
    let note = json!({"type": "user:notification", "data": {"text": "three"}});
    server.publish("/v1/users/7/events", &note.to_string());
    let tab = phone.first();
    page(&tab, &server, 7, &[]);
    tab.until_text("#count", "1");
    browser.assert_quiet();
}
