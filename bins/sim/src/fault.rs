//! The names of faults: the same in the code, in what a run counts, and in `docs/simulation.md`.

use crate::disk;
use crate::plan::{Fault, Since, Step};

/// The fault that a step is, if it is one.
pub(crate) const fn name(step: &Step) -> Option<&'static str> {
    Some(match step {
        Step::Connect { with, .. } | Step::Join { with, .. } => match with {
            Since::Positions | Since::Nothing => return None,
            Since::Old => "position_old",
            Since::Garbage => "position_garbage",
            Since::Foreign => "position_foreign",
            Since::Future => "position_future",
        },
        Step::Leave {
            in_order: false, ..
        } => "vanish",
        Step::Ack { behind, .. } if *behind < 0 => "ack_beyond",
        Step::Ack { behind, .. } if *behind > 0 => "ack_late",
        Step::Token { token, .. } if token.tasks.is_some() => "token_loses_rooms",
        Step::Token { .. } => "token_ends",
        Step::OtherToken { .. } => "token_of_another",
        Step::Babble { .. } => "babble",
        Step::Garble { .. } => "garble",
        Step::Chatter { .. } => "chatter",
        Step::StopReading { .. } => "stop_reading",
        Step::ReadSlowly { .. } => "read_slowly",
        Step::Background { .. } => "background",
        Step::HalfClose { .. } => "half_close",
        Step::Storm {} => "storm",
        Step::Publish { dies: true, .. } => "publisher_dies",
        Step::Repeat { lies: true, .. } => "lie",
        Step::Repeat { .. } => "repeat",
        Step::Disconnect { .. } => "disconnect",
        Step::Break { how, .. } => match how {
            Fault::Reset {} => "reset",
            Fault::BlackHole {} => "black_hole",
            Fault::OneWay { .. } => "one_way",
            Fault::Stall { .. } => "stall",
            Fault::Cut { .. } => "cut",
            Fault::Clog {} => "clog",
        },
        Step::Weather { .. } => "weather",
        Step::Crash {} => "crash",
        Step::PowerCut { loses } => disk::loss(*loses),
        Step::BadDisk { how } => disk::fault(*how),
        Step::Drain {} => "drain",
        Step::Pause { .. } => "pause",
        Step::NoDescriptors { .. } => "no_descriptors",
        Step::Clock { .. } => "clock",
        Step::Leave { .. }
        | Step::Part { .. }
        | Step::Ack { .. }
        | Step::Read { .. }
        | Step::Send { .. }
        | Step::ResumeReading { .. }
        | Step::Publish { .. }
        | Step::Unclog { .. } => return None,
    })
}
