//! What stands between the store and its file: a failed write of redb's freezes redb's part, and nobody who reads notices.
//!
//! redb refuses everything, reads too, after any failed write. Here a failure is kept from redb: from the first one on,
//! that part is frozen (what it holds stays as it is), and what redb still writes goes to memory, over the file. So redb
//! comes to the end of what it was doing, a reader that holds the state before it goes on reading, and the writer, which
//! asks [`Disk::frozen`] after each commit, knows that this one is not on disk. What memory holds is at most what the commit
//! under way still had to write.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::{BackendError, StorageBackend};

use crate::error::is_full;
use crate::file::Named;
use crate::layout::Layout;
use crate::log::{self, SECTOR};
use crate::row::SEAL;

const BLOCK: usize = 4_096;
/// Length of redb's header, which it writes as a whole.
const HEADER: usize = 320;

/// A lock's value, also after a panic elsewhere: what is guarded here is never left half done.
pub(crate) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file itself: a block that says what it is, the log, and redb's part. Its locks are held until the last user is gone, so
/// that no other process comes between two openings.
#[derive(Debug)]
pub(crate) struct Device {
    backend: Box<dyn StorageBackend>,
    /// Where it is a file.
    named: Option<Named>,
    layout: Layout,
    locks: Mutex<Vec<(Bound<u64>, Bound<u64>)>>,
}

impl Device {
    /// What is there already.
    pub(crate) fn found(
        backend: Box<dyn StorageBackend>,
        named: Option<Named>,
        layout: Layout,
    ) -> Arc<Self> {
        Arc::new(Self {
            backend,
            named,
            layout,
            locks: Mutex::default(),
        })
    }

    /// An empty file with room for the log. It is a store when [`name`](Self::name) has written its first block.
    pub(crate) fn make(
        backend: Box<dyn StorageBackend>,
        named: Option<Named>,
        layout: Layout,
    ) -> io::Result<Arc<Self>> {
        backend.set_len(0)?;
        backend.set_len(layout.tables_at())?;
        backend.write(0, &[0; BLOCK])?;
        // Written and not only long, so that a commit finds its space.
        let blank = log::blank().repeat(BLOCK * 64 / SECTOR);
        let mut at = layout.half_at(0);
        while at < layout.tables_at() {
            let left = usize::try_from(layout.tables_at() - at).unwrap_or(usize::MAX);
            backend.write(at, blank.get(..left).unwrap_or(&blank))?;
            at += blank.len() as u64;
        }
        Ok(Self::found(backend, named, layout))
    }

    /// Says what the file is, once all else is in it.
    pub(crate) fn name(&self) -> io::Result<()> {
        self.backend.write(0, &self.layout.named())?;
        self.backend.sync_data()
    }

    pub(crate) const fn layout(&self) -> Layout {
        self.layout
    }

