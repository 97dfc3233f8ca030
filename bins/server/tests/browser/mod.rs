//! Chromium without a window, driven over WebDriver: JSON over HTTP to `chromedriver`, on loopback.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::Answer;

/// Generous: how long anything at all may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a test must not wait for any longer, in the page.
const SCRIPT_MS: u64 = 40_000;

const FLAGS: [&str; 13] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--force-color-profile=srgb",
    "--lang=en-US",
    "--window-size=1280,800",
];

/// Ends the test where there is no browser: with a word where it may be absent, as a failure where
/// `FANFARE_TEST_REQUIRE` names `chromium`.
macro_rules! browser_or_skip {
    () => {
        match crate::browser::Browser::start() {
            Some(browser) => browser,
            None => return,
        }
    };
}
pub(crate) use browser_or_skip;

/// A browser with a profile of its own. Dropping it ends it.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    profile: TempDir,
}

fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Starts the driver, and says on which port it listens; `None` where it ended before it did.
fn start_driver(driver: &Path, profile: &TempDir) -> Option<(Child, u16)> {
    let mut child = Command::new(driver)
        .args(["--port=0", "--log-level=SEVERE"])
        // What it and the browser write aside goes where it is cleaned up.
        .env("HOME", profile.path())
        .env("TMPDIR", profile.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let rest = line.split_once("started successfully on port ")?.1;
        rest.trim_end_matches('.').parse().ok()
    });
    let Some(port) = port else {
        child.wait().unwrap();
        return None;
    };
    std::thread::spawn(move || lines.for_each(drop));
    Some((child, port))
}

impl Browser {
    /// Starts a browser; `None` where none is installed and none is required.
    pub(crate) fn start() -> Option<Self> {
        let (chromium, driver) = (installed("chromium"), installed("chromedriver"));
        let (Some(chromium), Some(driver)) = (chromium, driver) else {
            let required = std::env::var("FANFARE_TEST_REQUIRE").unwrap_or_default();
            assert!(
                !required.split(',').any(|name| name.trim() == "chromium"),
                "FANFARE_TEST_REQUIRE names chromium, and `chromium` or `chromedriver` is not in PATH"
            );
            // Past the capture of a test that passes: nobody would see it there.
            let _ = std::io::stderr().write_all(
                b"\nSKIPPED: a browser test, since `chromium` or `chromedriver` is not in PATH\n",
            );
            return None;
        };
        let profile = TempDir::new().unwrap();
        // It ends at once where the port that it was given for IPv4 is another program's for IPv6.
        let mut tries = (0..10).filter_map(|_| start_driver(&driver, &profile));
        let (child, port) = tries.next().unwrap();
        let mut browser = Self {
            driver: child,
            port,
            session: String::new(),
            profile,
        };
        let mut flags = FLAGS.map(str::to_owned).to_vec();
        let data = browser.profile.path().join("data");
        flags.push(format!("--user-data-dir={}", data.display()));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "timeouts": {"script": SCRIPT_MS},
            "goog:chromeOptions": {"binary": chromium, "args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.call("POST", "/session", &wanted).unwrap();
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    /// One WebDriver command.
    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        let body = if method == "POST" {
            body.to_string()
        } else {
            String::new()
        };
        write!(text, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        // Its connections stay open: an answer ends where its length says.
        let mut answer = Answer::read(&mut stream).json();
        let value = answer["value"].take();
        match value.get("error") {
            Some(error) => Err(format!("{error}: {}", value["message"])),
            None => Ok(value),
        }
    }

    fn command(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.call("POST", &format!("/session/{}{path}", self.session), body)
    }

    /// The window that a session begins with.
    pub(crate) fn first(&self) -> Tab<'_> {
        let path = format!("/session/{}/window", self.session);
        let handle = self.call("GET", &path, &Value::Null).unwrap();
        self.tab(&handle)
    }

    /// One more window, in sight like the others: tabs behind others are slowed down by the browser.
    pub(crate) fn window(&self) -> Tab<'_> {
        let window = self.command("/window/new", &json!({"type": "window"}));
        self.tab(&window.unwrap()["handle"])
    }

