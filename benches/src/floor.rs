//! The least that keeping something can cost.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;

/// Appends so many bytes to a file of its own and calls `fdatasync`, over and over. How often a second.
///
/// # Errors
/// What the system says.
///
/// ```no_run
/// let of_4_kib = fanfare_benches::fdatasyncs("floor".as_ref(), 4_096, std::time::Duration::from_secs(1))?;
/// println!("{of_4_kib:.0} a second");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn fdatasyncs(file: &Path, bytes: usize, during: Duration) -> Outcome<f64> {
    let bytes = vec![b'x'; bytes.max(1)];
    let mut floor = File::create(file)?;
    let (began, mut syncs) = (Instant::now(), 0);
    while began.elapsed() < during || syncs == 0 {
        floor.write_all(&bytes)?;
        floor.sync_data()?;
        syncs += 1;
    }
    let wall = began.elapsed();
    std::fs::remove_file(file)?;
    Ok(f64::from(syncs) / wall.as_secs_f64())
}
