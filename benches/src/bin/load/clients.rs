//! The connections, and what each of them has.

use std::sync::mpsc::Sender;

use fanfare_benches::{Message, Outcome, Progress, Server, Sockets, number_after};
use fanfare_core::TaskId;

pub(crate) struct Clients {
    sockets: Sockets,
    /// The number of the last event that each connection got.
    seqs: Vec<u64>,
    /// How the task's room is named in an event, up to its number.
    room: Vec<u8>,
}

impl Clients {
    /// Opens all connections before any answer is read, and returns when each has its welcome.
    pub(crate) fn connect(server: &Server, task: TaskId, connections: u64) -> Outcome<Self> {
        let mut sockets = Sockets::new()?;
        for user in 1..=connections {
            let path = format!("/v1/tasks/{task}/chat");
            sockets.open(server, &path, &server.token(user))?;
        }
        let mut welcomes = 0;
        while welcomes < connections {
            sockets.turn(None, |_, message| match message {
                Message::Text(_) => {
                    welcomes += 1;
                    Ok(())
                }
                Message::Answer { status: 101, .. } => Ok(()),
                other @ (Message::Answer { .. } | Message::Ping) => {
                    Err(format!("not a welcome: {other:?}").into())
                }
            })?;
        }
        Ok(Self {
            sockets,
            seqs: vec![0; usize::try_from(connections)?],
            room: format!("\"task:{task}\":").into_bytes(),
        })
    }

    /// Reads until each connection has had `publishes` events of the room, and tells `arrived` how many more events are
    /// everywhere.
    ///
    /// # Errors
    /// Where an event is missing, comes twice or out of order.
    pub(crate) fn receive(&mut self, publishes: u64, arrived: &Sender<u64>) -> Outcome<()> {
        let mut progress = Progress::new(self.seqs.len());
        let mut complete = 0;
        while complete < publishes {
            let mut more = 0;
            self.sockets.turn(None, |number, message| {
                let seq = match message {
                    Message::Text(event) => number_after(event, &self.room),
                    Message::Answer { .. } | Message::Ping => None,
                };
                let seq = seq.ok_or_else(|| format!("not an event: {message:?}"))?;
                let last = self.seqs.get_mut(number).ok_or("no such connection")?;
                if seq != *last + 1 {
                    return Err(format!("event {seq} came after {last}").into());
                }
                *last = seq;
                more += progress.arrived(usize::try_from(seq - 1)?) as u64;
                Ok(())
            })?;
            complete += more;
            // The publisher may be done.
            let _ = arrived.send(more);
        }
        Ok(())
    }
}
