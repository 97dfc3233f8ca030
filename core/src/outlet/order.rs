//! What goes between a hub and its outlets: orders one way, reports the other. Each way keeps its order; what crosses on the
//! way is provided for.

use crate::close::CloseCode;
use crate::event::{Entry, Place};
use crate::frame::Frame;
use crate::ids::{ConnId, Position, RoomId, Seq, TaskId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a hub has an outlet do. Orders for a connection that is gone do nothing.
#[derive(Debug)]
pub(crate) enum Order {
    /// The connection watches a task, as the last of its watchers.
    Enter { task: TaskId, conn: ConnId },
    /// It no longer does; its place among the watchers goes to the last of them.
    Leave {
        task: TaskId,
        conn: ConnId,
        place: usize,
    },
    /// An event, for all who get it.
    Told(Told),
    /// A frame of the server's own.
    Say { conn: ConnId, frame: Frame },
    /// A room of the connection begins a new epoch, of which who reads the room hears by reading.
    Anew {
        conn: ConnId,
        room: RoomId,
        frame: Frame,
    },
    /// What is missing of a task that is being deleted, for who reads it.
    Missing {
        conn: ConnId,
        room: RoomId,
        frame: Frame,
    },
    /// All rooms of the connection are read from the log from here on: nothing of them comes live.
    Read { conn: ConnId, why: ReadWhy },
    /// There may be more to read now.
    Again { conn: ConnId },
    /// All is read: from here on its rooms, which are at these numbers, come live.
    Live {
        conn: ConnId,
        rooms: Vec<(RoomId, Seq)>,
        unread: usize,
    },
    /// The connection ends with this frame and code; what waits is sent before, or dropped.
    Close {
        conn: ConnId,
        code: CloseCode,
        goodbye: Frame,
        keeps_waiting: bool,
    },
}

/// Why a connection's rooms are read from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadWhy {
    /// It came back, or listens to the bus.
    Resumes,
    /// It fell behind: the hub has its [`Report::Behind`].
    IsBehind,
}

/// An event on its way to the connections of one outlet.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) entry: Arc<Entry>,
    /// It is the last of a task's, whose log is gone.
    pub(crate) is_deletion: bool,
    /// For all watchers of the task but those who get it directly; none where there are no others.
    pub(crate) task: Option<(TaskId, Frame)>,
    /// For who gets it through a user's room. In the order of their numbers.
    pub(crate) direct: Vec<Direct>,
}

/// An event for one connection, with the frame that names all of its rooms.
#[derive(Debug, Clone)]
pub(crate) struct Direct {
    pub(crate) conn: ConnId,
    /// Which of the entry's places is the user's.
    pub(crate) place: usize,
    pub(crate) watches_task: bool,
    pub(crate) frame: Frame,
}

impl Told {
    /// The place of the entry's task.
    pub(crate) fn task_place(&self) -> Option<&Place> {
        let first = self.entry.places().first()?;
        matches!(first.room, RoomId::Task(_)).then_some(first)
    }
}

/// What a hub is told by an outlet.
#[derive(Debug)]
pub(crate) enum Report {
    /// An event, this one in the order of all, did not fit: nothing comes live until the hub knows.
    Behind { conn: ConnId, index: u64 },
    /// What did not come live until the hub knew: the first of each room.
    Missed {
        conn: ConnId,
        first: BTreeMap<RoomId, Position>,
    },
    /// It is to be closed, and takes nothing meanwhile.
    Failing { conn: ConnId, code: CloseCode },
    /// Nothing is left of it.
    Gone { conn: ConnId },
}
