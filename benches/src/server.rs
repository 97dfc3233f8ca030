//! The server that is measured, as a process of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use fanfare_core::{Claims, TaskGrant, UserId};
use fanfare_websocket::TokenKey;
use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;
use crate::programs::pinned;

const TOKEN_SECRET: &str = "the token secret of a measurement";
/// What a back end of a measured server bears.
///
/// ```
/// assert!(fanfare_benches::API_KEY.len() >= 32);
/// ```
pub const API_KEY: &str = "the key to publish in a measurement";

/// A server that was built beside this program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    tokens: TokenKey,
    expires: u64,
}

impl Server {
    /// Starts it on a free port, on the core that `LOAD_SERVER_CPU` says, and waits until it listens.
    ///
    /// # Errors
    /// Where it was not built, or does not come to that.
    pub fn start(arguments: &[&str]) -> Outcome<Self> {
        Self::run(pinned("fanfare-server", "LOAD_SERVER_CPU")?, arguments)
    }

    /// Starts this program on a free port, and waits until it listens.
    ///
    /// # Errors
    /// Where it does not come to that.
    pub fn at(program: &Path, arguments: &[&str]) -> Outcome<Self> {
        Self::run(Command::new(program), arguments)
    }

    fn run(mut command: Command, arguments: &[&str]) -> Outcome<Self> {
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(arguments)
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
            let Ok(said) = serde_json::from_str::<serde_json::Value>(&line) else {
                return Err(format!("the server said: {line}").into());
            };
            if let Some(address) = said.get("address").and_then(|text| text.as_str()) {
                break address.parse()?;
            }
        };
        // A full pipe would stop the server.
        thread::spawn(move || lines.for_each(drop));
        Ok(Self {
            child,
            address,
            tokens: TokenKey::new(TOKEN_SECRET.as_bytes())?,
            expires: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 86_400,
        })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A token with which a user may join every task.
    #[must_use]
    pub fn token(&self, user: u64) -> String {
        let claims = Claims::new(UserId::new(user), self.expires, TaskGrant::All);
        self.tokens.issue(&claims)
    }

    /// Kibibytes of memory that it has now.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn resident_kib(&self) -> Outcome<u64> {
        self.status("VmRSS:")
    }

    /// Kibibytes of memory that it had at most since [`forget_peak`](Self::forget_peak).
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn peak_kib(&self) -> Outcome<u64> {
        self.status("VmHWM:")
    }

    /// From now on the peak is what comes.
    ///
    /// # Errors
    /// Where the system does not let it.
    pub fn forget_peak(&self) -> Outcome<()> {
        Ok(fs::write(
            format!("/proc/{}/clear_refs", self.child.id()),
            "5",
        )?)
    }

    fn status(&self, name: &str) -> Outcome<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .ok_or_else(|| format!("no {name}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Seconds of CPU that all its threads used so far, by the scheduler's nanoseconds (`/proc/PID/task/TID/schedstat`).
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn cpu_s(&self) -> Outcome<f64> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(thread?.path().join("schedstat"))?;
            let used = text.split(' ').next().unwrap_or_default();
            nanoseconds += used.parse::<u64>()?;
        }
        Ok(nanoseconds as f64 / 1e9)
    }

    /// Ends it by SIGTERM, and waits for that.
    ///
    /// # Errors
    /// Where it does not end well.
    pub fn stop(mut self) -> Outcome<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(format!("the server ended with {status}").into())
    }

    /// Ends it by SIGKILL, and waits for that.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` and `kill` there is nobody left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
