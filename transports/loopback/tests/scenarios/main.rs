//! What a hub does, as scripts: one file a behaviour.

mod bus;
mod task_rooms;
mod user_rooms;
