//! The reading side of one WebSocket: bytes become inputs of the hub.
//!
//! tungstenite reads; the pongs that it writes go into the socket's control buffer and leave between two frames of
//! ours. Whatever breaks the protocol becomes a [`Fault`], so that the hub closes with its
//! code; from then on bytes are only thrown away, since a socket closed with bytes unread would be reset, and the
//! close frame with it.

use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use async_tungstenite::tungstenite::{Error as WsError, Message, error::ProtocolError};
use bytes::{Buf, Bytes};
use fanfare_core::{Fault, Input, sim_reached};
use futures::io::AsyncRead;

use crate::frames::FrameScan;
use crate::socket::{Phase, Socket};
use crate::writer::Chunk;
use crate::{Platform, Shard};

/// Bytes that are read at a time: client messages are small.
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

/// Reads a WebSocket to its end. Written by hand, since each connection holds it as long as it lives: what an `async` block is
/// given it holds twice.
pub(crate) struct Reader<P: Platform> {
    frames: Frames<P>,
    /// Bytes that are still thrown away, once nothing more is handed on.
    discards: Option<usize>,
}

impl<P: Platform> Reader<P> {
    pub(crate) const fn new(frames: Frames<P>) -> Self {
        Self {
            frames,
            discards: None,
        }
    }

