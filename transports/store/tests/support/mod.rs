//! A disk that fails, and a model of what a store must hold.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use fanfare_store::{Batch, KeyRange, Options, Read, Store, Table};
use redb::StorageBackend;

/// What a disk was told, in order.
#[derive(Debug, Clone)]
pub enum Op {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
    /// Not the disk's: so many batches were answered by now.
    Answered(usize),
}

/// What goes wrong, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Write,
    Sync,
    /// There was no space for what was written before. Said once, as a file system does.
    SyncWithoutSpace,
    /// All is written, and then there is no space. Said once.
    WriteWithoutSpace,
}

#[derive(Debug, Default)]
pub struct State {
    pub bytes: Vec<u8>,
    pub ops: Vec<Op>,
    pub record: bool,
    /// The n-th write (or set_len), or fsync, from now fails, and every later one.
    pub fault: Option<(Fault, usize)>,
    /// How many failed so.
    pub failed: usize,
    /// Writes (and set_len) from this offset on wait.
    pub held: Option<u64>,
    pub waiting: usize,
    /// Blocks of 4 KiB that may be in use. Holes are free, as on a real file system.
    pub blocks: Option<usize>,
    pub used: BTreeSet<u64>,
}

/// A disk in memory, which remembers what it was told.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(pub Arc<Mutex<State>>, Arc<Condvar>);

const BLOCK: u64 = 4_096;

impl SimDisk {
    pub fn holding(bytes: Vec<u8>) -> Self {
        let disk = Self::default();
        {
            let mut state = disk.0.lock().unwrap();
            state.used = (0..bytes.len() as u64)
                .step_by(4_096)
                .map(|at| at / BLOCK)
                .collect();
            state.bytes = bytes;
        }
        disk
    }

    pub fn recording(bytes: Vec<u8>) -> Self {
        let disk = Self::holding(bytes);
        disk.0.lock().unwrap().record = true;
        disk
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }

    pub fn take_ops(&self) -> Vec<Op> {
        std::mem::take(&mut self.0.lock().unwrap().ops)
    }

    pub fn note(&self, op: Op) {
        self.0.lock().unwrap().ops.push(op);
    }

    pub fn fail(&self, fault: Option<(Fault, usize)>) {
        self.0.lock().unwrap().fault = fault;
    }

    pub fn space(&self, blocks: Option<usize>) {
        self.0.lock().unwrap().blocks = blocks;
    }

    pub fn hold(&self, from: Option<u64>) {
        self.0.lock().unwrap().held = from;
        self.1.notify_all();
    }

    /// Waits until its state is so.
    pub fn until(&self, mut so: impl FnMut(&State) -> bool) {
        let state = self.0.lock().unwrap();
        drop(self.1.wait_while(state, |state| !so(state)).unwrap());
    }

