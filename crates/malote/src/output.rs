//! Where everything goes that a command says: data to stdout, all else to stderr.

use std::io::{self, Write};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// What a command runs in: its two outputs, and the wish that it ends.
pub struct Shell {
    out: Pipe,
    err: Pipe,
    terminal: bool,
    stop: CancellationToken,
}

/// An output that may be closed from the other end, by `head` for instance, which is nobody's mistake.
struct Pipe {
    writer: Box<dyn Write + Send + Sync>,
    closed: bool,
}

impl Pipe {
    fn line(&mut self, text: &str) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        // One write a line, so that lines of several writers do not mix.
        let written = self.writer.write_all(format!("{text}\n").as_bytes());
        match written.and_then(|()| self.writer.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            written => written,
        }
    }
}

impl Shell {
    /// A shell over two writers; `terminal` says whether a person watches the second one.
    pub fn new(
        out: impl Write + Send + Sync + 'static,
        err: impl Write + Send + Sync + 'static,
        terminal: bool,
        stop: CancellationToken,
    ) -> Self {
        let pipe = |writer| Pipe { writer, closed: false };
        Self { out: pipe(Box::new(out)), err: pipe(Box::new(err)), terminal, stop }
    }

    /// A line of data.
    ///
    /// # Errors
    /// When it cannot be written, though somebody still reads; the same holds for the others.
    pub fn data(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.out.line(text.as_ref())
    }

    /// A line of data as JSON.
    ///
    /// # Errors
    /// See [`Shell::data`].
    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.out.line(&serde_json::to_string(value)?)
    }

    /// A line for the person who watches.
    ///
    /// # Errors
    /// See [`Shell::data`].
    pub fn tell(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        self.err.line(text.as_ref())
    }

    /// Whether a person watches, and bars that move make sense.
    pub const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Fires when the command is to end.
    pub const fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Whether nobody reads the data any more.
    pub const fn is_closed(&self) -> bool {
        self.out.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_mistake_and_a_full_disk_is() {
        let mut shell = Shell::new(Closed, Full, false, CancellationToken::new());
        shell.data("one").unwrap();
        assert!(shell.is_closed());
        shell.json(&1).unwrap();
        assert_eq!(shell.tell("two").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
