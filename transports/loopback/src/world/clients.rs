//! What clients do.

use super::{Happening, Said, World};
use crate::client::{self, Client};
use crate::expected::welcome;
use crate::handshake::Handshake;
use crate::link::{Link, LinkId, Peer};
use crate::observation::Observed;
use fanfare_core::{Claims, Draft, Fault, Pattern, Position, Retention, RoomId, TaskId};
use serde_json::{Value, json};

impl World {
    /// A client comes, and is welcomed.
    ///
    /// # Panics
    /// Where it is not.
    #[track_caller]
    pub fn connect(&mut self, handshake: Handshake) -> Client {
        let client = self.open(handshake);
        self.expect_later(client, welcome());
        client
    }

    /// A client comes, whatever becomes of it.
    pub fn open(&mut self, handshake: Handshake) -> Client {
        let client = Client(self.clients.len());
        let mut name = format!("#{}", client.0);
        if let Some(user) = handshake.user {
            name += &format!(" user:{user}");
        }
        if let Some(device) = &handshake.device {
            name += &format!("/{device}");
        }
        let link = self.add_link(client, Peer::Opening, handshake.window_bytes);
        self.clients
            .push(client::State::new(name, Some(handshake.clone()), link));
        self.shake_hands(client, handshake);
        client
    }

    /// The client comes again as before, and is welcomed; it says how far it got in the rooms of its endpoint.
    ///
    /// # Panics
    /// Where it is not.
    #[track_caller]
    pub fn reconnect(&mut self, client: Client) {
        self.reopen(client);
        self.expect_later(client, welcome());
    }

    /// As [`World::reconnect`], whatever becomes of it.
    #[track_caller]
    pub fn reopen(&mut self, client: Client) {
        let Some(mut handshake) = self.state(client).handshake.clone() else {
            self.fail("a client", "a subscriber, which does not reconnect");
        };
        let state = self.state(client);
        handshake.since = state
            .positions
            .iter()
            .map(|(room, position)| (*room, position.clone()))
            .collect();
        self.reopen_with(client, handshake);
    }

    /// The client comes again, in another way; whatever becomes of it.
    pub fn reopen_with(&mut self, client: Client, handshake: Handshake) {
        self.disconnect(client);
        let link = self.add_link(client, Peer::Opening, handshake.window_bytes);
        let state = self.state_mut(client);
        (state.link, state.reads, state.answers_pings) = (link, true, true);
        state.handshake = Some(handshake.clone());
        self.shake_hands(client, handshake);
    }

    fn shake_hands(&mut self, client: Client, handshake: Handshake) {
        self.note_of(client, &format!("opens {handshake}"));
        self.observe(Observed::Opened {
            client,
            handshake: handshake.clone(),
        });
        let link = self.state(client).link;
        self.send_to_hub(link, Happening::Open(link, Box::new(handshake)));
    }

    fn add_link(&mut self, client: Client, peer: Peer, window_bytes: usize) -> LinkId {
        let id = LinkId(self.links.len());
        self.links.push(Link::new(client, peer, window_bytes));
        id
    }

    /// The client closes its connection, or loses it; what it did not read is gone.
    pub fn disconnect(&mut self, client: Client) {
        let link = self.state(client).link;
        if !std::mem::replace(&mut self.link(link).open, false) {
            return;
        }
        self.link(link).socket.clear();
        self.note_of(client, "disconnects");
        self.observe(Observed::Disconnected { client });
        self.send_to_hub(link, Happening::Said(link, Said::Hangup));
    }

    /// Whether the client's side of its connection is open, as far as the client has read.
    #[must_use]
    #[track_caller]
    pub fn is_open(&self, client: Client) -> bool {
        let link = self.state(client).link;
        self.links.get(link.0).is_some_and(|link| link.open)
    }

    /// The client stops reading: its socket fills, then its outbox. Pings are not answered either.
    pub fn stop_reading(&mut self, client: Client) {
        self.settle();
        self.note_of(client, "stops reading");
        self.state_mut(client).reads = false;
    }

