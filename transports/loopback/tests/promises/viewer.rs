//! One connection, judged by what it has read so far.

use crate::history::{Fact, History, Mark};
use crate::plan::{TASK_LOG, USER_LOG};
use fanfare_core::{DeviceId, Endpoint, RoomId, TaskGrant, UserId};
use fanfare_loopback::{Handshake, SeenEvent};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Stands for the room's own epoch, in a device's cursor.
const OWN_EPOCH: &str = "";

/// A position that a client named: an epoch and a number. Of a device's cursor it may be known only that it is not less
/// than the first number and not more than the second.
type Since = (String, u64, u64);

#[derive(Debug)]
struct Standing {
    /// The number of the next kept event; of one that goes on at a cursor, at most `latest`.
    next: u64,
    latest: u64,
    /// A gap has to come before anything else of the room: the position that could not be resumed.
    owed_gap: Option<Since>,
}

#[derive(Debug)]
pub(crate) struct Viewer {
    handshake: Handshake,
    since: BTreeMap<RoomId, Since>,
    rooms: BTreeMap<RoomId, Standing>,
    welcomed: bool,
    /// Messages that were not answered yet, by `ref`.
    asked: BTreeMap<u64, Value>,
    seen: BTreeSet<Mark>,
    /// The place in the order of all of the last kept event.
    last_kept: usize,
    /// What was not kept and came while the connection read all at once.
    owed: BTreeSet<Mark>,
    /// The place of the newest event when it joined a room from a position: what is not newer may come again through it.
    replayed: usize,
    pub(crate) slow: bool,
    pub(crate) disconnected: bool,
    /// The server ends, and says so.
    pub(crate) drained: bool,
    /// The server ended without a word.
    pub(crate) cut: bool,
    /// The store did not do what was asked of it.
    pub(crate) store_failed: bool,
    /// By a goodbye, why it will be closed.
    pub(crate) was_told: bool,
}

impl Viewer {
    pub(crate) fn new(handshake: Handshake) -> Self {
        let since = handshake.positions().iter().map(|(room, position)| {
            (
                *room,
                (
                    position.epoch.to_string(),
                    position.seq.number(),
                    position.seq.number(),
                ),
            )
        });
        Self {
            since: since.collect(),
            handshake,
            rooms: BTreeMap::new(),
            welcomed: false,
            asked: BTreeMap::new(),
            seen: BTreeSet::new(),
            last_kept: 0,
            owed: BTreeSet::new(),
            replayed: 0,
            slow: false,
            disconnected: false,
            drained: false,
            cut: false,
            store_failed: false,
            was_told: false,
        }
    }

    /// The device that it comes from.
    pub(crate) fn device(&self) -> Option<(UserId, DeviceId)> {
        Some((self.user()?, self.handshake.device_name()?.clone()))
    }

    pub(crate) const fn is_welcomed(&self) -> bool {
        self.welcomed
    }

    /// Its device was there before, and named no position now.
    pub(crate) fn goes_on_at(&mut self, room: RoomId, from: u64, to: u64) {
        let named = self.since.entry(room);
        named.or_insert_with(|| (OWN_EPOCH.to_owned(), from, to));
    }

    /// *No leak*: what its token names, and its user's own room.
    fn may_see(&self, room: RoomId) -> bool {
        match room {
            RoomId::User(user) => self.handshake.user() == Some(user),
            RoomId::Task(task) => match self.handshake.grant() {
                TaskGrant::All => true,
                TaskGrant::Only(tasks) => tasks.contains(&task),
            },
        }
    }

    pub(crate) fn says(&mut self, message: Value) {
        if let Some(reference) = message["ref"].as_u64() {
            self.asked.insert(reference, message);
        }
    }

    /// The message with this `ref`, while it is not answered.
    pub(crate) fn asked(&self, reference: u64) -> Option<&Value> {
        self.asked.get(&reference)
    }

    pub(crate) fn user(&self) -> Option<UserId> {
        self.handshake.user()
    }

