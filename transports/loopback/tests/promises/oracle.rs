//! The judge: is fed with what can be seen from outside, and says which promise was broken.

use crate::history::{Fact, History, Mark};
use crate::lifecycle::Life;
use crate::plan::USER_LOG;
use crate::viewer::Viewer;
use fanfare_core::{DeviceId, Error, Publish, Receipt, Retention, RoomId, Target, TaskId, UserId};
use fanfare_loopback::{Client, Handshake, Observed, Received, SeenEvent};
use serde_json::{Value, json};
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

#[derive(Debug)]
pub(crate) struct Oracle {
    /// Subscribed to everything, and reads at once.
    witness: Client,
    witnessed: Vec<Mark>,
    accepted: Vec<Mark>,
    history: History,
    lives: BTreeMap<TaskId, Life>,
    /// By id: what was published as it, and the answer.
    ids: BTreeMap<String, (Value, Receipt)>,
    viewers: BTreeMap<Client, Viewer>,
    /// How far each device of each user acknowledged.
    cursors: BTreeMap<(UserId, DeviceId), u64>,
    /// By its id, what the server said in a user's room.
    reads: BTreeMap<String, Mark>,
    /// What clients sent and nobody has seen yet.
    sent: BTreeMap<Mark, Fact>,
    marks: BTreeMap<&'static str, u64>,
}

