//! How long devices are connected: a world in which all stay away shows nothing.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "it looks at connections only"
)]

use std::collections::BTreeMap;

use fanfare_core::Time;

use crate::history::{Conn, Observation, Seen};

/// How long devices were connected while there were faults.
#[derive(Default)]
pub(crate) struct Presence {
    since: BTreeMap<Conn, Time>,
    is_over: bool,
    pub(crate) connected_ms: u64,
}

impl Presence {
    pub(crate) fn see(&mut self, it: &Observation) {
        match &it.seen {
            Seen::Opened { conn, .. } if !self.is_over => {
                self.since.insert(*conn, it.time);
            }
            Seen::Closed { conn, .. } | Seen::Leaves { conn } => {
                let since = self.since.remove(conn);
                self.connected_ms += since.map_or(0, |since| it.time.since(since));
            }
            Seen::Healed { .. } => {
                self.is_over = true;
                for since in std::mem::take(&mut self.since).into_values() {
                    self.connected_ms += it.time.since(since);
                }
            }
            _ => {}
        }
    }
}
