//! Which path is what: the routes of the HTTP API, and the methods that each takes.

use http::{HeaderValue, Method};
use matchit::{InsertError, Router};

/// A path, understood. Ids are still text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Task,
    Publish(To),
    Inbox,
    Disconnect,
    Socket(Joins),
    Healthz,
    Readyz,
    Metrics,
    DevToken,
    DevTasks,
    /// The file at this place of the list that the API was given.
    Asset(usize),
}

/// Where a publish goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Task,
    User,
    Bus,
}

/// What a WebSocket joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joins {
    Task,
    User,
    Bus,
}

/// How a route is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Answers GET, and with it HEAD.
    Get,
    /// Takes a POST.
    Post,
    /// Both.
    GetOrPost,
    /// Becomes a WebSocket: whether it may is the handshake's to say, the method with it.
    WebSocket,
}

impl Route {
    const ALWAYS: [(&'static str, Self); 13] = [
        ("/v1/tasks/{id}", Self::Task),
        ("/v1/tasks/{id}/events", Self::Publish(To::Task)),
        ("/v1/tasks/{id}/chat", Self::Socket(Joins::Task)),
        ("/v1/users/{id}/events", Self::Publish(To::User)),
        ("/v1/users/{id}/inbox", Self::Inbox),
        ("/v1/users/{id}/disconnect", Self::Disconnect),
        ("/v1/user/notifications", Self::Socket(Joins::User)),
        // As the ADR has it, without a version.
        ("/user/notifications", Self::Socket(Joins::User)),
        ("/v1/events", Self::Publish(To::Bus)),
        ("/v1/bus", Self::Socket(Joins::Bus)),
        ("/healthz", Self::Healthz),
        ("/readyz", Self::Readyz),
        ("/metrics", Self::Metrics),
    ];
    const DEV: [(&'static str, Self); 2] = [
        ("/dev/token", Self::DevToken),
        ("/dev/tasks", Self::DevTasks),
    ];

    /// The table of all routes.
    ///
    /// # Errors
    /// A path of `assets` that is another route's.
    pub(crate) fn table<'a>(
        dev: bool,
        assets: impl Iterator<Item = &'a str>,
    ) -> Result<Router<Self>, InsertError> {
        let mut router = Router::new();
        let assets = assets.enumerate().map(|(at, path)| (path, Self::Asset(at)));
        let dev = dev.then_some(Self::DEV).into_iter().flatten();
        for (path, route) in Self::ALWAYS.into_iter().chain(dev).chain(assets) {
            router.insert(path, route)?;
        }
        Ok(router)
    }

    pub(crate) const fn used(self) -> Use {
        match self {
            Self::Publish(To::Task | To::User) => Use::GetOrPost,
            Self::Publish(To::Bus) | Self::Disconnect => Use::Post,
            Self::Socket(_) => Use::WebSocket,
            Self::Task
            | Self::Inbox
            | Self::Healthz
            | Self::Readyz
            | Self::Metrics
            | Self::DevToken
            | Self::DevTasks
            | Self::Asset(_) => Use::Get,
        }
    }

    /// A name of few values, for metrics: no path of a client's choice becomes a label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Publish(To::Task) => "task_events",
            Self::Publish(To::User) => "user_events",
            Self::Inbox => "user_inbox",
            Self::Disconnect => "user_disconnect",
            Self::Publish(To::Bus) => "events",
            Self::Socket(Joins::Task) => "chat",
            Self::Socket(Joins::User) => "notifications",
            Self::Socket(Joins::Bus) => "bus",
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
            Self::Metrics => "metrics",
            Self::DevToken | Self::DevTasks => "dev",
            Self::Asset(_) => "asset",
        }
    }
}

impl Use {
    /// The value of `Allow`.
    pub(crate) const fn methods(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Get => "GET, HEAD, OPTIONS",
            Self::Post => "POST, OPTIONS",
            Self::GetOrPost => "GET, HEAD, POST, OPTIONS",
            Self::WebSocket => "GET",
        })
    }

    pub(crate) fn takes(self, method: &Method) -> bool {
        match self {
            Self::Get => reads(method),
            Self::Post => method == Method::POST,
            Self::GetOrPost => reads(method) || method == Method::POST,
            Self::WebSocket => true,
        }
    }
}

/// Whether it asks for something and changes nothing.
pub(crate) fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/http-api.md");

    #[test]
    fn docs_http_api_md_has_every_path_with_its_method_and_every_name() {
        let text = fs::read_to_string(DOCUMENT).unwrap();
        for (path, route) in Route::ALWAYS.into_iter().chain(Route::DEV) {
            let methods = match route.used() {
                Use::Get | Use::WebSocket => &["GET"][..],
                Use::Post => &["POST"],
                Use::GetOrPost => &["GET", "POST"],
            };
            let path = path
                .replace("tasks/{id}", "tasks/{task_id}")
                .replace("users/{id}", "users/{user_id}");
            let name = format!("`{}`", route.name());
            let ways = methods.iter().map(|method| format!("`{method} {path}`"));
            for part in ways.chain([name]) {
                assert!(text.contains(&part), "{part}");
            }
        }
    }

    #[test]
    fn docs_http_api_md_has_no_name_in_the_metrics_that_no_route_has() {
        let text = fs::read_to_string(DOCUMENT).unwrap();
        let (_, row) = text.split_once("| `fanfare_http_requests_total`").unwrap();
        let (_, row) = row.split_once("Routes: ").unwrap();
        let (row, _) = row.split_once(", and `none`").unwrap();
        let written = row.split(", ").map(|name| name.trim_matches('`'));
        let routes = Route::ALWAYS.into_iter().chain(Route::DEV);
        let routes = routes.map(|(_, route)| route).chain([Route::Asset(0)]);
        assert_eq!(
            written.collect::<BTreeSet<_>>(),
            routes.map(Route::name).collect()
        );
    }
}
