//! What is measured: how a connection is opened, and how something is published.

use std::io::Write;
use std::time::Duration;

use fanfare_core::UserId;
use fanfare_websocket::client::Secret;
use uuid::Uuid;

use super::address::Address;
use super::mark;
use super::template::{Fill, Place, Rooms, Template};
use crate::args::{Bench, Connection};
use crate::error::Error;
use crate::token::Claims;

/// How long a token lives beyond the run.
const TOKEN_LIFE: Duration = Duration::from_secs(86_400);
/// The key of each handshake and what it has to be answered with (RFC 6455, 1.3). That a key is random guards caches, of
/// which there is none.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &[u8; 28] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) struct Target {
    pub(crate) rooms: Rooms,
    pub(crate) sockets: Address,
    pub(crate) publishes: Address,
    tokens: Tokens,
    /// What a handshake begins with, and a publish, up to its length.
    handshake: Template,
    publish: Template,
    body: Template,
}

enum Tokens {
    None,
    One(Secret),
    Each { secret: Secret, life: Duration },
}

impl Target {
    pub(crate) fn new(args: &Bench, connection: &Connection) -> Result<Self, Error> {
        match (&args.raw, &args.publish_url) {
            (Some(raw), Some(publish)) => Self::raw(args, raw, publish),
            _ => Self::fanfare(args, connection),
        }
    }

    /// Whether it is known what a message is beside its mark.
    pub(crate) const fn is_fanfare(&self) -> bool {
        matches!(self.rooms, Rooms::Tasks(_))
    }