    /// An event that is not kept was published, and this connection reads all at once.
    pub(crate) fn owes(&mut self, mark: Mark, fact: &Fact) {
        let quick = self.welcomed && !self.slow && !self.disconnected;
        let is_in = |room: &RoomId| self.rooms.contains_key(room) && !self.is_leaving(*room);
        if quick && fact.rooms.iter().any(is_in) {
            self.owed.insert(mark);
        }
    }

    pub(crate) fn system(
        &mut self,
        kind: &str,
        data: &Value,
        history: &mut History,
    ) -> Result<(), String> {
        if !self.welcomed && !matches!(kind, "system:welcome" | "system:goodbye") {
            return Err(format!("{kind} came before the welcome"));
        }
        match kind {
            "system:welcome" => self.welcome(data, history),
            "system:joined" => {
                let room = room(&data["room"])?;
                let asks =
                    |message: &&Value| message["op"] == "join" && message["room"] == data["room"];
                let asked = self
                    .asked
                    .values()
                    .find(asks)
                    .ok_or("nobody asked to join")?;
                let since = position(&asked["since"]);
                // Who is in a room already goes on there.
                if self.rooms.contains_key(&room) {
                    return Ok(());
                }
                if since.is_some() {
                    self.replayed = history.places.len();
                }
                self.enter(room, since, data, history)
            }
            "system:left" => {
                let room = room(&data["room"])?;
                self.rooms
                    .remove(&room)
                    .map(drop)
                    .ok_or_else(|| format!("left {room}, in which it was not"))
            }
            "system:gap" => self.gap(data, history),
            "system:reply" => {
                let reference = data["ref"].as_u64().unwrap_or_default();
                let asked = self
                    .asked
                    .remove(&reference)
                    .ok_or("a reply that nobody waits for")?;
                let ok = data["ok"] == true;
                let room = room(&asked["room"]).ok();
                let is_in = room.is_some_and(|room| self.rooms.contains_key(&room));
                match asked["op"].as_str() {
                    Some("join") if ok != is_in && !self.is_deleted(room, history) => {
                        if is_in && self.store_failed {
                            return Ok(());
                        }
                        Err("the reply to a join is not what happened".to_owned())
                    }
                    Some("leave") if is_in => Err("is in a room that it left".to_owned()),
                    _ => Ok(()),
                }
            }
            "system:goodbye" => {
                let may = match data["code"].as_u64() {
                    Some(4008 | 4012) => self.slow,
                    Some(4001) => self.drained,
                    Some(4014) => self.store_failed,
                    Some(4503) => self.disconnected,
                    Some(4507) => !self.may_see_its_endpoint(),
                    Some(4501) => {
                        matches!(self.handshake.endpoint(), Endpoint::Task(task) if self.is_deleted(Some((*task).into()), history))
                    }
                    _ => false,
                };
                self.was_told = true;
                may.then_some(())
                    .ok_or_else(|| "a close without a reason".to_owned())
            }
            _ => Err("a message that nobody expects".to_owned()),
        }
    }

    /// *No leak*: where its token does not let it in.
    pub(crate) fn may_see_its_endpoint(&self) -> bool {
        match self.handshake.endpoint() {
            Endpoint::Task(task) => self.may_see((*task).into()),
            Endpoint::Notifications | Endpoint::Bus(_) => true,
        }
    }

    /// It asked to, and has not read the answer.
    fn is_leaving(&self, room: RoomId) -> bool {
        let room = room.to_string();
        let leaves = |it: &Value| it["op"] == "leave" && it["room"] == room;
        self.asked.values().any(leaves)
    }

    fn is_deleted(&self, room: Option<RoomId>, history: &mut History) -> bool {
        room.is_some_and(|room| history.room(room).deleted)
    }

