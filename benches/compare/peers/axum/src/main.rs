//! axum and `tokio::sync::broadcast`, as in axum's own example `chat`, with a channel for each room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::broadcast;

/// What a channel keeps for members that are behind, as in the example.
const CAPACITY: usize = 100;

type Rooms = Arc<Mutex<HashMap<String, broadcast::Sender<Utf8Bytes>>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).ok_or("the port is missing")?;
    let app = Router::new()
        .route("/sub/{room}", get(subscribe))
        .route("/pub/{room}", post(publish))
        .with_state(Rooms::default());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    Ok(axum::serve(listener, app).await?)
}

fn room(rooms: &Rooms, name: String) -> broadcast::Sender<Utf8Bytes> {
    let mut rooms = rooms.lock().expect("nobody panics with the lock");
    rooms
        .entry(name)
        .or_insert_with(|| broadcast::channel(CAPACITY).0)
        .clone()
}

async fn publish(Path(name): Path<String>, State(rooms): State<Rooms>, body: String) -> StatusCode {
    // An error is a room without members.
    let _ = room(&rooms, name).send(body.into());
    StatusCode::NO_CONTENT
}

async fn subscribe(
    upgrade: WebSocketUpgrade,
    Path(name): Path<String>,
    State(rooms): State<Rooms>,
) -> Response {
    let events = room(&rooms, name).subscribe();
    upgrade.on_upgrade(|socket| member(socket, events))
}

async fn member(socket: WebSocket, mut events: broadcast::Receiver<Utf8Bytes>) {
    let (mut sender, mut receiver) = socket.split();
    let mut send = tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            if sender.send(Message::Text(event)).await.is_err() {
                break;
            }
        }
    });
    let mut receive = tokio::spawn(async move { while let Some(Ok(_)) = receiver.next().await {} });
    tokio::select! {
        _ = &mut send => receive.abort(),
        _ = &mut receive => send.abort(),
    }
}
