//! The files in the binary: the browser client for everybody, the demo page for `--dev`.

use fanfare_websocket::Asset;

macro_rules! asset {
    ($path:literal, $file:literal, $content_type:expr) => {
        Asset {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../assets/", $file)),
        }
    };
}

const JS: &str = "text/javascript; charset=utf-8";

const CLIENT: Asset = asset!("/fanfare.js", "fanfare.js", JS);

const PAGE: &[Asset] = &[
    asset!("/", "index.html", "text/html; charset=utf-8"),
    asset!("/style.css", "style.css", "text/css; charset=utf-8"),
    asset!("/favicon.svg", "favicon.svg", "image/svg+xml"),
    asset!("/address.js", "address.js", JS),
    asset!("/app.js", "app.js", JS),
    asset!("/dom.js", "dom.js", JS),
    asset!("/gaps.js", "gaps.js", JS),
    asset!("/keys.js", "keys.js", JS),
    asset!("/link.js", "link.js", JS),
    asset!("/log-view.js", "log-view.js", JS),
    asset!("/notifications.js", "notifications.js", JS),
    asset!("/recent.js", "recent.js", JS),
    asset!("/task-panel.js", "task-panel.js", JS),
    asset!("/theme.js", "theme.js", JS),
    asset!("/titles.js", "titles.js", JS),
];

/// What is served: with `dev` the page, too.
pub(crate) fn list(dev: bool) -> Vec<Asset> {
    let page = if dev { PAGE } else { &[] };
    [CLIENT].into_iter().chain(page.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_binary() {
        let served = list(true).len();
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/assets"))
            .unwrap()
            .count();
        assert_eq!(served, files);
    }
}
