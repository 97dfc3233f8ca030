//! Requests of a back end, one after the other, over one connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::Outcome;
use crate::message::{Message, cut};
use crate::server::API_KEY;

const READ: usize = 64 << 10;

/// A request of a back end as bytes; with a body, its media type.
///
/// ```
/// let address = ([127, 0, 0, 1], 80).into();
/// let request = fanfare_benches::request(address, "GET /readyz", None);
/// assert!(request.starts_with(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"));
/// ```
#[must_use]
pub fn request(address: SocketAddr, line: &str, body: Option<(&str, &[u8])>) -> Vec<u8> {
    let (kind, body) = body.unwrap_or(("application/json", &[]));
    let mut bytes = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {API_KEY}\r\n\
         Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend(body);
    bytes
}

/// A connection that is kept alive.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    stream: TcpStream,
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { address, stream })
    }

    /// The body of an answer with 200.
    ///
    /// # Errors
    /// What the system says, and any other answer.
    pub fn ask(&mut self, line: &str, body: Option<(&str, &[u8])>) -> Outcome<Vec<u8>> {
        self.stream.write_all(&request(self.address, line, body))?;
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; READ]);
        loop {
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Err(format!("{line}: the server closed the connection").into());
            }
            bytes.extend(buffer.iter().take(read));
            match cut(&bytes)? {
                Some((Message::Answer { status: 200, body }, _)) => return Ok(body.to_vec()),
                None => {}
                Some((other, _)) => return Err(format!("{line}: {other:?}").into()),
            }
        }
    }

    /// The number that stands behind `name` in what a `GET` of this path is answered.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and where there is none.
    pub fn number(&mut self, path: &str, name: &str) -> Outcome<u64> {
        let answer = self.ask(&format!("GET {path}"), None)?;
        crate::number_after(&answer, name.as_bytes()).ok_or_else(|| {
            format!("{path}: no {name} in {}", String::from_utf8_lossy(&answer)).into()
        })
    }
}
