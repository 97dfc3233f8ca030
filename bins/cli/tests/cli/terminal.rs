//! A terminal with `fanfare` in it, and a person's keys.

use std::io::Write;
use std::process::Command;
use std::sync::Arc;

use pty_process::Size;
use pty_process::blocking::{self, Pty};

use crate::run::{Run, Text};

pub(crate) struct Terminal {
    pty: Arc<Pty>,
    /// What is on the screen, its escape sequences included.
    pub(crate) screen: Text,
    pub(crate) run: Run,
}

struct Reader(Arc<Pty>);

impl std::io::Read for Reader {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        (&*self.0).read(bytes)
    }
}

impl Terminal {
    /// Starts `command` as the foreground job of a terminal that has this width.
    pub(crate) fn spawn(command: Command, columns: u16) -> Self {
        let (pty, pts) = blocking::open().unwrap();
        pty.resize(Size::new(24, columns)).unwrap();
        let mut with_terminal = blocking::Command::new(command.get_program());
        with_terminal = with_terminal.args(command.get_args());
        for (name, value) in command.get_envs() {
            with_terminal = match value {
                Some(value) => with_terminal.env(name, value),
                None => with_terminal.env_remove(name),
            };
        }
        let child = with_terminal.spawn(pts).unwrap();
        let pty = Arc::new(pty);
        let screen = Text::default();
        let reader = screen.collect(Reader(Arc::clone(&pty)), |_| {});
        let run = Run::of(child, screen.clone(), screen.clone(), vec![reader]);
        Self { pty, screen, run }
    }

    pub(crate) fn type_keys(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        self.pty.resize(Size::new(rows, columns)).unwrap();
    }
}
