//! One epoll for all sockets, and a timer that is exact.

use std::io;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// Sockets that are seen to in one turn.
const TURN: usize = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Member(u32),
    Sender(u16),
    Signal,
    Timer,
}

impl Source {
    fn key(self) -> epoll::EventData {
        let (kind, number) = match self {
            Self::Member(number) => (0_u64, number),
            Self::Sender(number) => (1, number.into()),
            Self::Signal => (2, 0),
            Self::Timer => (3, 0),
        };
        epoll::EventData::new_u64(kind << 32 | u64::from(number))
    }

    fn of(key: epoll::EventData) -> Self {
        let key = key.u64();
        let number = u32::try_from(key & 0xffff_ffff).unwrap_or_default();
        match key >> 32 {
            0 => Self::Member(number),
            1 => Self::Sender(u16::try_from(number).unwrap_or_default()),
            2 => Self::Signal,
            _ => Self::Timer,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) source: Source,
    /// It takes bytes, or has failed.
    pub(crate) writable: bool,
    /// It has bytes, has ended or failed.
    pub(crate) readable: bool,
}

pub(crate) struct Poll {
    epoll: OwnedFd,
    timer: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let this = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            timer: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            events: Vec::with_capacity(TURN),
        };
        this.add(&this.timer, Source::Timer, false)?;
        Ok(this)
    }

    /// Tells when there is something to read, with `write` also when there is space to write.
    pub(crate) fn add(&self, socket: impl AsFd, source: Source, write: bool) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            socket,
            source.key(),
            interest(write),
        )?)
    }

    pub(crate) fn change(&self, socket: impl AsFd, source: Source, write: bool) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            socket,
            source.key(),
            interest(write),
        )?)
    }

    /// Tells nothing more of a socket.
    pub(crate) fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Tells once when so much time has passed, unless it is set anew; 0 is never.
    pub(crate) fn alarm(&self, after: Duration) -> io::Result<()> {
        let time = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: timespec(after),
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time)?;
        Ok(())
    }

    /// Waits until something is ready, at most so long; how much is.
    pub(crate) fn wait(&mut self, at_most: Duration) -> io::Result<usize> {
        self.events.clear();
        let buffer = spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, buffer, Some(&timespec(at_most))) {
            Ok(_) | Err(Errno::INTR) => Ok(self.events.len()),
            Err(error) => Err(error.into()),
        }
    }

    /// What the last wait found.
    pub(crate) fn ready(&self, at: usize) -> Option<Ready> {
        let event = self.events.get(at)?;
        let flags = event.flags;
        let failed = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
        Some(Ready {
            source: Source::of(event.data),
            writable: failed || flags.contains(epoll::EventFlags::OUT),
            readable: failed || flags.contains(epoll::EventFlags::IN),
        })
    }
}

fn interest(write: bool) -> epoll::EventFlags {
    if write {
        epoll::EventFlags::IN | epoll::EventFlags::OUT
    } else {
        epoll::EventFlags::IN
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
