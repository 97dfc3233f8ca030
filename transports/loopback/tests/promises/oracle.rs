//! The judge: is fed with what can be seen from outside, and says which promise was broken.
//!
//! It looks at each batch of observations twice: first it learns what happened (answers to publishes, and what the witness
//! saw, which reads at once), then it judges what everybody else was told.

mod after;
mod cursors;
mod publishes;

pub(crate) use after::{Found, Log};

use self::cursors::Cursor;
use self::publishes::{Flight, Used, content_of, fact_of, mark_of};
use crate::history::{Fact, History, Mark};
use crate::lifecycle::Life;
use crate::viewer::Viewer;
use fanfare_core::{DeviceId, Publish, Retention, RoomId, StoreFailure, TaskId, Ticket, UserId};
use fanfare_loopback::{Client, Handshake, Observation, Observed, Received, Restart, SeenEvent};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What at least one script has to come to.
pub(crate) const MARKS: [&str; 18] = [
    "a retry",
    "an id reused",
    "a lifecycle refusal",
    "a gap: trimmed",
    "a gap: slow",
    "a gap: epoch",
    "recovered",
    "an event through two rooms",
    "an event from a client",
    "a join",
    "a leave",
    "a refused message",
    "a goodbye",
    "a deletion",
    "a read",
    "an ack",
    "a device goes on",
    "a count of what is unread",
];

/// And of those over a store.
pub(crate) const STORE_MARKS: [&str; 12] = [
    "a crash",
    "an orderly end",
    "a publish refused by a full disk",
    "a publish refused by a store that failed",
    "a read of the store that failed",
    "there after a crash, and not answered",
    "not there after a crash, and not answered",
    "there after a failed commit",
    "two of one id under way",
    "a lifecycle refusal under way",
    "an ack that a crash cut short",
    "a message that a crash cut short",
];

#[derive(Debug)]
pub(crate) struct Oracle {
    /// Subscribed to everything, and reads at once.
    witness: Client,
    witnessed: BTreeSet<Mark>,
    accepted: BTreeSet<Mark>,
    history: History,
    lives: BTreeMap<TaskId, Life>,
    ids: BTreeMap<String, Used>,
    viewers: BTreeMap<Client, Viewer>,
    cursors: BTreeMap<(UserId, DeviceId), Cursor>,
    /// By its id, what the server said in a user's room.
    reads: BTreeMap<String, Mark>,
    /// What clients sent and nobody has seen yet.
    sent: BTreeMap<Mark, Fact>,
    flying: BTreeMap<Ticket, Flight>,
    /// What was refused since the store failed: whether it was kept is seen after a restart.
    doubtful: Vec<Publish>,
    /// Where ephemeral events said that their rooms stood: not before what was so when they began, nor beyond.
    stood: Vec<(RoomId, u64, u64)>,
    commit_failed: Option<StoreFailure>,
    read_failed: bool,
    ends: Option<Restart>,
    marks: BTreeMap<&'static str, u64>,
}

impl Oracle {
    pub(crate) fn new(witness: Client, has_store: bool) -> Self {
        Self {
            witness,
            witnessed: BTreeSet::new(),
            accepted: BTreeSet::new(),
            history: History {
                coming: has_store.then(Vec::new),
                ..History::default()
            },
            lives: BTreeMap::new(),
            ids: BTreeMap::new(),
            viewers: BTreeMap::new(),
            cursors: BTreeMap::new(),
            reads: BTreeMap::new(),
            sent: BTreeMap::new(),
            flying: BTreeMap::new(),
            doubtful: Vec::new(),
            stood: Vec::new(),
            commit_failed: None,
            read_failed: false,
            ends: None,
            marks: BTreeMap::new(),
        }
    }

    pub(crate) fn stops_reading(&mut self, client: Client) {
        if let Some(viewer) = self.viewers.get_mut(&client) {
            viewer.slow = true;
        }
    }

    pub(crate) fn reads_at_once(&self, client: Client) -> bool {
        self.viewers.get(&client).is_some_and(|viewer| !viewer.slow)
    }

    pub(crate) fn disconnects(&mut self, user: UserId) {
        for viewer in self.viewers.values_mut() {
            viewer.disconnected |= viewer.user() == Some(user);
        }
    }

