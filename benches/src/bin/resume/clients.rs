//! The clients that come back, and what each of them has.

use fanfare_benches::{Message, Outcome, Server, Sockets, number_after};

use crate::Rooms;

pub(crate) struct Clients {
    sockets: Sockets,
    all: Vec<Client>,
    rooms: Rooms,
    /// How many were welcomed.
    welcomes: u64,
    /// Whether they named their positions.
    resume: bool,
}

#[derive(Clone, Default)]
struct Client {
    welcome: bool,
    seq: u64,
}

impl Clients {
    /// Opens all connections before any answer is read, with the position before the first event of this epoch, if one is named. Returns
    /// when each has its welcome; some have more then.
    pub(crate) fn connect(
        server: &Server,
        rooms: Rooms,
        clients: u64,
        since: Option<&str>,
    ) -> Outcome<Self> {
        let mut sockets = Sockets::new()?;
        for user in 0..clients {
            let room = rooms.name(user);
            let path = match room.strip_prefix("task:") {
                Some(task) => format!("/v1/tasks/{task}/chat"),
                None => "/v1/user/notifications".to_owned(),
            };
            let since = since.map_or(String::new(), |epoch| format!("?since={room}@{epoch}:0"));
            sockets.open(server, &format!("{path}{since}"), &server.token(user))?;
        }
        let mut clients = Self {
            sockets,
            all: vec![Client::default(); usize::try_from(clients)?],
            rooms,
            welcomes: 0,
            resume: since.is_some(),
        };
        while clients.welcomes < clients.all.len() as u64 {
            clients.turn()?;
        }
        Ok(clients)
    }

    /// Reads until each has so many events.
    pub(crate) fn catch_up(&mut self, missed: u64) -> Outcome<()> {
        while self.all.iter().any(|client| client.seq < missed) {
            self.turn()?;
        }
        match self.all.iter().find(|client| client.seq > missed) {
            Some(client) => Err(format!("event {} of {missed} came", client.seq).into()),
            None => Ok(()),
        }
    }

    fn turn(&mut self) -> Outcome<()> {
        self.sockets.turn(None, |number, message| {
            let client = self.all.get_mut(number).ok_or("no such connection")?;
            let text = match message {
                Message::Text(text) => text,
                Message::Answer { status: 101, .. } => return Ok(()),
                other @ (Message::Answer { .. } | Message::Ping) => {
                    return Err(format!("{other:?}").into());
                }
            };
            let room = format!("\"{}\":", self.rooms.name(number as u64));
            let said = || String::from_utf8_lossy(text).into_owned();
            if !client.welcome {
                let recovered = br#""recovered":true"#;
                let recovered = text.windows(recovered.len()).any(|part| part == recovered);
                if !text.starts_with(br#"{"type":"system:welcome""#) || recovered != self.resume {
                    return Err(said().into());
                }
                client.welcome = true;
                self.welcomes += 1;
                return Ok(());
            }
            let seq = number_after(text, room.as_bytes());
            if seq != Some(client.seq + 1) {
                return Err(format!("after event {}: {}", client.seq, said()).into());
            }
            client.seq += 1;
            Ok(())
        })
    }
}
