//! The HTTP API: which request gets which answer, and which becomes a WebSocket.
//!
//! Who asks is found out before what they ask is read: a stranger costs a head, never a body.

use std::time::Instant;

use bytes::Bytes;
use fanfare_core::{
    AuthError, Open, Pattern, Principal, RoomId, Snapshot, Status, StoreFailure, TaskId, Token,
    UserId,
};
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use matchit::Router;
use serde::Serialize;
use smol::future::yield_now;

use crate::asset::{Asset, Tagged};
use crate::cautious::Cautious;
use crate::credentials::{self, Credentials};
use crate::metrics::{self, Metrics};
use crate::problem::{Code, Problem};
use crate::publish::Endpoint;
use crate::route::{Joins, Route, To, Use, reads};
use crate::upgrade::{self, Handshake, Query, Refusal};
use crate::{
    Answer, Native, Origins, Platform, Respond, Shard, batch, dev, history, host, publish,
    request_body,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// How the API behaves.
///
/// ```
/// use fanfare_websocket::ApiOptions;
/// assert_eq!(ApiOptions::default().body_bytes, 1 << 20);
/// ```
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// Web pages that may use it.
    pub origins: Origins,
    /// Bytes of a publish's body; more are answered by 413.
    pub body_bytes: usize,
    /// Bytes of a batch's body; more are answered by 413.
    pub batch_bytes: usize,
    /// Milliseconds in which a publish's body has to come, else it is answered by 408.
    pub body_ms: u64,
    /// Whether to hand out tokens to whom asks at `/dev/token`. Only for a listener on loopback.
    pub dev: bool,
    /// Files to serve.
    pub assets: Vec<Asset>,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            origins: Origins::any(),
            body_bytes: 1 << 20,
            batch_bytes: 8 << 20,
            body_ms: 10_000,
            dev: false,
            assets: Vec::new(),
        }
    }
}

/// The HTTP API over a shard.
///
/// ```no_run
/// # use fanfare_websocket::{Api, ApiOptions, Credentials, Listener, ListenerLimits, Shard};
/// # async fn run(shard: Shard, credentials: Credentials) -> Result<(), fanfare_websocket::Error> {
/// let api = Api::new(shard.clone(), credentials, ApiOptions::default());
/// let listener = Listener::bind("127.0.0.1:8080".parse().unwrap(), ListenerLimits::default())?;
/// listener.serve(shard, api).unwrap().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Api<P: Platform = Native> {
    shard: Shard<P>,
    credentials: Credentials,
    options: ApiOptions,
    assets: Vec<Tagged>,
    routes: Router<Route>,
    metrics: Metrics,
}

/// What became of a disconnect.
#[derive(Serialize)]
struct Disconnected {
    user: RoomId,
    disconnected: usize,
}

/// A line of `/dev/tasks`.
#[derive(Serialize)]
struct RecentTask {
    task: TaskId,
    #[serde(flatten)]
    state: Snapshot,
}

/// Who reads what is kept.
enum Reader {
    Backend,
    Client(Principal),
}

impl Reader {
    /// Lets back ends pass, and clients where they may join the room.
    fn may_read(&self, room: RoomId) -> Result<(), Problem> {
        match (self, room) {
            (Self::Client(principal), RoomId::Task(task)) if !principal.may_join(task) => {
                Err(AuthError::TaskNotNamed.into())
            }
            (Self::Client(principal), RoomId::User(user)) if principal.user() != user => {
                let detail = "a client's token reads the room of its own user only";
                Err(Problem::new(Code::Forbidden, detail))
            }
            (Self::Client(_) | Self::Backend, _) => Ok(()),
        }
    }
}

