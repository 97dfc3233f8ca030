//! The back end that publishes.

use std::sync::mpsc::Receiver;

use fanfare_benches::{API_KEY, Outcome, Server, message};
use fanfare_core::{Publish, Target, TaskId};
use fanfare_websocket::client::{Api, Secret};

const DATA_BYTES: usize = 256;

/// Publishes one after the other, never more than `in_flight` ahead of what `arrived` says is everywhere.
pub(crate) fn publish(
    server: &Server,
    task: TaskId,
    publishes: u64,
    in_flight: u64,
    arrived: &Receiver<u64>,
) -> Outcome<()> {
    let address = format!("http://{}", server.address).parse()?;
    let mut api = Api::new(address, Secret::new(API_KEY));
    let publish = Publish {
        target: Target::Task {
            task,
            users: Vec::new(),
        },
        draft: message(DATA_BYTES),
    };
    let mut complete = 0;
    for sent in 0..publishes {
        while sent - complete >= in_flight {
            // The reader ended: it says itself why.
            let Ok(more) = arrived.recv() else {
                return Ok(());
            };
            complete += more;
        }
        smol::block_on(api.publish(&publish))?;
    }
    Ok(())
}
