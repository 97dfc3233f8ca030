//! The real `fanfare` as a process, with pipes.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;
use crate::server::{API_KEY, Server, TOKEN_SECRET};

/// `fanfare` with nothing of this process's environment that is meant for it.
pub(crate) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("NO_COLOR")
        // Not the foreground job of the terminal at which the tests are run.
        .process_group(0)
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// `fanfare` that knows where `server` is, and its secrets.
pub(crate) fn fanfare(server: &Server, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command
        .env("FANFARE_URL", server.url())
        .env("FANFARE_API_KEY", API_KEY)
        .env("FANFARE_TOKEN_SECRET", TOKEN_SECRET);
    command
}

/// Bytes that come from somewhere, and a bell for each piece.
#[derive(Clone, Default)]
pub(crate) struct Text(Arc<(Mutex<Vec<u8>>, Condvar)>);

impl Text {
    pub(crate) fn collect(
        &self,
        mut from: impl Read + Send + 'static,
        mut seen: impl FnMut(&[u8]) + Send + 'static,
    ) -> JoinHandle<()> {
        let text = self.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // A terminal whose last process has gone says EIO.
            while let Ok(read @ 1..) = from.read(&mut chunk) {
                seen(&chunk[..read]);
                let (bytes, bell) = &*text.0;
                bytes.lock().unwrap().extend(&chunk[..read]);
                bell.notify_all();
            }
        })
    }

    pub(crate) fn now(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().unwrap()).into_owned()
    }

    /// All that came, once `what` is in it.
    pub(crate) fn until(&self, what: &str) -> String {
        self.until_it(|text| text.contains(what))
            .unwrap_or_else(|text| panic!("{what:?} did not come: {text}"))
    }

    /// All that came, once it is as asked; what came instead, where it never is.
    pub(crate) fn until_it(&self, is: impl Fn(&str) -> bool) -> Result<String, String> {
        let (bytes, bell) = &*self.0;
        let (bytes, wait) = bell
            .wait_timeout_while(bytes.lock().unwrap(), PATIENCE, |bytes| {
                !is(&String::from_utf8_lossy(bytes))
            })
            .unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if wait.timed_out() {
            Err(text)
        } else {
            Ok(text)
        }
    }
}

/// A running process. Dropping it kills it.
pub(crate) struct Run {
    pid: Pid,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) out: Text,
    pub(crate) err: Text,
    readers: Vec<JoinHandle<()>>,
    ended: Receiver<ExitStatus>,
    status: Option<ExitStatus>,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (Text::default(), Text::default());
        let readers = vec![
            out.collect(child.stdout.take().unwrap(), |_| {}),
            err.collect(child.stderr.take().unwrap(), |_| {}),
        ];
        Self::of(child, out, err, readers)
    }

    pub(crate) fn of(mut child: Child, out: Text, err: Text, readers: Vec<JoinHandle<()>>) -> Self {
        let pid = Pid::from_child(&child);
        let stdin = child.stdin.take();
        let (sender, ended) = channel();
        std::thread::spawn(move || sender.send(child.wait().unwrap()));
        Self {
            pid,
            stdin,
            out,
            err,
            readers,
            ended,
            status: None,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Says something on its standard input.
    pub(crate) fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
    }

    /// The end of the process itself, whoever still holds its output.
    pub(crate) fn status(&mut self) -> ExitStatus {
        let status = self.ended.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!(
                "it does not end; out: {}\nerr: {}",
                self.out.now(),
                self.err.now()
            )
        });
        self.status = Some(status);
        status
    }

    pub(crate) fn wait(mut self) -> Done {
        drop(self.stdin.take());
        let status = self.status();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Done {
            code: status.code(),
            out: self.out.now(),
            err: self.err.now(),
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.status.is_none() && self.ended.try_recv().is_err() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> Done {
    Run::spawn(command).wait()
}

impl Done {
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{self:?}");
    }
}
