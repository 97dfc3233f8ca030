//! What an HTTP request that is refused is told: RFC 9457 problem details with a stable `code`.
//!
//! The one place where errors of the core become statuses.

use bytes::Bytes;
use fanfare_core::{AuthError, Error, Status, TaskId};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use crate::upgrade::Refusal;

/// Seconds after which a publish that met a draining server is best tried again.
const DRAINING_RETRY: HeaderValue = HeaderValue::from_static("5");
/// Seconds after which a client above its rate may go on.
const RATE_RETRY: HeaderValue = HeaderValue::from_static("1");

/// A refusal, as the answer to one HTTP request.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    task: Option<(TaskId, Status)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The body. `type` is `about:blank`: what a program decides by is `code`, what it means is in `docs/http-api.md`.
#[derive(Serialize)]
struct Details<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<TaskDetails>,
}

#[derive(Serialize)]
struct TaskDetails {
    id: TaskId,
    status: Status,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            task: None,
            headers: Vec::new(),
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is nothing at this path; see docs/http-api.md",
        )
    }

    pub(crate) fn forbidden(detail: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// The task was deleted a short while ago: there is nothing to join.
    pub(crate) fn gone(task: TaskId) -> Self {
        let error = Error::Gone(task);
        Self::new(StatusCode::GONE, error.code(), error.to_string())
    }

    /// No credentials, or none that hold.
    pub(crate) fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        let challenge = match code {
            "unauthenticated" => HeaderValue::from_static("Bearer realm=\"fanfare\""),
            _ => HeaderValue::from_static("Bearer realm=\"fanfare\", error=\"invalid_token\""),
        };
        Self::new(StatusCode::UNAUTHORIZED, code, detail).with(WWW_AUTHENTICATE, challenge)
    }

    pub(crate) fn method_not_allowed(allow: HeaderValue) -> Self {
        let detail = format!("this path takes {}", allow.to_str().unwrap_or_default());
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail).with(ALLOW, allow)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let detail = format!("the body is larger than {limit} bytes, which is the limit");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let details = Details {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            task: self.task.map(|(id, status)| TaskDetails { id, status }),
        };
        // Text, numbers and no maps: there is a JSON form.
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.extend(self.headers);
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Malformed { .. } | Error::BadRequest(_) | Error::ReservedType(_) => {
                StatusCode::BAD_REQUEST
            }
            Error::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Unauthenticated => StatusCode::UNAUTHORIZED,
            Error::Forbidden(_) | Error::NotJoined(_) | Error::TooManyRooms(_) => {
                StatusCode::FORBIDDEN
            }
            Error::Lifecycle { .. } | Error::Gone(_) | Error::IdReused(_) => StatusCode::CONFLICT,
            Error::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Error::Draining => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut problem = Self::new(status, error.code(), error.to_string());
        if let Error::Lifecycle { task, status, .. } = error {
            problem.task = Some((task, status));
        } else if let Error::Gone(task) = error {
            problem.task = Some((task, Status::Deleted));
        }
        match status {
            StatusCode::TOO_MANY_REQUESTS => problem.with(RETRY_AFTER, RATE_RETRY),
            StatusCode::SERVICE_UNAVAILABLE => problem.with(RETRY_AFTER, DRAINING_RETRY),
            _ => problem,
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::BadToken | AuthError::Expired | AuthError::NotYet => {
                Self::unauthorized(error.code(), error.to_string())
            }
            AuthError::TaskNotNamed => {
                Self::new(StatusCode::FORBIDDEN, error.code(), error.to_string())
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let mut problem = Self::new(refusal.status(), refusal.code(), refusal.to_string());
        let mut headers = HeaderMap::new();
        refusal.describe(&mut headers);
        problem.headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        problem
    }
}
