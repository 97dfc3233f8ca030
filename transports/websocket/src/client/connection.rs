//! A WebSocket that comes back by itself.

use std::collections::VecDeque;
use std::time::Duration;

use async_tungstenite::tungstenite::{self, Message as Frame};
use fanfare_core::{Endpoint, Position, RoomId};
use futures::StreamExt;

use super::Error;
use super::backoff::Backoff;
use super::message::{Message, Notice};
use super::op::Op;
use super::opening::{Client, Socket};
use super::platform::{Native, Platform, within};
use super::verdict::End;

/// A connection that lasted this long was a good one: the next loss starts with short waits again.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// The heartbeat that is assumed until the welcome names it.
const HEARTBEAT_MS: u64 = 25_000;
/// Beyond two heartbeats, the time in which a dead server is noticed.
const SILENCE_GRACE: Duration = Duration::from_secs(10);
/// How long an orderly close waits for the server's own close frame.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// What a connection yields.
///
/// ```
/// # use fanfare_websocket::client::Incoming;
/// fn is_outage(incoming: &Incoming) -> bool {
///     matches!(incoming, Incoming::Lost { .. })
/// }
/// ```
#[derive(Debug)]
pub enum Incoming {
    /// The server said something.
    Message(Message),
    /// The connection was lost, or an attempt to come back failed; the next call waits and tries again.
    Lost {
        /// Why.
        error: Error,
        /// The wait before the next attempt.
        wait: Duration,
    },
}

/// A connection of a [`Client`], over as many sockets as it takes.
///
/// Holds no more than one message and the bounded buffers of the socket: who does not call
/// [`next`](Self::next) lets the server notice, which then closes with 4008 and tells a gap.
pub struct Connection<P: Platform = Native> {
    client: Client<P>,
    backoff: Backoff,
    state: State<P>,
}

enum State<P: Platform> {
    Live(Box<Live<P>>),
    /// Until then.
    Waiting(Duration),
}

struct Live<P: Platform> {
    socket: Socket<P>,
    opened: Duration,
    heard: Duration,
    heartbeat: Duration,
    /// Rooms to join again, from where this client was; each stays until it is sent.
    rejoin: VecDeque<Op>,
    end: End,
}

impl<P: Platform> Live<P> {
    fn new(socket: Socket<P>, now: Duration) -> Self {
        let heartbeat = Duration::from_millis(HEARTBEAT_MS);
        Self {
            socket,
            opened: now,
            heard: now,
            heartbeat,
            rejoin: VecDeque::new(),
            end: End::default(),
        }
    }

