//! The chat of a task, between users and across an outage.

use crate::browser::{ENTER, Tab, browser_or_skip};
use crate::server::{Server, TASK};
use crate::stage::{page, serve};

/// The messages of the only task that is open, as `who: text`.
fn messages(tab: &Tab<'_>) -> serde_json::Value {
    tab.value(
        "[...document.querySelectorAll('.panel .messages li')]
           .map((row) => `${row.querySelector('.who').textContent}: ${row.querySelector('.text').textContent}`)",
    )
}

fn say(tab: &Tab<'_>, text: &str) {
    tab.click(".panel .say");
    tab.keys(text);
    tab.keys(ENTER);
}

#[test]
fn a_message_reaches_everybody_who_watches_in_one_order() {
    let browser = browser_or_skip!();
    let server = serve();
    let (seven, eight) = (browser.first(), browser.window());
    page(&seven, &server, 7, &[TASK]);
    page(&eight, &server, 8, &[TASK]);
    for tab in [&seven, &eight] {
        tab.until("document.querySelector('.panel .what-now').checkVisibility()");
    }
    let words = [
        (&seven, "how far is it?"),
        (&eight, "<b>half</b> & \"half\""),
        (&seven, "thanks"),
    ];
    for (tab, text) in words {
        say(tab, text);
        for each in [&seven, &eight] {
            each.until_text(".panel .messages li:last-child", text);
        }
    }
    seven.until("!document.querySelector('.messages .sending')");
    assert_eq!(
        messages(&seven),
        serde_json::json!([
            "you: how far is it?",
            "user 8: <b>half</b> & \"half\"",
            "you: thanks"
        ])
    );
    assert_eq!(
        messages(&eight),
        serde_json::json!([
            "user 7: how far is it?",
            "you: <b>half</b> & \"half\"",
            "user 7: thanks"
        ])
    );
    browser.assert_quiet();
}

#[test]
fn what_is_written_while_the_server_is_away_arrives_when_it_is_back() {
    let browser = browser_or_skip!();
    let server = serve();
    let address = server.address.to_string();
    let tab = browser.first();
    page(&tab, &server, 7, &[TASK]);
    say(&tab, "before");
    tab.until("document.querySelector('.messages li:not(.sending)')");

    drop(server);
    tab.until_text("#link-text", "Offline");
    say(&tab, "meanwhile");
    tab.until_text(".panel .messages .sending", "meanwhile");

    let _server = Server::start(&["--dev", "--listen", &address]);
    tab.until_text("#link-text", "Connected");
    tab.until_text(".panel .messages li:last-child:not(.sending)", "meanwhile");
    // Its log is in memory: that what was there is gone is said where it would have been.
    tab.until_text(".panel .gaps", "a new log");
    assert_eq!(
        messages(&tab),
        serde_json::json!(["you: before", "you: meanwhile"])
    );
}
