//! What a token lets its bearer do, and until when.

use std::collections::{BTreeMap, BTreeSet};

use fanfare_core::Time;

use super::{Known, Oracle, entered, rooms, text};
use crate::history::{Conn, Rights as Token, Seen};
use crate::machine::BEGINNING;

/// Milliseconds by which a server's wall clock drifts at most between two times at which it was told of.
const DRIFT_MS: u64 = 1_000;

/// Stands for the reference of a handshake's token.
pub(crate) const WELCOME: &str = "welcome";

/// A token that a connection has shown.
#[derive(Clone)]
struct Shown {
    token: Token,
    /// No server takes it for good at this time or after it.
    ends: Time,
}

#[derive(Default)]
struct Bearer {
    /// What it had shown when the server last said that it took one, and what it has shown since: any may be the one that counts.
    shown: Vec<Shown>,
    /// Those that were shown by a message which is not answered yet: by its reference, how many had been shown before it.
    asked: BTreeMap<String, usize>,
    /// Since when the server surely knows only what is in `shown`.
    since: Time,
    /// Since when a back end has this connection closed.
    closed: Option<Time>,
    /// By their references: messages that can have no effect, and why.
    void: BTreeMap<String, &'static str>,
}

impl Bearer {
    fn ends(&self) -> Time {
        let ends = self.shown.iter().map(|it| it.ends);
        let ends = ends.max().unwrap_or_default();
        self.closed.map_or(ends, |closed| closed.min(ends))
    }

    fn may_enter(&self, room: &str) -> bool {
        let tokens = self.shown.iter().map(|it| &it.token.tasks);
        tokens.into_iter().any(|tasks| {
            let tasks = tasks.as_ref();
            tasks.is_none_or(|tasks| tasks.iter().any(|it| it == room))
        })
    }
}

/// Nothing takes effect between a token's end and the next token, nor after a right was lost, nor after a back end had the
/// user disconnected.
#[derive(Default)]
pub(super) struct Rights {
    /// Milliseconds by which the server's wall clock is ahead.
    ahead_ms: i64,
    bearers: BTreeMap<Conn, Bearer>,
    users: BTreeMap<Conn, u64>,
    /// Those that were opened without a token: whose they are the server knows when it welcomes them.
    unnamed: BTreeSet<Conn>,
    welcomed: BTreeSet<Conn>,
    /// When each mark was published first.
    published: BTreeMap<u64, Time>,
    /// Requests to disconnect a user: the connections that were there.
    disconnecting: BTreeMap<u64, BTreeSet<Conn>>,
}

impl Rights {
    fn ends(&self, token: &Token) -> Time {
        let millis = token.ends_ms.saturating_sub(BEGINNING.as_unix_millis());
        let millis = millis.saturating_add_signed(-self.ahead_ms);
        Time::from_millis(millis).plus(DRIFT_MS)
    }

    fn publishes(&mut self, data: &serde_json::Value, now: Time) {
        if let Some(mark) = data["mark"].as_u64() {
            self.published.entry(mark).or_insert(now);
        }
    }
}