    /// The state, once what is there may be changed.
    fn changing(&self, at: u64) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap();
        while state.held.is_some_and(|from| at >= from) {
            state.waiting += 1;
            self.1.notify_all();
            state = self.1.wait(state).unwrap();
            state.waiting -= 1;
        }
        state
    }

    fn turn(&self, state: &mut State, kind: Fault) -> io::Result<()> {
        match &mut state.fault {
            Some((fault, 0)) if *fault == kind => {
                state.failed += 1;
                self.1.notify_all();
                if matches!(kind, Fault::Write | Fault::Sync) {
                    return Err(io::Error::other("the disk is broken"));
                }
                state.fault = None;
                Err(ErrorKind::StorageFull.into())
            }
            Some((fault, left)) if *fault == kind => {
                *left -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let at = usize::try_from(at).unwrap();
        let there = at
            .checked_add(out.len())
            .and_then(|end| state.bytes.get(at..end));
        out.copy_from_slice(there.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.changing(len);
        self.turn(&mut state, Fault::Write)?;
        // A damaged header may ask for anything; no file system of this size exists here.
        if len > 1 << 30 {
            return Err(ErrorKind::StorageFull.into());
        }
        state.bytes.resize(usize::try_from(len).unwrap(), 0);
        state.used.retain(|block| block * BLOCK < len);
        if state.record {
            state.ops.push(Op::SetLen(len));
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        self.turn(&mut state, Fault::Sync)?;
        self.turn(&mut state, Fault::SyncWithoutSpace)?;
        if state.record {
            state.ops.push(Op::Sync);
        }
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.changing(at);
        self.turn(&mut state, Fault::Write)?;
        if data.is_empty() {
            return Ok(());
        }
        // What finds space is written.
        let mut fits = data.len();
        for block in at / BLOCK..=(at + data.len() as u64 - 1) / BLOCK {
            let room = state.blocks.is_none_or(|most| state.used.len() < most);
            if !state.used.contains(&block) && !room {
                fits = usize::try_from((block * BLOCK).saturating_sub(at)).unwrap();
                break;
            }
            state.used.insert(block);
        }
        let (written, rest) = data.split_at(fits);
        let start = usize::try_from(at).unwrap();
        let end = start + written.len();
        if state.bytes.len() < end {
            state.bytes.resize(end, 0);
        }
        state.bytes[start..end].copy_from_slice(written);
        if state.record {
            state.ops.push(Op::Write(at, written.to_vec()));
        }
        if !rest.is_empty() {
            return Err(ErrorKind::StorageFull.into());
        }
        self.turn(&mut state, Fault::WriteWithoutSpace)
    }
}

/// What may be on the disk after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process ended: everything that was written is there.
    Process,
    /// The power went: each sector of 512 bytes that was written since the last fsync has any of its versions.
    Power,
    /// The power went, and nothing since the last fsync is there.
    PowerLosesAll,
}

const SECTOR: usize = 512;

/// A disk's content while its operations are played one by one.
#[derive(Debug, Clone)]
pub struct Player {
    durable: Vec<u8>,
    pending: Vec<Op>,
    pub answered: usize,
    pub synced: usize,
}

impl Player {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            durable: bytes,
            pending: Vec::new(),
            answered: 0,
            synced: 0,
        }
    }

    pub fn play(&mut self, op: &Op) {
        match op {
            Op::Answered(answered) => self.answered = *answered,
            Op::Write(..) | Op::SetLen(_) => self.pending.push(op.clone()),
            Op::Sync => {
                self.durable = self.crash(Crash::Process, &mut fastrand::Rng::with_seed(0));
                self.pending.clear();
                self.synced = self.answered;
            }
        }
    }

    /// The disk's content if it crashed here.
    pub fn crash(&self, crash: Crash, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        if crash == Crash::PowerLosesAll {
            return bytes;
        }
        // How many of its writes each sector has seen.
        let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
        if crash == Crash::Power {
            for op in &self.pending {
                if let Op::Write(at, data) = op {
                    for sector in sectors(*at, data.len()) {
                        *seen.entry(sector).or_default() += 1;
                    }
                }
            }
            // Some crashes lose much, some little.
            let keep = random.u8(1..=9);
            for versions in seen.values_mut() {
                *versions = if random.u8(..10) < keep {
                    random.usize(..=*versions)
                } else {
                    0
                };
            }
        }
        let lengths: Vec<u64> = self
            .pending
            .iter()
            .filter_map(|op| {
                if let Op::SetLen(len) = op {
                    Some(*len)
                } else {
                    None
                }
            })
            .collect();
        let kept = match crash {
            Crash::Power => random.usize(..=lengths.len()),
            Crash::Process | Crash::PowerLosesAll => lengths.len(),
        };
        let mut grown = 0;
        for op in &self.pending {
            match op {
                Op::SetLen(len) => {
                    grown += 1;
                    if grown <= kept {
                        bytes.resize(usize::try_from(*len).unwrap(), 0);
                    }
                }
                Op::Write(at, data) => {
                    let at = usize::try_from(*at).unwrap();
                    for sector in sectors(at as u64, data.len()) {
                        if crash == Crash::Power {
                            let left = seen.get_mut(&sector).unwrap();
                            if *left == 0 {
                                continue;
                            }
                            *left -= 1;
                        }
                        let from = (sector * SECTOR).max(at);
                        let to = ((sector + 1) * SECTOR)
                            .min(at + data.len())
                            .min(bytes.len());
                        if from < to {
                            bytes[from..to].copy_from_slice(&data[from - at..to - at]);
                        }
                    }
                }
                Op::Sync | Op::Answered(_) => {}
            }
        }
        bytes
    }
}

