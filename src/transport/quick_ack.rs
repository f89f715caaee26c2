//! A TCP stream that acknowledges at once while a connection is young.
//!
//! sshd sets TCP_NODELAY with the first session only. Until then its Nagle algorithm holds a small
//! packet back until the one before is acknowledged, and our kernel delays acknowledgements by up
//! to 40 ms: the first result of a connection took 90 ms instead of 45. TCP_QUICKACK is not
//! permanent (tcp(7)), so it is set again after each read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Reads after which the delay may come back; handshake and login take about 20.
const YOUNG: u32 = 100;

pub(super) struct QuickAck {
    stream: TcpStream,
    reads: u32,
}

impl QuickAck {
    pub(super) fn new(stream: TcpStream) -> Self {
        QuickAck { stream, reads: 0 }
    }

    fn acknowledge(&mut self) {
        if self.reads < YOUNG {
            self.reads += 1;
            #[cfg(target_os = "linux")]
            let _ = rustix::net::sockopt::set_tcp_quickack(&self.stream, true);
        }
    }
}

impl AsyncRead for QuickAck {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.acknowledge();
        }
        polled
    }
}

impl AsyncWrite for QuickAck {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