    /// The client reads again.
    pub fn resume_reading(&mut self, client: Client) {
        self.note_of(client, "reads again");
        let state = self.state_mut(client);
        state.reads = true;
        let link = state.link;
        self.read(link, usize::MAX);
    }

    /// A client that stopped reading reads so many things that wait in its socket.
    pub fn read_some(&mut self, client: Client, count: usize) {
        self.settle();
        self.note_of(client, &format!("reads {count} more"));
        let link = self.state(client).link;
        self.read(link, count);
        self.settle();
    }

    /// The client goes on reading, but answers no ping.
    pub fn ignore_pings(&mut self, client: Client) {
        self.note_of(client, "answers no ping from here on");
        self.state_mut(client).answers_pings = false;
    }

    /// The pings that the client has read.
    #[must_use]
    #[track_caller]
    pub fn pings(&self, client: Client) -> usize {
        self.state(client).pings
    }

    /// How far the client got in a room that it is or was in.
    #[must_use]
    #[track_caller]
    pub fn position(&self, client: Client, room: impl Into<RoomId>) -> Option<Position> {
        self.state(client).positions.get(&room.into()).cloned()
    }

    /// Bytes that wait in the hub for the client's connection.
    #[must_use]
    #[track_caller]
    pub fn waiting_bytes(&self, client: Client) -> usize {
        let link = self.links.get(self.state(client).link.0);
        match link.map(|link| link.peer) {
            Some(Peer::Connection(conn)) => self.waiting_at(conn),
            Some(Peer::Opening | Peer::Subscription(_) | Peer::Gone) | None => 0,
        }
    }

    /// The client sends this text, be it a message or not.
    pub fn say(&mut self, client: Client, text: &str) {
        if !self.is_open(client) {
            self.fail_of(client, "an open connection", "one that is closed");
        }
        let shown: String = text.chars().take(200).collect();
        self.note_of(client, &format!("says {shown}"));
        self.observe(Observed::Said {
            client,
            text: text.to_owned(),
        });
        let link = self.state(client).link;
        let said = Said::Message(text.to_owned());
        self.send_to_hub(link, Happening::Said(link, said));
    }

    /// The client breaks the WebSocket protocol, as its transport finds.
    pub fn break_protocol(&mut self, client: Client, fault: Fault) {
        self.note_of(client, &format!("breaks the protocol: {fault:?}"));
        let link = self.state(client).link;
        self.send_to_hub(link, Happening::Said(link, Said::Fault(fault)));
    }

    /// The client sends a message with the next `ref`, and that is returned.
    fn ask(&mut self, client: Client, mut message: Value) -> u64 {
        let state = self.state_mut(client);
        let reference = state.next_ref;
        state.next_ref += 1;
        if let Some(fields) = message.as_object_mut() {
            fields.insert("ref".to_owned(), reference.into());
        }
        self.say(client, &message.to_string());
        reference
    }

    /// The client joins a task's room. The `ref` of the message.
    pub fn join(&mut self, client: Client, task: TaskId) -> u64 {
        self.ask(client, json!({"op": "join", "room": RoomId::from(task)}))
    }

    /// The client joins a task's room, having got as far as `since`. The `ref` of the message.
    pub fn join_since(&mut self, client: Client, task: TaskId, since: &Position) -> u64 {
        let room = RoomId::from(task);
        self.ask(client, json!({"op": "join", "room": room, "since": since}))
    }

    /// The client leaves a room. The `ref` of the message.
    pub fn leave(&mut self, client: Client, room: impl Into<RoomId>) -> u64 {
        let room = room.into();
        self.ask(client, json!({"op": "leave", "room": room}))
    }

