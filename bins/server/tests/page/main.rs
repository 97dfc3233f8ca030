//! The page of `--dev` in a real browser, against the real server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

#[path = "../browser/mod.rs"]
mod browser;
mod chat;
mod keyboard;
mod looks;
#[path = "../server/mod.rs"]
mod server;
mod stage;
mod story;