    fn welcome(&mut self, data: &Value, history: &mut History) -> Result<(), String> {
        if std::mem::replace(&mut self.welcomed, true) {
            return Err("a second welcome".to_owned());
        }
        let mut expected: BTreeSet<RoomId> = self
            .handshake
            .user()
            .map(RoomId::User)
            .into_iter()
            .collect();
        if let Endpoint::Task(task) = self.handshake.endpoint() {
            expected.insert((*task).into());
        }
        let rooms = data["rooms"].as_object().ok_or("a welcome without rooms")?;
        let rooms: BTreeMap<RoomId, &Value> = rooms
            .iter()
            .map(|(room, standing)| Ok((room.parse().map_err(|_| "no room")?, standing)))
            .collect::<Result<_, String>>()?;
        if rooms.keys().copied().collect::<BTreeSet<_>>() != expected {
            return Err(format!("welcomed to other rooms than {expected:?}"));
        }
        if let Some(user) = self.user() {
            let seq = rooms
                .get(&RoomId::from(user))
                .and_then(|it| it["seq"].as_u64());
            let unread = history.room(user.into()).unread(seq.unwrap_or_default());
            let told = data["inbox"]["unread"].as_u64();
            // Who does not read at once may be told of a later moment.
            if !self.slow && told != Some(unread.len() as u64) {
                return Err(format!("welcomed with another count than {unread:?}"));
            }
        }
        for (room, standing) in rooms {
            let since = self.since.remove(&room);
            self.enter(room, since, standing, history)?;
        }
        Ok(())
    }

    fn enter(
        &mut self,
        room: RoomId,
        since: Option<Since>,
        standing: &Value,
        history: &mut History,
    ) -> Result<(), String> {
        if !self.may_see(room) {
            return Err(format!("let into {room}"));
        }
        let epoch = standing["epoch"].as_str().ok_or("no epoch")?;
        history.epoch(room, epoch)?;
        let seq = standing["seq"].as_u64().ok_or("no seq")?;
        if seq > history.room(room).head() {
            return Err(format!("{room} stands at {}", history.room(room).head()));
        }
        let since = since.map(|(of, from, to)| {
            let of = if of == OWN_EPOCH {
                epoch.to_owned()
            } else {
                of
            };
            (of, from, to)
        });
        let (next, latest, owed_gap) = match (since, standing["recovered"].as_bool()) {
            (None, None) => (seq + 1, seq + 1, None),
            (Some((of, from, to)), Some(true)) if of == epoch && from <= seq => {
                (from + 1, to.min(seq) + 1, None)
            }
            (Some(since), Some(false)) => (since.1 + 1, since.2 + 1, Some(since)),
            other => return Err(format!("{room}: recovered from {other:?}")),
        };
        let standing = Standing {
            next,
            latest,
            owed_gap,
        };
        self.rooms.insert(room, standing);
        Ok(())
    }

    /// *No silent gap*, and none without a reason.
    fn gap(&mut self, data: &Value, history: &mut History) -> Result<(), String> {
        let room = room(&data["room"])?;
        let standing = self
            .rooms
            .get_mut(&room)
            .ok_or("a gap in a room in which it is not")?;
        let from = data["from"].as_u64().ok_or("no from")?;
        let to = data["to"].as_u64().ok_or("no to")?;
        let known = history.room(room);
        let kept = match room {
            RoomId::Task(_) => TASK_LOG,
            RoomId::User(_) => USER_LOG,
        };
        let mut is_lost = to + kept <= known.head() || known.deleted;
        // Rows may be read as a commit left them that is not answered yet: what takes their place is there then.
        if let Some(coming) = &mut history.coming
            && !is_lost
            && data["reason"] != "epoch"
        {
            coming.push((room, to + kept));
            is_lost = true;
        }
        let known = history.room(room);
        let owed = standing.owed_gap.take();
        let expected = standing.next..=standing.latest;
        let (begins, has_reason) = match (data["reason"].as_str(), &owed) {
            (Some("epoch"), Some((epoch, _, seq))) => (
                1..=1,
                known.epoch.as_ref() != Some(epoch) || *seq > known.head(),
            ),
            (Some("trimmed"), _) => (expected, is_lost),
            (Some("slow"), _) => (expected, is_lost && self.slow),
            _ => (from..=from, false),
        };
        if !begins.contains(&from) || !has_reason || to > known.head() {
            return Err(format!(
                "a gap without a reason: {room} from {begins:?}, owed {owed:?}, head {}",
                known.head()
            ));
        }
        (standing.next, standing.latest) = (to + 1, to + 1);
        Ok(())
    }

