//! What comes together: a step is drawn alone, and what makes it cruel, or ends it, goes with it.

#![allow(clippy::wildcard_enum_match_arm, reason = "most steps come alone")]

use fastrand::Rng;

use crate::generate::publish;
use crate::plan::{Fault, Setting, Since, Step, Timed};

/// A step at its time, with what goes with it, in any order.
pub(crate) fn bunch(random: &mut Rng, world: &Setting, at_ms: u64, step: Step) -> Vec<Timed> {
    let mut all = Vec::new();
    let mut later = |at_ms: u64, step: Step| all.push(Timed { at_ms, step });
    let mut own_ms = at_ms;
    match &step {
        // Most come back.
        Step::Leave { device, .. } if random.u8(..8) > 0 => {
            let (device, with) = (*device, Since::Positions);
            later(
                at_ms + random.u64(1_000..60_000),
                Step::Connect { device, with },
            );
        }
        Step::StopReading { device } | Step::ReadSlowly { device, .. } if random.u8(..4) > 0 => {
            let device = *device;
            let at_ms = at_ms + random.u64(1_000..90_000);
            later(at_ms, Step::ResumeReading { device });
        }
        // Said twice, or again after a later one.
        Step::Ack { .. } if random.u8(..4) == 0 => {
            later(at_ms + random.u64(..200), step.clone());
        }
        // Ten times as often while something is being written.
        Step::Crash {} | Step::Pause { .. } if random.u8(..11) > 0 => {
            for _ in 0..random.u8(1..5) {
                later(at_ms, publish(random, world));
            }
            own_ms += random.u64(..30);
        }
        // Several back ends to one place.
        Step::Publish { to, .. } if random.u8(..12) == 0 => {
            for number in 0..world.publishers as usize {
                if let Step::Publish {
                    kind,
                    bytes,
                    insists,
                    dies,
                    notify,
                    ..
                } = publish(random, world)
                {
                    let of_task = matches!(to, crate::plan::Target::Task { .. });
                    let is_life = matches!(kind, crate::plan::Kind::Life { .. });
                    if of_task || !is_life {
                        let step = Step::Publish {
                            publisher: number,
                            to: to.clone(),
                            kind,
                            bytes,
                            insists,
                            dies,
                            notify,
                        };
                        later(at_ms + random.u64(..3), step);
                    }
                }
            }
        }
        // One line after the other, and in another order back.
        Step::Break {
            how: Fault::Clog {},
            device,
        } => {
            let (count, every_ms) = (random.usize(1..8), random.u64(1..2_000));
            let mut group: Vec<usize> = (0..count)
                .map(|_| random.usize(..world.devices.len().max(1)))
                .collect();
            let mut at_ms = at_ms;
            for &device in &group {
                at_ms += every_ms;
                let how = Fault::Clog {};
                later(at_ms, Step::Break { device, how });
            }
            group.push(*device);
            random.shuffle(&mut group);
            at_ms += random.u64(..40_000);
            for device in group {
                at_ms += every_ms;
                later(at_ms, Step::Unclog { device });
            }
        }
        // A machine whose clock is wrong is often a new one.
        Step::Clock { .. } if random.u8(..4) == 0 => {
            later(at_ms + random.u64(..2_000), Step::Crash {});
        }
        _ => {}
    }
    let at_ms = own_ms;
    all.push(Timed { at_ms, step });
    all
}
