//! Fiedler as its clients see it, over providers that speak the real formats and play every kind of trouble.

mod asking;
mod bounds;
mod clients;
mod command_line;
mod hall;
mod keyring;
mod keys;
mod progress;
mod settings;
mod socket;
mod streamable_http;