    /// Hands on what comes until nothing more may be.
    fn poll_messages(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        for _ in 0..TURN {
            let step = ready!(poll_step(&mut self.frames, cx));
            let Wire { shard, socket, .. } = &self.frames.wire;
            match step {
                Step::Input(input) => {
                    shard.handle(input);
                    continue;
                }
                Step::Fault(fault) => shard.fault(socket, fault),
                Step::PeerCloses(code, answer) => shard.peer_closes(socket, code, answer),
                Step::WeClose => {
                    sim_reached!("client_speaks_after_our_close");
                }
                Step::Lost => return Poll::Ready(Ended::Lost),
            }
            return Poll::Ready(Ended::Closing);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Why a reader hands on nothing more.
enum Ended {
    Closing,
    Lost,
}

impl<P: Platform> Future for Reader<P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.discards.is_none() {
            let ended = ready!(self.poll_messages(cx));
            self.frames.context = None;
            if matches!(ended, Ended::Lost) {
                let Wire { shard, socket, .. } = &self.frames.wire;
                shard.lost(socket);
                return Poll::Ready(());
            }
        }
        let Self { frames, discards } = &mut *self;
        let Wire { shard, socket, .. } = &frames.wire;
        // Otherwise one who sends a lot would be dropped before it.
        ready!(shard.poll_goodbye(socket.conn, cx));
        let left = discards.get_or_insert(DISCARD_MAX);
        if ready!(poll_discard(&mut &**socket, left, cx)) {
            shard.ended(socket);
        } else {
            shard.lost(socket);
        }
        Poll::Ready(())
    }
}

fn poll_step<P: Platform>(frames: &mut Frames<P>, cx: &mut Context<'_>) -> Poll<Step> {
    let Wire { shard, socket, .. } = &frames.wire;
    if socket.phase.get() != Phase::Open {
        return Poll::Ready(Step::WeClose);
    }
    // Until then, what the client sends stays in its socket. Its silence counts meanwhile, as always.
    ready!(shard.poll_takes(socket.conn, cx));
    let item = frames.poll_message(cx);
    let Wire { shard, socket, .. } = &frames.wire;
    let Poll::Ready(item) = item else {
        if frames.wire.scan.is_within() {
            sim_reached!("message_in_pieces");
            shard.watch_message(socket);
        } else {
            socket.message_since.set(None);
        }
        return Poll::Pending;
    };
    let conn = socket.conn;
    Poll::Ready(match item {
        Ok(Message::Text(text)) => {
            socket.message_since.set(None);
            shard.count(|counters| counters.messages_read += 1);
            let text = text.as_str().to_owned();
            Step::Input(Input::Message { conn, text })
        }
        Ok(Message::Ping(_)) => Step::Input(Input::Ping { conn }),
        Ok(Message::Pong(_)) => Step::Input(Input::Pong { conn }),
        // tungstenite's own answer would have to wait for room, so it is not asked for it; a code that may not stand
        // in a close frame it has replaced by 1002.
        Ok(Message::Close(Some(frame))) => {
            sim_reached!("client_closes");
            let code = frame.code.into();
            Step::PeerCloses(Some(code), Chunk::close(code, &frame.reason))
        }
        Ok(Message::Close(None)) => Step::PeerCloses(None, Chunk::close_without_code()),
        Ok(Message::Binary(_) | Message::Frame(_)) => {
            sim_reached!("frame_not_text");
            Step::Fault(Fault::NotText)
        }
        Err(_) if frames.wire.violated => {
            sim_reached!("too_many_fragments");
            Step::Fault(Fault::Policy)
        }
        Err(error) => fault(&error).map_or(Step::Lost, Step::Fault),
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
pub(crate) async fn discard<S: AsyncRead + Unpin>(stream: &mut S, max: usize) -> bool {
    let mut left = max;
    poll_fn(|cx| poll_discard(stream, &mut left, cx)).await
}

/// Others have their turn in between: the writer above all, whose close frame goes out while the client still sends.
fn poll_discard<S: AsyncRead + Unpin>(
    stream: &mut S,
    left: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<bool> {
    for _ in 0..TURN {
        match ready!(Pin::new(&mut *stream).poll_read(cx, &mut [0; 4_096])) {
            Ok(0) => return Poll::Ready(true),
            Ok(read) if read <= *left => *left -= read,
            Ok(_) | Err(_) => return Poll::Ready(false),
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// The messages of one client. While none is under way it holds no buffer: an idle connection is what most are.
pub(crate) struct Frames<P: Platform> {
    wire: Wire<P>,
    message_bytes: usize,
    /// tungstenite, from the first bytes of a message until its last ones were handed on.
    context: Option<Box<WebSocketContext>>,
}

impl<P: Platform> Frames<P> {
    /// Those that come over `socket`, of which `read` has been read already.
    pub(crate) const fn new(
        shard: Shard<P>,
        socket: Rc<Socket<P::Stream>>,
        read: Bytes,
        fragments_max: usize,
        message_bytes: usize,
    ) -> Self {
        let wire = Wire {
            shard,
            socket,
            read,
            scan: FrameScan::new(fragments_max),
            violated: false,
        };
        Self {
            wire,
            message_bytes,
            context: None,
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, WsError>> {
        if self.context.is_none() && self.wire.read.is_empty() {
            ready!(self.wire.poll_fill(cx))?;
        }
        let message_bytes = self.message_bytes;
        let context = self
            .context
            .get_or_insert_with(|| Box::new(context(message_bytes)));
        let mut stream = Stream {
            wire: &mut self.wire,
            cx,
            is_blocked: false,
        };
        match context.read(&mut stream) {
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                // A control frame that has to wait is in there.
                if !stream.is_blocked && !self.wire.scan.is_within() {
                    self.context = None;
                }
                Poll::Pending
            }
            read => Poll::Ready(read),
        }
    }
}

fn context(message_bytes: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(CONTROL_MAX)
        .max_message_size(Some(message_bytes))
        .max_frame_size(Some(message_bytes));
    WebSocketContext::new(Role::Server, Some(config))
}

/// What a client sends, followed frame by frame.
struct Wire<P: Platform> {
    shard: Shard<P>,
    socket: Rc<Socket<P::Stream>>,
    /// What was read of the socket and not handed on yet.
    read: Bytes,
    scan: FrameScan,
    /// A message has more fragments than it may have.
    violated: bool,
}

impl<P: Platform> Wire<P> {
    /// Waits for bytes, in a buffer that is on the stack of this poll alone.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let buffer = &mut [0; READ_BUFFER];
        let read = ready!(Pin::new(&mut &*self.socket).poll_read(cx, buffer))?;
        if read == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.read = Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default());
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.violated {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let read = if self.read.is_empty() {
            ready!(Pin::new(&mut &*self.socket).poll_read(cx, buffer))?
        } else {
            let read = buffer.len().min(self.read.len());
            self.read
                .copy_to_slice(buffer.get_mut(..read).unwrap_or_default());
            if self.read.is_empty() {
                // An empty one would hold on to what it was cut from.
                self.read = Bytes::new();
            }
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

/// The stream as tungstenite sees it in one poll: it reads the socket, and writes into the socket's control buffer.
struct Stream<'w, 'c, P: Platform> {
    wire: &'w mut Wire<P>,
    cx: &'w mut Context<'c>,
    /// Whether a control frame has to wait.
    is_blocked: bool,
}

fn now_or_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<P: Platform> Read for Stream<'_, '_, P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        now_or_block(self.wire.poll_read(self.cx, buffer))
    }
}

impl<P: Platform> Write for Stream<'_, '_, P> {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        let taken = self.wire.socket.poll_control(self.cx, frames);
        self.is_blocked = taken.is_pending();
        if taken.is_ready() {
            self.wire.shard.queue(&self.wire.socket);
        }
        now_or_block(taken.map(Ok))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
