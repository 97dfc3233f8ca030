//! Texts with places for what differs from connection to connection and from publish to publish.

use std::io::Write;

use uuid::Uuid;

#[derive(Debug, Clone)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Place(Place),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Connection,
    Room,
    Data,
}

impl Place {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Connection, "{connection}"),
        (Self::Room, "{room}"),
        (Self::Data, "{data}"),
    ];
}

/// How rooms are called.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rooms {
    Numbers,
    /// Tasks: this id's last digits are the number.
    Tasks(Uuid),
}

impl Rooms {
    pub(crate) fn task(base: Uuid, room: u32) -> Uuid {
        Uuid::from_u128(base.as_u128() >> 32 << 32 | u128::from(room))
    }
}

/// What stands in the places.
pub(crate) struct Fill<'a> {
    pub(crate) connection: u32,
    pub(crate) room: u32,
    pub(crate) rooms: Rooms,
    pub(crate) data: &'a [u8],
}

impl Template {
    pub(crate) fn new(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        loop {
            let found = Place::ALL
                .iter()
                .filter_map(|(place, name)| Some((rest.find(name)?, *place, name.len())));
            let Some((at, place, length)) = found.min_by_key(|(at, ..)| *at) else {
                break;
            };
            let (before, after) = rest.split_at(at);
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Place(place));
            rest = after.get(length..).unwrap_or_default();
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Self(pieces)
    }

    pub(crate) fn has(&self, place: Place) -> bool {
        let is = |piece: &Piece| matches!(piece, Piece::Place(it) if *it == place);
        self.0.iter().any(is)
    }

    /// Whether its own text has one of these.
    pub(crate) fn contains(&self, wrong: impl Fn(char) -> bool) -> bool {
        let is = |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains(&wrong));
        self.0.iter().any(is)
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>, fill: &Fill<'_>) {
        for piece in &self.0 {
            // Writing to a vector can't fail.
            let _ = match (piece, fill.rooms) {
                (Piece::Text(text), _) => out.write_all(text.as_bytes()),
                (Piece::Place(Place::Connection), _) => write!(out, "{}", fill.connection),
                (Piece::Place(Place::Room), Rooms::Numbers) => write!(out, "{}", fill.room),
                (Piece::Place(Place::Room), Rooms::Tasks(base)) => {
                    write!(out, "{}", Rooms::task(base, fill.room))
                }
                (Piece::Place(Place::Data), _) => out.write_all(fill.data),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_and_other_braces_are_text() {
        let base = Uuid::from_u128(0xffff_ffff_ffff_4fff_bfff_ffff_ffff_ffff);
        for (text, numbers, tasks) in [
            ("", "", ""),
            ("{\"a\":{data}}", "{\"a\":xyz}", "{\"a\":xyz}"),
            (
                "{room}{connection}/{room",
                "187/{room",
                "ffffffff-ffff-4fff-bfff-ffff000000127/{room",
            ),
        ] {
            for (rooms, wanted) in [(Rooms::Numbers, numbers), (Rooms::Tasks(base), tasks)] {
                let mut out = Vec::new();
                let fill = Fill {
                    connection: 7,
                    room: 18,
                    rooms,
                    data: b"xyz",
                };
                Template::new(text).write(&mut out, &fill);
                assert_eq!(String::from_utf8(out).unwrap(), wanted, "{text}");
            }
        }
    }
}
