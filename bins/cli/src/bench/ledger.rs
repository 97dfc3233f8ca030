//! What was sent, and what each connection has had of it.

use std::collections::BTreeSet;

use fanfare_core::{RoomId, Seq};
use fanfare_websocket::client::{Message, Notice};
use memchr::memmem::Finder;
use uuid::Uuid;

use super::latency::Latency;
use super::mark::{Mark, Marker};
use super::order::{Order, Step};
use super::recent::Recent;
use super::template::Rooms;

/// How a frame of the server's own begins.
const SYSTEM: &[u8] = br#"{"type":"system:"#;
/// Failed publishes that are remembered.
const DOUBTFUL_MAX: usize = 100_000;
/// Digits at the end of a task's id that are the room's number.
const ROOM_DIGITS: usize = 8;

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) deliveries: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) out_of_order: u64,
    /// Events that the server said would not come.
    pub(crate) gaps: u64,
    /// Messages that nobody sent, or to another room.
    pub(crate) unexpected: u64,
}

pub(crate) struct Ledger {
    marker: Marker,
    rooms: Rooms,
    /// Finds where Fanfare says which number an event has in its room.
    seq: Finder<'static>,
    /// Of the room of a Fanfare, where it is the only one: among many, few have the same.
    recent: Option<Recent>,
    senders: usize,
    /// Rows of numbers that a connection sees: its room's, or one of each sender.
    rows: usize,
    orders: Vec<Order>,
    /// For each room and row, the highest number that is known to have been given.
    heads: Vec<u64>,
    /// For each room and sender, how many it sent.
    sent: Vec<u32>,
    /// For each room, publishes that were tried.
    tried: Vec<u64>,
    /// Rows and numbers of publishes of which nobody knows whether the server took them: not to get them is no loss. Fanfare
    /// numbers only what it took.
    doubtful: BTreeSet<(usize, u64)>,
    out: Vec<Publish>,
    done: Vec<u16>,
    pub(crate) counts: Counts,
    pub(crate) latency: Latency,
    /// When the last delivery came.
    pub(crate) last: u64,
}

/// A sender's publish that is under way.
#[derive(Debug, Clone, Copy, Default)]
struct Publish {
    room: u32,
    number: u32,
    /// The number that connections know it by; 0 while that is not known.
    row_number: u64,
    /// Connections that have not had it.
    left: u32,
    answered: bool,
}