    /// The next text frame; `Ok(None)` where the connection ended.
    async fn frame(&mut self, client: &Client<P>) -> Result<Option<String>, Error> {
        while let Some(op) = self.rejoin.front() {
            let text = serde_json::to_string(op).unwrap_or_default();
            send(&mut self.socket, client, text).await?;
            self.rejoin.pop_front();
        }
        loop {
            let limit = self
                .heartbeat
                .saturating_mul(2)
                .saturating_add(SILENCE_GRACE);
            let left = limit.saturating_sub(client.platform.now().saturating_sub(self.heard));
            let read = within(
                &client.platform,
                &client.server,
                "say anything",
                left,
                async { Ok(self.socket.next().await) },
            )
            .await;
            let Ok(read) = read else {
                return Err(Error::TimedOut {
                    server: client.server.to_string(),
                    what: "say anything",
                    limit,
                });
            };
            self.heard = client.platform.now();
            match read {
                Some(Ok(Frame::Text(text))) => return Ok(Some(text.as_str().to_owned())),
                Some(Ok(Frame::Close(close))) => {
                    self.end.close =
                        close.map(|close| (close.code.into(), close.reason.as_str().to_owned()));
                }
                // The socket answers pings by itself.
                Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Binary(_) | Frame::Frame(_))) => {}
                Some(Err(tungstenite::Error::Io(source)))
                    if self.end.goodbye.is_none() && self.end.close.is_none() =>
                {
                    return Err(Error::Unreachable {
                        server: client.server.to_string(),
                        source,
                    });
                }
                Some(Err(tungstenite::Error::Capacity(error))) => {
                    return Err(Error::Foreign {
                        server: client.server.to_string(),
                        what: error.to_string(),
                    });
                }
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

async fn send<P: Platform>(
    socket: &mut Socket<P>,
    client: &Client<P>,
    text: String,
) -> Result<(), Error> {
    within(
        &client.platform,
        &client.server,
        "take a message",
        client.timeouts.handshake,
        async {
            let sent = socket.send(Frame::text(text)).await;
            sent.map_err(|error| Error::Unreachable {
                server: client.server.to_string(),
                source: std::io::Error::other(error),
            })
        },
    )
    .await
}

impl<P: Platform> Connection<P> {
    pub(crate) fn new(client: Client<P>, socket: Socket<P>) -> Self {
        let live = Live::new(socket, client.platform.now());
        Self {
            client,
            backoff: Backoff::default(),
            state: State::Live(Box::new(live)),
        }
    }

    /// The next message. Comes back by itself where the connection is lost: after the wait that the server's goodbye
    /// named, or after growing, jittered waits, with the last positions; doubles are dropped. May be cancelled at any
    /// await, nothing is lost by that.
    ///
    /// # Errors
    /// A final one: the server refuses this client (a bad or expired token, a 45xx close code, `retry: never`).
    pub async fn next(&mut self) -> Result<Incoming, Error> {
        loop {
            let until = match &mut self.state {
                State::Live(live) => match live.frame(&self.client).await {
                    Ok(Some(text)) => match self.take(&text)? {
                        Some(message) => return Ok(Incoming::Message(message)),
                        None => continue,
                    },
                    Ok(None) => {
                        let error = live.end.error();
                        return self.lost(error);
                    }
                    Err(error) => return self.lost(error),
                },
                State::Waiting(until) => *until,
            };
            self.client.platform.sleep_until(until).await;
            match self.client.open().await {
                Ok(socket) => {
                    let live = Live::new(socket, self.client.platform.now());
                    self.state = State::Live(Box::new(live));
                }
                Err(error) => return self.lost(error),
            }
        }
    }

    /// Reads a frame and learns from it; `None` for a double.
    fn take(&mut self, text: &str) -> Result<Option<Message>, Error> {
        let message = Message::parse(text).map_err(|error| Error::Foreign {
            server: self.client.server.to_string(),
            what: format!("a message of it can't be read: {error}"),
        })?;
        if let (Message::System(system), State::Live(live)) = (&message, &mut self.state) {
            if let Notice::Welcome(welcome) = &system.notice {
                live.heartbeat =
                    Duration::from_millis(welcome.heartbeat_ms.unwrap_or(HEARTBEAT_MS));
                // Rooms that an op joined: the server has forgotten them with the old connection.
                let others = self.client.resume.since().into_iter().filter(|(room, _)| {
                    matches!(room, RoomId::Task(_)) && !welcome.rooms.contains_key(room)
                });
                live.rejoin = others
                    .map(|(room, since)| Op::Join {
                        reference: None,
                        room,
                        since: Some(since),
                    })
                    .collect();
            }
            if let Notice::Goodbye(goodbye) = &system.notice {
                live.end.goodbye = Some(goodbye.clone());
            }
        }
        // The bus is live only and names every room there is: nothing to resume from.
        let is_new =
            matches!(self.client.endpoint, Endpoint::Bus(_)) || self.client.resume.take(&message);
        let is_gap =
            matches!(&message, Message::System(system) if matches!(system.notice, Notice::Gap(_)));
        let is_kept_back = is_gap && fanfare_core::planted!(GapKeptBack);
        Ok((is_new && !is_kept_back).then_some(message))
    }

    fn lost(&mut self, error: Error) -> Result<Incoming, Error> {
        if !error.is_temporary() {
            return Err(error);
        }
        let (now, random) = (self.client.platform.now(), self.client.platform.random());
        let wait = match &self.state {
            State::Live(live) => {
                if now.saturating_sub(live.opened) >= GOOD_AFTER {
                    self.backoff.reset();
                }
                live.end.wait(&mut self.backoff, random)
            }
            State::Waiting(_) => {
                let own = self.backoff.next(random);
                error
                    .retry_after()
                    .map_or(own, |asked| asked.saturating_add(own))
            }
        };
        self.state = State::Waiting(now.saturating_add(wait));
        Ok(Incoming::Lost { error, wait })
    }

    /// Says something to the server. Its answer, where `reference` is set, comes as [`Notice::Reply`].
    ///
    /// # Errors
    /// [`Error::Unsendable`] where there is no connection just now, [`Error::Unreachable`] or [`Error::TimedOut`]
    /// where it breaks: [`next`](Self::next) mends it.
    pub async fn send(&mut self, op: &Op) -> Result<(), Error> {
        let text =
            serde_json::to_string(op).map_err(|error| Error::Unsendable(error.to_string()))?;
        self.send_text(text).await
    }

    /// Says something in the caller's own words.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_text(&mut self, text: impl Into<String>) -> Result<(), Error> {
        let State::Live(live) = &mut self.state else {
            return Err(Error::Unsendable(
                "the connection is lost; it is being mended".to_owned(),
            ));
        };
        send(&mut live.socket, &self.client, text.into()).await
    }

    /// Where this client stands in each room: what [`Client::since`] takes.
    #[must_use]
    pub fn positions(&self) -> Vec<(RoomId, Position)> {
        self.client.resume.since()
    }

    /// Closes in order: says so, and waits a moment for the server's answer.
    pub async fn close(self) {
        if let State::Live(mut live) = self.state {
            let done = async {
                if live.socket.close(None).await.is_ok() {
                    while let Some(Ok(_)) = live.socket.next().await {}
                }
            };
            let platform = &self.client.platform;
            let until = platform.now().saturating_add(CLOSE_WAIT);
            smol::future::or(done, platform.sleep_until(until)).await;
        }
    }
}
