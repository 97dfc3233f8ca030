//! The server that is measured, as a process of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::thread;

use fanfare_websocket::TokenKey;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Outcome, pinned};

const TOKEN_SECRET: &str = "the token secret of a measurement";
pub(crate) const API_KEY: &str = "the key to publish in a measurement";

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) tokens: TokenKey,
}

impl Server {
    /// Starts it on a free port, and waits until it listens.
    pub(crate) fn start() -> Outcome<Self> {
        let mut child = pinned("fanfare-server", "LOAD_SERVER_CPU")?
            .args([
                "--listen",
                "127.0.0.1:0",
                "--log-format",
                "json",
                "--memory",
            ])
            .env("FANFARE_TOKEN_SECRET", TOKEN_SECRET)
            .env("FANFARE_API_KEY", API_KEY)
            .stderr(Stdio::piped())
            .spawn()?;
        let log = child.stderr.take().ok_or("the server has no log")?;
        let mut lines = BufReader::new(log).lines();
        let address = loop {
            let line = lines
                .next()
                .ok_or("the server ended before it listened")??;
            let line: serde_json::Value = serde_json::from_str(&line)?;
            if let Some(address) = line.get("address").and_then(|text| text.as_str()) {
                break address.parse()?;
            }
        };
        // A full pipe would stop the server.
        thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            child,
            address,
            tokens: TokenKey::new(TOKEN_SECRET.as_bytes())?,
        })
    }

    /// Kibibytes of memory that it has now.
    pub(crate) fn resident_kib(&self) -> Outcome<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Seconds of CPU that all its threads used so far, by the scheduler's nanoseconds (`/proc/PID/task/TID/schedstat`).
    pub(crate) fn cpu_s(&self) -> Outcome<f64> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let used = text.split(' ').next().unwrap_or_default();
            nanoseconds += used.parse::<u64>()?;
        }
        Ok(nanoseconds as f64 / 1e9)
    }

    /// Ends it by SIGTERM, and waits for that.
    pub(crate) fn stop(mut self) -> Outcome<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(format!("the server ended with {status}").into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` there is nobody left to kill.
        let _ = self.child.kill();
    }
}
