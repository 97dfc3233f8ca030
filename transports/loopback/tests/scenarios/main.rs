//! What a hub does, as scripts: one file a behaviour.

mod bus;
mod determinism;
mod devices;
mod drain;
mod heartbeat;
mod join_snapshot;
mod lifecycle;
mod limits;
mod malformed;
mod many_clients;
mod once_per_connection;
mod resume;
mod retries;
mod rights;
mod slow;
mod task_rooms;
mod user_rooms;
mod worlds;
