//! A back end that listens to the bus: it gets every event of every room, at a pace of its own, and comes back when its
//! connection is lost.

use std::io;
use std::rc::Rc;

use fastrand::Rng;
use serde_json::Value;

use crate::history::{Hears, Seen};
use crate::machine::API_KEY;
use crate::net::{Net, Node};
use crate::plan::{Kind, Listener, Setting, Step, Target, Timed};
use crate::wire::{Frame, Wire};

/// Milliseconds for a handshake, and for a pong that has to leave.
const PATIENCE_MS: u64 = 10_000;
/// Milliseconds of silence after which a server is taken for dead.
const SILENCE_MS: u64 = 60_000;
/// Longest wait before the next try, in milliseconds.
const WAIT_MAX_MS: u64 = 5_000;

/// One or two in a third of the worlds, with events of no room, which only they get. Drawn apart, so that all else of a world
/// is the same with and without.
pub(crate) fn choose(seed: u64, world: &mut Setting, steps: &mut Vec<Timed>) {
    let mut random = Rng::with_seed(seed ^ 0xb005);
    if random.u8(..3) > 0 {
        return;
    }
    for _ in 0..random.usize(1..=2) {
        let every_ms = [0, 20, 300, 2_000][random.usize(..4)];
        world.listeners.push(Listener { every_ms });
    }
    for _ in 0..[0, 5, 40][random.usize(..3)] {
        // Beside others, so that they come while a listener has much to read.
        let beside = steps.get(random.usize(..steps.len().max(1)));
        let at_ms = beside.map_or(0, |it| it.at_ms);
        let step = Step::Publish {
            publisher: random.usize(..world.publishers.max(1) as usize),
            to: Target::Bus {},
            kind: Kind::Note {},
            bytes: random.usize(..900),
            insists: random.bool(),
            dies: false,
            notify: None,
        };
        steps.push(Timed { at_ms, step });
    }
    steps.sort_by_key(|timed| timed.at_ms);
}

/// Listens until it is dropped, freely when the faults have ended.
pub(crate) async fn run(net: Rc<Net>, number: usize, about: Listener, faults_ms: u64) {
    let node = Node::Listener(number);
    let observe = |hears| {
        let listener = number;
        net.observe(Seen::Bus { listener, hears });
    };
    loop {
        if let Ok(wire) = net.within(PATIENCE_MS, open(&net, node)).await {
            observe(Hears::Begins);
            let ended = listen(&net, wire, about, faults_ms, &observe).await;
            if ended.kind() == io::ErrorKind::InvalidData {
                let what = ended.to_string();
                net.observe(Seen::Garbled { conn: None, what });
            }
            observe(Hears::Ends);
        }
        net.sleep_ms(net.draw(node, WAIT_MAX_MS)).await;
    }
}

async fn open(net: &Net, node: Node) -> io::Result<Wire> {
    let head = format!(
        "GET /v1/bus?types=* HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {API_KEY}\r\n",
    );
    let mut wire = Wire::new(net.connect(node).await?);
    match wire.request(&head, "").await?.status {
        101 => Ok(wire),
        _ => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

/// Why it ended.
async fn listen(
    net: &Net,
    mut wire: Wire,
    about: Listener,
    faults_ms: u64,
    observe: &impl Fn(Hears),
) -> io::Error {
    loop {
        let frame = net.within(SILENCE_MS, wire.frame()).await;
        let heard = match frame {
            Ok(Frame::Text(text)) => match serde_json::from_str::<Value>(&text) {
                Ok(frame) => {
                    observe(Hears::Frame(frame));
                    Ok(())
                }
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            },
            Ok(Frame::Ping(content)) => net.within(PATIENCE_MS, wire.pong(&content)).await,
            Ok(Frame::Close(_)) => Err(io::ErrorKind::ConnectionReset.into()),
            Err(error) => Err(error),
        };
        if let Err(error) = heard {
            return error;
        }
        if about.every_ms > 0 && net.now().as_millis() < faults_ms {
            net.sleep_ms(about.every_ms).await;
        }
    }
}
