//! What a server says before it speaks SSH: lines of text, then its version (RFC 4253, 4.2). It is looked at as it comes by,
//! to say later what listened there.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shown;

/// Bytes that are kept of one line: as many as the protocol lets a version have. What is longer is cut.
const LINE_MAX: usize = 255;

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The first line that is no version.
    text: Option<String>,
    version: Option<String>,
}

impl Greeting {
    /// Takes what came. Nothing after the version is a greeting.
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.version.is_some() {
                return;
            }
            if *byte != b'\n' {
                if self.line.len() < LINE_MAX {
                    self.line.push(*byte);
                }
                continue;
            }
            let line = shown(&String::from_utf8_lossy(&self.line));
            if self.line.starts_with(b"SSH-") {
                self.version = Some(line);
            } else if !line.is_empty() {
                self.text.get_or_insert(line);
            }
            self.line.clear();
        }
    }

    /// Tells whether a version was said, and one of a protocol that is not ours: 1.99 is an old way to say 1 and 2.
    pub(super) fn is_foreign(&self) -> bool {
        self.version
            .as_deref()
            .is_some_and(|version| !version.starts_with("SSH-2.0-") && !version.starts_with("SSH-1.99-"))
    }

    /// Returns the version, or the first text where there is none, fit for a terminal; `None` when nothing was said.
    pub(super) fn said(&self) -> Option<String> {
        let begun = || {
            let text = shown(&String::from_utf8_lossy(&self.line));
            (!text.is_empty()).then_some(text)
        };
        self.version.clone().or_else(|| self.text.clone()).or_else(begun)
    }

    /// Tells whether the version was said.
    pub(super) const fn is_over(&self) -> bool {
        self.version.is_some()
    }
}

/// A connection whose greeting is looked at.
pub(super) struct Watched<S> {
    stream: S,
    greeting: Arc<Mutex<Greeting>>,
    over: bool,
}

impl<S> Watched<S> {
    pub(super) const fn new(stream: S, greeting: Arc<Mutex<Greeting>>) -> Self {
        Self { stream, greeting, over: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if !this.over
            && let Ok(mut greeting) = this.greeting.lock()
        {
            greeting.take(&buffer.filled()[before..]);
            this.over = greeting.is_over();
            if greeting.is_foreign() {
                // The client would take it for a line of text and wait for the version.
                return Poll::Ready(Err(io::Error::other("another version of the protocol")));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(parts: &[&[u8]]) -> Greeting {
        let mut greeting = Greeting::default();
        for part in parts {
            greeting.take(part);
        }
        greeting
    }

    #[test]
    fn the_version_is_found_however_it_comes_and_nothing_after_it() {
        let greeting = after(&[b"hello\r\nSS", b"H-2.0-x", b" y\r\nSSH-1.5-z\r\n\x00"]);
        assert_eq!(greeting.said().as_deref(), Some("SSH-2.0-x y"));
        assert!(greeting.is_over() && !greeting.is_foreign());
        assert!(!after(&[b"SSH-1.99-both\n"]).is_foreign());
        assert!(after(&[b"SSH-1.5-old\n"]).is_foreign());
        assert!(!after(&[b"SSH-1.5-ol"]).is_foreign());
    }

    #[test]
    fn what_is_no_version_is_said_cut_and_without_what_moves_a_cursor() {
        assert_eq!(after(&[]).said(), None);
        assert_eq!(after(&[b"\r\n\r\n"]).said(), None);
        assert_eq!(
            after(&[b"HTTP/1.1 400 Bad\r\nServer: x\r\n"]).said().as_deref(),
            Some("HTTP/1.1 400 Bad")
        );
        assert_eq!(after(&[b"\x1b[2J\x07pass", b"word: "]).said().as_deref(), Some("password:"));
        let greeting = after(&[&vec![b'x'; 1 << 20]]);
        assert!(greeting.line.len() == LINE_MAX && greeting.said().is_some_and(|said| said.len() < LINE_MAX));
    }
}