    /// Of the whole file, in bytes.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        self.backend.len()
    }

    /// Of redb's part.
    fn len(&self) -> io::Result<u64> {
        Ok(self.backend.len()?.saturating_sub(self.layout.tables_at()))
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(self.layout.tables_at() + at, out)
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(self.layout.tables_at() + at, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(self.layout.tables_at() + len)
    }

    pub(crate) fn read_log(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    /// Writes to the log, and returns when that is on disk.
    pub(crate) fn write_log_through(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        #[cfg(unix)]
        if let Some(file) = self.named.as_ref().and_then(Named::synced) {
            return std::os::unix::fs::FileExt::write_all_at(file, data, offset);
        }
        self.write_log(offset, data)?;
        if fanfare_core::planted!(FsyncForgotten) {
            return Ok(());
        }
        // Also if it says that there is no space: what reached the disk, of the tables too, is not known.
        let synced = self.sync_log();
        synced.map_err(|error| io::Error::other(format!("fsync: {error}")))
    }

    /// Whether the file can still be found under its name.
    pub(crate) fn is_there(&self) -> bool {
        self.named.as_ref().is_none_or(Named::is_there)
    }

    /// Writes to the log: the operating system has it.
    pub(crate) fn write_log(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    pub(crate) fn sync_log(&self) -> io::Result<()> {
        self.backend.sync_data()
    }

    /// Whether redb's header is the one that was written last.
    ///
    /// redb has no checksum over the byte that says which of its two states is the last one: with that bit changed, a file
    /// would open without its last commit. So a header is followed by its CRC-32, in the same sector.
    pub(crate) fn has_whole_header(&self) -> io::Result<bool> {
        if self.len()? < (HEADER + SEAL) as u64 {
            return Ok(false);
        }
        let mut sealed = [0; HEADER + SEAL];
        self.read(0, &mut sealed)?;
        let (header, seal) = sealed.split_at(HEADER);
        Ok(crc32fast::hash(header).to_le_bytes() == *seal)
    }

    /// Whether no other process has it open. Where that can't be asked, none has.
    pub(crate) fn is_free(&self) -> bool {
        let all = (Bound::Unbounded, Bound::Unbounded);
        self.backend.try_lock_range(all.0, all.1).unwrap_or(true)
    }

    /// Whether so many bytes can be written behind the end. They are gone again afterwards.
    pub(crate) fn has_space(&self, bytes: u64) -> bool {
        let Ok(end) = self.backend.len() else {
            return false;
        };
        let zeros = vec![0; BLOCK * 16];
        let written = (0..bytes.div_ceil(zeros.len() as u64)).try_for_each(|part| {
            let at = end + part * zeros.len() as u64;
            self.backend.set_len(at + zeros.len() as u64)?;
            self.backend.write(at, &zeros)
        });
        self.backend.set_len(end).is_ok() && written.is_ok()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // All that close does is to give back the locks, as the end of the process would.
        let _ = self.backend.close();
    }
}

/// Why nothing is written to the file any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frozen {
    /// It was opened to be read.
    ReadOnly,
    /// There was no space for a write. What the disk holds is known.
    Full,
    /// A write or an fsync failed. What the disk holds is not known.
    Failed(String),
}

/// The file as one opening of the database sees it.
#[derive(Debug)]
pub(crate) struct Disk {
    device: Arc<Device>,
    overlay: RwLock<Option<Overlay>>,
    watch: Mutex<Watch>,
}

/// What redb wrote since the file was frozen.
#[derive(Debug)]
struct Overlay {
    cause: Frozen,
    len: u64,
    /// Behind this, the file's bytes were cut off since.
    visible: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

/// How far the commit under way is.
#[derive(Debug, Default)]
struct Watch {
    /// Its header was written since the last fsync.
    header: bool,
    /// Fsyncs that reached its header.
    synced: u32,
}

impl Disk {
    pub(crate) fn new(device: Arc<Device>) -> Arc<Self> {
        Arc::new(Self {
            device,
            overlay: RwLock::new(None),
            watch: Mutex::default(),
        })
    }

    /// Never writes: what redb wants to write goes to memory.
    pub(crate) fn read_only(device: Arc<Device>) -> io::Result<Arc<Self>> {
        let disk = Self::new(device);
        disk.freeze(Frozen::ReadOnly)?;
        Ok(disk)
    }

    /// Why nothing is written any more.
    pub(crate) fn frozen(&self) -> Option<Frozen> {
        let overlay = self.overlay.read().unwrap_or_else(PoisonError::into_inner);
        overlay.as_ref().map(|overlay| overlay.cause.clone())
    }

    /// Writes nothing from now on. The first cause stays, but for that of a lack of space, of which one can recover.
    pub(crate) fn freeze(&self, cause: Frozen) -> io::Result<()> {
        let mut overlay = self.overlay.write().unwrap_or_else(PoisonError::into_inner);
        match &mut *overlay {
            Some(frozen) if frozen.cause == Frozen::Full => frozen.cause = cause,
            Some(_) => {}
            None => {
                let len = self.device.len()?;
                *overlay = Some(Overlay {
                    cause,
                    len,
                    visible: len,
                    blocks: BTreeMap::new(),
                });
            }
        }
        Ok(())
    }

    /// Bytes that were written since the file was frozen.
    pub(crate) fn unwritten(&self) -> u64 {
        let overlay = self.overlay.read().unwrap_or_else(PoisonError::into_inner);
        let blocks = overlay.as_ref().map_or(0, |overlay| overlay.blocks.len());
        (blocks * BLOCK) as u64
    }

    /// A commit begins.
    pub(crate) fn begin(&self) {
        *locked(&self.watch) = Watch::default();
    }

    /// The commit ended. Says how many fsyncs reached its header.
    pub(crate) fn end(&self) -> u32 {
        std::mem::take(&mut *locked(&self.watch)).synced
    }

    /// Writes to the file, or over it once it is frozen; a failure freezes it.
    fn change(
        &self,
        file: impl FnOnce(&Device) -> io::Result<()>,
        memory: impl FnOnce(&mut Overlay, &Device) -> io::Result<()>,
        cause: impl FnOnce(io::Error) -> Frozen,
    ) -> io::Result<()> {
        let device = &*self.device;
        let overlay = self.overlay.read().unwrap_or_else(PoisonError::into_inner);
        if overlay.is_none() {
            let Err(error) = file(device) else {
                return Ok(());
            };
            drop(overlay);
            self.freeze(cause(error))?;
        } else {
            drop(overlay);
        }
        let mut overlay = self.overlay.write().unwrap_or_else(PoisonError::into_inner);
        overlay
            .as_mut()
            .map_or(Ok(()), |overlay| memory(overlay, device))
    }
}

pub(crate) fn cause(doing: &str, error: &io::Error) -> Frozen {
    if is_full(error) {
        Frozen::Full
    } else {
        Frozen::Failed(format!("{doing}: {error}"))
    }
}

impl Overlay {
    /// Reads the file, then what is over it.
    fn read(&self, device: &Device, at: u64, out: &mut [u8]) -> io::Result<()> {
        if at
            .checked_add(out.len() as u64)
            .is_none_or(|end| end > self.len)
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.fill(0);
        let there = self.visible.saturating_sub(at).min(out.len() as u64);
        let there = usize::try_from(there).unwrap_or(out.len());
        if let Some(there) = out.get_mut(..there).filter(|there| !there.is_empty()) {
            device.read(at, there)?;
        }
        for (number, within, part) in parts(at, out.len()) {
            if let (Some(block), Some(out)) = (self.blocks.get(&number), out.get_mut(part)) {
                copy(out, block.get(within));
            }
        }
        Ok(())
    }

    fn write(&mut self, device: &Device, at: u64, data: &[u8]) -> io::Result<()> {
        for (number, within, part) in parts(at, data.len()) {
            if !self.blocks.contains_key(&number) {
                let mut block = vec![0; BLOCK];
                let start = number * BLOCK as u64;
                let there = self.len.saturating_sub(start).min(BLOCK as u64);
                let there = usize::try_from(there).unwrap_or(BLOCK);
                if let Some(there) = block.get_mut(..there) {
                    self.read(device, start, there)?;
                }
                self.blocks.insert(number, block);
            }
            let block = self.blocks.get_mut(&number);
            if let Some(block) = block.and_then(|block| block.get_mut(within)) {
                copy(block, data.get(part));
            }
        }
        self.len = self.len.max(at + data.len() as u64);
        Ok(())
    }

    /// What is cut off is zeros if the file grows again.
    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.visible = self.visible.min(len);
            self.blocks.split_off(&len.div_ceil(BLOCK as u64));
            let within = usize::try_from(len % BLOCK as u64).unwrap_or(0);
            let last = self.blocks.get_mut(&(len / BLOCK as u64));
            if let Some(tail) = last.and_then(|block| block.get_mut(within..)) {
                tail.fill(0);
            }
        }
        self.len = len;
    }
}

