//! What to connect to, and the opening handshake.

use std::io;
use std::time::Duration;

use async_tungstenite::tungstenite;
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use async_tungstenite::{WebSocketStream, client_async_with_config};
use fanfare_core::{DeviceId, Endpoint, Position, RoomId};
use http::HeaderValue;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};

use super::api::retry_after;
use super::connection::Connection;
use super::platform::{Native, Platform, reach, within};
use super::resume::Resume;
use super::{Access, Error, Problem, Secret, Server};

/// Bytes of one message of the server.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(crate) type Socket<P> = WebSocketStream<<P as Platform>::Stream>;

/// How long the server may take.
///
/// ```
/// use fanfare_websocket::client::Timeouts;
/// assert_eq!(Timeouts::default().connect.as_secs(), 5);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Name resolution, TCP and TLS; 5 s.
    pub connect: Duration,
    /// The opening handshake of a WebSocket, and a message to be written; 10 s.
    pub handshake: Duration,
    /// A request and its answer; 10 s.
    pub request: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            request: Duration::from_secs(10),
        }
    }
}

/// What to connect to, and as whom.
///
/// ```no_run
/// use fanfare_core::Endpoint;
/// use fanfare_websocket::client::{Access, Client, Incoming, Secret};
/// # async fn example() -> Result<(), fanfare_websocket::client::Error> {
/// let access = Access::Fixed(Secret::new("eyJ…"));
/// let client = Client::new("http://127.0.0.1:8080".parse()?, Endpoint::Notifications, access);
/// let mut connection = client.connect().await?;
/// loop {
///     if let Incoming::Message(message) = connection.next().await? {
///         println!("{}", message.text());
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Client<P: Platform = Native> {
    pub(crate) platform: P,
    pub(crate) server: Server,
    pub(crate) endpoint: Endpoint,
    access: Access,
    device: Option<DeviceId>,
    pub(crate) resume: Resume,
    pub(crate) timeouts: Timeouts,
}

impl Client {
    /// A client of one endpoint.
    #[must_use]
    pub fn new(server: Server, endpoint: Endpoint, access: Access) -> Self {
        Self::on(Native::default(), server, endpoint, access)
    }
}

impl<P: Platform> Client<P> {
    /// The same in another world than this machine's.
    #[must_use]
    pub fn on(platform: P, server: Server, endpoint: Endpoint, access: Access) -> Self {
        let timeouts = Timeouts::default();
        Self {
            platform,
            server,
            endpoint,
            access,
            device: None,
            resume: Resume::default(),
            timeouts,
        }
    }

    /// The name of this device, by which the server knows what it acknowledged.
    #[must_use]
    pub fn device(mut self, device: DeviceId) -> Self {
        self.device = Some(device);
        self
    }

    /// Where to begin; what came after these positions is replayed.
    #[must_use]
    pub fn since(mut self, positions: Vec<(RoomId, Position)>) -> Self {
        self.resume = Resume::new(positions);
        self
    }

    /// The same with other time-outs.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Connects, once: whoever starts a client wants to know that the address and the token are right.
    /// Later losses are mended by [`Connection::next`].
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's reason, [`Error::Unreachable`], [`Error::TimedOut`].
    pub async fn connect(mut self) -> Result<Connection<P>, Error> {
        let socket = self.open().await?;
        Ok(Connection::new(self, socket))
    }

    fn path(&self) -> String {
        let mut query = Vec::new();
        let path = match &self.endpoint {
            Endpoint::Task(task) => format!("/v1/tasks/{task}/chat"),
            Endpoint::Notifications => "/v1/user/notifications".to_owned(),
            Endpoint::Bus(patterns) => {
                let types: Vec<_> = patterns.iter().map(ToString::to_string).collect();
                // No types are all types.
                if !types.is_empty() {
                    query.push(format!("types={}", types.join(",")));
                }
                "/v1/bus".to_owned()
            }
        };
        query.extend(
            self.device
                .as_ref()
                .map(|device| format!("device={device}")),
        );
        let since: Vec<_> = self
            .own_positions()
            .map(|(room, at)| format!("{room}@{at}"))
            .collect();
        if !since.is_empty() {
            query.push(format!("since={}", since.join(",")));
        }
        if query.is_empty() {
            path
        } else {
            format!("{path}?{}", query.join("&"))
        }
    }

    /// The positions of the rooms that the endpoint joins by itself.
    fn own_positions(&self) -> impl Iterator<Item = (RoomId, Position)> {
        let task = match &self.endpoint {
            Endpoint::Task(task) => Some(RoomId::Task(*task)),
            Endpoint::Notifications | Endpoint::Bus(_) => None,
        };
        let is_own = move |room: &RoomId| matches!(room, RoomId::User(_)) || Some(*room) == task;
        self.resume
            .since()
            .into_iter()
            .filter(move |(room, _)| is_own(room))
    }

    pub(crate) async fn open(&mut self) -> Result<Socket<P>, Error> {
        let stream = reach(&self.platform, &self.server, self.timeouts.connect).await?;
        // Made when it can be shown: one that is made before may run out on the way.
        let secret = self.access.secret();
        let request = self.request(&secret)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .max_write_buffer_size(MESSAGE_BYTES_MAX);
        within(
            &self.platform,
            &self.server,
            "answer the handshake",
            self.timeouts.handshake,
            async {
                match client_async_with_config(request, stream, Some(config)).await {
                    Ok((socket, _)) => Ok(socket),
                    Err(error) => Err(self.explain(error)),
                }
            },
        )
        .await
    }

    fn request(&self, secret: &Secret) -> Result<tungstenite::handshake::client::Request, Error> {
        let unsendable = |what: &str| {
            Error::Unsendable(format!("{what} has characters that HTTP does not allow"))
        };
        let url = self.server.websocket(&self.path());
        let mut request = url
            .into_client_request()
            .map_err(|_| unsendable("the address"))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", secret.expose()))
            .map_err(|_| unsendable("the token or key"))?;
        bearer.set_sensitive(true);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static("fanfare.v1"),
        );
        Ok(request)
    }

    fn explain(&self, error: tungstenite::Error) -> Error {
        let server = self.server.to_string();
        match error {
            tungstenite::Error::Io(source) => Error::Unreachable { server, source },
            // A server that dies, or a proxy whose server did, says half an answer or none.
            tungstenite::Error::Protocol(ProtocolError::HandshakeIncomplete) => {
                Error::Unreachable {
                    server,
                    source: io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the connection ended within the handshake",
                    ),
                }
            }
            tungstenite::Error::Http(response) => {
                let body = response.body().as_deref().unwrap_or_default();
                Error::Refused(Problem::read(
                    response.status().as_u16(),
                    retry_after(response.headers()),
                    body,
                ))
            }
            tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Tls(_)
            | tungstenite::Error::Capacity(_)
            | tungstenite::Error::Protocol(_)
            | tungstenite::Error::WriteBufferFull(_)
            | tungstenite::Error::Utf8(_)
            | tungstenite::Error::AttackAttempt
            | tungstenite::Error::Url(_)
            | tungstenite::Error::HttpFormat(_) => Error::Foreign {
                server,
                what: error.to_string(),
            },
        }
    }
}