fn sectors(at: u64, len: usize) -> std::ops::Range<usize> {
    let at = usize::try_from(at).unwrap();
    at / SECTOR..(at + len).div_ceil(SECTOR)
}

pub type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Random batches, and what a store holds after each of them.
pub struct Workload {
    pub batches: Vec<Batch>,
    pub states: Vec<Rows>,
}

/// Under this key in `meta` each batch puts its own number.
pub const COUNT: &[u8] = b"count";

impl Workload {
    pub fn new(random: &mut fastrand::Rng, batches: usize) -> Self {
        let mut workload = Self {
            batches: Vec::new(),
            states: vec![Rows::new()],
        };
        let mut rows = Rows::new();
        for number in 1..=batches {
            let mut batch = Batch::new();
            for _ in 0..random.usize(1..6) {
                let table = Table::ALL[random.usize(..6)];
                let key = format!("{:03}", random.u16(..300)).into_bytes();
                match random.u8(..12) {
                    0 => {
                        let range = KeyRange::prefix(&key[..2]);
                        rows.retain(|(of, key), _| *of != table || !range.contains(key));
                        batch.delete_range(table, range);
                    }
                    1 | 2 => {
                        rows.remove(&(table, key.clone()));
                        batch.delete(table, key);
                    }
                    dice => {
                        let most = if dice == 11 { 9_000 } else { 700 };
                        let value: Vec<u8> =
                            (0..random.usize(..most)).map(|_| random.u8(..)).collect();
                        rows.insert((table, key.clone()), value.clone());
                        batch.put(table, key, value);
                    }
                }
            }
            let count = (number as u64).to_be_bytes().to_vec();
            rows.insert((Table::Meta, COUNT.to_vec()), count.clone());
            batch.put(Table::Meta, COUNT, count);
            workload.batches.push(batch);
            workload.states.push(rows.clone());
        }
        workload
    }

    /// Checks that the rows are those after one of the batches, and says after which.
    pub fn prefix(&self, rows: &Rows) -> usize {
        let count = rows.get(&(Table::Meta, COUNT.to_vec())).map_or(0, |count| {
            let count = count.as_slice().try_into().expect("a count is eight bytes");
            usize::try_from(u64::from_be_bytes(count)).unwrap()
        });
        let expected = self.states.get(count).expect("a count that was written");
        assert!(
            rows == expected,
            "with {count} batches: {} rows instead of {}",
            rows.len(),
            expected.len(),
        );
        count
    }
}

/// Every row of a store.
pub fn all(store: &Store) -> Result<Rows, fanfare_store::Error> {
    let mut rows = Rows::new();
    for table in Table::ALL {
        let mut next = Some(KeyRange::all());
        while let Some(range) = next {
            let page = smol::block_on(store.read(Read::new(table, range)))?;
            rows.extend(
                page.rows
                    .into_iter()
                    .map(|row| ((table, row.key), row.value)),
            );
            next = page.next;
        }
    }
    Ok(rows)
}

/// Little memory, so that pages are written before the commit, and read again; and a log that is full after a few batches,
/// and too small for some.
pub fn small() -> Options {
    Options {
        read_threads: 1,
        cache_bytes: 64 << 10,
        log_bytes: 16 << 10,
        ..Options::default()
    }
}
