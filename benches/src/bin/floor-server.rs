//! The least that a server over WebSocket can do: what is posted to a path goes to all that connected to it, with one `write` a
//! socket, before it is answered. No order to keep, no rights, no log, no heartbeat; a socket that takes nothing holds up all others.
//!
//! `floor-server [ADDRESS]` serves until it is killed, so that `fanfare bench --raw` asks of it what it asks of Fanfare, in latency
//! too. `floor` says what the writes alone cost, without the client's and the back end's part.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "a measuring program says where it listens"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use async_tungstenite::tungstenite::handshake::derive_accept_key;
use fanfare_benches::{Outcome, argument, raise_open_files, text_frame};

/// Longer heads and bodies end a connection.
const REQUEST_MAX: u64 = 1 << 20;

/// Who gets what is posted, by path.
type Members = Arc<Mutex<HashMap<String, Vec<TcpStream>>>>;

fn main() -> Outcome<()> {
    raise_open_files()?;
    let listener = TcpListener::bind(argument(0, String::from("127.0.0.1:8080"))?)?;
    // As many may wait as the system lets, not the 128 of the standard library.
    rustix::net::listen(&listener, 4_096)?;
    println!("floor-server listens on {}", listener.local_addr()?);
    let members = Members::default();
    for stream in listener.incoming() {
        let (stream, members) = (stream?, Arc::clone(&members));
        // A connection's end is its own: there is nobody to tell.
        std::thread::spawn(move || serve(stream, &members));
    }
    Ok(())
}

/// Makes a connection a member, or takes its posts one after the other.
fn serve(stream: TcpStream, members: &Members) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = Request::read(&mut reader)? {
        if let Some(key) = request.key {
            let accept = derive_accept_key(key.as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            (&stream).write_all(answer.as_bytes())?;
            let mut all = members.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(request.path).or_default().push(stream);
            return Ok(());
        }
        let frame = text_frame(&request.body);
        let mut all = members.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = all.get_mut(&request.path) {
            room.retain_mut(|member| member.write_all(&frame).is_ok());
        }
        drop(all);
        (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
    Ok(())
}

/// What the floor has to know of a request.
struct Request {
    path: String,
    /// Of a WebSocket's handshake.
    key: Option<String>,
    body: Vec<u8>,
}

impl Request {
    /// The next one, or none where the connection ended.
    fn read(reader: &mut BufReader<TcpStream>) -> Outcome<Option<Self>> {
        let (mut path, mut key, mut length) = (None, None, 0);
        let mut head = reader.take(REQUEST_MAX);
        let mut line = String::new();
        loop {
            line.clear();
            if head.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if line.trim_end().is_empty() {
                break;
            }
            if path.is_none() {
                path = line.split(' ').nth(1).map(str::to_owned);
                continue;
            }
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("sec-websocket-key") => {
                    key = Some(value.trim().to_owned());
                }
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse()?;
                }
                _ => {}
            }
        }
        let path = path.ok_or("a request without a path")?;
        if length > REQUEST_MAX {
            return Err(format!("a body of {length} bytes is longer than {REQUEST_MAX}").into());
        }
        let mut body = vec![0; usize::try_from(length)?];
        reader.read_exact(&mut body)?;
        Ok(Some(Self { path, key, body }))
    }
}
