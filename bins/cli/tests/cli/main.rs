//! The real `fanfare` against a real server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

#[cfg(target_os = "linux")]
mod bench;
mod docs;
mod exec;
mod exec_without_server;
mod history;
mod publish;
#[cfg(target_os = "linux")]
mod raw;
mod relay;
mod run;
mod server;
mod tail;
mod terminal;

/// Generous: how long anything at all may take on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