impl<P: Platform> Api<P> {
    /// An API that publishes to `shard` and opens connections in it.
    ///
    /// # Panics
    /// Where two assets have one path, or one has the path of a route.
    #[must_use]
    pub fn new(shard: Shard<P>, credentials: Credentials, options: ApiOptions) -> Self {
        #[expect(
            clippy::expect_used,
            reason = "assets are the program's own, not its user's"
        )]
        let routes = Route::table(options.dev, options.assets.iter().map(|asset| asset.path))
            .expect("each path is one route's");
        let assets = options.assets.iter().copied().map(Tagged::from).collect();
        Self {
            shard,
            credentials,
            options,
            assets,
            routes,
            metrics: Metrics::new(),
        }
    }

    async fn answer(
        &self,
        head: &Parts,
        body: &mut Incoming,
        route: Option<(Route, &str)>,
    ) -> Result<Answer, Problem> {
        if !host::is_named(head) {
            return Err(Refusal::Host.into());
        }
        if !sends_as_it_is(&head.headers) {
            let detail = "of the transfer codings only `chunked` is known: send the body as it is";
            return Err(Problem::new(Code::TransferCoding, detail));
        }
        let (route, id) = route.ok_or_else(Problem::not_found)?;
        let used = route.used();
        if head.method == Method::OPTIONS && used != Use::WebSocket {
            return Ok(Answer::Response(self.describe(head, route)));
        }
        if !used.takes(&head.method) {
            return Err(Problem::method_not_allowed(used.methods()));
        }
        if !self.options.origins.admits(&head.headers) && !matches!(route, Route::Asset(_)) {
            let detail = "pages of this origin may not use this server";
            return Err(Problem::new(Code::Origin, detail));
        }
        let response = match route {
            Route::Socket(joins) => return self.upgrade(head, joins, id).await,
            Route::Task => self.task(head, id).await?,
            Route::Publish(To::Task) if reads(&head.method) => {
                let reader = self.reader(head)?;
                self.history(head, &reader, id.parse::<TaskId>()?.into())
                    .await?
            }
            Route::Publish(To::User) if reads(&head.method) => {
                let reader = self.reader(head)?;
                self.history(head, &reader, id.parse::<UserId>()?.into())
                    .await?
            }
            Route::Publish(To::Bus) if request_body::is(&head.headers, batch::NDJSON) => {
                self.backend(&head.headers)?;
                self.batch(&head.headers, body).await?
            }
            Route::Publish(to) => {
                self.backend(&head.headers)?;
                let endpoint = match to {
                    To::Task => Endpoint::Task(id.parse()?),
                    To::User => Endpoint::User(id.parse()?),
                    To::Bus => Endpoint::Bus,
                };
                self.publish(&head.headers, body, endpoint).await?
            }
            Route::Inbox => self.inbox(&self.reader(head)?, id.parse()?).await?,
            Route::Disconnect => {
                self.backend(&head.headers)?;
                self.disconnect(id.parse()?)
            }
            Route::Healthz => text(StatusCode::OK, "ok\n"),
            Route::Readyz => self.ready()?,
            Route::Metrics => self.metrics()?,
            Route::DevToken => {
                dev::check(&head.headers)?;
                let user = dev::user(head.uri.query())?;
                let token = dev::dev_token(&self.credentials.tokens, user, self.shard.now().wall);
                json(&serde_json::json!({ "token": token }))
            }
            Route::DevTasks => {
                dev::check(&head.headers)?;
                self.recent_tasks()
            }
            Route::Asset(at) => self
                .assets
                .get(at)
                .ok_or_else(Problem::not_found)?
                .response(&head.headers),
        };
        Ok(Answer::Response(response))
    }

    /// What OPTIONS gets: the methods, and for a page what CORS wants to know.
    fn describe(&self, head: &Parts, route: Route) -> Response<Full<Bytes>> {
        let methods = route.used().methods();
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if !is_dev(route) {
            self.options
                .origins
                .preflight(&head.headers, &methods, response.headers_mut());
        }
        response.headers_mut().insert(ALLOW, methods);
        response
    }

    /// Lets back ends pass.
    fn backend(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let authorization = credentials::authorization(headers);
        if self.credentials.backend(authorization) {
            return Ok(());
        }
        let presented = authorization.and_then(credentials::bearer);
        match presented.map(|token| self.credentials.client(token, self.shard.now().wall)) {
            None => Err(Problem::unauthorized(
                Code::Unauthenticated,
                "this is for back ends: send `Authorization: Bearer {API key}`",
            )),
            Some(Err(_)) => Err(Problem::unauthorized(
                Code::BadApiKey,
                "this is not the API key",
            )),
            Some(Ok(_)) => Err(Problem::new(
                Code::Forbidden,
                "this is for back ends, with the API key: a client's token does not do",
            )),
        }
    }

    async fn body(
        &self,
        headers: &HeaderMap,
        media_type: &str,
        body: &mut Incoming,
        bytes_max: usize,
    ) -> Result<Bytes, Problem> {
        let ms = self.options.body_ms;
        let late = async { self.shard.sleep_until(self.shard.time().plus(ms)).await };
        request_body::read(headers, media_type, body, bytes_max, ms, late).await
    }

    async fn publish(
        &self,
        headers: &HeaderMap,
        body: &mut Incoming,
        endpoint: Endpoint,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let bytes = self.options.body_bytes;
        let body = self.body(headers, request_body::JSON, body, bytes).await?;
        self.shard.keeps_up().await;
        let receipt = self.shard.publish(publish::parse(&body, endpoint)?).await?;
        Ok(respond(JSON, receipt.to_json().into()))
    }

    async fn batch(
        &self,
        headers: &HeaderMap,
        body: &mut Incoming,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let bytes = self.options.batch_bytes;
        let body = self.body(headers, batch::NDJSON, body, bytes).await?;
        batch::check(&body)?;
        self.shard.keeps_up().await;
        let publish = |publish| self.shard.publish(publish);
        let rest = || async {
            yield_now().await;
            self.shard.keeps_up().await;
        };
        let answers = batch::run(&body, publish, rest).await;
        Ok(respond(
            HeaderValue::from_static(batch::NDJSON),
            answers.into(),
        ))
    }

    async fn history(
        &self,
        head: &Parts,
        reader: &Reader,
        room: RoomId,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        reader.may_read(room)?;
        let history = history::parse(head.uri.query())?;
        let page = self.shard.history(room, history.clone()).await?;
        Ok(json(&history::body(room, &page, head.uri.path(), &history)))
    }

    async fn inbox(&self, reader: &Reader, user: UserId) -> Result<Response<Full<Bytes>>, Problem> {
        reader.may_read(user.into())?;
        Ok(json(&self.shard.inbox(user).await?))
    }

    fn disconnect(&self, user: UserId) -> Response<Full<Bytes>> {
        let devices = self.shard.with_hub(|hub, _| hub.devices(user));
        let disconnected: usize = devices.iter().map(|device| device.connected).sum();
        self.shard.disconnect(user);
        json(&Disconnected {
            user: user.into(),
            disconnected,
        })
    }

    async fn task(&self, head: &Parts, id: &str) -> Result<Response<Full<Bytes>>, Problem> {
        let reader = self.reader(head)?;
        let task: TaskId = id.parse()?;
        reader.may_read(task.into())?;
        Ok(json(&self.shard.task(task).await?))
    }

    fn reader(&self, head: &Parts) -> Result<Reader, Problem> {
        let authorization = credentials::authorization(&head.headers);
        if self.credentials.backend(authorization) {
            return Ok(Reader::Backend);
        }
        let token = authorization.and_then(credentials::bearer).ok_or_else(|| {
            let detail =
                "send `Authorization: Bearer {API key, or a token that may join this room}`";
            Problem::unauthorized(Code::Unauthenticated, detail)
        })?;
        Ok(Reader::Client(
            self.credentials.client(token, self.shard.now().wall)?,
        ))
    }

    /// Makes a request a WebSocket.
    async fn upgrade(&self, head: &Parts, joins: Joins, id: &str) -> Result<Answer, Problem> {
        let handshake = Handshake::check(head)?;
        let query = Query::parse(head.uri.query())?;
        let (endpoint, principal) = match joins {
            Joins::Bus => {
                self.backend(&head.headers)?;
                let types = if query.types.is_empty() {
                    vec![Pattern::Any]
                } else {
                    query.types
                };
                (fanfare_core::Endpoint::Bus(types), None)
            }
            Joins::Task => {
                let task: TaskId = id.parse()?;
                let principal = self.client(&head.headers, query.token)?;
                if principal
                    .as_ref()
                    .is_some_and(|principal| !principal.may_join(task))
                {
                    return Err(AuthError::TaskNotNamed.into());
                }
                if principal.is_some()
                    && self.shard.task(task).await?.state.status == Status::Deleted
                {
                    return Err(Problem::gone(task));
                }
                (fanfare_core::Endpoint::Task(task), principal)
            }
            Joins::User => (
                fanfare_core::Endpoint::Notifications,
                self.client(&head.headers, query.token)?,
            ),
        };
        let open = Open {
            endpoint,
            principal,
            device: query.device,
            since: query.since,
        };
        Ok(Answer::Upgrade(handshake, open))
    }

    /// Who the client is, where it says so now and not by its first message.
    fn client(
        &self,
        headers: &HeaderMap,
        query: Option<Token>,
    ) -> Result<Option<Principal>, Problem> {
        let token = upgrade::token(headers, query)?;
        let now = self.shard.now().wall;
        Ok(token
            .map(|token| self.credentials.client(token.expose(), now))
            .transpose()?)
    }

    fn ready(&self) -> Result<Response<Full<Bytes>>, Problem> {
        if self.shard.is_draining() {
            return Err(fanfare_core::Error::Draining.into());
        }
        // A full disk is no reason to send clients elsewhere: what is not kept is still delivered.
        if self.shard.store_failure() == Some(StoreFailure::Failed) {
            let detail = "the store failed and takes nothing more: look into the log, check the disk, then restart";
            return Err(Problem::new(Code::Unavailable, detail));
        }
        Ok(text(StatusCode::OK, "ready\n"))
    }

    fn metrics(&self) -> Result<Response<Full<Bytes>>, Problem> {
        let series = self
            .metrics
            .text(&self.shard.counters(), self.shard.store_failure().is_none());
        let series =
            series.map_err(|_| Problem::new(Code::Internal, "the metrics could not be printed"))?;
        Ok(respond(
            HeaderValue::from_static(metrics::CONTENT_TYPE),
            series.into(),
        ))
    }

    fn recent_tasks(&self) -> Response<Full<Bytes>> {
        let tasks = self
            .shard
            .with_hub(|hub, now| hub.recent_tasks(now, dev::TASKS_MAX));
        let tasks: Vec<_> = tasks
            .into_iter()
            .map(|(task, state)| RecentTask { task, state })
            .collect();
        json(&serde_json::json!({ "tasks": tasks }))
    }

    /// Logs whom the server did not believe, or did not let. Not by the path: what stands there is the client's.
    fn note(&self, route: Option<Route>, problem: &Problem) {
        let Some((code, reason)) = problem.distrust() else {
            return;
        };
        if let Some(times) = self.shard.admit_line(code) {
            let route = route.map_or("none", Route::name);
            tracing::info!(route, code, reason, times, "refused");
        }
    }

    /// Adds what every answer to this request bears, counts it and logs it. `read` says whether all of the body was.
    fn finish(
        &self,
        head: &Parts,
        route: Option<Route>,
        answer: &mut Answer,
        read: bool,
        began: Instant,
    ) {
        let status = match answer {
            Answer::Response(response) => {
                // Where the next request begins is not known, or it had better go to another server.
                if !read || self.shard.is_draining() {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                match route {
                    Some(Route::DevToken | Route::DevTasks) => {}
                    // What everybody may have, every page may import.
                    Some(Route::Asset(_)) => {
                        response
                            .headers_mut()
                            .insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
                    }
                    _ => self
                        .options
                        .origins
                        .share(&head.headers, response.headers_mut()),
                }
                response.status()
            }
            Answer::Upgrade(..) => StatusCode::SWITCHING_PROTOCOLS,
        };
        self.metrics.answered(route, status, began.elapsed());
        // Never the query, which may hold a token.
        tracing::debug!(
            method = %Cautious(head.method.as_str()),
            path = %Cautious(head.uri.path()),
            status = status.as_u16(),
            "answered"
        );
    }
}

