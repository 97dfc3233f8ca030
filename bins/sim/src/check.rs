//! What a plan may say: who it names is there, times come in order, and nothing is so large that the simulation, which is a process
//! as any other, would not bear it.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "most steps have nothing that could be too large"
)]

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::plan::{Endpoint, Network, Plan, Setting, Step, Target, Timed};

/// Milliseconds of the first phase, at most: a day.
const FAULTS_MS_MAX: u64 = 24 * 3_600_000;
const TASKS_MAX: u32 = 10_000;
const PUBLISHERS_MAX: u32 = 1_000;
const DEVICES_MAX: usize = 100_000;
const LISTENERS_MAX: usize = 100;
/// Milliseconds that a line or an fsync takes.
const LATENCY_MS_MAX: u64 = 60_000;
const BYTES_PER_MS_MAX: u64 = 1 << 30;
const WINDOW_BYTES_MAX: usize = 16 << 20;
const LOG_BYTES_MAX: usize = 64 << 20;
/// Bytes of what is published or said at once: what the judge of memory allows for.
const BYTES_MAX: usize = 64 << 10;
const USERS_MAX: usize = 1_000;

/// What is wrong with a plan, and in which of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) field: String,
    pub(crate) what: String,
}

fn wrong<T>(field: &str, what: &str) -> Result<T, Wrong> {
    Err(Wrong {
        field: field.to_owned(),
        what: what.to_owned(),
    })
}

fn within<T: PartialOrd + Display>(
    field: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), Wrong> {
    if range.contains(&value) {
        return Ok(());
    }
    let (from, to) = range.into_inner();
    wrong(
        field,
        &format!("{value} is not within {from} to {to}, which is what a plan may say"),
    )
}

fn rises(field: &str, [from, to]: [u64; 2]) -> Result<(), Wrong> {
    within(field, to, 0..=LATENCY_MS_MAX)?;
    if from > to {
        return wrong(field, "begins above its end");
    }
    Ok(())
}

impl Plan {
    /// Whether it can be run.
    pub(crate) fn check(&self) -> Result<(), Wrong> {
        self.world.check()?;
        let mut before = 0;
        for (number, timed) in self.steps.iter().enumerate() {
            let at_ms = format!("steps[{number}].at_ms");
            if timed.at_ms < before {
                return wrong(&at_ms, "comes before the step before it");
            }
            within(&at_ms, timed.at_ms, 0..=self.world.faults_ms)?;
            before = timed.at_ms;
            let step = timed.check(&self.world);
            step.map_err(|it| Wrong {
                field: format!("steps[{number}].step{}", it.field),
                what: it.what,
            })?;
        }
        Ok(())
    }
}

impl Setting {
    fn check(&self) -> Result<(), Wrong> {
        within("world.faults_ms", self.faults_ms, 0..=FAULTS_MS_MAX)?;
        within("world.tasks", self.tasks, 0..=TASKS_MAX)?;
        within("world.publishers", self.publishers, 0..=PUBLISHERS_MAX)?;
        within("world.devices", self.devices.len(), 0..=DEVICES_MAX)?;
        within("world.listeners", self.listeners.len(), 0..=LISTENERS_MAX)?;
        for (number, device) in self.devices.iter().enumerate() {
            if let Endpoint::Chat { task } = device.endpoint
                && task >= self.tasks
            {
                let field = format!("world.devices[{number}].endpoint.chat.task");
                return wrong(&field, "there is no task of this number");
            }
        }
        self.network.check("world.network")?;
        if let Some(store) = &self.store {
            rises("world.store.sync_ms", store.sync_ms)?;
            within("world.store.log_bytes", store.log_bytes, 0..=LOG_BYTES_MAX)?;
        }
        Ok(())
    }
}

impl Network {
    fn check(&self, at: &str) -> Result<(), Wrong> {
        rises(&format!("{at}.latency_ms"), self.latency_ms)?;
        let per_ms = format!("{at}.bytes_per_ms");
        within(&per_ms, self.bytes_per_ms, 1..=BYTES_PER_MS_MAX)?;
        let window = format!("{at}.window_bytes");
        within(&window, self.window_bytes, 1..=WINDOW_BYTES_MAX)
    }
}

impl Timed {
    fn check(&self, world: &Setting) -> Result<(), Wrong> {
        let (device, task, publisher) = self.step.names();
        if device.is_some_and(|it| it >= world.devices.len()) {
            return wrong("", "there is no device of this number");
        }
        if task.is_some_and(|it| it >= world.tasks) {
            return wrong("", "there is no task of this number");
        }
        if publisher.is_some_and(|it| it >= world.publishers as usize) {
            return wrong("", "there is no publisher of this number");
        }
        match &self.step {
            Step::Publish { to, bytes, .. } => {
                within(".publish.bytes", *bytes, 0..=BYTES_MAX)?;
                match to {
                    Target::Task { users, .. } => {
                        within(".publish.to.task.users", users.len(), 0..=USERS_MAX)
                    }
                    Target::User { .. } | Target::Bus {} => Ok(()),
                }
            }
            Step::Babble { text, .. } => within(".babble.text", text.len(), 0..=BYTES_MAX),
            Step::Weather { network } => network.check(".weather.network"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Keeping;
    use crate::generate::generate;

    #[test]
    fn what_would_be_too_much_for_the_simulation_is_said_with_its_field() {
        type Change = fn(&mut Plan);
        let cases: [(&str, Change); 13] = [
            ("world.faults_ms", |it| it.world.faults_ms = u64::MAX),
            ("world.tasks", |it| it.world.tasks = u32::MAX),
            ("world.publishers", |it| it.world.publishers = u32::MAX),
            ("world.devices[0].endpoint.chat.task", |it| {
                it.world.devices[0].endpoint = Endpoint::Chat { task: 99 };
            }),
            ("world.network.latency_ms", |it| {
                it.world.network.latency_ms = [5, 1];
            }),
            ("world.network.latency_ms", |it| {
                it.world.network.latency_ms = [5, u64::MAX];
            }),
            ("world.network.bytes_per_ms", |it| {
                it.world.network.bytes_per_ms = 0;
            }),
            ("world.network.window_bytes", |it| {
                it.world.network.window_bytes = usize::MAX;
            }),
            ("world.store.sync_ms", |it| {
                it.world.store = Some(Keeping {
                    relaxed: false,
                    sync_ms: [0, u64::MAX],
                    log_bytes: 1 << 20,
                });
            }),
            ("world.store.log_bytes", |it| {
                it.world.store = Some(Keeping {
                    relaxed: false,
                    sync_ms: [0, 1],
                    log_bytes: usize::MAX,
                });
            }),
            ("steps[1].at_ms", |it| it.steps[1].at_ms = u64::MAX),
            ("steps[1].at_ms", |it| it.steps[0].at_ms = 500_000),
            ("steps[0].step.babble.text", |it| {
                let text = "x".repeat(BYTES_MAX + 1);
                it.steps[0].step = Step::Babble { device: 0, text };
            }),
        ];
        for (field, change) in cases {
            let mut plan = generate(1);
            assert_eq!(plan.check(), Ok(()));
            change(&mut plan);
            assert_eq!(plan.check().unwrap_err().field, field);
        }
    }
}
