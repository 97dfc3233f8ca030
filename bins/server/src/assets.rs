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
    asset!("/tail.js", "tail.js", JS),
    asset!("/task-panel.js", "task-panel.js", JS),
    asset!("/theme.js", "theme.js", JS),
    asset!("/titles.js", "titles.js", JS),
];

/// The browser client, which is always served.
pub(crate) fn client() -> Vec<Asset> {
    vec![CLIENT]
}

/// The client and the page, which says `fanfare` for how the command line is called here.
pub(crate) fn with_page(fanfare: &'static str) -> Vec<Asset> {
    let command = Asset {
        path: "/command.txt",
        content_type: "text/plain; charset=utf-8",
        bytes: fanfare.as_bytes(),
    };
    let page = PAGE.iter().copied();
    [CLIENT, command].into_iter().chain(page).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_binary() {
        let made = ["/command.txt"].len();
        let served = with_page("fanfare").len() - made;
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/assets"))
            .unwrap()
            .count();
        assert_eq!(served, files);
    }
}