impl<P: Platform> Respond for Api<P> {
    async fn respond(&self, request: Request<Incoming>) -> Answer {
        let began = Instant::now();
        let (head, mut body) = request.into_parts();
        let matched = self.routes.at(head.uri.path()).ok();
        let route = matched
            .as_ref()
            .map(|matched| (*matched.value, matched.params.get("id").unwrap_or_default()));
        let answer = self.answer(&head, &mut body, route).await;
        let (route, read) = (route.map(|(route, _)| route), body.is_end_stream());
        let mut answer = answer.unwrap_or_else(|problem| {
            self.note(route, &problem);
            Answer::Response(problem.into_response())
        });
        self.finish(&head, route, &mut answer, read, began);
        answer
    }
}

/// Whether the body comes in no other coding than chunks, which RFC 9112, section 6.1, wants refused: hyper looks at the last
/// one only.
fn sends_as_it_is(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// Whether no other page may ever read the answer.
const fn is_dev(route: Route) -> bool {
    matches!(route, Route::DevToken | Route::DevTasks)
}

fn respond(content_type: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = respond(TEXT, Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    response
}

fn json<T: Serialize>(value: &T) -> Response<Full<Bytes>> {
    // Views have string keys only: there is a JSON form.
    respond(JSON, serde_json::to_vec(value).unwrap_or_default().into())
}
