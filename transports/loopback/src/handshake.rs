//! How a simulated client comes: to which endpoint, as whom, and how far it got before.

use fanfare_core::{
    Claims, DeviceId, Endpoint, Pattern, Position, RoomId, TaskGrant, TaskId, UserId,
};
use std::fmt;

/// Bytes that a socket holds unless a script says otherwise.
const WINDOW_BYTES: usize = 64 << 10;
/// Milliseconds for which a token is good unless a script says otherwise: a day.
const VALID_MS: u64 = 24 * 60 * 60 * 1_000;

/// Which words in a script stand for an upgrade request: an endpoint, a token, and what goes with them.
///
/// ```
/// use fanfare_loopback::{Handshake, World, task, user};
/// let mut world = World::new(1);
/// let phone = world.connect(Handshake::notifications(user(7)).device("phone"));
/// let tab = world.connect(Handshake::chat(user(7), task(1)).tasks(&[task(1)]).valid_for_ms(60_000));
/// assert_eq!(world.devices(user(7)).len(), 2);
/// # assert!(world.is_open(phone) && world.is_open(tab));
/// ```
#[derive(Debug, Clone)]
pub struct Handshake {
    pub(crate) endpoint: Endpoint,
    pub(crate) user: Option<UserId>,
    pub(crate) grant: TaskGrant,
    pub(crate) valid_ms: u64,
    pub(crate) token_later: bool,
    pub(crate) device: Option<DeviceId>,
    pub(crate) since: Vec<(RoomId, Position)>,
    pub(crate) window_bytes: usize,
}

impl Handshake {
    const fn new(endpoint: Endpoint, user: Option<UserId>) -> Self {
        Self {
            endpoint,
            user,
            grant: TaskGrant::All,
            valid_ms: VALID_MS,
            token_later: false,
            device: None,
            since: Vec::new(),
            window_bytes: WINDOW_BYTES,
        }
    }

    /// `GET /v1/tasks/{task}/chat`, with a token of `user` for all tasks.
    #[must_use]
    pub const fn chat(user: UserId, task: TaskId) -> Self {
        Self::new(Endpoint::Task(task), Some(user))
    }

    /// `GET /v1/user/notifications`, with a token of `user` for all tasks.
    #[must_use]
    pub const fn notifications(user: UserId) -> Self {
        Self::new(Endpoint::Notifications, Some(user))
    }

    /// `GET /v1/bus`, with the key of a back end.
    #[must_use]
    pub const fn bus(patterns: Vec<Pattern>) -> Self {
        Self::new(Endpoint::Bus(patterns), None)
    }

    /// From a device of this name.
    ///
    /// # Panics
    /// Where it is no name of a device.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "a script that is wrong has to be mended"
    )]
    pub fn device(mut self, name: &str) -> Self {
        self.device = Some(name.parse().expect("a name of a device"));
        self
    }

    /// With a token that names these tasks only.
    #[must_use]
    pub fn tasks(mut self, tasks: &[TaskId]) -> Self {
        let mut tasks = tasks.to_vec();
        tasks.sort_unstable();
        self.grant = TaskGrant::Only(tasks);
        self
    }

    /// With a token that ends so many milliseconds after it is shown, to the second below.
    #[must_use]
    pub const fn valid_for_ms(mut self, millis: u64) -> Self {
        self.valid_ms = millis;
        self
    }

    /// Without a token: the first message has to bring it ([`World::auth`](crate::World::auth)).
    #[must_use]
    pub const fn token_later(mut self) -> Self {
        self.token_later = true;
        self
    }

    /// Having got as far as `position` in `room`.
    #[must_use]
    pub fn since(mut self, room: impl Into<RoomId>, position: Position) -> Self {
        self.since.push((room.into(), position));
        self
    }

    /// Over a socket that holds so many bytes that the client has not read.
    #[must_use]
    pub const fn window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Where it goes to.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whose token it bears; `None` for a back end's key.
    #[must_use]
    pub const fn user(&self) -> Option<UserId> {
        self.user
    }

    /// What its device is called.
    #[must_use]
    pub const fn device_name(&self) -> Option<&DeviceId> {
        self.device.as_ref()
    }

    /// The tasks that its token names.
    #[must_use]
    pub const fn grant(&self) -> &TaskGrant {
        &self.grant
    }

    /// How far it says it got.
    #[must_use]
    pub fn positions(&self) -> &[(RoomId, Position)] {
        &self.since
    }

    /// The claims of its token, shown at `wall_ms` since the Unix epoch.
    pub(crate) fn claims(&self, wall_ms: u64) -> Option<Claims> {
        let exp = (wall_ms + self.valid_ms) / 1_000;
        self.user
            .map(|user| Claims::new(user, exp, self.grant.clone()))
    }
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Task(task) => write!(f, "the chat of task:{task}")?,
            Endpoint::Notifications => write!(f, "notifications")?,
            Endpoint::Bus(patterns) => {
                let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
                write!(f, "the bus for {}", patterns.join(","))?;
            }
        }
        for (room, position) in &self.since {
            write!(f, ", since {room}@{position}")?;
        }
        if self.token_later {
            write!(f, ", without a token")?;
        }
        Ok(())
    }
}
