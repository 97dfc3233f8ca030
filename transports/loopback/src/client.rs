//! A simulated client: what it has received, and how far it got in each room.

use crate::handshake::Handshake;
use crate::link::LinkId;
use crate::received::Received;
use fanfare_core::{Position, RoomId};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

/// A client of a world, or a subscriber of its bus. It stays the same one when it reconnects.
///
/// ```
/// use fanfare_loopback::{Handshake, World, user};
/// let mut world = World::new(1);
/// let alice = world.connect(Handshake::notifications(user(7)));
/// let bob = world.connect(Handshake::notifications(user(8)));
/// assert_ne!(alice, bob);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(pub(crate) usize);

#[derive(Debug)]
pub(crate) struct State {
    /// What it is called in a script's record.
    pub(crate) name: String,
    /// How it came last; `None` for a subscriber.
    pub(crate) handshake: Option<Handshake>,
    pub(crate) link: LinkId,
    pub(crate) reads: bool,
    pub(crate) answers_pings: bool,
    pub(crate) inbox: VecDeque<Received>,
    pub(crate) pings: usize,
    pub(crate) positions: BTreeMap<RoomId, Position>,
    pub(crate) next_ref: u64,
}

impl State {
    pub(crate) const fn new(name: String, handshake: Option<Handshake>, link: LinkId) -> Self {
        Self {
            name,
            handshake,
            link,
            reads: true,
            answers_pings: true,
            inbox: VecDeque::new(),
            pings: 0,
            positions: BTreeMap::new(),
            next_ref: 1,
        }
    }

    /// Keeps the positions as a client does that wants to resume.
    pub(crate) fn follow(&mut self, received: &Received) {
        match received {
            Received::Event(event) if !event.ephemeral => {
                for (room, number) in &event.rooms {
                    if let Some(position) = self.positions.get_mut(room)
                        && let Ok(seq) = fanfare_core::Seq::new(*number)
                    {
                        position.seq = seq;
                    }
                }
            }
            Received::System { kind, data } => match kind.as_str() {
                "system:welcome" => {
                    for (room, standing) in data
                        .get("rooms")
                        .and_then(Value::as_object)
                        .into_iter()
                        .flatten()
                    {
                        if let Ok(room) = room.parse() {
                            self.stand(room, standing, "seq");
                        }
                    }
                }
                "system:joined" | "system:gap" => {
                    if let Some(room) = data.get("room").and_then(room) {
                        let field = if kind == "system:gap" { "to" } else { "seq" };
                        self.stand(room, data, field);
                    }
                }
                _ => {}
            },
            Received::Event(_)
            | Received::Ping
            | Received::Closed { .. }
            | Received::Cut
            | Received::Overrun => {}
        }
    }

    /// Stands at `field` of `data`, unless what was missed is still to come.
    fn stand(&mut self, room: RoomId, data: &Value, field: &str) {
        if data.get("recovered").is_some() {
            return;
        }
        let position = |data: &Value| {
            Some(Position {
                epoch: data.get("epoch")?.as_str()?.parse().ok()?,
                seq: fanfare_core::Seq::new(data.get(field)?.as_u64()?).ok()?,
            })
        };
        if let Some(position) = position(data) {
            self.positions.insert(room, position);
        }
    }
}

fn room(value: &Value) -> Option<RoomId> {
    value.as_str()?.parse().ok()
}