impl Ledger {
    pub(crate) fn new(rooms: Rooms, connections: u32, room_count: u32, senders: u16) -> Self {
        let (connections, room_count) = (connections as usize, room_count as usize);
        let senders = usize::from(senders);
        let (rows, task) = match rooms {
            Rooms::Tasks(base) => (1, Rooms::task(base, 0)),
            Rooms::Numbers => (senders, Uuid::nil()),
        };
        let mut seq = format!(r#""rooms":{{"task:{task}"#);
        seq.truncate(seq.len() - ROOM_DIGITS);
        Self {
            marker: Marker::new(fastrand::u32(..)),
            rooms,
            seq: Finder::new(&seq).into_owned(),
            recent: (rows == 1 && room_count == 1).then(Recent::default),
            senders,
            rows,
            orders: vec![Order::after(0); connections * rows],
            heads: vec![0; room_count * rows],
            sent: vec![0; room_count * senders],
            tried: vec![0; room_count],
            doubtful: BTreeSet::new(),
            out: vec![Publish::default(); senders],
            done: Vec::with_capacity(senders),
            counts: Counts::default(),
            latency: Latency::new(),
            last: 0,
        }
    }

    /// Bytes that it will need.
    pub(crate) fn bytes(is_fanfare: bool, connections: u32, rooms: u32, senders: u16) -> u64 {
        let senders = u64::from(senders);
        let rows = if is_fanfare { 1 } else { senders };
        u64::from(connections) * rows * 16 + u64::from(rooms) * (rows * 8 + senders * 4 + 8)
    }

    /// A sender publishes to a room, which is due now and done when so many connections have it. Writes the mark.
    pub(crate) fn send(&mut self, sender: u16, room: u32, due: u64, members: u32, data: &mut [u8]) {
        let index = self.index(sender, room);
        let (Some(sent), Some(out), Some(tried)) = (
            self.sent.get_mut(index),
            self.out.get_mut(usize::from(sender)),
            self.tried.get_mut(room as usize),
        ) else {
            return;
        };
        *sent += 1;
        *tried += 1;
        *out = Publish {
            room,
            number: *sent,
            row_number: match self.rooms {
                Rooms::Tasks(_) => 0,
                Rooms::Numbers => u64::from(*sent),
            },
            left: members,
            answered: false,
        };
        let mark = Mark {
            sender,
            room,
            number: *sent,
            due,
        };
        self.marker.write(data, mark);
    }

    /// The server took what the sender published; with the number that it has in its room, where that was told.
    pub(crate) fn answered(&mut self, sender: u16, seq: Option<u64>) {
        let Some(out) = self.out.get_mut(usize::from(sender)) else {
            return;
        };
        out.answered = true;
        if let (Rooms::Tasks(_), Some(seq)) = (self.rooms, seq) {
            out.row_number = seq;
        }
        if out.left == 0 {
            self.done.push(sender);
        }
        let (room, number) = (out.room, out.row_number);
        self.known(self.row(sender, room), number);
    }

    /// The server did not take it, or nobody knows.
    pub(crate) fn failed(&mut self, sender: u16, known: bool) {
        let Some(out) = self.out.get_mut(usize::from(sender)) else {
            return;
        };
        let Publish {
            room, row_number, ..
        } = std::mem::take(out);
        if known {
            let index = self.index(sender, room);
            if let Some(sent) = self.sent.get_mut(index) {
                // Nobody will get this number: the next publish has it.
                *sent -= 1;
            }
        } else if matches!(self.rooms, Rooms::Numbers) && self.doubtful.len() < DOUBTFUL_MAX {
            let row = self.row(sender, room);
            self.doubtful.insert((row, row_number));
        }
        self.done.push(sender);
    }

    /// A connection, which was in this room, is no more: nothing waits for it.
    pub(crate) fn gone(&mut self, connection: u32, room: u32) {
        for (sender, out) in (0_u16..).zip(&mut self.out) {
            let row = if self.rows == 1 {
                0
            } else {
                usize::from(sender)
            };
            let order = self.orders.get(connection as usize * self.rows + row);
            let had = out.row_number > 0 && order.is_some_and(|order| order.has(out.row_number));
            if out.room == room && out.left > 0 && !had {
                out.left -= 1;
                if out.left == 0 && out.answered {
                    self.done.push(sender);
                }
            }
        }
    }

    /// A sender whose publish was answered and is not everywhere goes on all the same. Whether it was so.
    pub(crate) fn give_up(&mut self, sender: u16) -> bool {
        let out = self.out.get_mut(usize::from(sender));
        let Some(out) = out.filter(|out| out.answered && out.left > 0) else {
            return false;
        };
        out.left = 0;
        self.done.push(sender);
        true
    }

    /// A sender whose publish is done.
    pub(crate) fn next_done(&mut self) -> Option<u16> {
        self.done.pop()
    }

    /// A message came to a connection, which is in this room.
    pub(crate) fn message(&mut self, connection: u32, room: u32, message: &[u8], now: u64) {
        let Some((mark, number)) = self.read(connection, room, message) else {
            if message.starts_with(SYSTEM) {
                self.system(connection, room, message);
            }
            return;
        };
        let row = match self.rooms {
            Rooms::Tasks(_) => 0,
            Rooms::Numbers => usize::from(mark.sender),
        };
        let order = self.orders.get_mut(connection as usize * self.rows + row);
        let sent = self
            .sent
            .get(room as usize * self.senders + usize::from(mark.sender));
        let tried = self.tried.get(room as usize).copied().unwrap_or_default();
        let (Some(order), Some(number @ 1..)) = (order, number) else {
            self.counts.unexpected += 1;
            return;
        };
        let known = usize::from(mark.sender) < self.senders
            && mark.room == room
            && (1..=sent.copied().unwrap_or_default()).contains(&mark.number)
            && number <= tried;
        if !known {
            self.counts.unexpected += 1;
            return;
        }
        let row = room as usize * self.rows + row;
        let last = order.last();
        match order.take(number) {
            Step::Ahead { missed: 0 } => {}
            Step::Ahead { missed } => {
                self.counts.lost += missed - doubtful(&self.doubtful, row, last, number - 1);
            }
            Step::Late => {
                self.counts.out_of_order += 1;
                let was_lost = 1 - doubtful(&self.doubtful, row, number - 1, number);
                self.counts.lost = self.counts.lost.saturating_sub(was_lost);
            }
            Step::Old => {
                self.counts.out_of_order += 1;
                return;
            }
            Step::Again => {
                self.counts.doubled += 1;
                return;
            }
        }
        self.counts.deliveries += 1;
        self.latency.record(now.saturating_sub(mark.due));
        self.last = now;
        self.known(row, number);
        let out = self.out.get_mut(usize::from(mark.sender));
        if let Some(out) = out
            && (out.room, out.number) == (room, mark.number)
            && out.left > 0
        {
            out.row_number = number;
            out.left -= 1;
            if out.left == 0 && out.answered {
                self.done.push(mark.sender);
            }
        }
    }

    /// Whether the connection, which is in this room, has all that is known to have been given.
    pub(crate) fn has_all(&self, connection: u32, room: u32) -> bool {
        self.missing(connection, room) == 0
    }

    /// Nothing more will come to the connection: what it has not had is lost.
    pub(crate) fn end(&mut self, connection: u32, room: u32) {
        self.counts.lost += self.missing(connection, room);
    }

    fn missing(&self, connection: u32, room: u32) -> u64 {
        let orders = self.orders.iter().skip(connection as usize * self.rows);
        let first = room as usize * self.rows;
        let heads = (first..).zip(self.heads.iter().skip(first));
        let both = orders.zip(heads).take(self.rows);
        both.map(
            |(order, (row, head))| match head.saturating_sub(order.last()) {
                0 => 0,
                missing => missing - doubtful(&self.doubtful, row, order.last(), *head),
            },
        )
        .sum()
    }

    /// Where the heads have the row in which a room's connections see what a sender publishes to it.
    fn row(&self, sender: u16, room: u32) -> usize {
        let row = match self.rooms {
            Rooms::Tasks(_) => 0,
            Rooms::Numbers => usize::from(sender),
        };
        room as usize * self.rows + row
    }

    fn index(&self, sender: u16, room: u32) -> usize {
        room as usize * self.senders + usize::from(sender)
    }

    fn known(&mut self, row: usize, number: u64) {
        if let Some(head) = self.heads.get_mut(row) {
            *head = number.max(*head);
        }
    }

    /// The mark of a message, and the number by which the connection knows it.
    fn read(&mut self, connection: u32, room: u32, message: &[u8]) -> Option<(Mark, Option<u64>)> {
        let Rooms::Tasks(_) = self.rooms else {
            let mark = self.marker.find(message)?;
            return Some((mark, Some(u64::from(mark.number))));
        };
        let next = self.orders.get(connection as usize)?.last() + 1;
        let known = self.recent.as_ref().and_then(|it| it.get(next, message));
        if let Some(mark) = known {
            return Some((mark, Some(next)));
        }
        let (mark, number) = (self.marker.find(message)?, self.seq(message, room));
        if let (Some(recent), Some(number)) = (&mut self.recent, number) {
            recent.put(number, message, mark);
        }
        Some((mark, number))
    }

    /// The number that an event has in this room.
    fn seq(&self, message: &[u8], room: u32) -> Option<u64> {
        let at = self.seq.find(message)? + self.seq.needle().len();
        let (digits, rest) = message.get(at..)?.split_at_checked(ROOM_DIGITS)?;
        let named = u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        (named == room).then(|| number(rest.strip_prefix(b"\":")?))?
    }

    /// Of what the server says about itself, gaps count. They are rare.
    fn system(&mut self, connection: u32, room: u32, message: &[u8]) {
        let Rooms::Tasks(base) = self.rooms else {
            return;
        };
        let text = str::from_utf8(message).unwrap_or_default();
        let Ok(Message::System(system)) = Message::parse(text) else {
            return;
        };
        let Notice::Gap(gap) = system.notice else {
            return;
        };
        let task = RoomId::Task(fanfare_core::TaskId::new(Rooms::task(base, room)));
        let tried = self.tried.get(room as usize).copied().unwrap_or_default();
        if let (Some(order), Some(to)) = (self.orders.get_mut(connection as usize), gap.to)
            && gap.room == task
        {
            let from = gap.from.map_or(0, Seq::number);
            let (missed, told) = order.skip(from, to.number().min(tried));
            self.counts.lost += missed;
            self.counts.gaps += told;
        }
    }
}

/// How many publishes of a row, behind one number up to another, nobody knows of.
fn doubtful(all: &BTreeSet<(usize, u64)>, row: usize, after: u64, to: u64) -> u64 {
    all.range((row, after + 1)..=(row, to)).count() as u64
}

/// The number that these bytes begin with.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    let mut number = None;
    for digit in bytes.iter().take_while(|byte| byte.is_ascii_digit()) {
        let before = number.unwrap_or(0_u64);
        number = Some(
            before
                .checked_mul(10)?
                .checked_add(u64::from(digit - b'0'))?,
        );
    }
    number
}

