//! What goes between a hub and its outlets: orders one way, reports the other. Each way keeps its order; what crosses on the
//! way is provided for.

use crate::close::CloseCode;
use crate::event::{Entry, Place};
use crate::frame::Frame;
use crate::ids::{ConnId, Position, RoomId, Seq, TaskId};
use crate::room_log::Gap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a hub has an [`Outlet`](crate::Outlet) of another thread do. To be handed to it in the order in which it comes out of
/// [`Hub::poll_order`](crate::Hub::poll_order).
///
/// ```
/// fn crosses_threads<T: Send>() {}
/// crosses_threads::<fanfare_core::OutletOrder>();
/// ```
#[derive(Debug)]
pub struct OutletOrder(pub(crate) Order);

impl OutletOrder {
    /// Bytes that it keeps while it is on the way, about; what several orders share counts for each. O(its frames).
    #[must_use]
    pub fn cost(&self) -> usize {
        let kept = match &self.0 {
            Order::Told(told) => {
                let direct = told
                    .direct
                    .iter()
                    .map(|it| size_of_val(it) + it.frame.wire().len());
                told.entry.cost() + direct.sum::<usize>()
            }
            Order::Say { frame, .. } | Order::Anew { frame, .. } => frame.wire().len(),
            Order::Close { goodbye, .. } => goodbye.wire().len(),
            Order::More { frames, .. } => frames.iter().map(|frame| frame.wire().len()).sum(),
            Order::Open { .. }
            | Order::Enter { .. }
            | Order::Leave { .. }
            | Order::Missing { .. }
            | Order::Read { .. }
            | Order::Again { .. }
            | Order::Handled { .. }
            | Order::Live { .. } => 0,
        };
        size_of::<Self>() + kept
    }
}

/// What an [`Outlet`](crate::Outlet) tells its hub. To be handed to it, by [`Input::Report`](crate::Input::Report), in the order in
/// which it comes out of [`Outlet::report`](crate::Outlet::report).
///
/// ```
/// fn crosses_threads<T: Send>() {}
/// crosses_threads::<fanfare_core::OutletReport>();
/// ```
#[derive(Debug)]
pub struct OutletReport(pub(crate) Report);

impl OutletReport {
    /// Whether it brings orders, which have to wait while an outlet has too many: a message that may be said to everybody, or a
    /// question for what the log has next. All others end something, and what comes behind this one waits with it.
    #[must_use]
    pub const fn brings_orders(&self) -> bool {
        matches!(self.0, Report::Message { .. } | Report::Asks { .. })
    }
}

/// What a hub has an outlet do. Orders for a connection that is gone do nothing.
#[derive(Debug)]
pub(crate) enum Order {
    /// The connection is there.
    Open { conn: ConnId },
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
    /// What is missing of a task that is being deleted, for who reads it; more, where the hub has yet to be told from where on.
    Missing {
        conn: ConnId,
        room: RoomId,
        gap: Gap,
    },
    /// All rooms of the connection are read from the log from here on: nothing of them comes live.
    Read { conn: ConnId, why: ReadWhy },
    /// There may be more to read now.
    Again { conn: ConnId },
    /// What was asked for; `ends` where there is no more until the hub says so.
    More {
        conn: ConnId,
        frames: Vec<Frame>,
        ends: bool,
    },
    /// A message or a ping of the connection's is being looked at: the next but one may come.
    Handled { conn: ConnId },
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

impl Order {
    /// Whom it is about; none where there may be many.
    pub(crate) const fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Told(_) => None,
            Self::Open { conn }
            | Self::Enter { conn, .. }
            | Self::Leave { conn, .. }
            | Self::Say { conn, .. }
            | Self::Anew { conn, .. }
            | Self::Missing { conn, .. }
            | Self::Read { conn, .. }
            | Self::Again { conn }
            | Self::More { conn, .. }
            | Self::Handled { conn }
            | Self::Live { conn, .. }
            | Self::Close { conn, .. } => Some(*conn),
        }
    }
}

/// What a hub is told by an outlet.
#[derive(Debug)]
pub(crate) enum Report {
    /// A text message came.
    Message { conn: ConnId, text: String },
    /// A ping came.
    Ping { conn: ConnId },
    /// All that was read for it is sent: what is next?
    Asks { conn: ConnId },
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
