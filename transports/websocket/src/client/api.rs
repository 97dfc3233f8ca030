//! Plain HTTP requests over one connection that is kept alive.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fanfare_core::{Epoch, Payload, Publish, Seq, TaskId, UserId};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use serde::Deserialize;
use smol_hyper::rt::FuturesIo;

use super::backoff::{self, Backoff};
use super::platform::{Native, reach, within};
use super::publication::{self, Receipt};
use super::{Error, Problem, Secret, Server, Timeouts, fresh_id};

/// Bytes of an answer that are read at most.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Requests of a back end, one after the other.
///
/// ```no_run
/// use fanfare_core::{Draft, Payload, Publish, Target, UserId};
/// use fanfare_websocket::client::{Api, Secret};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut api = Api::new("http://127.0.0.1:8080".parse()?, Secret::new("the API key"));
/// let draft = Draft::new("user:notification".parse()?, Payload::parse(r#"{"text":"hi"}"#)?);
/// let receipt = api.publish(&Publish { target: Target::User(UserId::new(7)), draft }).await?;
/// println!("{}", receipt.id);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Api {
    server: Server,
    key: Secret,
    timeouts: Timeouts,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// A part of what a room keeps.
///
/// ```
/// use fanfare_websocket::client::HistoryPage;
/// let page: HistoryPage = serde_json::from_str(r#"{"epoch":"k3","first":1,"seq":0,"events":[],"next":null}"#)?;
/// assert!(page.events.is_empty() && page.next.is_none());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HistoryPage {
    /// The room's epoch.
    pub epoch: Epoch,
    /// The number of the oldest event that is kept.
    pub first: Seq,
    /// The number of the last one.
    pub seq: Seq,
    /// The events, as on the wire.
    pub events: Vec<Payload>,
    /// The path of the next page; `None` where there is nothing more.
    pub next: Option<String>,
}

/// A request that failed, and whether the server can have seen none of it.
struct Failure {
    error: Error,
    unseen: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            unseen: false,
        }
    }
}

impl Api {
    /// Makes requests to `server` with an API key. Connects with the first request.
    #[must_use]
    pub fn new(server: Server, key: Secret) -> Self {
        Self {
            server,
            key,
            timeouts: Timeouts::default(),
            connection: None,
        }
    }

    /// The same with other time-outs.
    #[must_use]
    pub fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Publishes an event, once.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's problem; [`Error::Unreachable`] and [`Error::TimedOut`], after which the
    /// event may or may not have been taken: trying again with the same id is safe, and
    /// [`publish_within`](Self::publish_within) does that.
    pub async fn publish(&mut self, publish: &Publish) -> Result<Receipt, Error> {
        let (path, body) = publication::request(publish)
            .map_err(|error| Error::Unsendable(format!("its data is no JSON: {error}")))?;
        let answer = self.request(Method::POST, &path, Bytes::from(body)).await?;
        self.understand(&answer)
    }

    /// Publishes an event, and tries again with the same id while that may help: with growing, jittered waits, or with
    /// the wait that the server asked for, until `patience` is used up.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), for the last attempt.
    pub async fn publish_within(
        &mut self,
        publish: &Publish,
        patience: Duration,
    ) -> Result<Receipt, Error> {
        let started = Instant::now();
        let mut publish = publish.clone();
        publish.draft.id.get_or_insert_with(fresh_id);
        let mut backoff = Backoff::default();
        loop {
            let error = match self.publish(&publish).await {
                Ok(receipt) => return Ok(receipt),
                Err(error) => error,
            };
            let wait = backoff.next(fastrand::f64());
            let wait = error
                .retry_after()
                .map_or(wait, |asked| asked.saturating_add(wait));
            if !error.is_temporary() || started.elapsed().saturating_add(wait) > patience {
                return Err(error);
            }
            async_io::Timer::after(wait).await;
        }
    }

