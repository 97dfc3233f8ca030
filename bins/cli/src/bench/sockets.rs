//! Sockets that never wait.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

/// Connections from one address of this machine: it has no more ports for one server.
const OF_ONE_ADDRESS: u32 = 25_000;

/// Begins to connect, as the connection of this number. It can be written to when it is connected.
pub(crate) fn connect(to: SocketAddr, number: u32) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let (IpAddr::V4(ip), from @ 1..) = (to.ip(), number / OF_ONE_ADDRESS)
        && ip.is_loopback()
    {
        let from = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + from);
        socket.bind(&SocketAddr::from((from, 0)).into())?;
    }
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// What a read or write came to; `None` where it has to wait.
pub(crate) fn now(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
