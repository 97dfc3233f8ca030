//! The devices from which a user is connected.

use crate::ids::{DeviceId, UserId};
use serde::Serialize;
use std::collections::BTreeMap;

/// How many connections each device of each user has. Bounded by the connections.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    connected: BTreeMap<(UserId, Option<DeviceId>), usize>,
}

/// A device from which a user is connected.
///
/// ```
/// use fanfare_core::{Hub, Limits, UserId};
/// let hub = Hub::new(Limits::default(), [0; 32]);
/// assert!(hub.devices(UserId::new(7)).is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectedDevice {
    /// Its name; `None` stands for all connections that gave none.
    pub device: Option<DeviceId>,
    /// Its connections.
    pub connected: usize,
}

impl Devices {
    pub(crate) fn connect(&mut self, user: UserId, device: Option<DeviceId>) {
        *self.connected.entry((user, device)).or_insert(0) += 1;
    }

    pub(crate) fn disconnect(&mut self, user: UserId, device: Option<DeviceId>) {
        let key = (user, device);
        let Some(connected) = self.connected.get_mut(&key) else {
            return;
        };
        *connected -= 1;
        if *connected == 0 {
            self.connected.remove(&key);
        }
    }

    /// The connections of one device.
    pub(crate) fn connected(&self, user: UserId, device: &DeviceId) -> usize {
        let key = (user, Some(device.clone()));
        self.connected.get(&key).copied().unwrap_or_default()
    }

    /// The user's devices, by name. O(their number).
    pub(crate) fn of(&self, user: UserId) -> Vec<ConnectedDevice> {
        self.connected
            .range((user, None)..)
            .take_while(|((other, _), _)| *other == user)
            .map(|((_, device), connected)| ConnectedDevice {
                device: device.clone(),
                connected: *connected,
            })
            .collect()
    }
}
