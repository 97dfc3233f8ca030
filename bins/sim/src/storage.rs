//! A server's store: the shipped one, stepped, on a disk that takes its time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use fanfare_core::{Change, Fetch, Fetched, StoreFailure, Time};
use fanfare_loopback::{Crash, Disk, DiskFault as Fault, Timeline};
use fanfare_store::{Durability, Error, HubLog, Options, Steps, Store};
use fanfare_websocket::Storage;
use fastrand::Rng;
use futures::FutureExt;
use futures::future::LocalBoxFuture;

use crate::disk::{DiskFault, Keeping};

/// Milliseconds at most from a commit to what it leaves for later, and from a read to its answer.
const LATER_MS: u64 = 20;
const READ_MS: u64 = 5;
const CACHE_BYTES: usize = 256 << 10;

/// What of a durable server's machine outlives the server.
pub(crate) struct Machine {
    timeline: Timeline,
    keeping: Keeping,
    disk: RefCell<Disk>,
    /// While a server has it open.
    writing: RefCell<Option<Rc<Writing>>>,
    /// Rises with each loss of power.
    boot: Cell<u64>,
    /// Whether a relaxed server said that what it had answered may be lost.
    in_doubt: Rc<Cell<bool>>,
    sync_ms: Rc<Cell<[u64; 2]>>,
    /// How the next recovery crashes.
    crash_next: Cell<Option<Crash>>,
    random: Rc<RefCell<Rng>>,
}

/// Why a store is not open.
pub(crate) enum Unopened {
    /// The machine crashed meanwhile.
    Crashed,
    Refused(Error),
}

impl Machine {
    pub(crate) fn new(timeline: &Timeline, keeping: &Keeping, seed: u64) -> Self {
        Self {
            timeline: timeline.clone(),
            keeping: keeping.clone(),
            disk: RefCell::default(),
            writing: RefCell::new(None),
            boot: Cell::new(0),
            in_doubt: Rc::default(),
            sync_ms: Rc::new(Cell::new(keeping.sync_ms)),
            crash_next: Cell::new(None),
            random: Rc::new(RefCell::new(Rng::with_seed(seed ^ 0x5709))),
        }
    }

    const fn durability(&self) -> Durability {
        if self.keeping.relaxed {
            Durability::Relaxed
        } else {
            Durability::Immediate
        }
    }

    /// Opens the store that is on the disk, or makes it.
    pub(crate) fn open(&self) -> Result<(HubLog, Rc<Writing>), Unopened> {
        let disk = self.disk.borrow().clone();
        // So that it can be crashed between any two of its writes.
        disk.sync_ms(self.draw_sync().max(1));
        let options = Options {
            durability: self.durability(),
            log_bytes: self.keeping.log_bytes,
            cache_bytes: CACHE_BYTES,
            ..Options::default()
        };
        let opened = Store::open_stepped(disk.clone(), "the simulated disk", options);
        if let Some(crash) = self.crash_next.take() {
            let mut random = self.random.borrow_mut();
            let told = random.usize(..=disk.undone());
            let after = disk.crash_after(told, crash, random.u64(..));
            drop(random);
            drop(opened);
            self.disk.replace(after);
            self.boot.set(self.boot.get() + 1);
            return Err(Unopened::Crashed);
        }
        let (store, steps) = opened.map_err(Unopened::Refused)?;
        let (boot, doubt) = (self.boot.get().to_string(), Rc::clone(&self.in_doubt));
        let log = HubLog::new(store, self.durability(), Some(boot), move || {
            doubt.set(true)
        });
        let writing = Rc::new(Writing {
            timeline: self.timeline.clone(),
            disk,
            steps: RefCell::new(Some(steps)),
            busy: Cell::new(None),
            later: Cell::default(),
            sync_ms: Rc::clone(&self.sync_ms),
            random: Rc::clone(&self.random),
        });
        writing.rest();
        self.writing.replace(Some(Rc::clone(&writing)));
        Ok((log, writing))
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_doubt.get()
    }

    pub(crate) fn recalled(&self) {
        self.in_doubt.set(false);
    }

    /// The server is gone at this moment; `crash` is what of its writes is left. Dropping the server comes after this.
    pub(crate) fn crash(&self, crash: Crash) {
        if let Some(writing) = self.writing.take() {
            writing.pass();
        }
        let seed = self.random.borrow_mut().u64(..);
        let after = self.disk.borrow().crash(crash, seed);
        self.disk.replace(after);
    }

    /// The same, with all of the machine.
    pub(crate) fn lose_power(&self, crash: Crash) {
        self.crash(crash);
        self.disk.borrow().lose_memory();
        self.boot.set(self.boot.get() + 1);
        // The file that says so is in the system's memory only; another boot says it too.
        self.in_doubt.set(false);
    }

    /// The server has ended in order: what it left is written.
    pub(crate) fn ended(&self) {
        if let Some(writing) = self.writing.take() {
            let steps = writing.steps.take();
            // What closing finds is said by the store, and no promise.
            let _ = steps.map(Steps::close);
        }
        self.disk.borrow().pass_ms(u64::MAX);
        let after = self.disk.borrow().crash(Crash::Kept, 0);
        self.disk.replace(after);
    }

    /// Whoever runs the machine gives it an empty disk.
    pub(crate) fn renew(&self) {
        self.disk.replace(Disk::default());
    }

