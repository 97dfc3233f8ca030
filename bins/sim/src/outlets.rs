//! Threads of a server, as tasks: what passes between them takes a time that is drawn, and keeps its order each way.

use std::cell::RefCell;
use std::rc::Rc;

use fastrand::Rng;

use crate::plan::Setting;

/// Milliseconds for which a thread may not get its turn.
const LATE_MAX_MS: u64 = 20;
const VERY_LATE_MAX_MS: u64 = 300;

/// Two or three threads in half of the worlds with lines. Drawn apart, so that all else of a world is the same with and without.
pub(crate) fn choose(seed: u64, world: &mut Setting) {
    let mut random = Rng::with_seed(seed ^ 0x0071);
    if !world.direct && random.bool() {
        world.outlets = random.u8(1..3);
    }
}

/// How long threads wait for their turns.
#[derive(Clone)]
pub(crate) struct Turns(Rc<RefCell<Rng>>);

impl Turns {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let mut number = [0; 8];
        number.copy_from_slice(&seed[..8]);
        let random = Rng::with_seed(u64::from_le_bytes(number));
        Self(Rc::new(RefCell::new(random)))
    }

    /// Milliseconds until a thread has its turn.
    pub(crate) fn next(&self) -> u64 {
        let mut random = self.0.borrow_mut();
        match random.u8(..100) {
            0..70 => 0,
            70..97 => random.u64(1..=LATE_MAX_MS),
            _ => random.u64(1..=VERY_LATE_MAX_MS),
        }
    }
}
