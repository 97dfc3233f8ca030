//! `fanfare.js` in a real browser: scenarios with a server, a clock and chance that are in the hands of the test.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod browser;
mod server;

use browser::browser_or_skip;
use server::Server;

const WORLD: &str = include_str!("client/world.js");
const SCENARIOS: &str = include_str!("client/scenarios.js");

#[test]
fn the_browser_client_does_what_its_documentation_says() {
    let browser = browser_or_skip!();
    let server = Server::start(&[]);
    let tab = browser.first();
    tab.open(&format!("http://{}/fanfare.js", server.address));
    let names = tab.run(&format!("{SCENARIOS} return Object.keys(scenarios);"), &[]);
    let names = names.as_array().unwrap();
    assert!(names.len() > 30, "{names:?}");
    let mut failures = Vec::new();
    for name in names {
        // A page of its own: what a scenario replaced in the last one is gone.
        tab.open(&format!("http://{}/fanfare.js", server.address));
        let body = format!(
            "const {{ connect }} = await import('/fanfare.js');
             {WORLD} {SCENARIOS}
             const stuck = new Promise((_, reject) => real.setTimeout(() => reject(new Error('it never ended')), 20_000));
             try {{ await Promise.race([scenarios[args[0]](new World()), stuck]); return null; }}
             catch (error) {{ return String(error.stack); }}"
        );
        let failure = tab.run(&body, std::slice::from_ref(name));
        if let Some(failure) = failure.as_str() {
            failures.push(format!("{name}: {failure}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
