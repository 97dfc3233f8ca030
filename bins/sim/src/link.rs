//! How a device is connected: over a byte stream with the shipped codec, or directly. It speaks and hears the same.

use std::io;
use std::rc::Rc;

use fanfare_loopback::{Conditions, Direction, Line};

use crate::direct::{Direct, DirectLine, Said};
use crate::garble::Garble;
use crate::wire::{Frame, Wire};

/// The client's end.
pub(crate) enum Link {
    Bytes(Wire),
    Direct(Direct),
}

impl Link {
    /// The next frame. May be dropped and asked for again.
    pub(crate) async fn frame(&mut self) -> io::Result<Frame> {
        match self {
            Self::Bytes(wire) => wire.frame().await,
            Self::Direct(direct) => direct.frame().await,
        }
    }

    pub(crate) async fn say(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Bytes(wire) => wire.say(text).await,
            Self::Direct(direct) => direct.say(Said::Text(text.to_owned())).await,
        }
    }

    /// Breaks the protocol, where there are bytes to do so.
    pub(crate) async fn garble(&mut self, how: Garble) -> io::Result<()> {
        match self {
            Self::Bytes(wire) => wire.garble(how).await,
            Self::Direct(_) => Ok(()),
        }
    }

    pub(crate) async fn pong(&mut self, content: &[u8]) -> io::Result<()> {
        match self {
            Self::Bytes(wire) => wire.pong(content).await,
            Self::Direct(direct) => direct.say(Said::Pong).await,
        }
    }

    /// Ends its side, and may read on.
    pub(crate) async fn half_close(&mut self) -> io::Result<()> {
        match self {
            Self::Bytes(wire) => wire.half_close().await,
            Self::Direct(direct) => {
                direct.close();
                Ok(())
            }
        }
    }

    /// Says that it goes.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Bytes(wire) => wire.close().await,
            Self::Direct(direct) => {
                direct.close();
                Ok(())
            }
        }
    }
}

/// The means to break a device's connection.
#[derive(Clone)]
pub(crate) enum Between {
    Bytes(Line),
    Direct(Rc<DirectLine>),
}

impl Between {
    pub(crate) fn cut(&self) {
        match self {
            Self::Bytes(line) => line.cut(),
            Self::Direct(line) => line.cut(),
        }
    }

    /// Where there are no bytes it is cut at once.
    pub(crate) fn cut_after(&self, direction: Direction, bytes: usize) {
        match self {
            Self::Bytes(line) => line.cut_after(direction, bytes),
            Self::Direct(line) => line.cut(),
        }
    }

    pub(crate) fn swallow(&self, direction: Direction) {
        match self {
            Self::Bytes(line) => line.swallow(direction),
            Self::Direct(line) => line.swallow(direction),
        }
    }

    pub(crate) fn stall(&self, direction: Direction) {
        match self {
            Self::Bytes(line) => line.stall(direction),
            Self::Direct(line) => line.hold(direction),
        }
    }

    pub(crate) fn go_on(&self, direction: Direction) {
        match self {
            Self::Bytes(line) => line.go_on(direction),
            Self::Direct(line) => line.go_on(direction),
        }
    }

    /// No cut comes that has not come yet.
    pub(crate) fn spare(&self) {
        if let Self::Bytes(line) = self {
            line.spare();
        }
    }

    pub(crate) fn set(&self, conditions: &Conditions) {
        if let Self::Bytes(line) = self {
            line.set(conditions);
        }
    }

    /// Bytes on their way.
    pub(crate) fn held(&self) -> usize {
        match self {
            Self::Bytes(line) => line.held(),
            Self::Direct(_) => 0,
        }
    }
}