    /// The client sends an event to a task's room. The `ref` of the message.
    pub fn send(&mut self, client: Client, task: TaskId, draft: &Draft) -> u64 {
        let mut message = json!({
            "op": "send",
            "room": RoomId::from(task),
            "type": draft.kind,
            "data": draft.data,
        });
        if let Some(fields) = message.as_object_mut() {
            if let Some(id) = &draft.id {
                fields.insert("id".to_owned(), id.as_str().into());
            }
            if let Retention::Ephemeral { key } = &draft.retention {
                fields.insert("ephemeral".to_owned(), true.into());
                if let Some(key) = key {
                    fields.insert("key".to_owned(), key.as_str().into());
                }
            }
        }
        self.ask(client, message)
    }

    /// The client's device says that it has everything in its user's room up to `seq`. The `ref` of the message.
    pub fn ack(&mut self, client: Client, seq: u64) -> u64 {
        self.ask(client, json!({"op": "ack", "seq": seq}))
    }

    /// The client says that its user has read everything up to `seq`. The `ref` of the message.
    pub fn read_up_to(&mut self, client: Client, seq: u64) -> u64 {
        self.ask(client, json!({"op": "read", "up_to": seq}))
    }

    /// The client says that its user has read the events of these ids. The `ref` of the message.
    pub fn read_ids(&mut self, client: Client, ids: &[&str]) -> u64 {
        self.ask(client, json!({"op": "read", "ids": ids}))
    }

    /// The client asks whether anybody is there. The `ref` of the message.
    pub fn ping(&mut self, client: Client) -> u64 {
        self.ask(client, json!({"op": "ping"}))
    }

    /// The client shows a token with these claims. The `ref` of the message.
    pub fn auth(&mut self, client: Client, claims: &Claims) -> u64 {
        let token = serde_json::to_string(claims).unwrap_or_default();
        self.ask(client, json!({"op": "auth", "token": token}))
    }

    /// Somebody in the hub's own thread subscribes to the bus. It receives as a client does.
    ///
    /// # Panics
    /// Where the bus takes no more subscribers.
    #[track_caller]
    pub fn subscribe(&mut self, patterns: &[Pattern]) -> Client {
        let client = Client(self.clients.len());
        self.note(format!("#{} subscribes to {patterns:?}", client.0));
        let id = match self.hub.subscribe(patterns.to_vec()) {
            Ok(id) => id,
            Err(error) => self.fail("a subscription", &error.to_string()),
        };
        let link = self.add_link(client, Peer::Subscription(id), usize::MAX);
        self.by_subscription.insert(id, link);
        let name = format!("#{} subscriber", client.0);
        self.clients.push(client::State::new(name, None, link));
        self.observe(Observed::Subscribed {
            client,
            patterns: patterns.to_vec(),
        });
        client
    }

    /// A subscriber ends its subscription. Whether there was one.
    pub fn unsubscribe(&mut self, client: Client) -> bool {
        self.settle();
        self.note_of(client, "unsubscribes");
        let link = self.state(client).link;
        match std::mem::replace(&mut self.link(link).peer, Peer::Gone) {
            Peer::Subscription(id) => {
                self.by_subscription.remove(&id);
                self.hub.unsubscribe(id)
            }
            other @ (Peer::Connection(_) | Peer::Opening | Peer::Gone) => {
                self.link(link).peer = other;
                false
            }
        }
    }

    #[track_caller]
    #[expect(clippy::expect_used, reason = "a client is made by its world only")]
    pub(super) fn state(&self, client: Client) -> &client::State {
        self.clients.get(client.0).expect("a client of this world")
    }

    #[track_caller]
    #[expect(clippy::expect_used, reason = "as above")]
    pub(super) fn state_mut(&mut self, client: Client) -> &mut client::State {
        self.clients
            .get_mut(client.0)
            .expect("a client of this world")
    }

    #[expect(
        clippy::expect_used,
        reason = "links are made here only, and never taken away"
    )]
    pub(super) fn link(&mut self, id: LinkId) -> &mut Link {
        self.links.get_mut(id.0).expect("a link of this world")
    }
}
