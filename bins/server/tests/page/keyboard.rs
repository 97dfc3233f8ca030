//! The page without a mouse.

use serde_json::{Value, json};

use crate::browser::{ENTER, ESCAPE, TAB, Tab, browser_or_skip};
use crate::server::TASK;
use crate::stage::{busy, page, serve};

const FOCUS: &str = "document.activeElement";

/// Which of the open tasks has the focus in it, by its place; -1 for none.
fn focused(tab: &Tab<'_>) -> Value {
    tab.value(&format!(
        "[...document.querySelectorAll('.panel')].findIndex((panel) => panel.contains({FOCUS}))"
    ))
}

#[test]
fn everything_can_be_done_by_keys() {
    let browser = browser_or_skip!();
    let server = serve();
    let tab = browser.first();
    page(&tab, &server, 7, &[]);

    tab.keys("/");
    tab.until(&format!("{FOCUS}.id === 'task-id'"));
    tab.keys("no id");
    tab.keys(ENTER);
    tab.until_text("#task-id-error", "UUID");
    tab.value(&format!("{FOCUS}.select()"));
    tab.keys(&format!("{TASK}{ENTER}"));
    tab.until(&format!("{FOCUS}.dataset.task === '{TASK}'"));

    tab.keys("t");
    tab.until("document.querySelectorAll('.panel').length === 2");
    assert_eq!(focused(&tab), 1);
    for (key, place) in [("j", 0), ("j", 1), ("k", 0), ("k", 1), ("k", 0)] {
        tab.keys(key);
        assert_eq!(focused(&tab), place, "after {key}");
    }

    tab.keys("c");
    tab.until(&format!("{FOCUS}.matches('.say')"));
    // In a field keys are letters.
    tab.keys("text je");
    tab.keys(ENTER);
    tab.until_text(".panel .messages", "text je");
    assert_eq!(
        tab.value("document.querySelectorAll('.panel').length"),
        json!(2)
    );
    tab.keys(ESCAPE);
    tab.until(&format!("{FOCUS}.matches('.panel')"));

    tab.keys("e");
    tab.until_text(".panel .events", "chat:message");
    tab.until("document.querySelector('.panel .log').hidden");
    tab.keys("e");
    tab.until("document.querySelector('.panel .events').hidden");

    tab.keys("?");
    tab.until("document.querySelector('dialog').open");
    tab.keys("x");
    tab.keys(ESCAPE);
    tab.until("!document.querySelector('dialog').open");
    tab.keys("n");
    tab.until("!document.querySelector('#notifications').checkVisibility()");
    tab.keys("n");
    tab.until("document.querySelector('#notifications').checkVisibility()");
    tab.prefer("light");
    tab.keys("d");
    tab.until("document.documentElement.dataset.theme === 'dark'");

    tab.keys("j");
    for left in [1, 0] {
        tab.keys("x");
        tab.until(&format!(
            "document.querySelectorAll('.panel').length === {left}"
        ));
    }
    tab.until("document.querySelector('#empty').checkVisibility()");
    browser.assert_quiet();
}

#[test]
fn the_tab_key_reaches_every_control_in_the_order_in_which_they_are_seen_and_shows_where_it_is() {
    let browser = browser_or_skip!();
    let server = serve();
    let tab = browser.first();
    page(&tab, &server, 7, &[TASK]);
    busy(&server);
    tab.until_text("#notes", "export");
    tab.until_text("#recent", "failed");
    let mut reached = Vec::new();
    // Round once: the browser's own controls come after the last one, and then the first again.
    tab.value(&format!("{FOCUS}.blur()"));
    for _ in 0..100 {
        tab.keys(TAB);
        let step = tab.value(&format!(
            "(({{ id, className, localName, type }}, style) => [id || className || type || localName,
               style.outlineStyle !== 'none' || {FOCUS}.type === 'radio' || {FOCUS}.matches('.skip')])({FOCUS}, getComputedStyle({FOCUS}))"
        ));
        if step[0] == "body" || step[0] == "skip" && !reached.is_empty() {
            break;
        }
        assert_eq!(step[1], true, "nothing shows the focus on {}", step[0]);
        reached.push(step[0].as_str().unwrap().to_owned());
    }
    let place = |name: &str| {
        let place = reached.iter().position(|each| each == name);
        place.unwrap_or_else(|| panic!("{name} is never reached: {reached:#?}"))
    };
    let order = [
        "skip",
        "radio",
        "user-other",
        "bell",
        "theme",
        "help",
        "task-id",
        "button wide new-task",
        "auto-open",
        "icon small close",
        "show-output",
        "show-events",
        "log",
        "field say",
        "mark-seen",
    ];
    let places: Vec<usize> = order.iter().map(|name| place(name)).collect();
    assert!(places.is_sorted(), "{places:?} of {reached:#?}");
}
