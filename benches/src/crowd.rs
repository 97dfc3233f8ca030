//! A hub with many members in its rooms, whose sockets are a sink.

use fanfare_core::{
    Claims, ConnId, Draft, Effect, Endpoint, Hub, Limits, Now, Open, Payload, Principal, Pull,
    TaskGrant, TaskId, UserId,
};

/// The moment at which everything happens: no deadline falls due.
pub const NOW: Now = Now {
    time: fanfare_core::Time::from_millis(0),
    wall: fanfare_core::Wall::from_unix_millis(1_800_000_000_000),
};

/// A hub, and how it is driven: every effect is carried out, every frame is taken at once and dropped.
///
/// ```
/// let mut crowd = fanfare_benches::Crowd::new(10);
/// assert_eq!(crowd.publish(&fanfare_benches::message(256)), 10);
/// ```
pub struct Crowd {
    hub: Hub,
    rooms: u64,
    /// Numbers what goes to one room after the other.
    next: u64,
    ready: Vec<ConnId>,
}

impl Crowd {
    /// `members` connections of as many users in one task's room, with their welcomes taken.
    #[must_use]
    pub fn new(members: u64) -> Self {
        Self::spread(1, members)
    }

    /// The same in each of `rooms` tasks' rooms.
    #[must_use]
    pub fn spread(rooms: u64, members: u64) -> Self {
        let mut crowd = Self {
            hub: Hub::new(Limits::default(), [7; 32]),
            rooms: rooms.max(1),
            next: 0,
            ready: Vec::new(),
        };
        for user in 0..rooms * members {
            crowd.open(user);
        }
        crowd.flush();
        crowd
    }

    /// One more connection, of `user`, whose welcome waits: to each room in turn.
    pub fn open(&mut self, user: u64) -> ConnId {
        let task = self.turn();
        let claims = Claims::new(UserId::new(user), 1_900_000_000, TaskGrant::All);
        let open = Open {
            principal: Principal::new(claims, NOW.wall).ok(),
            ..Open::new(Endpoint::Task(task))
        };
        self.hub.open(NOW, open)
    }

    /// The hub.
    pub const fn hub(&mut self) -> &mut Hub {
        &mut self.hub
    }

    fn turn(&mut self) -> TaskId {
        let room = self.next % self.rooms + 1;
        self.next += 1;
        TaskId::new(uuid::Uuid::from_u128(room.into()))
    }

    /// Publishes to each room in turn; how many frames went to the sink.
    pub fn publish(&mut self, draft: &Draft) -> usize {
        let task = self.turn();
        let published = self.hub.at(NOW).publish_to_task(task, &[], draft.clone());
        debug_assert!(published.is_ok(), "{published:?}");
        self.flush()
    }

    /// Takes all that waits, as a transport does: connections first, then what waits for several alike in one piece, or frame by frame.
    pub fn flush(&mut self) -> usize {
        while let Some(effect) = self.hub.poll() {
            if let Effect::Ready(conn) = effect {
                self.ready.push(conn);
            }
        }
        let mut frames = 0;
        for conn in self.ready.drain(..) {
            if let Some((bytes, all)) = self.hub.ride(conn) {
                std::hint::black_box(bytes);
                frames += usize::try_from(all).unwrap_or(usize::MAX);
                self.hub.rode(conn);
                continue;
            }
            while let Pull::Frame(frame) = self.hub.pull(NOW, conn) {
                std::hint::black_box(frame.wire());
                frames += 1;
            }
        }
        frames
    }
}

/// A chat message whose data has about `bytes` bytes.
///
/// # Panics
/// Never: type and data are fixed.
#[must_use]
#[expect(clippy::unwrap_used, reason = "type and data are fixed and valid")]
pub fn message(bytes: usize) -> Draft {
    let text = "x".repeat(bytes.saturating_sub(11));
    let data = Payload::parse(&format!(r#"{{"text":"{text}"}}"#)).unwrap();
    Draft::new("chat:message".parse().unwrap(), data)
}
