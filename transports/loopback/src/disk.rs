//! A disk that is pretended: what was not synced may be lost with the power, a write may fail, and an fsync takes its time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use crate::random::Random;

const BLOCK: u64 = 4_096;
/// Longest file. A damaged header may ask for anything.
const LEN_MAX: u64 = 1 << 30;

/// What a disk was told.
///
/// ```
/// use fanfare_loopback::{Disk, DiskOp};
/// use redb::StorageBackend;
/// let disk = Disk::default();
/// disk.record();
/// disk.write(0, b"abc")?;
/// disk.sync_data()?;
/// assert_eq!(disk.take_record(), [DiskOp::Write(0, b"abc".to_vec()), DiskOp::Sync]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskOp {
    /// Bytes from this offset on.
    Write(u64, Vec<u8>),
    /// The file's length.
    SetLen(u64),
    /// All before is to be safe.
    Sync,
}

/// How a disk fails.
///
/// ```
/// use fanfare_loopback::{Disk, DiskFault};
/// use redb::StorageBackend;
/// let disk = Disk::default();
/// disk.fail(Some((DiskFault::Sync, 0)));
/// disk.write(0, b"abc")?;
/// assert!(disk.sync_data().is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFault {
    /// A read, and every later one.
    Read,
    /// A write, or a new length, and every later one.
    Write,
    /// An fsync, and every later one. What was written before it is read and never gets safe, until it is written again.
    Sync,
    /// There was no space for what was written before. Said once, as a file system does.
    SyncWithoutSpace,
    /// All is written, and then there is no space. Said once.
    WriteWithoutSpace,
}

/// What a crash leaves of what was written since the last fsync.
///
/// ```
/// use fanfare_loopback::{Crash, Disk};
/// use redb::StorageBackend;
/// let disk = Disk::default();
/// disk.write(0, &[1; 4_096])?;
/// assert_eq!(disk.crash(Crash::Kept, 7).bytes(), [1; 4_096]);
/// assert_eq!(disk.crash(Crash::Lost, 7).bytes(), b"");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process ended: all that was written is there.
    Kept,
    /// The power went, and nothing of it is there.
    Lost,
    /// The power went: each sector of so many bytes has any of its versions.
    Torn {
        /// From 512 to 4,096.
        sector: usize,
    },
    /// The power went: each write is there wholly or not at all, whatever came before it.
    Reordered,
}

/// A file on a disk, in memory, which is used as redb uses one. A clone is the same one.
///
/// What was written is read at once, and is safe when an fsync of it is done. With [`sync_ms`](Self::sync_ms) that takes time,
/// which [`pass_ms`](Self::pass_ms) lets pass: the call returns at once, and whoever made it must not go on before
/// [`busy_ms`](Self::busy_ms) have passed. What the caller wrote behind an fsync that is not done, a crash takes as not
/// written yet.
///
/// ```
/// use fanfare_loopback::{Crash, Disk};
/// use redb::StorageBackend;
/// let disk = Disk::default();
/// disk.sync_ms(10);
/// disk.write(0, b"safe")?;
/// disk.sync_data()?;
/// assert_eq!(disk.busy_ms(), 10);
/// disk.pass_ms(9);
/// assert_eq!(disk.crash(Crash::Lost, 1).bytes(), b"");
/// disk.pass_ms(1);
/// assert_eq!(disk.crash(Crash::Lost, 1).bytes(), b"safe");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// As they are read.
    bytes: Vec<u8>,
    /// As they are on the disk.
    durable: Vec<u8>,
    /// What is on its way there.
    pending: Vec<Pending>,
    sync_ms: u64,
    /// Of the first fsync that is not done.
    passed_ms: u64,
    record: Option<Vec<DiskOp>>,
    fault: Option<(DiskFault, usize)>,
    failed: usize,
    /// Blocks of which an fsync failed: they are read as they were written, are not on the disk, and no later fsync brings them
    /// there, as a system takes them for clean. Only what is written to them anew is.
    orphans: BTreeSet<u64>,
    /// Blocks that may be in use. Holes are free, as on a real file system.
    space: Option<usize>,
    used: BTreeSet<u64>,
}

#[derive(Debug)]
enum Pending {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync(u64),
}