    /// The server is about to end.
    pub(crate) fn ends(&mut self, how: Restart) {
        self.ends = Some(how);
        for viewer in self.viewers.values_mut() {
            viewer.drained |= how == Restart::Orderly;
            viewer.cut |= how == Restart::Crash;
        }
    }

    /// All that happened since the last time, after which nothing more happens in this moment.
    pub(crate) fn see(&mut self, seen: Vec<Observation>) -> Result<(), String> {
        let broken = |seen: &Observation, error: String| {
            let told = format!("{} ms: {:?}", seen.time.as_millis(), seen.what);
            format!("{error}\n  at {told}")
        };
        for it in &seen {
            self.learn(&it.what).map_err(|error| broken(it, error))?;
        }
        self.history.settle()?;
        for (room, low, seq) in std::mem::take(&mut self.stood) {
            let head = self.history.room(room).head();
            if !(low..=head).contains(&seq) {
                return Err(format!("{room} stands at {head}, and not at {seq}"));
            }
        }
        for it in seen {
            let told = it.clone();
            self.judge(it.what).map_err(|error| broken(&told, error))?;
        }
        // What comes next is tried again.
        if self.commit_failed == Some(StoreFailure::Full) {
            self.commit_failed = None;
        }
        Ok(())
    }

    fn learn(&mut self, what: &Observed) -> Result<(), String> {
        match what {
            Observed::Said { client, text } => self.said(*client, text),
            Observed::Publishing { ticket, publish } => {
                self.begins(*ticket, publish);
                Ok(())
            }
            Observed::Published { ticket, result, .. } => self.published(*ticket, result),
            Observed::Received {
                client, received, ..
            } if *client == self.witness => self.witnesses(received),
            Observed::CommitFailed(failure) => {
                self.commit_failed = Some(*failure);
                // That a device only came was in it, and may be in memory for a while only.
                for cursor in self.cursors.values_mut().filter(|cursor| !cursor.acked) {
                    cursor.unsure = true;
                }
                let is_final = *failure == StoreFailure::Failed;
                for viewer in self.viewers.values_mut() {
                    viewer.store_failed |= is_final;
                }
                Ok(())
            }
            Observed::ReadFailed => {
                self.mark("a read of the store that failed");
                self.read_failed = true;
                for viewer in self.viewers.values_mut() {
                    viewer.store_failed = true;
                }
                Ok(())
            }
            Observed::Drained if self.ends.is_none() => Err("drained, which nobody asked".into()),
            Observed::Opened { .. }
            | Observed::Disconnected { .. }
            | Observed::Received { .. }
            | Observed::Subscribed { .. }
            | Observed::Restarted { .. }
            | Observed::Drained => Ok(()),
        }
    }

    fn judge(&mut self, what: Observed) -> Result<(), String> {
        match what {
            Observed::Opened { client, handshake } => {
                self.opened(client, handshake);
                Ok(())
            }
            Observed::Disconnected { client } => {
                self.gone(client);
                Ok(())
            }
            Observed::Said { client, text } => {
                let viewer = self.viewers.get_mut(&client).ok_or("nobody said this")?;
                viewer.says(serde_json::from_str(&text).map_err(|error| error.to_string())?);
                Ok(())
            }
            Observed::Published {
                publish,
                result: Ok(receipt),
                ..
            } if !receipt.duplicate() => self.owe(&publish),
            Observed::Received {
                client, received, ..
            } if client != self.witness => self.received(client, &received),
            Observed::Restarted { .. } => {
                for client in self.viewers.keys().copied().collect::<Vec<_>>() {
                    if !self.viewers.get(&client).is_some_and(Viewer::is_welcomed) {
                        self.unsure_of(client);
                    }
                }
                Ok(())
            }
            Observed::Received { .. }
            | Observed::Published { .. }
            | Observed::Publishing { .. }
            | Observed::Subscribed { .. }
            | Observed::CommitFailed(_)
            | Observed::ReadFailed
            | Observed::Drained => Ok(()),
        }
    }

    fn opened(&mut self, client: Client, handshake: Handshake) {
        let mut viewer = Viewer::new(handshake);
        let has_failed = self.commit_failed == Some(StoreFailure::Failed);
        viewer.store_failed = self.read_failed || has_failed;
        self.viewers.insert(client, viewer);
    }

