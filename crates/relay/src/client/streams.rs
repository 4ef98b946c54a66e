//! The client's two streams, a line a message.
//!
//! Guaranteed: lines of any length; nothing but messages is written. What cannot be read in time stays with the client, and
//! what the client does not read holds up the backends that send it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Front;
use crate::link::stdio::line;
use crate::tap::{Direction, Observed, Tap};

/// Messages that the client has not read yet; with more the backends wait.
pub(crate) const OUTGOING_MESSAGES: usize = 64;

/// Reads to the end of the stream.
pub(crate) async fn read(front: &Front, mut reader: impl AsyncBufRead + Unpin) {
    let tap = front.hub.tap.clone();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match reader.read_until(b'\n', &mut bytes).await {
            Ok(1..) => {}
            Ok(0) => return,
            Err(error) => return tracing::debug!(%error, "the client's stream broke"),
        }
        let message = bytes.trim_ascii();
        if !message.is_empty() {
            show(tap.as_ref(), Direction::FromClient, message);
            front.line(message).await;
        }
        // A single large message must not hold its memory for ever.
        bytes.shrink_to(1 << 20);
    }
}

/// Writes until all senders are gone or the client is.
pub(crate) async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut messages: mpsc::Receiver<Bytes>,
    tap: Option<Arc<dyn Tap>>,
) {
    while let Some(message) = messages.recv().await {
        show(tap.as_ref(), Direction::ToClient, &message);
        let written = async {
            writer.write_all(&line(message)).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "the client does not read any more");
            return;
        }
    }
}

fn show(tap: Option<&Arc<dyn Tap>>, direction: Direction, bytes: &[u8]) {
    if let Some(tap) = tap {
        tap.message(&Observed { direction, backend: None, at: SystemTime::now(), instant: Instant::now(), bytes });
    }
}