impl Oracle {
    pub(crate) fn new(witness: Client) -> Self {
        Self {
            witness,
            witnessed: Vec::new(),
            accepted: Vec::new(),
            history: History::default(),
            lives: BTreeMap::new(),
            ids: BTreeMap::new(),
            viewers: BTreeMap::new(),
            cursors: BTreeMap::new(),
            reads: BTreeMap::new(),
            sent: BTreeMap::new(),
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

    pub(crate) fn see(&mut self, what: Observed) -> Result<(), String> {
        match what {
            Observed::Opened { client, handshake } => {
                self.open(client, handshake);
                Ok(())
            }
            Observed::Disconnected { client } => {
                self.viewers.remove(&client);
                Ok(())
            }
            Observed::Said { client, text } => self.said(client, &text),
            Observed::Published {
                publish, result, ..
            } => self.published(&publish, &result),
            Observed::Publishing { .. } | Observed::Restarted { .. } => Ok(()),
            Observed::Received {
                client, received, ..
            } => self.received(client, &received),
            Observed::Subscribed { .. } => Ok(()),
            Observed::Drained => Err("drained, which nobody asked for".to_owned()),
        }
    }

    /// *Offline is not lost*: a device without a position goes on at its cursor; a new one at the oldest that is unread.
    fn open(&mut self, client: Client, handshake: Handshake) {
        let mut viewer = Viewer::new(handshake);
        if let Some(device) = viewer.device()
            && viewer.is_let_in(&mut self.history)
        {
            let room = RoomId::User(device.0);
            let known = self.history.room(room);
            let head = known.head();
            let mut unread = known.unread.iter();
            let oldest = unread.find(|seq| **seq + USER_LOG > head).copied();
            let is_new = !self.cursors.contains_key(&device);
            let cursor = self.cursors.entry(device);
            let cursor = *cursor.or_insert_with(|| oldest.map_or(head, |seq| seq - 1));
            if !is_new || oldest.is_some() {
                self.mark("a device goes on");
                viewer.goes_on_at(room, cursor);
            }
        }
        self.viewers.insert(client, viewer);
    }

    fn mark(&mut self, mark: &'static str) {
        *self.marks.entry(mark).or_default() += 1;
    }

    fn said(&mut self, client: Client, text: &str) -> Result<(), String> {
        let message: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let viewer = self.viewers.get_mut(&client).ok_or("nobody said this")?;
        if message["op"] == "send" {
            let fact = Fact {
                kind: message["type"].as_str().unwrap_or_default().to_owned(),
                data: message["data"].clone(),
                from: viewer.user().map(|user| format!("user:{user}")),
                ephemeral: message["ephemeral"] == true,
                rooms: [message["room"]
                    .as_str()
                    .unwrap_or_default()
                    .parse()
                    .map_err(|_| "no room")?]
                .into(),
                id: String::new(),
                notifies: false,
            };
            self.sent.insert(mark_of(&fact.data)?, fact);
        }
        viewer.says(message);
        Ok(())
    }

    /// *Atomic publish*, *Retried is not doubled*, *Terminal is terminal*.
    fn published(
        &mut self,
        publish: &Publish,
        result: &Result<Receipt, Error>,
    ) -> Result<(), String> {
        let Publish { target, draft } = publish;
        let data: Value =
            serde_json::from_str(draft.data.as_str()).map_err(|error| error.to_string())?;
        let fact = Fact {
            kind: draft.kind.to_string(),
            data,
            from: None,
            ephemeral: draft.retention != Retention::Kept,
            rooms: rooms(target),
            id: String::new(),
            notifies: notifies(publish),
        };
        let content = json!([
            fact.kind,
            fact.data,
            format!("{:?}", draft.retention),
            format!("{target:?}")
        ]);
        let id = draft.id.as_ref().map(ToString::to_string);
        if let Some((first, receipt)) = id.as_ref().and_then(|id| self.ids.get(id)).cloned() {
            let same = first == content;
            let as_promised = match result {
                Ok(again) => {
                    same && again.duplicate()
                        && again.id() == receipt.id()
                        && again.rooms() == receipt.rooms()
                }
                Err(error) => !same && error.code() == "id_reused",
            };
            self.mark(if same { "a retry" } else { "an id reused" });
            return as_promised
                .then_some(())
                .ok_or_else(|| format!("the id was used for {first}"));
        }
        let life = match target {
            Target::Task { task, .. } => {
                let life = self.lives.entry(*task).or_default();
                let before = *life;
                match (life.after(&fact.kind), result) {
                    (Some(after), Ok(_)) => *life = after,
                    (None, Err(error)) if matches!(error.code(), "lifecycle" | "gone") => {
                        self.mark("a lifecycle refusal");
                        return Ok(());
                    }
                    _ => return Err(format!("the task was {before:?}")),
                }
                *life
            }
            Target::User(_) | Target::Bus => Life::Unknown,
        };
        let receipt = result
            .as_ref()
            .map_err(|error| format!("refused: {error}"))?;
        if receipt.duplicate() {
            return Err("a first publish is no duplicate".to_owned());
        }
        let answered: BTreeSet<RoomId> = receipt.rooms().iter().map(|it| it.room).collect();
        if answered != fact.rooms {
            return Err("the answer names other rooms".to_owned());
        }
        let mark = mark_of(&fact.data)?;
        let fact = Fact {
            id: receipt.id().to_string(),
            ..fact
        };
        self.history.facts.insert(mark, fact.clone());
        for room in receipt.rooms() {
            self.history.epoch(room.room, &room.epoch.to_string())?;
            let (seq, head) = (room.seq.number(), self.history.room(room.room).head());
            if fact.ephemeral && seq != head {
                return Err(format!("{} stands at {head}", room.room));
            }
            if !fact.ephemeral {
                if seq <= head {
                    return Err(format!("{} stands at {head} already", room.room));
                }
                self.history.number(room.room, seq, mark)?;
            }
        }
        if life == Life::Deleted {
            self.mark("a deletion");
            for room in &fact.rooms {
                if matches!(room, RoomId::Task(_)) {
                    self.history.room(*room).deleted = true;
                }
            }
        }
        let keyed = matches!(draft.retention, Retention::Ephemeral { key: Some(_) });
        if fact.ephemeral && !keyed {
            for viewer in self.viewers.values_mut() {
                viewer.owes(mark, &fact);
            }
        }
        if let Some(id) = id {
            self.ids.insert(id, (content, receipt.clone()));
        }
        self.accepted.push(mark);
        Ok(())
    }

    fn received(&mut self, client: Client, received: &Received) -> Result<(), String> {
        match received {
            Received::Event(event) => self.event(client, event),
            Received::System { kind, data } => self.system(client, kind, data),
            Received::Ping => Ok(()),
            Received::Closed { .. } | Received::Cut => {
                let viewer = self.viewers.remove(&client).ok_or("nobody was closed")?;
                let may = viewer.slow || viewer.was_told;
                may.then_some(())
                    .ok_or_else(|| "closed without a goodbye".to_owned())
            }
            Received::Overrun => Err("a subscriber that reads at once was overrun".to_owned()),
        }
    }

    fn event(&mut self, client: Client, event: &SeenEvent) -> Result<(), String> {
        let mark = self.mark_of_event(event)?;
        if let Some(fact) = self.sent.remove(&mark) {
            self.mark("an event from a client");
            self.accepted.push(mark);
            let id = event.id.clone();
            self.history.facts.insert(mark, Fact { id, ..fact });
        }
        let fact = self
            .history
            .facts
            .get(&mark)
            .cloned()
            .ok_or("nobody published this")?;
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
        if event.rooms.len() > 1 {
            self.mark("an event through two rooms");
        }
        if client != self.witness {
            if event.unread.is_some() {
                self.mark("a count of what is unread");
            }
            let viewer = self
                .viewers
                .get_mut(&client)
                .ok_or("nobody has this connection")?;
            return viewer.event(mark, event, &fact, &mut self.history);
        }
        // A subscriber of the bus gets every event once, with all its rooms, in the order of all.
        if event.rooms.len() != fact.rooms.len()
            || self.witnessed.last().is_some_and(|last| *last >= mark)
        {
            return Err(format!("the bus had {:?} before", self.witnessed.last()));
        }
        self.witnessed.push(mark);
        for (room, seq) in &event.rooms {
            if !fact.ephemeral {
                self.history.number(*room, *seq, mark)?;
            }
        }
        Ok(())
    }

    fn system(&mut self, client: Client, kind: &str, data: &Value) -> Result<(), String> {
        let viewer = self
            .viewers
            .get_mut(&client)
            .ok_or("nobody has this connection")?;
        let asked = data["ref"]
            .as_u64()
            .and_then(|it| viewer.asked(it))
            .cloned();
        viewer.system(kind, data, &mut self.history)?;
        match kind {
            "system:welcome" if data.to_string().contains("\"recovered\":true") => {
                self.mark("recovered")
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
        if message["op"] == "ack" && data["ok"] == true {
            self.acknowledged(client, message["seq"].as_u64(), data)?;
        }
        if message["op"] != "send" {
            return Ok(());
        }
        // *What was not answered by success was not kept*, and what was, was.
        let mark = mark_of(&message["data"])?;
        match (data["ok"] == true, self.sent.remove(&mark)) {
            (true, Some(fact)) => {
                self.accepted.push(mark);
                let id = data["id"].as_str().unwrap_or_default().to_owned();
                self.history.facts.insert(mark, Fact { id, ..fact });
            }
            (false, None) => return Err("was refused, and seen".to_owned()),
            (true, None) | (false, Some(_)) => {}
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
        self.history.facts.insert(mark, fact);
        self.accepted.push(mark);
        Ok(mark)
    }

    /// *Acknowledged is final*: the cursor is the furthest of all acknowledgements.
    fn acknowledged(
        &mut self,
        client: Client,
        seq: Option<u64>,
        data: &Value,
    ) -> Result<(), String> {
        self.mark("an ack");
        let device = self.viewers.get(&client).and_then(Viewer::device);
        let device = device.ok_or("an ack of no device")?;
        let cursor = self.cursors.entry(device).or_insert(0);
        *cursor = (*cursor).max(seq.unwrap_or_default());
        if data["seq"].as_u64() != Some(*cursor) {
            return Err(format!("the cursor is {cursor}"));
        }
        Ok(())
    }

    /// After everything was read: what was owed has come.
    pub(crate) fn end(
        mut self,
        open: &BTreeSet<Client>,
    ) -> Result<BTreeMap<&'static str, u64>, String> {
        self.accepted.sort_unstable();
        if self.witnessed != self.accepted {
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

/// As `docs/protocol.md` has it.
fn notifies(Publish { target, draft }: &Publish) -> bool {
    let by_itself = match target {
        Target::Bus => false,
        Target::User(_) => true,
        Target::Task { .. } => matches!(
            draft.kind.as_str(),
            "task:created" | "task:completed" | "task:failed" | "task:cancelled"
        ),
    };
    draft.retention == Retention::Kept && draft.notify.unwrap_or(by_itself)
}

fn rooms(target: &Target) -> BTreeSet<RoomId> {
    match target {
        Target::Task { task, users } => {
            let users = users.iter().copied().map(RoomId::User);
            users.chain([RoomId::Task(*task)]).collect()
        }
        Target::User(user) => [RoomId::User(*user)].into(),
        Target::Bus => BTreeSet::new(),
    }
}

fn mark_of(data: &Value) -> Result<Mark, String> {
    data["mark"]
        .as_u64()
        .ok_or_else(|| "an event that no script has".to_owned())
}
