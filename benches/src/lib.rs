//! What the measuring programs of Fanfare share.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod arguments;
mod crowd;
mod fill;
mod floor;
mod http;
mod message;
mod programs;
mod server;
mod sockets;
mod times;

pub use arguments::{argument, arguments, in_folder};
pub use crowd::{Crowd, NOW, message};
pub use fill::{Filled, fill};
pub use floor::fdatasyncs;
pub use http::{Http, request};
pub use message::{Message, cut, number_after};
pub use programs::pin;
pub use server::{API_KEY, Server};
pub use sockets::Sockets;
pub use times::Times;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a measuring program comes to: anything that goes wrong ends it.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Raises this process's limit of open files to its hard limit, for thousands of sockets.
///
/// # Errors
/// What the system answered, when it refuses.
///
/// ```
/// fanfare_benches::raise_open_files()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn raise_open_files() -> std::io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// One whole text frame of RFC 6455 as a server sends it: unmasked, header first.
///
/// ```
/// assert_eq!(fanfare_benches::text_frame(b"hi"), [0x81, 2, b'h', b'i']);
/// assert_eq!(fanfare_benches::text_frame(&[b'x'; 256])[..4], [0x81, 126, 1, 0]);
/// ```
#[must_use]
pub fn text_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(medium)) => {
            frame.push(126);
            frame.extend(medium.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}