impl Disk {
    /// A disk with a file of these bytes, all of them safe.
    #[must_use]
    pub fn holding(bytes: Vec<u8>) -> Self {
        let used = 0..(bytes.len() as u64).div_ceil(BLOCK);
        Self(Arc::new(Mutex::new(State {
            durable: bytes.clone(),
            bytes,
            used: used.collect(),
            ..State::default()
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, as it is read.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    /// Remembers from now on what it is told, for [`take_record`](Self::take_record).
    pub fn record(&self) {
        self.state().record.get_or_insert_default();
    }

    /// What it was told since it was asked last, or since it records.
    #[must_use]
    pub fn take_record(&self) -> Vec<DiskOp> {
        let mut state = self.state();
        state
            .record
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Does what another one was told.
    ///
    /// # Errors
    /// As that call.
    pub fn play(&self, op: &DiskOp) -> io::Result<()> {
        match op {
            DiskOp::Write(at, data) => self.write(*at, data),
            DiskOp::SetLen(len) => self.set_len(*len),
            DiskOp::Sync => self.sync_data(),
        }
    }

    /// The n-th call that this fault concerns fails, counted from now and from 0.
    pub fn fail(&self, fault: Option<(DiskFault, usize)>) {
        self.state().fault = fault;
    }

    /// How many calls failed by [`fail`](Self::fail).
    #[must_use]
    pub fn failed(&self) -> usize {
        self.state().failed
    }

    /// Blocks of 4 KiB that may be in use; `None`: as many as there are asked for.
    pub fn space(&self, blocks: Option<usize>) {
        self.state().space = blocks;
    }

    /// Blocks of 4 KiB that are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.state().used.len()
    }

    /// Writes to these blocks of 4 KiB need space again, as where a file system writes nothing in place.
    pub fn vacate(&self, blocks: Range<u64>) {
        self.state().used.retain(|block| !blocks.contains(block));
    }

    /// Bytes of memory that this takes, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        let state = self.state();
        let pending = state.pending.iter().map(|it| match it {
            Pending::Write(_, data) => data.capacity(),
            Pending::SetLen(_) | Pending::Sync(_) => 0,
        });
        state.bytes.capacity() + state.durable.capacity() + pending.sum::<usize>()
    }

    /// Changes a bit of the file, also where it is safe: the disk has lost it.
    pub fn flip(&self, bit: u64) {
        let mut state = self.state();
        let State { bytes, durable, .. } = &mut *state;
        for of in [bytes, durable] {
            if let Some(byte) = usize::try_from(bit / 8).ok().and_then(|at| of.get_mut(at)) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Every fsync takes so many milliseconds from now on.
    pub fn sync_ms(&self, millis: u64) {
        self.state().sync_ms = millis;
    }

    /// The machine loses what its system holds: what a failed fsync was for is no longer read.
    pub fn lose_memory(&self) {
        let mut state = self.state();
        let State {
            bytes,
            durable,
            orphans,
            ..
        } = &mut *state;
        for block in std::mem::take(orphans) {
            let from = place(block * BLOCK);
            let to = (from + place(BLOCK)).min(durable.len());
            if let Some(there) = durable.get(from..to) {
                put(bytes, from, there);
            }
        }
    }

    /// Milliseconds until all is done that it was told.
    #[must_use]
    pub fn busy_ms(&self) -> u64 {
        let state = self.state();
        let syncs = state.pending.iter().map(|it| match it {
            Pending::Sync(millis) => *millis,
            Pending::Write(..) | Pending::SetLen(_) => 0,
        });
        syncs.sum::<u64>().saturating_sub(state.passed_ms)
    }

    /// Lets time pass.
    pub fn pass_ms(&self, millis: u64) {
        let mut state = self.state();
        state.passed_ms = state.passed_ms.saturating_add(millis);
        while let Some((at, millis)) = state.next_sync()
            && millis <= state.passed_ms
        {
            state.passed_ms -= millis;
            state.done(at);
        }
        if state.next_sync().is_none() {
            state.passed_ms = 0;
        }
    }

    /// How much it was told that is not safe: writes, lengths and fsyncs.
    #[must_use]
    pub fn undone(&self) -> usize {
        self.state().pending.len()
    }

    /// The disk after a crash at this moment. This one goes on, and changes nothing of that.
    #[must_use]
    pub fn crash(&self, crash: Crash, seed: u64) -> Self {
        let state = self.state();
        let issued = state.next_sync().map_or(state.pending.len(), |(at, _)| at);
        state.after(0, issued, crash, seed)
    }

    /// The disk after a crash when so many of the [`undone`](Self::undone) things were told, and the fsyncs among them done.
    #[must_use]
    pub fn crash_after(&self, told: usize, crash: Crash, seed: u64) -> Self {
        let state = self.state();
        let told = told.min(state.pending.len());
        let syncs = state.pending.iter().take(told);
        let safe = syncs.clone().count() - syncs.rev().take_while(|it| !it.is_sync()).count();
        state.after(safe, told, crash, seed)
    }
}

impl Pending {
    const fn is_sync(&self) -> bool {
        matches!(self, Self::Sync(_))
    }
}

impl State {
    /// Where the first fsync is that is not done, and how long it takes.
    fn next_sync(&self) -> Option<(usize, u64)> {
        let mut pending = self.pending.iter().enumerate();
        pending.find_map(|(at, it)| match it {
            Pending::Sync(millis) => Some((at, *millis)),
            Pending::Write(..) | Pending::SetLen(_) => None,
        })
    }

    /// The fsync at this place is done.
    fn done(&mut self, at: usize) {
        for pending in self.pending.drain(..=at) {
            apply(&mut self.durable, &pending);
        }
    }

    fn after(&self, safe: usize, told: usize, crash: Crash, seed: u64) -> Disk {
        let mut bytes = self.durable.clone();
        let (safe, rest) = self.pending.split_at(safe);
        safe.iter().for_each(|it| apply(&mut bytes, it));
        let rest = rest.get(..told - safe.len()).unwrap_or(rest);
        survive(&mut bytes, rest, crash, &mut Random::new(seed));
        let disk = Disk::holding(bytes);
        disk.state().space = self.space;
        if crash == Crash::Kept {
            disk.state().keep_orphans(self);
        }
        disk
    }

    /// What another process wrote and the system holds is read on, and is no safer than before.
    fn keep_orphans(&mut self, before: &Self) {
        for block in &before.orphans {
            let from = place(block * BLOCK);
            let there = before.bytes.get(from..).unwrap_or_default();
            put(
                &mut self.bytes,
                from,
                there.get(..place(BLOCK)).unwrap_or(there),
            );
        }
        self.orphans.clone_from(&before.orphans);
    }

    /// The fsync of what was written since the one before has failed.
    fn orphan(&mut self) {
        let behind = self.pending.iter().rposition(Pending::is_sync);
        let failed = self.pending.split_off(behind.map_or(0, |at| at + 1));
        for pending in failed {
            match pending {
                Pending::Write(at, data) => self.orphans.extend(blocks(at, data.len())),
                other @ (Pending::SetLen(_) | Pending::Sync(_)) => self.pending.push(other),
            }
        }
    }

    /// What a write brings to the disk: of a block that never came there all of it.
    fn whole(&mut self, at: u64, data: &[u8]) -> Pending {
        let blocks = blocks(at, data.len());
        if !blocks.clone().any(|block| self.orphans.contains(&block)) {
            return Pending::Write(at, data.to_vec());
        }
        self.orphans.retain(|block| !blocks.contains(block));
        let (from, to) = (place(blocks.start * BLOCK), place(blocks.end * BLOCK));
        let there = self.bytes.get(from..to.min(self.bytes.len()));
        Pending::Write(blocks.start * BLOCK, there.unwrap_or_default().to_vec())
    }

    fn turn(&mut self, kind: DiskFault) -> io::Result<()> {
        match &mut self.fault {
            Some((fault, 0)) if *fault == kind => {
                self.failed += 1;
                if matches!(kind, DiskFault::Read | DiskFault::Write | DiskFault::Sync) {
                    return Err(io::Error::other("the disk is broken"));
                }
                self.fault = None;
                Err(ErrorKind::StorageFull.into())
            }
            Some((fault, left)) if *fault == kind => {
                *left -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, op: impl FnOnce() -> DiskOp) {
        if let Some(record) = &mut self.record {
            record.push(op());
        }
    }
}

/// The blocks in which these bytes lie.
const fn blocks(at: u64, len: usize) -> Range<u64> {
    at / BLOCK..(at + len as u64).div_ceil(BLOCK)
}

fn place(at: u64) -> usize {
    // Of a file that is in memory.
    usize::try_from(at).unwrap_or(usize::MAX)
}

fn put(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    if let Some(there) = bytes.get_mut(at..at + data.len()) {
        there.copy_from_slice(data);
    }
}

fn apply(bytes: &mut Vec<u8>, pending: &Pending) {
    match pending {
        Pending::Write(at, data) => put(bytes, place(*at), data),
        Pending::SetLen(len) => bytes.resize(place(*len), 0),
        Pending::Sync(_) => {}
    }
}

/// What a crash leaves of what is on its way.
fn survive(bytes: &mut Vec<u8>, pending: &[Pending], crash: Crash, random: &mut Random) {
    let sector = match crash {
        Crash::Lost => return,
        Crash::Kept => {
            pending.iter().for_each(|it| apply(bytes, it));
            return;
        }
        Crash::Torn { sector } => Some(sector.clamp(512, 4_096)),
        Crash::Reordered => None,
    };
    // Some crashes lose much, some little.
    let keep = random.within(&(1..=9));
    let keeps = |random: &mut Random| random.within(&(0..=9)) < keep;
    // How many of its writes each sector has seen.
    let mut versions: BTreeMap<usize, u64> = BTreeMap::new();
    if let Some(sector) = sector {
        for pending in pending {
            if let Pending::Write(at, data) = pending {
                for sector in sectors(place(*at), data.len(), sector) {
                    *versions.entry(sector).or_default() += 1;
                }
            }
        }
        for seen in versions.values_mut() {
            *seen = if keeps(random) {
                random.within(&(0..=*seen))
            } else {
                0
            };
        }
    }
    let lengths = pending.iter().filter(|it| matches!(it, Pending::SetLen(_)));
    let mut lengths = random.within(&(0..=lengths.count() as u64));
    for pending in pending {
        match pending {
            Pending::SetLen(len) if lengths > 0 => {
                lengths -= 1;
                bytes.resize(place(*len), 0);
            }
            Pending::SetLen(_) | Pending::Sync(_) => {}
            Pending::Write(at, data) => {
                let at = place(*at);
                let Some(sector) = sector else {
                    if keeps(random) {
                        within(bytes, at, at..at + data.len(), data);
                    }
                    continue;
                };
                for number in sectors(at, data.len(), sector) {
                    let left = versions.get_mut(&number).filter(|left| **left > 0);
                    let Some(left) = left else { continue };
                    *left -= 1;
                    within(bytes, at, number * sector..(number + 1) * sector, data);
                }
            }
        }
    }
}

fn sectors(at: usize, len: usize, sector: usize) -> Range<usize> {
    at / sector..(at + len).div_ceil(sector)
}

/// Writes what of the data lies in this part of the file, as far as that reaches.
fn within(bytes: &mut [u8], at: usize, part: Range<usize>, data: &[u8]) {
    let from = part.start.max(at);
    let to = part.end.min(at + data.len()).min(bytes.len());
    if from < to
        && let (Some(there), Some(data)) = (bytes.get_mut(from..to), data.get(from - at..to - at))
    {
        there.copy_from_slice(data);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.turn(DiskFault::Read)?;
        let at = place(at);
        let there = at.checked_add(out.len());
        let there = there.and_then(|end| state.bytes.get(at..end));
        out.copy_from_slice(there.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.turn(DiskFault::Write)?;
        if len > LEN_MAX {
            return Err(ErrorKind::StorageFull.into());
        }
        state.bytes.resize(place(len), 0);
        state.used.retain(|block| block * BLOCK < len);
        state.pending.push(Pending::SetLen(len));
        state.note(|| DiskOp::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        if let Err(error) = state.turn(DiskFault::Sync) {
            state.orphan();
            return Err(error);
        }
        state.turn(DiskFault::SyncWithoutSpace)?;
        let millis = state.sync_ms;
        state.pending.push(Pending::Sync(millis));
        if millis == 0 && state.next_sync().is_some_and(|(_, first)| first == 0) {
            let last = state.pending.len() - 1;
            state.done(last);
        }
        state.note(|| DiskOp::Sync);
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.turn(DiskFault::Write)?;
        if data.is_empty() {
            return Ok(());
        }
        // What finds space is written.
        let mut fits = data.len();
        for block in at / BLOCK..=(at + data.len() as u64 - 1) / BLOCK {
            let room = state.space.is_none_or(|most| state.used.len() < most);
            if !state.used.contains(&block) && !room {
                fits = place((block * BLOCK).saturating_sub(at));
                break;
            }
            state.used.insert(block);
        }
        let (written, rest) = data.split_at(fits);
        put(&mut state.bytes, place(at), written);
        if !written.is_empty() {
            let pending = state.whole(at, written);
            state.pending.push(pending);
        }
        state.note(|| DiskOp::Write(at, written.to_vec()));
        if !rest.is_empty() {
            return Err(ErrorKind::StorageFull.into());
        }
        state.turn(DiskFault::WriteWithoutSpace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of zeros, over which ones were written in two writes, of which the second came behind an fsync.
    fn written(sync_ms: u64) -> Disk {
        let disk = Disk::holding(vec![0; 16_384]);
        disk.sync_ms(sync_ms);
        disk.write(0, &[1; 8_192]).unwrap();
        disk.sync_data().unwrap();
        disk.write(8_192, &[1; 8_192]).unwrap();
        disk
    }

    fn ones(disk: &Disk) -> usize {
        disk.bytes().iter().filter(|byte| **byte == 1).count()
    }

    #[test]
    fn what_was_synced_survives_every_crash_and_the_rest_as_the_crash_has_it() {
        let mut torn = BTreeSet::new();
        let mut whole = BTreeSet::new();
        for seed in 0..100 {
            let disk = written(0);
            assert_eq!(ones(&disk.crash(Crash::Kept, seed)), 16_384);
            assert_eq!(ones(&disk.crash(Crash::Lost, seed)), 8_192);
            torn.insert(ones(&disk.crash(Crash::Torn { sector: 4_096 }, seed)));
            whole.insert(ones(&disk.crash(Crash::Reordered, seed)));
        }
        assert!(torn.into_iter().eq([8_192, 12_288, 16_384]));
        assert!(whole.into_iter().eq([8_192, 16_384]));
    }

    #[test]
    fn what_comes_behind_an_fsync_is_not_written_before_that_is_done() {
        let disk = written(10);
        assert_eq!((disk.busy_ms(), disk.undone()), (10, 3));
        for (passed, kept, lost) in [(0, 8_192, 0), (9, 8_192, 0), (1, 16_384, 8_192)] {
            disk.pass_ms(passed);
            assert_eq!(ones(&disk.crash(Crash::Kept, 1)), kept, "{passed} more");
            assert_eq!(ones(&disk.crash(Crash::Lost, 1)), lost, "{passed} more");
        }
        assert_eq!((disk.busy_ms(), disk.undone()), (0, 1));
        assert_eq!(ones(&disk), 16_384);
    }

    #[test]
    fn a_crash_may_come_between_any_two_things_that_it_was_told() {
        let disk = written(10);
        for (told, kept, lost) in [
            (0, 0, 0),
            (1, 8_192, 0),
            (2, 8_192, 8_192),
            (3, 16_384, 8_192),
        ] {
            assert_eq!(
                ones(&disk.crash_after(told, Crash::Kept, 1)),
                kept,
                "{told}"
            );
            assert_eq!(
                ones(&disk.crash_after(told, Crash::Lost, 1)),
                lost,
                "{told}"
            );
        }
    }

    #[test]
    fn what_a_failed_fsync_was_for_is_read_and_gets_safe_only_when_it_is_written_again() {
        let disk = written(0);
        disk.fail(Some((DiskFault::Sync, 0)));
        disk.sync_data().unwrap_err();
        disk.fail(None);
        let started = disk.crash(Crash::Kept, 1);
        for disk in [&disk, &started] {
            disk.sync_data().unwrap();
            assert_eq!(ones(disk), 16_384);
            assert_eq!(ones(&disk.crash(Crash::Lost, 1)), 8_192);
        }
        // The whole block goes there with one byte of it.
        started.write(8_200, &[1]).unwrap();
        started.sync_data().unwrap();
        assert_eq!(ones(&started.crash(Crash::Lost, 1)), 12_288);
    }

    #[test]
    fn a_full_disk_takes_what_finds_space() {
        let disk = Disk::default();
        disk.space(Some(2));
        assert!(disk.write(1, &[1; 10_000]).is_err());
        assert_eq!((disk.bytes().len(), disk.used()), (8_192, 2));
        disk.write(100, &[2; 8_000]).unwrap();
        disk.space(None);
        disk.write(8_192, &[1; 10_000]).unwrap();
    }

    #[test]
    fn a_bit_that_is_lost_is_lost_for_good() {
        let disk = written(10);
        disk.flip(8 * 100);
        assert_eq!(disk.bytes()[100], 0);
        assert_eq!(disk.crash(Crash::Lost, 1).bytes()[100], 1);
    }
}
