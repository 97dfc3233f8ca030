//! The reading side of one WebSocket: bytes become inputs of the hub.
//!
//! tungstenite reads; the pongs that it writes go into the socket's control buffer and leave between two frames of
//! ours. Whatever breaks the protocol becomes a [`Fault`], so that the hub closes with its
//! code; from then on bytes are only thrown away, since a socket closed with bytes unread would be reset, and the
//! close frame with it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Error as WsError, Message, error::ProtocolError};
use bytes::{Buf, Bytes};
use fanfare_core::{Fault, Input, sim_reached};
use futures::Stream;
use futures::io::{AsyncRead, AsyncWrite};
use smol::future::yield_now;

use crate::frames::FrameScan;
use crate::socket::{Phase, Socket};
use crate::writer::Chunk;
use crate::{Platform, Shard};

/// Bytes that are read at a time, and that an idle connection holds: client messages are small, and waiting for one
/// must be cheap.
const READ_BUFFER: usize = 1 << 10;
/// Bytes of control frames inside tungstenite: two of the longest.
const CONTROL_MAX: usize = 2 * 131;
/// Messages handed on before others have their turn.
const TURN: u32 = 32;
/// Bytes of a closing client that are thrown away before it is dropped.
const DISCARD_MAX: usize = 1 << 20;

/// What a step of the reader came to.
enum Step {
    Input(Input),
    Fault(Fault),
    /// A close frame came, to be answered by this.
    PeerCloses(Option<u16>, Chunk),
    /// The stream ended or failed.
    Lost,
    /// We are closing: messages are of no interest any more.
    WeClose,
}

/// Reads a WebSocket to its end.
pub(crate) async fn read<P: Platform>(wire: Wire<P>, message_bytes: usize) {
    let (shard, socket) = (wire.shard.clone(), Rc::clone(&wire.socket));
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(CONTROL_MAX)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes));
    let mut frames = WebSocketStream::from_raw_socket(wire, Role::Server, Some(config)).await;
    for turn in 1_u32.. {
        match poll_fn(|cx| poll_step(&mut frames, &shard, &socket, cx)).await {
            Step::Input(input) => shard.handle(input),
            Step::Fault(fault) => {
                shard.fault(&socket, fault);
                break;
            }
            Step::PeerCloses(code, answer) => {
                shard.peer_closes(&socket, code, answer);
                break;
            }
            Step::WeClose => {
                sim_reached!("client_speaks_after_our_close");
                break;
            }
            Step::Lost => return shard.lost(&socket),
        }
        if turn % TURN == 0 {
            yield_now().await;
        }
    }
    drop(frames);
    if discard(&mut &*socket, DISCARD_MAX).await {
        shard.ended(&socket);
    } else {
        shard.lost(&socket);
    }
}

fn poll_step<P: Platform>(
    frames: &mut WebSocketStream<Wire<P>>,
    shard: &Shard<P>,
    socket: &Socket<P::Stream>,
    cx: &mut Context<'_>,
) -> Poll<Step> {
    if socket.phase.get() != Phase::Open {
        return Poll::Ready(Step::WeClose);
    }
    // Until then, what the client sends stays in its socket. Its silence counts meanwhile, as always.
    ready!(shard.poll_takes(socket.conn, cx));
    let Poll::Ready(item) = Pin::new(&mut *frames).poll_next(cx) else {
        if frames.get_ref().scan.is_within() {
            sim_reached!("message_in_pieces");
            shard.watch_message(socket);
        } else {
            socket.message_since.set(None);
        }
        return Poll::Pending;
    };
    let conn = socket.conn;
    Poll::Ready(match item {
        Some(Ok(Message::Text(text))) => {
            socket.message_since.set(None);
            shard.count(|counters| counters.messages_read += 1);
            let text = text.as_str().to_owned();
            Step::Input(Input::Message { conn, text })
        }
        Some(Ok(Message::Ping(_))) => Step::Input(Input::Ping { conn }),
        Some(Ok(Message::Pong(_))) => Step::Input(Input::Pong { conn }),
        // tungstenite's own answer would have to wait for room, so it is not asked for it; a code that may not stand
        // in a close frame it has replaced by 1002.
        Some(Ok(Message::Close(Some(frame)))) => {
            sim_reached!("client_closes");
            let code = frame.code.into();
            Step::PeerCloses(Some(code), Chunk::close(code, &frame.reason))
        }
        Some(Ok(Message::Close(None))) => Step::PeerCloses(None, Chunk::close_without_code()),
        Some(Ok(Message::Binary(_) | Message::Frame(_))) => {
            sim_reached!("frame_not_text");
            Step::Fault(Fault::NotText)
        }
        Some(Err(_)) if frames.get_ref().violated => {
            sim_reached!("too_many_fragments");
            Step::Fault(Fault::Policy)
        }
        Some(Err(error)) => fault(&error).map_or(Step::Lost, Step::Fault),
        None => Step::Lost,
    })
}