    pub(crate) fn event(
        &mut self,
        mark: Mark,
        event: &SeenEvent,
        fact: &Fact,
        history: &mut History,
    ) -> Result<(), String> {
        if !self.welcomed {
            return Err("came before the welcome".to_owned());
        }
        if event.rooms.is_empty() {
            return Err("came through no room".to_owned());
        }
        self.owed.remove(&mark);
        let again = !self.seen.insert(mark);
        // Of what was under way in a crash the place is not known.
        let place = history.places.get(&mark).copied();
        let is_new = place.is_some_and(|place| place > self.replayed);
        // A deletion does not wait for what a slow client has not read of its user's room, and stands there again: the log
        // of the task, in which it could be found later, is gone.
        let is_deletion = fact.kind == "task:deleted";
        if again && is_new && !is_deletion && !history.anew.contains(&mark) {
            return Err("came twice".to_owned());
        }
        // What was missed in several rooms comes in the order of all, then what is new.
        if !event.ephemeral && !is_deletion {
            let place = place.unwrap_or(self.last_kept);
            let before = std::mem::replace(&mut self.last_kept, place);
            if before > place && is_new {
                return Err(format!("came as {place} after {before}"));
            }
        }
        for (room, seq) in &event.rooms {
            let Some(standing) = self.rooms.get_mut(room) else {
                return Err(format!(
                    "came through {room}, in which the connection is not"
                ));
            };
            if event.ephemeral {
                if *seq > history.room(*room).head() {
                    return Err(format!("stands beyond the head of {room}"));
                }
                continue;
            }
            let expected = standing.next..=standing.latest;
            if standing.owed_gap.is_some() || !expected.contains(seq) {
                return Err(format!("{room}: expected {standing:?}"));
            }
            (standing.next, standing.latest) = (seq + 1, seq + 1);
            history.number(*room, *seq, mark)?;
        }
        self.count(event, history)?;
        // *Once per connection*: with all its rooms at once. Of a deleted room the rest is said to be missing, and
        // a client that leaves has asked for no more.
        if event.ephemeral || is_deletion || !is_new {
            return Ok(());
        }
        let late = fact.rooms.iter().find(|room| {
            let still_to_come = |it: &Standing| history.seq_of(**room, mark) >= Some(it.latest);
            let is_deleted = history.rooms.get(room).is_some_and(|it| it.deleted);
            !is_deleted
                && !self.is_leaving(**room)
                && self.rooms.get(room).is_some_and(still_to_come)
        });
        late.map_or(Ok(()), |room| Err(format!("came without {room}")))
    }

    /// All are told the same count after the same event; who reads at once is told with every event.
    fn count(&self, event: &SeenEvent, history: &History) -> Result<(), String> {
        let user = self.user().map(RoomId::User);
        let through = user.and_then(|room| Some((room, event.rooms.get(&room)?)));
        let Some((room, seq)) = through else {
            let is_told = event.unread.is_some();
            return if is_told {
                Err("a count of another room".to_owned())
            } else {
                Ok(())
            };
        };
        let known = history.rooms.get(&room);
        let count = known.map_or(0, |it| it.unread(*seq).len() as u64);
        match event.unread {
            Some(unread) if unread != count => Err(format!("the user has {count} unread")),
            _ => Ok(()),
        }
    }

    /// Nothing is owed to who is still there and has read all.
    pub(crate) fn end(&self, history: &History) -> Result<(), String> {
        if !self.welcomed || !self.asked.is_empty() {
            return Err(format!("still waits for {:?}", self.asked));
        }
        for (room, standing) in &self.rooms {
            let head = history
                .rooms
                .get(room)
                .map_or(0, crate::history::Room::head);
            let expected = standing.next..=standing.latest;
            if standing.owed_gap.is_some() || !expected.contains(&(head + 1)) {
                return Err(format!("{room} is at {head}, and {standing:?}"));
            }
        }
        if !self.slow && !self.owed.is_empty() {
            return Err(format!("did not get {:?}, though it read all", self.owed));
        }
        Ok(())
    }
}

fn room(value: &Value) -> Result<RoomId, String> {
    let text = value.as_str().ok_or("no room")?;
    text.parse().map_err(|error| format!("{error}"))
}

fn position(value: &Value) -> Option<Since> {
    let seq = value["seq"].as_u64()?;
    Some((value["epoch"].as_str()?.to_owned(), seq, seq))
}
