//! Bytes to and from the server, plain or over TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::io::{AsyncRead, AsyncWrite};
use smol::net::TcpStream;

use super::{Error, Server};

/// A connection of [`Native`](super::Native).
///
/// ```
/// use fanfare_websocket::client::{Native, Platform, Stream};
/// # async fn example() -> Result<(), fanfare_websocket::client::Error> {
/// let stream: Stream = Native::default().connect(&"http://127.0.0.1:8080".parse()?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Stream(Inner);

#[derive(Debug)]
enum Inner {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<futures_rustls::client::TlsStream<TcpStream>>),
}

impl Stream {
    /// Resolves the name, connects to the first address that answers, and does the TLS handshake where there is one.
    pub(crate) async fn connect(server: &Server) -> Result<Self, Error> {
        let unreachable = |source| Error::Unreachable {
            server: server.to_string(),
            source,
        };
        let tcp = TcpStream::connect((server.host.as_str(), server.port))
            .await
            .map_err(unreachable)?;
        // Frames are small and each is awaited by somebody. A socket that can't do this works all the same.
        let _ = tcp.set_nodelay(true);
        if server.tls {
            Self::encrypt(tcp, server).await
        } else {
            Ok(Self(Inner::Plain(tcp)))
        }
    }

    #[cfg(feature = "tls")]
    async fn encrypt(tcp: TcpStream, server: &Server) -> Result<Self, Error> {
        use std::sync::Arc;

        use futures_rustls::TlsConnector;
        use futures_rustls::rustls::crypto::ring;
        use futures_rustls::rustls::pki_types::ServerName;
        use futures_rustls::rustls::{ClientConfig, RootCertStore};

        let unreachable = |source| Error::Unreachable {
            server: server.to_string(),
            source,
        };
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(unreachable(io::Error::other(
                "this machine has no root certificates (package ca-certificates), so https can't be checked",
            )));
        }
        let name = ServerName::try_from(server.host.clone()).map_err(|_| Error::Address {
            why: "its host is no name that a certificate can be for",
        })?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unreachable(io::Error::other(error)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .map_err(unreachable)?;
        Ok(Self(Inner::Tls(Box::new(stream))))
    }

    #[cfg(not(feature = "tls"))]
    #[expect(
        clippy::unused_async,
        reason = "the same form as with the feature `tls`"
    )]
    async fn encrypt(_: TcpStream, _: &Server) -> Result<Self, Error> {
        Err(Error::Address {
            why: "https needs fanfare-websocket's feature `tls`, which this program was built without",
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Inner::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Inner::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Inner::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(feature = "tls")]
            Inner::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Plain(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "tls")]
            Inner::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Inner::Plain(stream) => Pin::new(stream).poll_close(cx),
            #[cfg(feature = "tls")]
            Inner::Tls(stream) => Pin::new(stream).poll_close(cx),
        }
    }
}
