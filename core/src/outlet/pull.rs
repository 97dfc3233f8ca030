//! What a connection is sent next: the driver asks when its socket can take it.

use super::line::Mode;
use super::{Outlet, Report, Ride};
use crate::hub::Pull;
use crate::ids::ConnId;
use crate::sim_reached;
use crate::time::Now;

/// What an outlet has for a connection.
#[derive(Debug)]
pub(crate) enum Pulled {
    Next(Pull),
    /// The hub has it: it is to be asked for what is next in the log.
    Ask,
}

impl Outlet {
    /// As [`Hub::pull`](crate::Hub::pull).
    pub fn pull(&mut self, now: Now, conn: ConnId) -> Pull {
        match self.next(now, conn) {
            Pulled::Next(pull) => pull,
            Pulled::Ask => {
                if let Some(Mode::Reading(reading)) = self.line(conn).map(|line| &mut line.mode) {
                    reading.asked = true;
                }
                self.reports.push_back(Report::Asks { conn });
                self.rest(conn);
                Pull::Empty
            }
        }
    }

    /// What `conn` is to be sent next. Where that is to be asked for, the connection counts as waiting until it
    /// [`rests`](Self::rest).
    pub(crate) fn next(&mut self, now: Now, conn: ConnId) -> Pulled {
        self.end_ride(conn);
        let Some((line, limits)) = self.line_and_limits(conn) else {
            return Pulled::Next(Pull::Empty);
        };
        let is_leaving = matches!(line.mode, Mode::Leaving { .. });
        if !is_leaving && line.heartbeat.take_ping(now.time, limits) {
            line.waiting_since = Some(now.time);
            sim_reached!("ping_sent");
            return Pulled::Next(Pull::Ping);
        }
        if let Some(frame) = line.outbox.pop() {
            line.progressed(now.time, limits);
            return Pulled::Next(Pull::Frame(frame));
        }
        match &mut line.mode {
            Mode::Leaving { code, goodbye, .. } => {
                let code = *code;
                if let Some(frame) = goodbye.take() {
                    line.progressed(now.time, limits);
                    return Pulled::Next(Pull::Frame(frame));
                }
                self.closed(conn);
                Pulled::Next(Pull::Close {
                    code,
                    reason: code.reason(),
                })
            }
            Mode::Reading(reading) if !reading.asked => Pulled::Ask,
            Mode::Live | Mode::Behind(_) | Mode::Reading(_) | Mode::Failing => {
                self.rest(conn);
                Pulled::Next(Pull::Empty)
            }
        }
    }

    /// The connection was given a frame out of the log, which never waited here.
    pub(crate) fn passed(&mut self, now: Now, conn: ConnId) {
        if let Some((line, limits)) = self.line_and_limits(conn) {
            line.progressed(now.time, limits);
            if let Some(missed) = line.missed() {
                missed.clear();
            }
        }
    }

    /// Nothing waits for the connection.
    pub(crate) fn rest(&mut self, conn: ConnId) {
        if let Some(line) = self.line(conn) {
            line.waiting_since = None;
        }
        self.settle(conn);
    }

    /// As [`Hub::ride`](crate::Hub::ride).
    pub fn ride(&mut self, conn: ConnId) -> Option<(&[u8], u64)> {
        let Ride { turn, at } = self.ride_of(conn)?;
        Some(self.turns.get_mut(turn)?.wire(at))
    }

    /// As [`Hub::rode`](crate::Hub::rode).
    pub fn rode(&mut self, conn: ConnId) {
        self.alight(conn);
    }
}