impl Oracle for Rights {
    fn name(&self) -> &'static str {
        "rights"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        let now = known.now;
        match seen {
            Seen::Clock { ahead_ms } => {
                self.ahead_ms = *ahead_ms;
                // A token that is under way may be read by this clock or by the one before.
                let mut bearers = std::mem::take(&mut self.bearers);
                for bearer in bearers.values_mut() {
                    let first = bearer.asked.values().min().copied();
                    for shown in bearer.shown.iter_mut().skip(first.unwrap_or(usize::MAX)) {
                        shown.ends = shown.ends.max(self.ends(&shown.token));
                    }
                }
                self.bearers = bearers;
            }
            Seen::Shows {
                conn,
                reference,
                token,
            } => {
                let shown = Shown {
                    token: token.clone(),
                    ends: self.ends(token),
                };
                let bearer = self.bearers.entry(*conn).or_default();
                if reference == WELCOME {
                    // The try before it failed.
                    *bearer = Bearer::default();
                }
                bearer.asked.insert(reference.clone(), bearer.shown.len());
                bearer.shown.push(shown);
            }
            Seen::Opened { conn, user, .. } => {
                self.users.insert(*conn, *user);
            }
            Seen::Publishing { number, path, body } => {
                self.publishes(&body["data"], now);
                let user = path.strip_prefix("/v1/users/");
                let user = user.and_then(|user| user.strip_suffix("/disconnect"));
                if let Some(user) = user.and_then(|user| user.parse::<u64>().ok()) {
                    let is_there =
                        |conn: &Conn, of: u64| of == user && !self.unnamed.contains(conn);
                    let conns = self.users.iter().filter(|(conn, of)| is_there(conn, **of));
                    let conns = conns.map(|(conn, _)| *conn).collect();
                    self.disconnecting.insert(*number, conns);
                }
            }
            Seen::Published { number, status, .. } => {
                let conns = self.disconnecting.remove(number);
                for conn in conns.into_iter().flatten().filter(|_| *status < 300) {
                    if let Some(bearer) = self.bearers.get_mut(&conn) {
                        bearer.closed.get_or_insert(now);
                    }
                }
            }
            Seen::Said { conn, .. } => {
                let op = &known.said;
                self.publishes(&op["data"], now);
                if op["op"] == "auth" && !self.welcomed.contains(conn) {
                    self.unnamed.insert(*conn);
                    // A disconnection that was asked for before may have come when it was nobody's yet.
                    for conns in self.disconnecting.values_mut() {
                        conns.remove(conn);
                    }
                    if let Some(bearer) = self.bearers.get_mut(conn) {
                        bearer.closed = None;
                    }
                }
                let Some(bearer) = self.bearers.get_mut(conn) else {
                    return Ok(());
                };
                let room = text(op, "/room");
                let reference = op["ref"].to_string();
                let why = if op["op"] == "auth" {
                    // Of each token of its own it was told that it is shown.
                    let is_own = op["ref"].is_null() || bearer.asked.contains_key(&reference);
                    (!is_own).then_some("the token was another user's")
                } else if op["op"] == "ping" {
                    None
                } else if bearer.ends() <= now {
                    Some("the token had ended")
                } else if matches!(text(op, "/op"), "join" | "send") && !bearer.may_enter(room) {
                    Some("the token did not name the task")
                } else {
                    None
                };
                if let Some(why) = why {
                    bearer.void.insert(reference, why);
                }
            }
            Seen::Received { conn, frame } => return self.received(*conn, frame, now),
            Seen::Closed { conn, .. } | Seen::Leaves { conn } => {
                self.bearers.remove(conn);
                self.users.remove(conn);
                self.unnamed.remove(conn);
                self.welcomed.remove(conn);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Rights {
    fn received(&mut self, conn: Conn, frame: &serde_json::Value, now: Time) -> Result<(), String> {
        let Some(bearer) = self.bearers.get_mut(&conn) else {
            return Ok(());
        };
        let reference = match text(frame, "/type") {
            "system:welcome" => {
                self.unnamed.remove(&conn);
                self.welcomed.insert(conn);
                WELCOME.to_owned()
            }
            "system:reply" => frame["data"]["ref"].to_string(),
            _ => String::new(),
        };
        let is_ok = frame["data"]["ok"] != false;
        if let Some(why) = bearer.void.remove(&reference).filter(|_| is_ok) {
            return Err(format!("took effect, though {why}"));
        }
        if let Some(first) = bearer.asked.remove(&reference) {
            if is_ok {
                // What was shown before counts no more.
                bearer.shown.drain(..first);
                bearer.asked.retain(|_, at| *at > first);
                bearer.asked.values_mut().for_each(|at| *at -= first);
                bearer.since = now;
            } else if bearer.shown.len() > first {
                bearer.shown.remove(first);
                bearer.asked.values_mut().for_each(|at| {
                    if *at > first {
                        *at -= 1;
                    }
                });
            }
        }
        for (room, _) in entered(frame) {
            if room.starts_with("task:") && !bearer.may_enter(room) {
                return Err(format!("{room} is not named by the token"));
            }
        }
        let published = frame["data"]["mark"].as_u64();
        let published = published.and_then(|mark| self.published.get(&mark));
        let Some(published) = published else {
            return Ok(());
        };
        if *published > bearer.ends() {
            return Err("was published after the token had ended".to_owned());
        }
        for (room, _) in rooms(frame) {
            if room.starts_with("task:") && *published > bearer.since && !bearer.may_enter(room) {
                return Err(format!(
                    "was published after the token had lost the right to {room}"
                ));
            }
        }
        Ok(())
    }
}
