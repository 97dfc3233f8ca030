//! What nodes and rooms are called where people read of them.

use fanfare_loopback::task;

use crate::history::Conn;
use crate::plan::{Endpoint, Plan};

/// The names of one plan's world.
#[derive(Debug)]
pub(crate) struct Names {
    devices: Vec<String>,
    /// What tasks are called on the wire, and here.
    tasks: Vec<(String, String)>,
}

impl Names {
    pub(crate) fn new(plan: &Plan) -> Self {
        let name = |number: usize| {
            let about = plan.world.devices.get(number)?;
            let what = about.name.as_deref().unwrap_or(match about.endpoint {
                Endpoint::Chat { .. } => "chat",
                Endpoint::Notifications {} => "bell",
            });
            // A name may have what a terminal would obey.
            let what = what.escape_debug();
            Some(format!("{what} of user {}", about.user))
        };
        let all: Vec<String> = (0..plan.world.devices.len()).filter_map(name).collect();
        let devices = all.iter().enumerate().map(|(number, name)| {
            // Two of one name are told apart by their numbers in the plan.
            let is_alone = all.iter().filter(|other| *other == name).count() == 1;
            if is_alone {
                name.clone()
            } else {
                format!("{name} [{number}]")
            }
        });
        Self {
            devices: devices.collect(),
            tasks: (0..plan.world.tasks)
                .map(|number| (task(number).to_string(), number.to_string()))
                .collect(),
        }
    }

    pub(crate) fn device(&self, number: usize) -> &str {
        self.devices.get(number).map_or("nobody", String::as_str)
    }

    /// A device's connection: the second one of a phone is `phone of user 4 #2`.
    pub(crate) fn conn(&self, conn: Conn) -> String {
        format!("{} #{}", self.device(conn.device), conn.number)
    }

    /// A text with tasks by their numbers in the plan.
    pub(crate) fn shorten(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (long, short) in &self.tasks {
            if text.contains(long.as_str()) {
                text = text.replace(long.as_str(), short);
            }
        }
        text
    }
}

/// A time in seconds.
pub(crate) fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}
