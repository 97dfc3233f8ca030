//! What a measuring program is told, and where it keeps its files.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::Outcome;

/// The word at this place behind the program's name, from 0, or this where there is none.
///
/// # Errors
/// The word says something else.
///
/// ```
/// assert_eq!(fanfare_benches::argument(7, 64)?, 64);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn argument<T>(at: usize, otherwise: T) -> Outcome<T>
where
    T: FromStr<Err: Into<Box<dyn Error + Send + Sync>>>,
{
    let word = std::env::args().nth(at + 1);
    word.map_or(Ok(otherwise), |word| word.parse().map_err(Into::into))
}

/// The words from this place on.
///
/// ```
/// assert!(fanfare_benches::arguments(7).is_empty());
/// ```
#[must_use]
pub fn arguments(from: usize) -> Vec<String> {
    std::env::args().skip(from + 1).collect()
}

/// A measurement with a folder of its own in the one that the word at this place names, or in this one. The folder is gone
/// afterwards.
///
/// # Errors
/// What the measurement or the system says.
///
/// ```
/// fanfare_benches::in_folder(7, |dir| Ok(std::fs::write(dir.join("floor"), "x")?))?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn in_folder(at: usize, measure: impl FnOnce(&Path) -> Outcome<()>) -> Outcome<()> {
    let parent = argument(at, PathBuf::from("."))?;
    let dir = parent.join(format!("fanfare-bench-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let done = measure(&dir);
    std::fs::remove_dir_all(&dir)?;
    done
}
