//! One connection, from its first byte to its last.
//!
//! `Unauthenticated -> Verifying -> Arriving -> Live -> Leaving`, and gone; with a token in the request it begins `Live`, or
//! `Arriving` where its rooms have to be read from a store first. What it reads from the log is in its catch-up; what waits for
//! it, and whether it is still there, its outlet knows, and which rooms it is in, `rooms`.

use crate::auth::Principal;
use crate::catch_up::CatchUp;
use crate::close::CloseCode;
use crate::ids::{DeviceId, Pattern, Position, RoomId, TaskId, UserId};
use crate::limits::Limits;
use crate::protocol::Ref;
use crate::rate::Rate;
use crate::sim_reached;
use crate::subscriptions::SubscriptionId;
use crate::time::{Now, Time};
use std::collections::VecDeque;

/// What a connection was opened for.
///
/// ```
/// use fanfare_core::{Endpoint, Pattern};
/// let bus = Endpoint::Bus(vec![Pattern::Any]);
/// assert_ne!(bus, Endpoint::Notifications);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A task's room, and the user's own.
    Task(TaskId),
    /// The user's own room only.
    Notifications,
    /// The bus, for a back end whose key was found right.
    Bus(Vec<Pattern>),
}

/// A connection as it opens.
///
/// ```
/// use fanfare_core::{Endpoint, Open};
/// let open = Open { device: "phone".parse().ok(), ..Open::new(Endpoint::Notifications) };
/// assert!(open.principal.is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// What it was opened for.
    pub endpoint: Endpoint,
    /// Who it is; with `None` its first message has to say it. Without meaning for the bus.
    pub principal: Option<Principal>,
    /// What its device is called.
    pub device: Option<DeviceId>,
    /// How far it got before. Rooms that the endpoint doesn't join are passed over.
    pub since: Vec<(RoomId, Position)>,
}

impl Open {
    /// A connection without token, device or position.
    #[must_use]
    pub const fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            principal: None,
            device: None,
            since: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(crate) enum State {
    /// Its token has to come by this time.
    Unauthenticated {
        until: Time,
    },
    /// Its first token is with the driver, to be checked by this time.
    Verifying {
        until: Time,
        reference: Option<Ref>,
    },
    /// Its token is good, and its rooms are being read from the store, by this time.
    Arriving {
        until: Time,
    },
    Live(Box<Live>),
    /// A back end that listens to the bus.
    Bus(SubscriptionId),
    /// Its outlet has it end.
    Leaving,
}

#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) principal: Principal,
    /// When the token ends, by the monotonic clock.
    expires: Time,
    expiring_told: bool,
    /// The `ref` of a further `auth` whose token is with the driver.
    pub(crate) refreshing: Option<Option<Ref>>,
}

impl Live {
    pub(crate) fn new(now: Now, principal: Principal) -> Self {
        let left_ms = principal.expires_at().since(now.wall);
        Self {
            principal,
            expires: now.time.plus(left_ms),
            expiring_told: false,
            refreshing: None,
        }
    }

    const fn deadline(&self, limits: &Limits) -> Time {
        if self.expiring_told {
            return self.expires;
        }
        // `expiring_ms` before the end; at once, where less is left.
        let told = self.expires.as_millis().saturating_sub(limits.expiring_ms);
        Time::from_millis(told)
    }
}

/// What a deadline of a session brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The token ends in so many milliseconds.
    Expiring(u64),
    /// It is to be closed.
    Close(CloseCode),
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) endpoint: Endpoint,
    pub(crate) device: Option<DeviceId>,
    /// Positions from the URL, until the token is known to be good.
    pub(crate) since: Vec<(RoomId, Position)>,
    pub(crate) state: State,
    pub(crate) catch_up: Option<Box<CatchUp>>,
    /// Whether the answer to its last message is under way.
    pub(crate) busy: bool,
    /// Messages that came meanwhile.
    pub(crate) held: VecDeque<String>,
    pub(crate) rate: Rate,
    /// Whether its user's room began anew since it came: a number that names no epoch may be of the old one.
    pub(crate) is_renumbered: bool,
    /// When the hub looks at this session next.
    pub(crate) scheduled: Option<Time>,
}

impl Session {
    pub(crate) fn new(now: Time, open: Open, limits: &Limits) -> Self {
        Self {
            endpoint: open.endpoint,
            device: open.device,
            since: open.since,
            state: State::Unauthenticated {
                until: now.plus(limits.auth_ms),
            },
            catch_up: None,
            busy: false,
            held: VecDeque::new(),
            rate: Rate::new(now, limits),
            is_renumbered: false,
            scheduled: None,
        }
    }

    pub(crate) const fn principal(&self) -> Option<&Principal> {
        match &self.state {
            State::Live(live) => Some(&live.principal),
            State::Unauthenticated { .. }
            | State::Verifying { .. }
            | State::Arriving { .. }
            | State::Bus(_)
            | State::Leaving => None,
        }
    }

    pub(crate) fn user(&self) -> Option<UserId> {
        self.principal().map(Principal::user)
    }

    pub(crate) const fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving)
    }

    /// When [`Session::tick`] is due, if ever.
    pub(crate) fn deadline(&self, limits: &Limits) -> Option<Time> {
        match &self.state {
            State::Unauthenticated { until }
            | State::Verifying { until, .. }
            | State::Arriving { until } => Some(*until),
            State::Live(live) if live.expiring_told && planted!(TokenNeverEnds) => None,
            State::Live(live) => Some(live.deadline(limits)),
            State::Bus(_) | State::Leaving => None,
        }
    }

    /// What is due at `now`, one thing a call. An early call does nothing.
    pub(crate) fn tick(&mut self, now: Time, limits: &Limits) -> Option<Due> {
        match &mut self.state {
            State::Unauthenticated { until } | State::Verifying { until, .. } if *until <= now => {
                sim_reached!("no_token_in_time");
                Some(Due::Close(CloseCode::NO_TOKEN))
            }
            State::Arriving { until } if *until <= now => Some(Due::Close(CloseCode::UNAVAILABLE)),
            State::Live(live) if live.expires <= now && !planted!(TokenNeverEnds) => {
                sim_reached!("token_expired");
                Some(Due::Close(CloseCode::TOKEN_EXPIRED))
            }
            State::Live(live) if live.expiring_told && planted!(TokenNeverEnds) => None,
            State::Live(live) if live.deadline(limits) <= now => {
                sim_reached!("token_expiring");
                live.expiring_told = true;
                Some(Due::Expiring(live.expires.since(now)))
            }
            State::Unauthenticated { .. }
            | State::Verifying { .. }
            | State::Arriving { .. }
            | State::Live(_)
            | State::Bus(_)
            | State::Leaving => None,
        }
    }
}