    /// A connection is over. If its device was new, it is not known whether the server has heard of it.
    fn gone(&mut self, client: Client) {
        self.unsure_of(client);
        self.viewers.remove(&client);
    }

    fn unsure_of(&mut self, client: Client) {
        let viewer = self.viewers.get(&client);
        let Some(device) = viewer
            .filter(|viewer| !viewer.is_welcomed() && viewer.may_see_its_endpoint())
            .and_then(Viewer::device)
        else {
            return;
        };
        self.cursors.entry(device).or_insert_with(Cursor::unknown);
    }

    fn mark(&mut self, mark: &'static str) {
        *self.marks.entry(mark).or_default() += 1;
    }

    fn said(&mut self, client: Client, text: &str) -> Result<(), String> {
        let message: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let viewer = self.viewers.get(&client);
        match message["op"].as_str() {
            Some("send") => {
                let room = message["room"].as_str().unwrap_or_default();
                let fact = Fact {
                    kind: message["type"].as_str().unwrap_or_default().to_owned(),
                    data: message["data"].clone(),
                    from: viewer
                        .and_then(Viewer::user)
                        .map(|user| format!("user:{user}")),
                    ephemeral: message["ephemeral"] == true,
                    rooms: [room.parse().map_err(|_| "no room")?].into(),
                    id: String::new(),
                    notifies: false,
                };
                self.sent.insert(mark_of(&fact.data)?, fact);
            }
            Some("ack") => {
                if let Some(cursor) = viewer
                    .and_then(Viewer::device)
                    .and_then(|device| self.cursors.get_mut(&device))
                {
                    cursor.asked.extend(message["seq"].as_u64());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Who is there and reads at once gets also what is not kept.
    fn owe(&mut self, publish: &Publish) -> Result<(), String> {
        let fact = fact_of(publish)?;
        let keyed = matches!(
            publish.draft.retention,
            Retention::Ephemeral { key: Some(_) }
        );
        if fact.ephemeral && !keyed {
            let mark = mark_of(&fact.data)?;
            for viewer in self.viewers.values_mut() {
                viewer.owes(mark, &fact);
            }
        }
        Ok(())
    }

    /// A subscriber of the bus gets every event once, with all its rooms, in the order of all.
    fn witnesses(&mut self, received: &Received) -> Result<(), String> {
        let event = match received {
            Received::Event(event) => event,
            Received::Cut if self.ends.is_some() => return Ok(()),
            Received::Cut
            | Received::System { .. }
            | Received::Ping
            | Received::Closed { .. }
            | Received::Overrun => return Err("a subscriber that reads at once lost some".into()),
        };
        let mark = self.mark_of_event(event)?;
        if let Some(fact) = self.sent.remove(&mark) {
            self.mark("an event from a client");
            let id = event.id.clone();
            self.takes(mark, Fact { id, ..fact });
        }
        let fact = self.fact(mark, event)?;
        if event.rooms.len() != fact.rooms.len() || !self.witnessed.insert(mark) {
            return Err("the bus had it before, or has only a part".to_owned());
        }
        self.history
            .places
            .insert(mark, self.history.places.len() + 1);
        for (room, seq) in event.rooms.iter().filter(|_| !fact.ephemeral) {
            self.history.number(*room, *seq, mark)?;
        }
        Ok(())
    }

    /// What was published as this event, if that is what was seen.
    fn fact(&self, mark: Mark, event: &SeenEvent) -> Result<Fact, String> {
        let fact = self.history.facts.get(&mark).cloned();
        let fact = fact.ok_or("nobody published this")?;
        let seen = Fact {
            kind: event.kind.clone(),
            data: event.data.clone(),
            from: event.from.clone(),
            ephemeral: event.ephemeral,
            rooms: fact.rooms.clone(),
            id: event.id.clone(),
            notifies: fact.notifies,
        };
        if seen != fact {
            return Err(format!("is not what was published: {fact:?}"));
        }
        if let Some(other) = event.rooms.keys().find(|room| !fact.rooms.contains(room)) {
            return Err(format!("was not published to {other}"));
        }
        Ok(fact)
    }

    fn received(&mut self, client: Client, received: &Received) -> Result<(), String> {
        match received {
            Received::Event(event) => self.event(client, event),
            Received::System { kind, data } => self.system(client, kind, data),
            Received::Ping => Ok(()),
            Received::Closed { .. } | Received::Cut => {
                let viewer = self.viewers.get(&client).ok_or("nobody was closed")?;
                let may = viewer.slow || viewer.was_told || viewer.cut;
                self.gone(client);
                may.then_some(())
                    .ok_or_else(|| "closed without a goodbye".to_owned())
            }
            Received::Overrun => Err("nobody subscribes here".to_owned()),
        }
    }

    fn event(&mut self, client: Client, event: &SeenEvent) -> Result<(), String> {
        let mark = self.mark_of_event(event)?;
        let fact = self.fact(mark, event)?;
        if event.rooms.len() > 1 {
            self.mark("an event through two rooms");
        }
        if event.unread.is_some() {
            self.mark("a count of what is unread");
        }
        let viewer = self.viewers.get_mut(&client);
        let viewer = viewer.ok_or("nobody has this connection")?;
        viewer.event(mark, event, &fact, &mut self.history)
    }

    fn system(&mut self, client: Client, kind: &str, data: &Value) -> Result<(), String> {
        if kind == "system:welcome" {
            self.goes_on(client, data)?;
        }
        let viewer = self.viewers.get_mut(&client);
        let viewer = viewer.ok_or("nobody has this connection")?;
        let asked = data["ref"].as_u64();
        let asked = asked.and_then(|it| viewer.asked(it)).cloned();
        viewer.system(kind, data, &mut self.history)?;
        match kind {
            "system:welcome" if data.to_string().contains("\"recovered\":true") => {
                self.mark("recovered");
            }
            "system:joined" => self.mark("a join"),
            "system:left" => self.mark("a leave"),
            "system:goodbye" => self.mark("a goodbye"),
            "system:gap" => self.mark(match data["reason"].as_str() {
                Some("trimmed") => "a gap: trimmed",
                Some("slow") => "a gap: slow",
                _ => "a gap: epoch",
            }),
            "system:reply" if data["ok"] == false => self.mark("a refused message"),
            _ => {}
        }
        let Some(message) = asked else {
            return Ok(());
        };
        match message["op"].as_str() {
            Some("ack") => self.acknowledged(client, message["seq"].as_u64(), data),
            Some("send") => self.answered(&message, data),
            _ => Ok(()),
        }
    }

    /// *What was not answered by success was not kept*, and what was, was.
    fn answered(&mut self, message: &Value, data: &Value) -> Result<(), String> {
        let mark = mark_of(&message["data"])?;
        let is_known = self.history.facts.contains_key(&mark);
        if data["ok"] == true {
            self.accepted.insert(mark);
            return is_known
                .then_some(())
                .ok_or_else(|| "was answered, and the bus has not seen it".to_owned());
        }
        if is_known {
            return Err("was refused, and seen".to_owned());
        }
        // Whether a commit that failed was kept is seen after a restart.
        if data["error"]["code"] != "unavailable" {
            self.sent.remove(&mark);
        }
        Ok(())
    }

    /// Which event it is. What the server itself says in a user's room is new when it is seen first.
    fn mark_of_event(&mut self, event: &SeenEvent) -> Result<Mark, String> {
        if event.kind != "inbox:read" {
            return mark_of(&event.data);
        }
        if let Some(mark) = self.reads.get(&event.id) {
            return Ok(*mark);
        }
        let mark = self.history.newest() + 1;
        self.mark("a read");
        self.reads.insert(event.id.clone(), mark);
        let fact = Fact {
            kind: event.kind.clone(),
            data: event.data.clone(),
            from: None,
            ephemeral: false,
            rooms: event.rooms.keys().copied().collect(),
            id: event.id.clone(),
            notifies: false,
        };
        self.takes(mark, fact);
        Ok(mark)
    }

    /// After everything was read: what was owed has come.
    pub(crate) fn end(
        self,
        open: &BTreeSet<Client>,
    ) -> Result<BTreeMap<&'static str, u64>, String> {
        if !self.witnessed.is_superset(&self.accepted) {
            return Err(format!(
                "the bus had {:?}\n  and accepted was {:?}",
                self.witnessed, self.accepted
            ));
        }
        for (client, viewer) in &self.viewers {
            if open.contains(client) {
                viewer
                    .end(&self.history)
                    .map_err(|error| format!("{client:?} {error}\n  {viewer:?}"))?;
            }
        }
        Ok(self.marks)
    }
}
