//! `docs/browser-client.md`: what it shows runs as it stands there, and it leaves nothing out.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod browser;
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use browser::{Browser, ENTER, Tab, browser_or_skip};
use serde_json::json;
use server::{API_KEY, Server, TASK, token};
use tempfile::TempDir;

const DOCUMENT: &str = include_str!("../../../docs/browser-client.md");
const CLIENT: &str = include_str!("../assets/fanfare.js");
/// The address in the document.
const ADDRESS: &str = "127.0.0.1:8080";

/// The document's blocks in `language`, for this server.
fn blocks(language: &str, server: &Server) -> Vec<String> {
    let pieces = DOCUMENT.split("\n```").skip(1).step_by(2);
    let blocks = pieces.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    blocks
        .map(|block| block.replace(ADDRESS, &server.address.to_string()))
        .collect()
}

/// What a command of the document prints, in the folder where its pages were saved.
fn run(command: &str, folder: &Path) -> String {
    let output = Command::new("sh")
        .args(["-ec", command])
        .current_dir(folder)
        .env("FANFARE_API_KEY", API_KEY)
        .env("FANFARE_TOKEN", token())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Saves a page of the document and opens it as the document says.
fn open<'a>(browser: &'a Browser, folder: &Path, name: &str, server: &Server) -> Tab<'a> {
    let pages = blocks("html", server);
    assert_eq!(pages.len(), 2, "watch.html and plain.html");
    fs::write(folder.join("watch.html"), &pages[0]).unwrap();
    fs::write(folder.join("plain.html"), &pages[1]).unwrap();
    let print = blocks("sh", server).swap_remove(0);
    let url = run(&print.replace("watch.html", name), folder);
    let tab = browser.first();
    tab.open(url.trim());
    tab
}