    /// Whether it failed, so that the store takes nothing more until a new start.
    pub(crate) fn has_failed(&self) -> bool {
        self.disk.borrow().failed() > 0
    }

    /// Something goes wrong with the disk. When it is to be [over](Self::over), if by itself.
    pub(crate) fn fail(&self, how: DiskFault) -> Option<u64> {
        let disk = self.disk.borrow();
        match how {
            DiskFault::FsyncFails { after } => disk.fail(Some((Fault::Sync, after))),
            DiskFault::WriteFails { after } => disk.fail(Some((Fault::Write, after))),
            DiskFault::ReadFails { after } => disk.fail(Some((Fault::Read, after))),
            DiskFault::Full {
                blocks,
                for_ms,
                copies,
            } => {
                disk.space(Some(disk.used() + blocks));
                if copies {
                    disk.vacate(0..u64::MAX);
                    disk.space(Some(blocks));
                }
                return Some(for_ms);
            }
            DiskFault::SlowFsync { sync_ms, for_ms } => {
                self.sync_ms.set([sync_ms, sync_ms]);
                return Some(for_ms);
            }
            DiskFault::BitFlip { millionths } => {
                let bits = disk.bytes().len() as u64 * 8;
                disk.flip(bits * millionths / 1_000_000);
            }
            DiskFault::CrashInRecovery { loses } => self.crash_next.set(Some(loses.into())),
        }
        None
    }

    /// The disk is as it should be. A store that has failed does not know that.
    pub(crate) fn over(&self) {
        self.disk.borrow().space(None);
        self.disk.borrow().fail(None);
        self.sync_ms.set(self.keeping.sync_ms);
    }

    /// Bytes of the disk, which is in this process's memory, and bytes that the store may have beside it.
    pub(crate) fn memory(&self) -> (usize, usize) {
        // What half of the log has, at both ends of its way to the tables, and what redb makes of that.
        let store = 4 * self.keeping.log_bytes + 4 * CACHE_BYTES;
        (self.disk.borrow().memory(), store)
    }

    fn draw_sync(&self) -> u64 {
        let [from, to] = self.sync_ms.get();
        self.random.borrow_mut().u64(from..=to.max(from))
    }
}

/// What is done in place of the store's threads.
pub(crate) struct Writing {
    timeline: Timeline,
    disk: Disk,
    steps: RefCell<Option<Steps>>,
    /// Since when and until when the disk is at what it was told last.
    busy: Cell<Option<(Time, Time)>>,
    /// When what was left for later is done.
    later: Cell<Time>,
    sync_ms: Rc<Cell<[u64; 2]>>,
    random: Rc<RefCell<Rng>>,
}

impl Writing {
    /// Does what is to be done at this moment. Whether there was anything.
    pub(crate) fn tick(&self) -> bool {
        let now = self.timeline.now();
        let mut steps = self.steps.borrow_mut();
        let Some(steps) = &mut *steps else {
            return false;
        };
        if steps.read() {
            return true;
        }
        if let Some((_, until)) = self.busy.get() {
            if now < until {
                return false;
            }
            self.pass();
        }
        let [from, to] = self.sync_ms.get();
        let mut random = self.random.borrow_mut();
        if steps.answer() || (now >= self.later.get() && steps.checkpoint()) {
            self.rest();
            return true;
        }
        self.disk.sync_ms(random.u64(from..=to.max(from)));
        if !steps.write() {
            return false;
        }
        let later = now.plus(random.u64(..LATER_MS));
        self.later.set(later);
        self.timeline.at(later, || ());
        self.rest();
        true
    }

    /// When the disk has done what it was told.
    pub(crate) fn idle_at(&self) -> Time {
        let busy = self.busy.get();
        busy.map_or_else(|| self.timeline.now(), |(_, until)| until)
    }

    /// The disk is at work, for as long as that takes.
    fn rest(&self) {
        let busy_ms = self.disk.busy_ms();
        if busy_ms > 0 {
            let now = self.timeline.now();
            let until = now.plus(busy_ms);
            self.busy.set(Some((now, until)));
            self.timeline.at(until, || ());
        }
    }

    /// The disk has come as far as it can have by now.
    fn pass(&self) {
        if let Some((since, _)) = self.busy.take() {
            self.disk.pass_ms(self.timeline.now().since(since));
        }
    }
}

/// A shard's storage over that, whose reads take their time.
pub(crate) struct Kept {
    pub(crate) log: HubLog,
    pub(crate) timeline: Timeline,
    pub(crate) random: Rc<RefCell<Rng>>,
}

impl Kept {
    pub(crate) fn new(log: HubLog, machine: &Machine) -> Self {
        Self {
            log,
            timeline: machine.timeline.clone(),
            random: Rc::clone(&machine.random),
        }
    }
}

impl Storage for Kept {
    fn commit(&self, changes: Vec<Change>) -> LocalBoxFuture<'static, Result<(), StoreFailure>> {
        self.log.commit(changes)
    }

    fn fetch(
        &self,
        fetches: Vec<Fetch>,
    ) -> LocalBoxFuture<'static, Result<Vec<Fetched>, StoreFailure>> {
        let fetched = self.log.fetch(fetches);
        let millis = self.random.borrow_mut().u64(..READ_MS);
        let at = self.timeline.now().plus(millis);
        let arrives = self.timeline.sleep_until(at);
        let late = async move {
            let fetched = fetched.await;
            arrives.await;
            fetched
        };
        late.boxed_local()
    }
}
