//! How many files the process may have open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit that holds to the highest that this process may set. What holds then; nothing where none does.
///
/// Shells and service managers give 1,024 for the sake of programs that can't have more. Where it can't be raised the
/// server runs all the same, with fewer connections.
pub(crate) fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files can't be raised");
            limit.current
        }
    }
}