    fn tab(&self, handle: &Value) -> Tab<'_> {
        Tab {
            browser: self,
            handle: handle.as_str().unwrap().to_owned(),
        }
    }

    /// Nothing went wrong that a developer would see: no uncaught error, no breach of the content policy, no file missing.
    pub(crate) fn assert_quiet(&self) {
        let errors = self.console_errors();
        assert!(errors.is_empty(), "{errors:#?}");
    }

    /// What the pages and the browser complained of on the console since the last call.
    pub(crate) fn console_errors(&self) -> Vec<String> {
        let entries = self.command("/se/log", &json!({"type": "browser"}));
        let entries = entries.unwrap();
        let entries = entries.as_array().unwrap().iter();
        entries
            .filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING")
            .map(|entry| entry["message"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let path = format!("/session/{}", self.session);
            let _ = self.call("DELETE", &path, &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A window of the browser.
pub(crate) struct Tab<'a> {
    browser: &'a Browser,
    handle: String,
}

/// Keys that are no characters, as WebDriver writes them.
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const SHIFT_TAB: &str = "\u{e008}\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const ESCAPE: &str = "\u{e00c}";
const SHIFT: char = '\u{e008}';

impl Tab<'_> {
    fn command(&self, path: &str, body: &Value) -> Result<Value, String> {
        let window = json!({"handle": self.handle});
        self.browser.command("/window", &window)?;
        self.browser.command(path, body)
    }

    pub(crate) fn open(&self, url: &str) {
        self.command("/url", &json!({"url": url})).unwrap();
    }

    /// The value of a JavaScript expression in the page.
    pub(crate) fn value(&self, expression: &str) -> Value {
        let body = json!({"script": format!("return ({expression});"), "args": []});
        let value = self.command("/execute/sync", &body);
        value.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Runs the body of an async function in the page, to its end.
    pub(crate) fn run(&self, body: &str, arguments: &[Value]) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; const args = [...arguments].slice(0, -1);
             (async () => {{ {body} }})().then(done, (error) => done({{ thrown: String(error?.stack ?? error) }}));"
        );
        let body = json!({"script": script, "args": arguments});
        let value = self.command("/execute/async", &body).unwrap();
        assert!(value.get("thrown").is_none(), "{}", value["thrown"]);
        value
    }

    /// Waits until a JavaScript expression is true in the page, and returns its value. The page's changes are what
    /// it is evaluated after; the clock beside is for what changes without a trace in the document.
    pub(crate) fn until(&self, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             const look = () => {{
               let value; try {{ value = ({expression}); }} catch {{ return; }}
               if (!value) return;
               observer.disconnect(); clearInterval(clock); done(value);
             }};
             const observer = new MutationObserver(look);
             const clock = setInterval(look, 50);
             observer.observe(document, {{ subtree: true, childList: true, attributes: true, characterData: true }});
             look();"
        );
        let body = json!({"script": script, "args": []});
        self.command("/execute/async", &body)
            .unwrap_or_else(|error| {
                let text = self.value("document.body.innerText");
                panic!(
                    "never true: {expression}\n{error}\nthe page says:\n{}",
                    text.as_str().unwrap_or_default()
                )
            })
    }

    /// Waits until `text` stands in what `selector` finds first.
    pub(crate) fn until_text(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        self.until(&format!(
            "document.querySelector({selector})?.textContent.includes({text})"
        ));
    }

    /// What stands in the first element that `selector` finds, as it is seen.
    pub(crate) fn text(&self, selector: &str) -> String {
        let selector = json!(selector);
        let value = self.value(&format!(
            "document.querySelector({selector})?.innerText ?? null"
        ));
        let text = value.as_str();
        text.unwrap_or_else(|| panic!("nothing is {selector}"))
            .to_owned()
    }

    /// Clicks where a person would: on what lies uppermost in the middle of the element.
    pub(crate) fn click(&self, selector: &str) {
        let element = json!({"using": "css selector", "value": selector});
        let element = self
            .command("/element", &element)
            .unwrap_or_else(|error| panic!("{selector}: {error}"));
        let id = element.as_object().unwrap().values().next().unwrap();
        let path = format!("/element/{}/click", id.as_str().unwrap());
        self.command(&path, &json!({}))
            .unwrap_or_else(|error| panic!("{selector}: {error}"));
    }

    /// Presses and releases keys one after the other; shift is held for the one key after it.
    pub(crate) fn keys(&self, text: &str) {
        let mut actions = Vec::new();
        let mut shift = false;
        for key in text.chars() {
            actions.push(json!({"type": "keyDown", "value": key}));
            if key == SHIFT {
                shift = true;
                continue;
            }
            actions.push(json!({"type": "keyUp", "value": key}));
            if std::mem::take(&mut shift) {
                actions.push(json!({"type": "keyUp", "value": SHIFT}));
            }
        }
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": actions}]});
        self.command("/actions", &actions).unwrap();
    }

    /// A command of the browser's own protocol, for what WebDriver can't say.
    pub(crate) fn devtools(&self, cmd: &str, params: &Value) {
        let body = json!({"cmd": cmd, "params": params});
        self.command("/goog/cdp/execute", &body).unwrap();
    }

    /// The page as in a window of this size, in CSS pixels.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        self.until(&format!("innerWidth === {width}"));
    }

    /// `dark` or `light`, as the system would say it.
    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!({"features": [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]});
        self.devtools("Emulation.setEmulatedMedia", &features);
        self.until(&format!(
            "matchMedia('(prefers-color-scheme: {scheme})').matches"
        ));
    }

    /// Saves a picture of what is in sight to the directory that `FANFARE_TEST_SHOTS` names, if any.
    pub(crate) fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("FANFARE_TEST_SHOTS") else {
            return;
        };
        let window = json!({"handle": self.handle});
        self.browser.command("/window", &window).unwrap();
        let path = format!("/session/{}/screenshot", self.browser.session);
        let image = self.browser.call("GET", &path, &Value::Null).unwrap();
        let image = BASE64_STANDARD.decode(image.as_str().unwrap()).unwrap();
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), image).unwrap();
    }
}