    /// The state of a task, as `GET /v1/tasks/{id}` gives it.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn task(&mut self, task: TaskId) -> Result<serde_json::Value, Error> {
        let answer = self
            .request(Method::GET, &format!("/v1/tasks/{task}"), Bytes::new())
            .await?;
        self.understand(&answer)
    }

    /// A page of what a room keeps, as `GET` of its events gives it: `path` is the room's, or the `next` of a page.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn history(&mut self, path: &str) -> Result<HistoryPage, Error> {
        let answer = self.request(Method::GET, path, Bytes::new()).await?;
        self.understand(&answer)
    }

    /// What a user has not read and how far each device got, as `GET /v1/users/{id}/inbox` gives it.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn inbox(&mut self, user: UserId) -> Result<serde_json::Value, Error> {
        let path = format!("/v1/users/{user}/inbox");
        let answer = self.request(Method::GET, &path, Bytes::new()).await?;
        self.understand(&answer)
    }

    /// Closes all connections of a user.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn disconnect(&mut self, user: UserId) -> Result<(), Error> {
        self.request(
            Method::POST,
            &format!("/v1/users/{user}/disconnect"),
            Bytes::new(),
        )
        .await?;
        Ok(())
    }

    fn understand<T: serde::de::DeserializeOwned>(&self, answer: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(answer).map_err(|error| Error::Foreign {
            server: self.server.to_string(),
            what: format!("the answer to the request is not as expected: {error}"),
        })
    }

    /// One request. A kept connection may have been closed by the server just now: then, and only then, it is sent
    /// again over a new one.
    async fn request(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Error> {
        let kept = self.connection.is_some();
        match self.attempt(method.clone(), path, body.clone()).await {
            Err(failure) if kept && failure.unseen => {
                self.attempt(method, path, body).await.map_err(|f| f.error)
            }
            other => other.map_err(|failure| failure.error),
        }
    }

    async fn attempt(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let mut sender = match self.connection.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.connect().await?,
        };
        let request = self.build(method, path, body)?;
        let server = self.server.clone();
        let limit = self.timeouts.request;
        let mut unseen = false;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|error| {
                unseen = error.is_canceled() || error.is_closed() || error.is_incomplete_message();
                broken(&server, error)
            })?;
            read(&server, response).await
        };
        let outcome = within(&Native::default(), &server, "answer", limit, exchange).await;
        let (status, retry_after, body) = outcome.map_err(|error| Failure { error, unseen })?;
        // Only a connection whose answer was read to its end can bear another request.
        self.connection = Some(sender);
        if status.is_success() {
            return Ok(body);
        }
        Err(Error::Refused(Problem::read(status.as_u16(), retry_after, &body)).into())
    }

    fn build(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let unsendable = |what: &str| {
            Error::Unsendable(format!("{what} has characters that HTTP does not allow"))
        };
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", self.key.expose()))
            .map_err(|_| unsendable("the API key"))?;
        bearer.set_sensitive(true);
        let mut request = Request::builder()
            .method(method)
            .uri(self.server.path(path))
            .header(HOST, self.server.authority())
            .header(AUTHORIZATION, bearer);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::new(body))
            .map_err(|_| unsendable("the path"))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let stream = reach(&Native::default(), &self.server, self.timeouts.connect).await?;
        let (sender, connection) = http1::handshake(FuturesIo::new(stream))
            .await
            .map_err(|error| broken(&self.server, error))?;
        // Ends when the sender is dropped or the server closes; whoever sends next learns of an error.
        smol::spawn(async move {
            let _ = connection.await;
        })
        .detach();
        Ok(sender)
    }
}

fn broken(server: &Server, error: hyper::Error) -> Error {
    if error.is_parse() {
        return Error::Foreign {
            server: server.to_string(),
            what: format!("its answer is no HTTP: {error}"),
        };
    }
    Error::Unreachable {
        server: server.to_string(),
        source: std::io::Error::other(error),
    }
}

type Answer = (StatusCode, Option<Duration>, Bytes);

async fn read(server: &Server, response: Response<Incoming>) -> Result<Answer, Error> {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| Error::Foreign {
            server: server.to_string(),
            what: format!("its answer broke off or is over {ANSWER_BYTES_MAX} bytes: {error}"),
        })?;
    Ok((status, retry_after, body.to_bytes()))
}

/// `Retry-After` in seconds, at most [`backoff::LONGEST`]. The form with a date is left to the client's own waits.
pub(crate) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(backoff::LONGEST))
}
