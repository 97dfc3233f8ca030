//! A disk that fails, and a model of what a store must hold.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex};

use fanfare_loopback::{Crash, Disk, DiskOp};
use fanfare_store::{Batch, KeyRange, Options, Read, Store, Table};
use redb::StorageBackend;

/// What a disk was told, in order.
#[derive(Debug, Clone)]
pub enum Op {
    Disk(DiskOp),
    /// So many batches were answered by now.
    Answered(usize),
}

#[derive(Debug, Default)]
struct Gate {
    /// Writes (and set_len) from this offset on wait.
    held: Option<u64>,
    waiting: usize,
}

/// A disk, before which threads can be made to wait.
#[derive(Debug, Clone, Default)]
pub struct SimDisk {
    pub disk: Disk,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

impl Deref for SimDisk {
    type Target = Disk;

    fn deref(&self) -> &Disk {
        &self.disk
    }
}

impl From<Disk> for SimDisk {
    fn from(disk: Disk) -> Self {
        Self {
            disk,
            ..Self::default()
        }
    }
}

impl SimDisk {
    pub fn holding(bytes: Vec<u8>) -> Self {
        Disk::holding(bytes).into()
    }

    pub fn recording(bytes: Vec<u8>) -> Self {
        let disk = Self::holding(bytes);
        disk.record();
        disk
    }

    pub fn hold(&self, from: Option<u64>) {
        self.gate.0.lock().unwrap().held = from;
        self.gate.1.notify_all();
    }

    /// Waits until something is so, which a call to the disk makes so.
    fn until(&self, mut so: impl FnMut(&Gate) -> bool) {
        let gate = self.gate.0.lock().unwrap();
        drop(self.gate.1.wait_while(gate, |gate| !so(gate)).unwrap());
    }

    /// Whether nothing else has it open.
    pub fn is_mine(&self) -> bool {
        Arc::strong_count(&self.gate) == 1
    }

    /// Waits until somebody waits.
    pub fn until_waiting(&self) {
        self.until(|gate| gate.waiting > 0);
    }

    /// Waits until a call has failed.
    pub fn until_failed(&self) {
        self.until(|_| self.disk.failed() > 0);
    }

    /// Carries out a change there, once that may be.
    fn changing<T>(&self, at: u64, change: impl FnOnce(&Disk) -> T) -> T {
        let mut gate = self.gate.0.lock().unwrap();
        while gate.held.is_some_and(|from| at >= from) {
            gate.waiting += 1;
            self.gate.1.notify_all();
            gate = self.gate.1.wait(gate).unwrap();
            gate.waiting -= 1;
        }
        let changed = change(&self.disk);
        self.gate.1.notify_all();
        changed
    }
}

impl StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(at, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changing(len, |disk| disk.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let synced = self.disk.sync_data();
        // Whoever looks whether it failed has the lock until it waits.
        drop(self.gate.0.lock().unwrap());
        self.gate.1.notify_all();
        synced
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        self.changing(at, |disk| disk.write(at, data))
    }
}

/// A disk while its operations are played one by one.
pub struct Player {
    disk: Disk,
    pub answered: usize,
    pub synced: usize,
}

impl Player {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            disk: Disk::holding(bytes),
            answered: 0,
            synced: 0,
        }
    }

    pub fn play(&mut self, op: &Op) {
        match op {
            Op::Answered(answered) => self.answered = *answered,
            Op::Disk(op) => {
                self.disk.play(op).unwrap();
                if *op == DiskOp::Sync {
                    self.synced = self.answered;
                }
            }
        }
    }

    /// The disk's content if it crashed here.
    pub fn crash(&self, crash: Crash, random: &mut fastrand::Rng) -> Vec<u8> {
        self.disk.crash(crash, random.u64(..)).bytes()
    }
}

/// A loss of power after which each sector of 512 bytes has any of its versions.
pub const POWER: Crash = Crash::Torn { sector: 512 };

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
