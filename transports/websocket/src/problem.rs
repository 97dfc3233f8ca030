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

/// Seconds after which a publish that could not be taken now is best tried again.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// The codes, each with its name and the status of its answers.
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident $name:literal $status:ident,)*) => {
        /// Why a request was refused, for programs: the names are stable. `docs/http-api.md` has each of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$code,)*];

            const fn name(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)*
                }
            }

            const fn status(self) -> StatusCode {
                match self {
                    $(Self::$code => StatusCode::$status,)*
                }
            }
        }
    };
}

codes! {
    BadRequest "bad_request" BAD_REQUEST,
    ReservedType "reserved_type" BAD_REQUEST,
    Unauthenticated "unauthenticated" UNAUTHORIZED,
    BadApiKey "bad_api_key" UNAUTHORIZED,
    BadToken "bad_token" UNAUTHORIZED,
    TokenExpired "token_expired" UNAUTHORIZED,
    Forbidden "forbidden" FORBIDDEN,
    Origin "origin" FORBIDDEN,
    NotFound "not_found" NOT_FOUND,
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED,
    Timeout "timeout" REQUEST_TIMEOUT,
    Lifecycle "lifecycle" CONFLICT,
    /// For a publish; a handshake that would join a deleted task's room has [`Problem::gone`].
    Gone "gone" CONFLICT,
    IdReused "id_reused" CONFLICT,
    TooLarge "too_large" PAYLOAD_TOO_LARGE,
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE,
    UpgradeRequired "upgrade_required" UPGRADE_REQUIRED,
    Internal "internal" INTERNAL_SERVER_ERROR,
    TransferCoding "transfer_coding" NOT_IMPLEMENTED,
    Draining "draining" SERVICE_UNAVAILABLE,
    /// The store can't take or read it now.
    Unavailable "unavailable" SERVICE_UNAVAILABLE,
    StoreFull "store_full" INSUFFICIENT_STORAGE,
}

