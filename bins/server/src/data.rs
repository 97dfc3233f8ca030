//! What is in the folder that `--data` names.

/// The store's file in it.
pub(crate) const STORE_FILE: &str = "fanfare.redb";