fn notify(server: &Server, text: &str) {
    let body = json!({"type": "user:notification", "data": {"text": text}});
    let answer = server.publish("/v1/users/7/events", &body.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn the_example_shows_each_event_once_writes_and_comes_back() {
    let browser = browser_or_skip!();
    let folder = TempDir::new().unwrap();
    let server = Server::start(&["--dev"]);
    let address = server.address.to_string();
    let tab = open(&browser, folder.path(), "watch.html", &server);
    tab.until_text("#events", "the task is unknown");
    run(&blocks("sh", &server)[1], folder.path());
    tab.click("#text");
    tab.keys(&format!("hello{ENTER}"));
    tab.until_text("#events", r#"chat:message user:7 {"text":"hello"}"#);
    assert_eq!(
        tab.value("[...document.querySelectorAll('#events li')].map((row) => row.textContent)"),
        json!([
            "the task is unknown",
            r#"task:created  {"title":"report"}"#,
            r#"chat:message user:7 {"text":"hello"}"#
        ])
    );
    browser.assert_quiet();

    drop(server);
    tab.until_text("#state", "waiting: ");
    let server = Server::start(&["--dev", "--listen", &address]);
    tab.until("document.querySelector('#state').textContent === 'live'");
    tab.until_text("#events", &format!("missing in task:{TASK}"));
    notify(&server, "back");
    tab.until_text("#events", "back");
}

#[test]
fn the_example_without_the_client_follows_and_resumes() {
    let browser = browser_or_skip!();
    let folder = TempDir::new().unwrap();
    let server = Server::start(&["--dev"]);
    let address = server.address.to_string();
    // The page's socket is its own: for a cut line it has to be had from beneath.
    let source = "globalThis.WebSocket = class extends WebSocket {
        constructor(...all) { super(...all); globalThis.last = this; } }";
    let add = "Page.addScriptToEvaluateOnNewDocument";
    browser.first().devtools(add, &json!({"source": source}));
    let tab = open(&browser, folder.path(), "plain.html", &server);
    tab.until("room === 'user:7'");
    notify(&server, "one");
    tab.until_text("#events", "one");
    tab.value("last.close()");
    notify(&server, "meanwhile");
    tab.until("last.readyState === 1 && last.url.endsWith(':1')");
    notify(&server, "live");
    tab.until_text("#events", "live");
    let rows = ["one", "meanwhile", "live"]
        .map(|text| format!(r#"user:notification {{"text":"{text}"}}"#));
    assert_eq!(
        tab.value("[...document.querySelectorAll('#events li')].map((row) => row.textContent)"),
        json!(rows)
    );
    browser.assert_quiet();

    drop(server);
    let server = Server::start(&["--dev", "--listen", &address]);
    tab.until_text("#events", "missing: ");
    notify(&server, "two");
    tab.until_text("#events", "two");
}

#[test]
fn every_piece_of_script_in_the_document_runs() {
    let browser = browser_or_skip!();
    let server = Server::start(&["--dev"]);
    let tab = browser.first();
    let pieces = blocks("js", &server);
    assert_eq!(pieces.len(), 6);
    for piece in pieces {
        tab.open(&format!("http://{}/fanfare.js", server.address));
        // A piece that makes no client itself goes on with one that is there.
        let world = format!(
            "const {{ connect: real }} = await import('/fanfare.js');
             const [task, token] = args;
             globalThis.fetch = async () => ({{ text: async () => token }});
             let client = null;
             const connect = (options) => (client = real(options));
             const wrong = new Promise((_, reject) => addEventListener('error', ({{ error }}) => reject(error)));
             const run = async () => {{
               const fanfare = real({{ token, task }});
               {{ {piece} }}
               const made = client ?? fanfare;
               if (made.state.state !== 'live') await new Promise((resolve) => made.on('system:welcome', resolve));
             }};
             await Promise.race([run(), wrong]);"
        );
        tab.run(&world, &[json!(TASK), json!(token())]);
    }
}

/// The names at the beginning of the rows of the table whose head this is.
fn table(head: &str) -> BTreeSet<String> {
    let rows = DOCUMENT.split_once(&format!("\n| {head} |")).unwrap().1;
    let rows = rows.lines().skip(2).take_while(|row| row.starts_with('|'));
    rows.flat_map(|row| row.split('|').nth(1).unwrap().split(", `"))
        .map(|cell| {
            let name = cell.trim().trim_start_matches('`');
            name.split(['(', '`']).next().unwrap().to_owned()
        })
        .filter(|name| name.chars().next().is_some_and(char::is_alphabetic))
        .collect()
}

fn set(names: impl Iterator<Item = impl Into<String>>) -> BTreeSet<String> {
    names.map(Into::into).collect()
}

#[test]
fn the_document_has_every_option_member_and_code_and_no_other() {
    let options = CLIENT.split_once("@typedef {object} Options").unwrap().1;
    let options = options.split_once("*/").unwrap().0.split("} [").skip(1);
    let options = options.map(|rest| rest.split(']').next().unwrap());
    assert_eq!(table("option"), set(options));

    let class = CLIENT.split_once("export class Fanfare {").unwrap().1;
    let members = class.lines().filter_map(|line| {
        let line = line.strip_prefix("  ")?;
        let name = line.strip_prefix("get ").unwrap_or(line);
        let (name, rest) = name.split_once('(')?;
        let is_member = name.chars().all(char::is_alphanumeric) && rest.ends_with(['{', '}']);
        (is_member && name != "constructor").then_some(name)
    });
    assert_eq!(table("member"), set(members));

    let codes = CLIENT
        .split_once("`code` is stable: the server's, or ")
        .unwrap()
        .1;
    let codes = codes
        .split_once("*/")
        .unwrap()
        .0
        .split('`')
        .skip(1)
        .step_by(2);
    assert_eq!(table("code"), set(codes));
    for code in table("code") {
        assert!(CLIENT.contains(&format!("FanfareError('{code}'")), "{code}");
    }
}