#[cfg(test)]
mod tests {
    use super::super::mark::BYTES;
    use super::*;

    const BASE: Uuid = Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_0000_0000);

    /// What a sender's next publish to room 1 bears.
    fn publish(ledger: &mut Ledger, sender: u16) -> String {
        let mut data = vec![b'x'; BYTES + 4];
        ledger.send(sender, 1, 500, 2, &mut data);
        String::from_utf8(data).unwrap()
    }

    fn event(seq: u64, data: &str) -> String {
        let task = Rooms::task(BASE, 1);
        format!(
            r#"{{"type":"chat:message","id":"x","at":"y","rooms":{{"task:{task}":{seq},"user:7":9}},"data":"{data}"}}"#
        )
    }

    fn counts(deliveries: u64, lost: u64, doubled: u64, out_of_order: u64) -> Counts {
        Counts {
            deliveries,
            lost,
            doubled,
            out_of_order,
            ..Counts::default()
        }
    }

    #[test]
    fn of_fanfare_the_rooms_numbers_tell_what_is_wrong() {
        let mut ledger = Ledger::new(Rooms::Tasks(BASE), 4, 2, 3);
        let events: Vec<_> = (1..=6)
            .map(|seq| event(seq, &publish(&mut ledger, u16::try_from(seq % 3).unwrap())))
            .collect();
        for (came, counted) in [
            (1, counts(1, 0, 0, 0)),
            (1, counts(1, 0, 1, 0)),
            (4, counts(2, 2, 1, 0)),
            (3, counts(3, 1, 1, 1)),
            (3, counts(3, 1, 2, 1)),
        ] {
            ledger.message(1, 1, events[came - 1].as_bytes(), 1_500);
            assert_eq!(ledger.counts, counted, "{came}");
        }
        assert_eq!(ledger.latency.max(), 1_000);
        // Another connection has all, the one before lacks the last two.
        ledger.counts = Counts::default();
        for event in &events {
            ledger.message(3, 1, event.as_bytes(), 1_500);
        }
        assert!(ledger.has_all(3, 1) && !ledger.has_all(1, 1));
        ledger.end(3, 1);
        assert_eq!(ledger.counts, counts(6, 0, 0, 0));
        ledger.end(1, 1);
        assert_eq!(ledger.counts, counts(6, 2, 0, 0));
    }

    #[test]
    fn what_a_receipt_tells_and_nobody_gets_is_lost() {
        let mut ledger = Ledger::new(Rooms::Tasks(BASE), 2, 2, 1);
        publish(&mut ledger, 0);
        assert!(ledger.has_all(1, 1));
        ledger.answered(0, Some(1));
        assert!(!ledger.has_all(1, 1) && ledger.has_all(0, 0));
        ledger.end(1, 1);
        assert_eq!(ledger.counts.lost, 1);
    }

    #[test]
    fn a_gap_that_is_told_is_no_loss() {
        let mut ledger = Ledger::new(Rooms::Tasks(BASE), 2, 2, 1);
        let mut last = String::new();
        for _ in 0..5 {
            last = publish(&mut ledger, 0);
        }
        let task = Rooms::task(BASE, 1);
        for (room, gaps) in [("user:7".to_owned(), 0), (format!("task:{task}"), 4)] {
            let gap = format!(
                r#"{{"type":"system:gap","data":{{"room":"{room}","epoch":"k","from":1,"to":4,"reason":"slow"}}}}"#
            );
            ledger.message(1, 1, gap.as_bytes(), 0);
            assert_eq!(ledger.counts.gaps, gaps, "{room}");
        }
        ledger.message(1, 1, event(5, &last).as_bytes(), 0);
        assert_eq!((ledger.counts.lost, ledger.counts.deliveries), (0, 1));
        // One that comes in spite of it makes up for no loss of another.
        ledger.counts.lost = 1;
        ledger.message(1, 1, event(3, &last).as_bytes(), 0);
        assert_eq!(ledger.counts.lost, 1);
        assert_eq!(ledger.counts.doubled, 1);
    }

    #[test]
    fn in_raw_mode_each_senders_numbers_tell_it() {
        let mut ledger = Ledger::new(Rooms::Numbers, 2, 2, 2);
        let all: Vec<_> = (0..4).map(|_| publish(&mut ledger, 0)).collect();
        let other = publish(&mut ledger, 1);
        for (message, counted) in [
            (&all[1], counts(1, 1, 0, 0)),
            (&other, counts(2, 1, 0, 0)),
            (&all[0], counts(3, 0, 0, 1)),
            (&all[0], counts(3, 0, 1, 1)),
            (&all[2], counts(4, 0, 1, 1)),
        ] {
            ledger.message(1, 1, message.as_bytes(), 500);
            assert_eq!(ledger.counts, counted, "{message}");
        }
        // The other room had a first number of the same sender too.
        ledger.send(0, 0, 0, 1, &mut [0; BYTES]);
        ledger.message(0, 0, all[0].as_bytes(), 500);
        assert_eq!(std::mem::take(&mut ledger.counts.unexpected), 1);
        // A refused publish has no number: the next one has it.
        publish(&mut ledger, 0);
        ledger.failed(0, true);
        let next = publish(&mut ledger, 0);
        assert_eq!(ledger.marker.find(next.as_bytes()).unwrap().number, 5);
        ledger.answered(0, None);
        ledger.end(1, 1);
        assert_eq!(ledger.counts.lost, 2);
    }

    #[test]
    fn in_raw_mode_it_is_no_loss_not_to_get_what_the_server_may_not_have_taken() {
        let mut ledger = Ledger::new(Rooms::Numbers, 4, 2, 2);
        let all: Vec<_> = (0..4).map(|_| publish(&mut ledger, 1)).collect();
        // As if the second had failed before the third was sent.
        ledger.doubtful.insert((3, 2));
        let mut got = |connection, number: usize, counted| {
            ledger.message(connection, 1, all[number - 1].as_bytes(), 500);
            assert_eq!(ledger.counts, counted, "{connection} {number}");
        };
        got(1, 1, counts(1, 0, 0, 0));
        got(1, 3, counts(2, 0, 0, 0));
        // A loss beside it is one, and what comes late and was none makes up for none.
        got(3, 4, counts(3, 2, 0, 0));
        got(1, 2, counts(4, 2, 0, 1));
        ledger.end(1, 1);
        assert_eq!(ledger.counts.lost, 3);
        publish(&mut ledger, 1);
        ledger.failed(1, false);
        publish(&mut ledger, 1);
        ledger.answered(1, None);
        ledger.end(3, 1);
        assert_eq!(ledger.counts.lost, 4);
    }

    #[test]
    fn a_publish_does_not_wait_for_who_is_gone() {
        for rooms in [Rooms::Tasks(BASE), Rooms::Numbers] {
            let mut ledger = Ledger::new(rooms, 4, 2, 1);
            let data = publish(&mut ledger, 0);
            let message = match rooms {
                Rooms::Tasks(_) => event(1, &data),
                Rooms::Numbers => data,
            };
            ledger.message(1, 1, message.as_bytes(), 0);
            ledger.answered(0, Some(1));
            // Who had it was not waited for, nor who is in another room.
            ledger.gone(1, 1);
            ledger.gone(0, 0);
            assert_eq!(ledger.next_done(), None);
            ledger.gone(3, 1);
            assert_eq!((ledger.next_done(), ledger.next_done()), (Some(0), None));
        }
    }

    #[test]
    fn what_nobody_sent_is_unexpected_and_numbers_of_a_liar_cost_nothing() {
        let mut ledger = Ledger::new(Rooms::Tasks(BASE), 4, 2, 1);
        let data = publish(&mut ledger, 0);
        let sent = event(1, &data);
        for message in [
            event(2, &data),
            event(u64::MAX, &data),
            event(1, &data).replace("0001\":1", "0000\":1"),
            event(1, &data).replace("0001\":1", "0001\":"),
            event(1, &data).replace("0001\":1", "0001\":99999999999999999999999"),
            event(1, &data.replace("-0000000001", "-0001000001")),
            event(
                1,
                &data.replace("-000000000100000001", "-000000000100000002"),
            ),
            data.clone(),
        ] {
            ledger.message(1, 1, message.as_bytes(), 0);
            assert_eq!(
                std::mem::take(&mut ledger.counts).unexpected,
                1,
                "{message}"
            );
        }
        // To who is in another room.
        ledger.message(0, 0, sent.as_bytes(), 0);
        assert_eq!(std::mem::take(&mut ledger.counts).unexpected, 1);
        ledger.message(1, 1, sent.as_bytes(), 0);
        assert_eq!(ledger.counts, counts(1, 0, 0, 0));
        for nothing in ["", "{}", r#"{"type":"system:gap"}"#, r#"{"type":"system:"#] {
            ledger.message(1, 1, nothing.as_bytes(), 0);
        }
        assert_eq!(ledger.counts, counts(1, 0, 0, 0));
    }

    #[test]
    fn a_publish_is_done_when_it_was_answered_and_is_everywhere() {
        let mut ledger = Ledger::new(Rooms::Numbers, 4, 2, 2);
        let data = publish(&mut ledger, 1);
        ledger.message(1, 1, data.as_bytes(), 0);
        ledger.answered(1, None);
        assert_eq!(ledger.next_done(), None);
        // Twice at the same connection is not everywhere.
        ledger.message(1, 1, data.as_bytes(), 0);
        assert_eq!(ledger.next_done(), None);
        ledger.message(3, 1, data.as_bytes(), 0);
        assert_eq!((ledger.next_done(), ledger.next_done()), (Some(1), None));
        assert!(!ledger.give_up(1));

        let data = publish(&mut ledger, 1);
        ledger.message(1, 1, data.as_bytes(), 0);
        ledger.message(3, 1, data.as_bytes(), 0);
        assert_eq!(ledger.next_done(), None);
        ledger.answered(1, None);
        assert_eq!(ledger.next_done(), Some(1));

        publish(&mut ledger, 1);
        assert!(!ledger.give_up(1), "it was not answered");
        ledger.answered(1, None);
        assert!(ledger.give_up(1));
        assert_eq!(ledger.next_done(), Some(1));
    }
}
