//! How far devices acknowledged, and where they go on.

use super::Oracle;
use crate::viewer::Viewer;
use fanfare_core::RoomId;
use fanfare_loopback::Client;
use serde_json::Value;

/// How far a device acknowledged: from `low` to `high`, or as far as one of the acks that are not answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursor {
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) asked: Vec<u64>,
    /// The server may not know the device.
    pub(super) unsure: bool,
    /// An ack of it was answered: from then on it is known for good.
    pub(super) acked: bool,
}

impl Cursor {
    pub(super) fn at(seq: u64) -> Self {
        Self {
            low: seq,
            high: seq,
            ..Self::default()
        }
    }

    /// Of a device of which the server may have heard or not.
    pub(super) fn unknown() -> Self {
        Self {
            high: u64::MAX,
            unsure: true,
            ..Self::default()
        }
    }

    pub(super) fn high(&self) -> u64 {
        let asked = self.asked.iter().copied();
        asked.fold(self.high, u64::max)
    }

    pub(super) fn may_be(&self, seq: u64) -> bool {
        (self.low..=self.high()).contains(&seq)
    }
}

impl Oracle {
    /// *Offline is not lost*: a device without a position goes on at its cursor; a new one at the oldest that is unread.
    pub(super) fn goes_on(&mut self, client: Client, welcome: &Value) -> Result<(), String> {
        let viewer = self.viewers.get(&client);
        let Some(device) = viewer.and_then(Viewer::device) else {
            return Ok(());
        };
        let room = RoomId::User(device.0);
        let standing = &welcome["rooms"][room.to_string()];
        let seq = standing["seq"].as_u64().ok_or("no seq")?;
        let unread = self.history.room(room).unread(seq);
        let oldest = unread.first().map_or(seq, |oldest| oldest - 1);
        // Another connection of the device may have come, and not have read so.
        let mut others = self.viewers.iter().filter(|(other, _)| **other != client);
        let came = others.any(|(_, it)| !it.is_welcomed() && it.device().as_ref() == Some(&device));
        let known = self.cursors.get(&device).cloned();
        let known = known.or_else(|| came.then(Cursor::unknown));
        let is_recovered = !standing["recovered"].is_null();
        // A welcome of the server before, read after its end, may be the one that made the device known.
        let is_late = viewer.is_some_and(|viewer| viewer.drained || viewer.cut);
        let (cursor, is_told_to) = match known {
            Some(known) if is_late && !known.unsure && !is_recovered => (known, false),
            Some(known) if known.unsure && is_recovered => {
                // If it was forgotten, it begins anew.
                let cursor = Cursor {
                    low: known.low.min(oldest),
                    high: known.high.min(seq).max(oldest),
                    unsure: false,
                    ..known
                };
                (cursor, true)
            }
            Some(known) if !known.unsure => (known, true),
            Some(_) | None => (Cursor::at(oldest), !unread.is_empty()),
        };
        self.cursors.insert(device, cursor.clone());
        if is_told_to && let Some(viewer) = self.viewers.get_mut(&client) {
            // Who reads late may be told of what was so before.
            let low = if viewer.slow { 0 } else { cursor.low };
            viewer.goes_on_at(room, low, cursor.high());
            self.mark("a device goes on");
        }
        Ok(())
    }

    /// *Acknowledged is final*: the cursor is the furthest of all acknowledgements.
    pub(super) fn acknowledged(
        &mut self,
        client: Client,
        seq: Option<u64>,
        data: &Value,
    ) -> Result<(), String> {
        let device = self.viewers.get(&client).and_then(Viewer::device);
        let is_done = data["ok"] == true;
        let Some(device) = device else {
            let refused = (!is_done).then_some(());
            return refused.ok_or_else(|| "an ack of no device".to_owned());
        };
        let cursor = self.cursors.entry(device).or_default();
        let seq = seq.unwrap_or_default();
        if let Some(at) = cursor.asked.iter().position(|asked| *asked == seq) {
            cursor.asked.swap_remove(at);
        }
        if !is_done {
            if data["error"]["code"] == "unavailable" {
                // Of a write that failed nobody knows before the restart whether the disk has it.
                cursor.asked.push(seq);
            }
            return Ok(());
        }
        let at = data["seq"].as_u64().ok_or("no seq")?;
        if !(cursor.low.max(seq)..=cursor.high().max(seq)).contains(&at) {
            return Err(format!("the cursor is {cursor:?}"));
        }
        (cursor.low, cursor.high, cursor.acked) = (at, at, true);
        self.mark("an ack");
        Ok(())
    }
}