    fn fanfare(args: &Bench, connection: &Connection) -> Result<Self, Error> {
        let url = connection.url.to_string();
        let (address, prefix) = Address::of(&url, "--url")?;
        let prefix = prefix.trim_end_matches('/');
        let key = connection.key()?.expose();
        let secret = Connection::given(connection.token_secret.as_ref());
        let tokens = match (secret, Connection::given(connection.token.as_ref())) {
            (Some(secret), _) => Tokens::Each {
                secret: secret.clone(),
                life: args.duration + TOKEN_LIFE,
            },
            (None, Some(token)) => Tokens::One(token.clone()),
            (None, None) => {
                return Err(Error::Missing {
                    name: "FANFARE_TOKEN_SECRET",
                    what: "the secret that the server checks tokens with, to make one for each user; or give one token \
                           for all tasks as FANFARE_TOKEN. `fanfare-server --dev` prints the secret",
                });
            }
        };
        let authority = &address.0;
        let smallest = mark::BYTES + 2;
        check_size(args, smallest)?;
        let this = Self {
            rooms: Rooms::Tasks(Uuid::from_u128(
                // A UUID of version 4, whose last digits are a room's number.
                fastrand::u128(..) & !(0xf << 76 | 0xc << 60) | 4 << 76 | 8 << 60,
            )),
            handshake: Template::new(&opening(
                &format!("{prefix}/v1/tasks/{{room}}/chat"),
                authority,
            )),
            publish: Template::new(&format!(
                "POST {prefix}/v1/tasks/{{room}}/events HTTP/1.1\r\nHost: {authority}\r\n\
                 Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            )),
            body: Template::new(r#"{"type":"chat:message","data":"{data}"}"#),
            sockets: address.clone(),
            publishes: address,
            tokens,
        };
        // A secret that can't sign is told now.
        this.handshake(0, 0)?;
        Ok(this)
    }

    fn raw(args: &Bench, raw: &str, publish: &str) -> Result<Self, Error> {
        let (sockets, path) = Address::of(raw, "--raw")?;
        let (publishes, publish_path) = Address::of(publish, "--publish-url")?;
        let mut handshake = opening(path, &sockets.0);
        for line in &args.connect_header {
            handshake += &header(line, "--connect-header")?;
        }
        let method = &args.publish_method;
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(Error::Usage(format!(
                "--publish-method {method:?} is no method"
            )));
        }
        let mut publish = format!(
            "{method} {publish_path} HTTP/1.1\r\nHost: {}\r\n",
            publishes.0
        );
        for line in &args.publish_header {
            publish += &header(line, "--publish-header")?;
        }
        for (text, flag) in [(path, "--raw"), (publish_path, "--publish-url")] {
            if Template::new(text).contains(|c| c == '{' || c == '}') {
                return Err(Error::Usage(format!(
                    "{flag} has braces around something else than `room` and `connection`"
                )));
            }
        }
        let this = Self {
            rooms: Rooms::Numbers,
            sockets,
            publishes,
            tokens: Tokens::None,
            handshake: Template::new(&handshake),
            publish: Template::new(&publish),
            body: Template::new(&args.publish_body),
        };
        this.check_places(args)?;
        check_size(args, mark::BYTES)?;
        Ok(this)
    }

    fn check_places(&self, args: &Bench) -> Result<(), Error> {
        let wrong = |words: &str| Err(Error::Usage(words.to_owned()));
        if self.handshake.has(Place::Data) || self.publish.has(Place::Data) {
            return wrong("{data} has its place in --publish-body only");
        }
        if self.publish.has(Place::Connection) || self.body.has(Place::Connection) {
            return wrong("a publish is to a room: {connection} has no place in it");
        }
        if !self.body.has(Place::Data) {
            return wrong("--publish-body lacks {data}, by which a message is known again");
        }
        if args.rooms > 1 && !self.handshake.has(Place::Room) {
            return wrong("with several rooms, --raw or --connect-header has to have {room}");
        }
        if args.rooms > 1 && !self.publish.has(Place::Room) && !self.body.has(Place::Room) {
            return wrong(
                "with several rooms, --publish-url, --publish-header or --publish-body has to have {room}",
            );
        }
        Ok(())
    }

    /// The bytes that data has in a body beside itself.
    pub(crate) const fn quotes(&self) -> usize {
        if self.is_fanfare() { 2 } else { 0 }
    }

    /// The request that opens a connection.
    pub(crate) fn handshake(&self, connection: u32, room: u32) -> Result<Vec<u8>, Error> {
        let mut request = Vec::with_capacity(512);
        let fill = Fill {
            connection,
            room,
            rooms: self.rooms,
            data: &[],
        };
        self.handshake.write(&mut request, &fill);
        let token = match &self.tokens {
            Tokens::None => None,
            Tokens::One(token) => Some(token.clone()),
            Tokens::Each { secret, life } => {
                let user = UserId::new(u64::from(connection) + 1);
                Some(Claims::new(user, vec!["*".to_owned()], *life).sign(secret)?)
            }
        };
        if let Some(token) = token {
            // Writing to a vector can't fail.
            let _ = write!(request, "Authorization: Bearer {}\r\n", token.expose());
        }
        request.extend_from_slice(b"\r\n");
        Ok(request)
    }

    /// Writes a publish of `data` to a room into `out`; `body` is for use meanwhile. Nothing is allocated once both have
    /// had one.
    pub(crate) fn publish(&self, room: u32, data: &[u8], body: &mut Vec<u8>, out: &mut Vec<u8>) {
        let fill = Fill {
            connection: 0,
            room,
            rooms: self.rooms,
            data,
        };
        body.clear();
        self.body.write(body, &fill);
        out.clear();
        self.publish.write(out, &fill);
        // Writing to a vector can't fail.
        let _ = write!(out, "Content-Length: {}\r\n\r\n", body.len());
        out.extend_from_slice(body);
    }
}

fn opening(path: &str, authority: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
    )
}

fn header(line: &str, flag: &str) -> Result<String, Error> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    match line.split_once(':') {
        Some((name, value))
            if !name.is_empty() && name.chars().all(token) && !value.contains(char::is_control) =>
        {
            Ok(format!("{name}: {}\r\n", value.trim()))
        }
        _ => Err(Error::Usage(format!(
            "{flag} {line:?} is no header: 'Name: value'"
        ))),
    }
}

fn check_size(args: &Bench, smallest: usize) -> Result<(), Error> {
    if (args.size as usize) < smallest {
        return Err(Error::Usage(format!(
            "--size {}: it takes {smallest} bytes to know a message again",
            args.size
        )));
    }
    Ok(())
}
