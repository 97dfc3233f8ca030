//! How often what happened: the kinds of steps that were taken, and of faults that took effect.

use std::collections::BTreeMap;
use std::fmt;

use crate::plan::Step;

/// Counts by name. The names of faults and steps are those of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<String, u64>);

impl Counts {
    pub(crate) fn add(&mut self, name: &str, count: u64) {
        match self.0.get_mut(name) {
            Some(known) => *known += count,
            None => {
                self.0.insert(name.to_owned(), count);
            }
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            self.add(name, *count);
        }
    }

    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl fmt::Display for Counts {
    /// A line for each, the names aligned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.keys().map(String::len).max().unwrap_or_default();
        for (number, (name, count)) in self.0.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}  {name:width$} {count:>9}")?;
        }
        Ok(())
    }
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) steps: Counts,
    pub(crate) faults: Counts,
    /// Milliseconds of all devices while there were faults, and those of them in which they were connected.
    pub(crate) device_ms: u64,
    pub(crate) connected_ms: u64,
}

impl Tally {
    /// How much of the time devices were connected, in per cent.
    pub(crate) const fn connected(&self) -> u64 {
        match self.device_ms {
            0 => 0,
            all => 100 * self.connected_ms / all,
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.steps.merge(&other.steps);
        self.faults.merge(&other.faults);
        self.device_ms += other.device_ms;
        self.connected_ms += other.connected_ms;
    }
}

/// The name of a step, as it is in a plan.
pub(crate) fn name(step: &Step) -> String {
    let value = serde_json::to_value(step).unwrap_or_default();
    let name = value.as_object().and_then(|it| it.keys().next());
    name.cloned().unwrap_or_default()
}