/// What an error of tungstenite's says about the client; nothing where the stream is at its end.
fn fault(error: &WsError) -> Option<Fault> {
    match error {
        WsError::Capacity(_) => {
            sim_reached!("message_too_big");
            Some(Fault::TooBig)
        }
        WsError::Utf8(_) => {
            sim_reached!("text_not_utf8");
            Some(Fault::NotUtf8)
        }
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | WsError::ConnectionClosed
        | WsError::AlreadyClosed
        | WsError::Io(_) => None,
        // The rest can't come of reading; were it to, the client would be told what is nearest.
        WsError::Protocol(_)
        | WsError::WriteBufferFull(_)
        | WsError::AttackAttempt
        | WsError::Tls(_)
        | WsError::Url(_)
        | WsError::Http(_)
        | WsError::HttpFormat(_) => {
            sim_reached!("frame_breaks_the_protocol");
            Some(Fault::Protocol)
        }
    }
}

/// Reads a stream to its end and throws away what comes. False where it fails, or more than `max` bytes come.
///
/// Others have their turn in between: the writer above all, whose close frame goes out while the client still sends.
pub(crate) async fn discard<S: AsyncRead + Unpin>(stream: &mut S, max: usize) -> bool {
    let mut left = max;
    for turn in 1_u32.. {
        // On the stack of a poll: across an await each connection would carry it for as long as it lives.
        let read = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut [0; 4_096]));
        match read.await {
            Ok(0) => return true,
            Ok(read) if read <= left => left -= read,
            Ok(_) | Err(_) => break,
        }
        if turn % TURN == 0 {
            yield_now().await;
        }
    }
    false
}

/// The stream as tungstenite sees it: it reads the socket, and writes into the socket's control buffer.
pub(crate) struct Wire<P: Platform> {
    shard: Shard<P>,
    socket: Rc<Socket<P::Stream>>,
    read: Bytes,
    scan: FrameScan,
    /// A message has more fragments than it may have.
    violated: bool,
}

impl<P: Platform> Unpin for Wire<P> {}

impl<P: Platform> Wire<P> {
    /// The stream of `socket`, of which `read` has been read already.
    pub(crate) const fn new(
        shard: Shard<P>,
        socket: Rc<Socket<P::Stream>>,
        read: Bytes,
        fragments_max: usize,
    ) -> Self {
        Self {
            shard,
            socket,
            read,
            scan: FrameScan::new(fragments_max),
            violated: false,
        }
    }
}

impl<P: Platform> AsyncRead for Wire<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.violated {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let read = if self.read.is_empty() {
            ready!(Pin::new(&mut &*self.socket).poll_read(cx, buffer))?
        } else {
            let read = buffer.len().min(self.read.len());
            self.read
                .copy_to_slice(buffer.get_mut(..read).unwrap_or_default());
            read
        };
        match self.scan.feed(buffer.get(..read).unwrap_or_default()) {
            Ok(()) => Poll::Ready(Ok(read)),
            // What came before is handed on first.
            Err(before) => {
                self.violated = true;
                match before {
                    0 => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                    before => Poll::Ready(Ok(before)),
                }
            }
        }
    }
}

impl<P: Platform> AsyncWrite for Wire<P> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        frames: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = ready!(self.socket.poll_control(cx, frames));
        self.shard.queue(&self.socket);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