/// A refusal, as the answer to one HTTP request.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: Code,
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
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            status: code.status(),
            code,
            detail: detail.into(),
            task: None,
            headers: Vec::new(),
        }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, detail)
    }

    pub(crate) fn not_found() -> Self {
        let detail = "there is nothing at this path; see docs/http-api.md";
        Self::new(Code::NotFound, detail)
    }

    /// The task was deleted a short while ago: there is nothing to join.
    pub(crate) fn gone(task: TaskId) -> Self {
        let mut problem = Self::from(Error::Gone(task));
        problem.status = StatusCode::GONE;
        problem
    }

    /// No credentials, or none that hold.
    pub(crate) fn unauthorized(code: Code, detail: impl Into<String>) -> Self {
        let challenge = if code == Code::Unauthenticated {
            "Bearer realm=\"fanfare\""
        } else {
            "Bearer realm=\"fanfare\", error=\"invalid_token\""
        };
        Self::new(code, detail).with(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    pub(crate) fn method_not_allowed(allow: HeaderValue) -> Self {
        let detail = format!("this path takes {}", allow.to_str().unwrap_or_default());
        Self::new(Code::MethodNotAllowed, detail).with(ALLOW, allow)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let detail = format!("the body is larger than {limit} bytes, which is the limit");
        Self::new(Code::TooLarge, detail)
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The code and the reason, where it is about who asks.
    pub(crate) fn distrust(&self) -> Option<(&'static str, &str)> {
        let distrust = match self.code {
            Code::Unauthenticated
            | Code::BadApiKey
            | Code::BadToken
            | Code::TokenExpired
            | Code::Forbidden
            | Code::Origin => true,
            Code::BadRequest
            | Code::ReservedType
            | Code::NotFound
            | Code::MethodNotAllowed
            | Code::Timeout
            | Code::Lifecycle
            | Code::Gone
            | Code::IdReused
            | Code::TooLarge
            | Code::UnsupportedMediaType
            | Code::UpgradeRequired
            | Code::Internal
            | Code::Draining
            | Code::Unavailable
            | Code::StoreFull
            | Code::TransferCoding => false,
        };
        distrust.then_some((self.code.name(), &self.detail))
    }

    /// The problem details, as JSON.
    pub(crate) fn body(&self) -> Vec<u8> {
        let details = Details {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code.name(),
            detail: &self.detail,
            task: self.task.map(|(id, status)| TaskDetails { id, status }),
        };
        // Text, numbers and no maps: there is a JSON form.
        serde_json::to_vec(&details).unwrap_or_default()
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.body()));
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
        let code = match &error {
            Error::Malformed { .. } | Error::BadRequest(_) => Code::BadRequest,
            Error::ReservedType(_) => Code::ReservedType,
            Error::TooLarge { .. } => Code::TooLarge,
            Error::Lifecycle { .. } => Code::Lifecycle,
            Error::Gone(_) => Code::Gone,
            Error::IdReused(_) => Code::IdReused,
            Error::StoreFull => Code::StoreFull,
            Error::Unavailable(_) => Code::Unavailable,
            Error::Draining => Code::Draining,
            // What only a socket's client can be told, all of it.
            Error::Unauthenticated
            | Error::Forbidden(_)
            | Error::NotJoined(_)
            | Error::TooManyRooms(_)
            | Error::RateLimited(_)
            | _ => Code::Internal,
        };
        let mut problem = Self::new(code, error.to_string());
        if let Error::Lifecycle { task, status, .. } = error {
            problem.task = Some((task, status));
        } else if let Error::Gone(task) = error {
            problem.task = Some((task, Status::Deleted));
        }
        if matches!(code, Code::Draining | Code::Unavailable | Code::StoreFull) {
            problem = problem.with(RETRY_AFTER, RETRY_SECONDS);
        }
        problem
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let detail = error.to_string();
        match error {
            AuthError::BadToken | AuthError::NotYet => Self::unauthorized(Code::BadToken, detail),
            AuthError::Expired => Self::unauthorized(Code::TokenExpired, detail),
            AuthError::TaskNotNamed => Self::new(Code::Forbidden, detail),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.status() {
            StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
            StatusCode::UPGRADE_REQUIRED => Code::UpgradeRequired,
            _ => Code::BadRequest,
        };
        let mut problem = Self::new(code, refusal.to_string());
        let mut headers = HeaderMap::new();
        refusal.describe(&mut headers);
        problem.headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        problem
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/http-api.md");

    #[test]
    fn docs_http_api_md_has_every_code_with_its_status() {
        let text = fs::read_to_string(DOCUMENT).unwrap();
        let (_, rest) = text.split_once("\n## Errors\n").unwrap();
        let section = rest.split("\n## ").next().unwrap();
        let rows = section.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            Some((cells.next()?.trim_end_matches('`'), cells.next()?))
        });
        let written: BTreeSet<_> = rows
            .map(|(code, status)| format!("{code} {status}"))
            .collect();
        let all = Code::ALL.iter().map(|&code| {
            let joins = if code == Code::Gone { ", 410" } else { "" };
            format!("{} {}{joins}", code.name(), code.status().as_u16())
        });
        assert_eq!(written, all.collect());
    }

    #[test]
    fn an_error_has_one_code_over_http_and_over_a_socket() {
        let task = TaskId::new(uuid::Uuid::nil());
        let malformed = "x".parse::<TaskId>().unwrap_err();
        let kind = "task:created".parse().unwrap();
        for error in [
            malformed,
            Error::BadRequest(String::new()),
            Error::ReservedType("inbox:read".parse().unwrap()),
            Error::TooLarge {
                what: "",
                size: 2,
                unit: "",
                limit: 1,
            },
            Error::Lifecycle {
                task,
                event: kind,
                status: Status::Created,
            },
            Error::Gone(task),
            Error::IdReused("1".parse().unwrap()),
            Error::StoreFull,
            Error::Unavailable(""),
            Error::Draining,
        ] {
            let code = error.code();
            assert_eq!(Problem::from(error).code.name(), code);
        }
        for error in [
            AuthError::BadToken,
            AuthError::Expired,
            AuthError::NotYet,
            AuthError::TaskNotNamed,
        ] {
            assert_eq!(Problem::from(error).code.name(), error.code());
        }
    }
}
