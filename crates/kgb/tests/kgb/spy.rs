//! The spy between a raw client and a scripted server, both plain sockets.

mod durability;
mod handshake;
pub(crate) mod rig;
mod streams;
mod transparency;
