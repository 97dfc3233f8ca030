//! What a hub with a store keeps beside one without.

use super::commits::Commits;
use super::jobs::Jobs;
use super::loads::Loading;
use super::reads::Reads;
use super::sweep::Sweep;
use crate::ids::RoomId;
use std::collections::BTreeMap;

/// Everything that a hub with a store has to do with it.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) jobs: Jobs,
    pub(super) commits: Commits,
    pub(super) loads: BTreeMap<RoomId, Loading>,
    pub(super) reads: Reads,
    pub(super) sweep: Sweep,
}

impl Work {
    pub(super) fn new(is_new: bool) -> Self {
        Self {
            jobs: Jobs::default(),
            commits: Commits::new(is_new),
            loads: BTreeMap::new(),
            reads: Reads::default(),
            sweep: Sweep::default(),
        }
    }
}
