//! WebSockets: carried byte for byte, every message on record before it is passed on.
//!
//! Guaranteed: the HTTP heads pass, and behind them every byte of both directions as it came, masks,
//! fragmentation, pings, close codes and violations of the protocol included; what one side's TCP shows (end, reset) the
//! other side's shows too. Each message is a record of its own, with its exact bytes, however large; memory does not grow
//! with it. Back-pressure goes through: nothing is read that is not passed on. A peer that is gone without a word is found
//! by TCP (after two minutes, or what [`Limits::peer_silence`](super::Limits::peer_silence) says), which changes nothing in the stream.
//!
//! Two things are not as on a direct connection. The offer of an extension (`permessage-deflate`) is taken out of the request, so
//! that what passes can be read; and the subprotocol `mcp` is answered when it was offered, whether the server does so or
//! not, because there are clients that hang up without it.
//!
//! Refused: reconnecting, queueing, repairing. A connection that breaks is the client's to open again.

mod handshake;
mod pump;
mod socket;
mod tap;
mod turn_away;

pub(super) use handshake::{Call, carry};
pub(super) use turn_away::turn_away;
