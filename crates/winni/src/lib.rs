//! Winni, the data lake: what was recorded, stored once, rebuilt exactly, found again.

pub mod model;
pub mod store;
