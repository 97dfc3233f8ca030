//! What outlives a server beside its store: in which boot of the operating system it ran, and whether a relaxed store failed in it.
//!
//! After a failed fsync what `--durability relaxed` had answered may be lost within one boot, and nothing can be written to the
//! store; then a file beside it says so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Which boot of the operating system this is; `None` where that does not say so, as only Linux does.
pub(crate) fn boot() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(boot.trim().to_owned()).filter(|boot| !boot.is_empty())
}

/// The file that is there after a failed fsync of the store.
pub(crate) fn failed(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".failed");
    name.into()
}

/// Makes that file. It need not outlive a loss of power, after which the boot is another.
///
/// # Errors
/// The disk may take nothing more.
pub(crate) fn fail(store: &Path) -> io::Result<()> {
    fs::write(failed(store), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_says_which_boot_it_is() {
        let known = boot();
        assert!(known.as_ref().is_some_and(|boot| boot.len() == 36));
        assert_eq!(known, boot());
    }
}
