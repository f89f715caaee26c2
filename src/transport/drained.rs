//! A channel as a byte stream that is always read.
//!
//! The SSH library stops the whole connection, all channels and keepalives included, while one
//! channel's data is not taken. So a task takes it at once, and a consumer that falls far behind
//! loses its stream instead of stopping the others.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use russh::client::Msg;
use russh::{Channel, ChannelMsg};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// Bytes that may wait for a consumer before its stream is given up.
const BACKLOG: usize = 64 << 20;

pub(super) struct Drained {
    incoming: mpsc::UnboundedReceiver<Bytes>,
    current: Bytes,
    /// Bytes in `incoming`; above [`BACKLOG`] the stream is broken.
    waiting: Arc<AtomicUsize>,
    writer: Pin<Box<dyn AsyncWrite + Send>>,
}

impl Drained {
    pub(super) fn new(channel: Channel<Msg>) -> Self {
        let (mut read, write) = channel.split();
        // Unbounded in messages, bounded in bytes by `waiting`.
        let (sender, incoming) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&waiting);
        let writer = Box::pin(write.make_writer());
        tokio::spawn(async move {
            let mut open = true;
            loop {
                let message = tokio::select! {
                    message = read.wait() => message,
                    () = sender.closed() => break,
                };
                match message {
                    Some(ChannelMsg::Data { data }) if open => {
                        let before = count.fetch_add(data.len(), Ordering::Relaxed);
                        open = before <= BACKLOG && sender.send(data).is_ok();
                    }
                    Some(ChannelMsg::Eof) | None => break,
                    Some(_) => {}
                }
            }
            // The stream was dropped, or the other end is done.
            let _ = write.eof().await;
            let _ = write.close().await;
        });
        Drained { incoming, current: Bytes::new(), waiting, writer }
    }
}

impl AsyncRead for Drained {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            if self.waiting.load(Ordering::Relaxed) > BACKLOG {
                return Poll::Ready(Err(io::Error::other("the reader fell too far behind")));
            }
            match self.incoming.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(data)) => self.current = data,
            }
        }
        let length = buf.remaining().min(self.current.len());
        buf.put_slice(&self.current[..length]);
        self.current.advance(length);
        self.waiting.fetch_sub(length, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Drained {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // The library's writer rejects empty writes.
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.writer.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_shutdown(cx)
    }
}
