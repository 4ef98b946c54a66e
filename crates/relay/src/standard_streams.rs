//! Standard input and output without a thread in between, where they are pipes or sockets.
//!
//! Agents start their servers with pipes (or, Node.js, with socket pairs). Read through the event loop a message is here some
//! tens of microseconds earlier than through tokio's thread for blocking reads. Anything else (a terminal, a file) must not
//! be made non-blocking, because others share it, and is read the usual way.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::fs::{FileType, fstat};
use tokio::io::{AsyncBufRead, AsyncWrite, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

const READ_BUFFER_BYTES: usize = 64 * 1024;

type Reader = Box<dyn AsyncBufRead + Unpin + Send>;
type Writer = Box<dyn AsyncWrite + Unpin + Send>;

/// This process's standard input and output.
///
/// # Errors
///
/// When one of them is closed.
pub fn standard_streams() -> io::Result<(Reader, Writer)> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    Ok((reader(stdin)?, writer(stdout)?))
}

fn kind(descriptor: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(descriptor)?.st_mode))
}

fn reader(stdin: OwnedFd) -> io::Result<Reader> {
    Ok(match kind(&stdin)? {
        FileType::Fifo => Box::new(buffered(pipe::Receiver::from_owned_fd(stdin)?)),
        FileType::Socket => Box::new(buffered(socket(stdin)?)),
        _ => Box::new(buffered(tokio::io::stdin())),
    })
}

fn writer(stdout: OwnedFd) -> io::Result<Writer> {
    Ok(match kind(&stdout)? {
        FileType::Fifo => Box::new(pipe::Sender::from_owned_fd(stdout)?),
        FileType::Socket => Box::new(socket(stdout)?),
        _ => Box::new(tokio::io::stdout()),
    })
}

fn buffered<R: tokio::io::AsyncRead>(reader: R) -> BufReader<R> {
    BufReader::with_capacity(READ_BUFFER_BYTES, reader)
}

fn socket(descriptor: OwnedFd) -> io::Result<UnixStream> {
    let stream = StdUnixStream::from(descriptor);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