fn copy(to: &mut [u8], from: Option<&[u8]>) {
    if let Some(from) = from.filter(|from| from.len() == to.len()) {
        to.copy_from_slice(from);
    }
}

/// The blocks that a range of bytes touches: the block's number, which part of it, which part of the range.
fn parts(
    at: u64,
    len: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let position = at + done as u64;
        let within = usize::try_from(position % BLOCK as u64).ok()?;
        let step = (BLOCK - within).min(len - done);
        let part = (
            position / BLOCK as u64,
            within..within + step,
            done..done + step,
        );
        done += step;
        Some(part)
    })
}

/// The disk as redb takes it.
#[derive(Debug)]
pub(crate) struct Backend(pub(crate) Arc<Disk>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        let overlay = self
            .0
            .overlay
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        match &*overlay {
            Some(overlay) => Ok(overlay.len),
            None => self.0.device.len(),
        }
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let overlay = self
            .0
            .overlay
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        match &*overlay {
            Some(overlay) => overlay.read(&self.0.device, at, out),
            None => self.0.device.read(at, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.change(
            |file| file.set_len(len),
            |memory, _| {
                memory.set_len(len);
                Ok(())
            },
            |error| cause("set the file's length", &error),
        )
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        let mut sealed = [0; HEADER + SEAL];
        let data = if at == 0 && data.len() == HEADER {
            locked(&self.0.watch).header = true;
            let (header, seal) = sealed.split_at_mut(HEADER);
            header.copy_from_slice(data);
            seal.copy_from_slice(&crc32fast::hash(data).to_le_bytes());
            &sealed
        } else {
            data
        };
        self.0.change(
            |file| file.write(at, data),
            |memory, file| memory.write(file, at, data),
            |error| cause("write", &error),
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut watch = locked(&self.0.watch);
        let header = std::mem::take(&mut watch.header);
        drop(watch);
        self.0.change(
            |file| file.backend.sync_data(),
            |_, _| Ok(()),
            // Also if it says that there is no space: what reached the disk is not known.
            |error| Frozen::Failed(format!("fsync: {error}")),
        )?;
        if header && self.0.frozen().is_none() {
            locked(&self.0.watch).synced += 1;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        let mut locks = locked(&self.0.device.locks);
        if locks.contains(&(start, end)) {
            return Ok(true);
        }
        let taken = self.0.device.backend.try_lock_range(start, end)?;
        if taken {
            locks.push((start, end));
        }
        Ok(taken)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    /// After the freeze the disk must look as if nothing had happened, and the file must stay as it was.
    #[test]
    fn a_frozen_disk_reads_as_if_it_were_written() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..200 {
            let layout = Layout::new(4_096);
            let device = Device::make(Box::new(InMemoryBackend::new()), None, layout).unwrap();
            let disk = Disk::new(device.clone());
            let backend = Backend(disk.clone());
            let mut model = vec![0; 3 * BLOCK + 100];
            backend.set_len(model.len() as u64).unwrap();
            let fill: Vec<u8> = model.iter().map(|_| random.u8(..)).collect();
            backend.write(0, &fill).unwrap();
            model.copy_from_slice(&fill);
            disk.freeze(Frozen::Full).unwrap();
            for _ in 0..random.usize(..12) {
                if random.u8(..4) == 0 {
                    model.resize(random.usize(..5 * BLOCK), 0);
                    backend.set_len(model.len() as u64).unwrap();
                } else if !model.is_empty() {
                    let at = random.usize(..model.len());
                    let len = random.usize(..=(model.len() - at).min(2 * BLOCK));
                    let data: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
                    model[at..at + len].copy_from_slice(&data);
                    backend.write(at as u64, &data).unwrap();
                }
            }
            assert_eq!(backend.len().unwrap(), model.len() as u64, "round {round}");
            let mut seen = vec![1; model.len()];
            backend.read(0, &mut seen).unwrap();
            assert!(seen == model, "round {round}");
            assert!(backend.read(1, &mut seen).is_err() || seen.is_empty());
            let mut file = vec![0; fill.len()];
            device.read(0, &mut file).unwrap();
            assert!(file == fill, "round {round}: the file changed");
        }
    }
}
