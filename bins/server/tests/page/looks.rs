//! How the page looks, as far as a machine can tell, in every state, size and scheme. Where `FANFARE_TEST_SHOTS` names a
//! directory, pictures go there, for who can tell more.

use serde_json::json;

use crate::browser::{ENTER, Tab, browser_or_skip};
use crate::server::TASK;
use crate::stage::{busy, page, publish, serve};

const LOOKS: &str = include_str!("looks.js");
const DESK: (&str, u32, u32) = ("desk", 1280, 800);
const TABLET: (&str, u32, u32) = ("tablet", 820, 1180);
const PHONE: (&str, u32, u32) = ("phone", 390, 844);
/// What WCAG 2.2 asks pages to fit into without scrolling sideways (1.4.10).
const NARROW: (&str, u32, u32) = ("narrow", 320, 640);
const ALL: &[(&str, u32, u32)] = &[DESK, TABLET, PHONE, NARROW];

/// Looks at the page as it is now in each scheme and in `sizes`. What is wrong goes to `faults`.
fn look(tab: &Tab<'_>, state: &str, sizes: &[(&str, u32, u32)], faults: &mut Vec<String>) {
    for scheme in ["light", "dark"] {
        tab.prefer(scheme);
        for (size, width, height) in sizes {
            tab.resize(*width, *height);
            let name = format!("{state}-{scheme}-{size}");
            tab.picture(&name);
            for fault in tab.run(LOOKS, &[]).as_array().unwrap() {
                faults.push(format!("{name}: {}", fault.as_str().unwrap()));
            }
        }
    }
    tab.resize(DESK.1, DESK.2);
}

/// The same for the parts of which a narrow window shows one at a time.
fn look_at_parts(tab: &Tab<'_>, state: &str, faults: &mut Vec<String>) {
    for part in ["tasks", "notifications", "watching"] {
        tab.resize(PHONE.1, PHONE.2);
        tab.click(&format!(".dock [data-view={part}]"));
        look(tab, &format!("{state}-{part}"), &[PHONE, NARROW], faults);
    }
}

#[test]
fn texts_have_contrast_and_nothing_reaches_out_sideways() {
    let browser = browser_or_skip!();
    let mut faults = Vec::new();
    let server = serve();
    let tab = browser.first();
    tab.prefer("light");
    page(&tab, &server, 7, &[]);
    tab.until("!document.querySelector('#recent-empty').hidden");
    look(&tab, "empty", ALL, &mut faults);
    look_at_parts(&tab, "empty", &mut faults);

    tab.keys("t");
    tab.until("document.querySelector('.panel .what-now').checkVisibility()");
    look(&tab, "fresh", ALL, &mut faults);
    tab.keys("x");

    busy(&server);
    let other = browser.window();
    page(&other, &server, 8, &[TASK]);
    page(&tab, &server, 7, &[TASK]);
    for (who, text) in [
        (&other, "is this the build of tonight?"),
        (&tab, "yes, with the new resume code"),
        (
            &other,
            "I'll watch it from here then. Tell me if the long crate is done before noon, I have to leave after that",
        ),
    ] {
        who.click(".panel .say");
        who.keys(text);
        who.keys(ENTER);
        for each in [&tab, &other] {
            each.until_text(".panel .messages li:last-child", text);
        }
    }
    tab.until_text("#notes", "export");
    tab.until_text("#recent", "failed");
    look(&tab, "running", ALL, &mut faults);
    look_at_parts(&tab, "running", &mut faults);
    tab.click(".panel .show-events");
    look(&tab, "events", ALL, &mut faults);
    tab.click(".panel .show-output");
    tab.click("#help");
    look(&tab, "help", ALL, &mut faults);
    tab.keys(crate::browser::ESCAPE);

    publish(
        &server,
        TASK,
        "task:failed",
        &json!({"exit_code": 101, "error": "could not compile `fanfare-core`"}),
    );
    let id = |n: u8| format!("0b{n:06x}-5d1c-4f6e-9a3b-7c2d4e6f8a90");
    page(&tab, &server, 8, &[]);
    page(&tab, &server, 7, &[TASK, &id(1), &id(2)]);
    tab.until_text(".panel .status", "failed");
    look(&tab, "several", ALL, &mut faults);

    page(&tab, &server, 8, &[]);
    page(&tab, &server, 7, &[TASK]);
    tab.until_text(".panel .status", "failed");
    drop(server);
    tab.until("document.querySelector('#link').dataset.state === 'waiting'");
    look(&tab, "offline", ALL, &mut faults);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
