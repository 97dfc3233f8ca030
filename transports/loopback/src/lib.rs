//! A hub with everything around it pretended: clients, sockets, back ends and both clocks, in one thread, from one seed.
//!
//! The code that runs inside is the one that ships: `fanfare-core`'s [`Hub`](fanfare_core::Hub), driven as a transport
//! drives it. Only the operating system is pretended. So what a server does in half an hour with a thousand clients is
//! seen in milliseconds, and the same seed and script give the same run, byte for byte ([`World::digest`]).
//!
//! # A script
//!
//! ADR 017's scenario: a task runs, whoever watches its chat sees it, its user is told on every device, others are not.
//!
//! ```
//! use fanfare_core::{CloseCode, Payload};
//! use fanfare_loopback::{Handshake, World, draft, event, joined, reply, task, user};
//!
//! let (alice, bob, build) = (user(7), user(8), task(1));
//! let mut world = World::new(1);
//! let tab = world.connect(Handshake::chat(alice, build).device("laptop"));
//! let phone = world.connect(Handshake::notifications(alice).device("phone"));
//! let stranger = world.connect(Handshake::notifications(bob));
//! let back_end = world.subscribe(&["task:*".parse()?]);
//!
//! // The back end tells of a task's life: the task's room and the user's, one event.
//! world.broadcaster().completed(build, &[alice], Payload::default())?;
//! world.expect(tab, event("task:completed").at(build, 1).at(alice, 1));
//! world.expect(phone, event("task:completed").at(alice, 1));
//! world.expect(back_end, event("task:completed").at(build, 1).at(alice, 1));
//! world.expect_nothing(stranger);
//!
//! // A client joins one more room, and is heard there.
//! let join = world.join(stranger, build);
//! world.expect_all(stranger, [joined(build, 1), reply(join)]);
//! world.send(stranger, build, &draft("chat:message", "well done"));
//! world.expect(tab, event("chat:message").at(build, 2).from(bob).with("/data", "well done"));
//!
//! // Half a minute in which the phone answers nothing.
//! world.stop_reading(phone);
//! world.advance_ms(35_000);
//! world.resume_reading(phone);
//! world.expect_closed(phone, CloseCode::NO_HEARTBEAT);
//! # Ok::<(), fanfare_core::Error>(())
//! ```
//!
//! # What happens when
//!
//! - Time is virtual. It moves in [`World::advance_ms`] only, from one thing that is due to the next: the hub's deadlines,
//!   and what is on its way. Nothing sleeps, and no assertion depends on how fast the machine is.
//! - There is one queue, ordered by time and a tie-break number: in one millisecond first everything arrives, in the order
//!   of the script, then deadlines are due, then sockets are written and read.
//! - A step of a script takes effect where it stands, or after the drawn latency. Sockets are written when the script
//!   expects something, lets time pass, or calls [`World::settle`]: steps between share one write, so a script decides
//!   what a slow turn of a real server would.
//! - A socket holds [`Handshake::window_bytes`]. A client that [stops reading](World::stop_reading) leaves it full; what
//!   comes then waits in the hub.
//! - A store, where [`Settings::store`] has one, takes its time for each commit and read. What a script wants an answer to
//!   ([`World::publish`], [`World::task`], …) lets time pass until it is there; [`World::begin_publish`] does not.
//! - An expectation that is not met panics with what was expected, what was seen, and the script so far.
//!
//! # For code that waits
//!
//! A [`World`] drives a hub itself. What drives one as a server does, a shard with its sockets, runs on a [`Timeline`], over
//! [`Line`]s and a [`Disk`]: `fanfare-sim` runs the server that ships so. Both are on the same queue and
//! have the same [`WallClock`]. Links and stores are two each, since they stand in for different things: a world's link
//! carries frames, and a [`Line`] the bytes that a codec makes of them; a world's store answers the hub with rows, and a
//! [`Disk`] is the file below a store.
//!
//! # Oracles
//!
//! [`World::take_observations`] gives what clients, back ends and subscribers could see, in order, as they could see it:
//! JSON of frames, answers to publishes. A model fed with these judges a run without knowing the hub.
//!
//! # What it is not
//!
//! No test of a transport: frames come whole, without their headers, and a handshake can't be malformed. No measure of
//! speed. And everything of a script is kept until its world ends, so it is for tests and not for a server.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod agenda;
mod client;
mod clock;
mod digest;
mod disk;
mod expected;
mod handshake;
mod link;
mod names;
mod observation;
mod random;
mod received;
mod script;
mod settings;
mod store;
mod stream;
mod timeline;
mod world;

pub use client::Client;
pub use clock::WallClock;
pub use digest::Digest;
pub use disk::{Crash, Disk, DiskFault, DiskOp};
pub use expected::{
    Expected, closed, cut, event, expiring, gap, goodbye, joined, left, overrun, refusal, reply,
    welcome,
};
pub use handshake::Handshake;
pub use names::{draft, task, user};
pub use observation::{Observation, Observed};
pub use received::{Received, SeenEvent};
pub use settings::{Settings, StoreSettings};
pub use stream::{Conditions, Direction, Line, Stream};
pub use timeline::{Sleep, Timeline};
pub use world::{BackEnd, Backup, Restart, World};
