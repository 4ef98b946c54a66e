//! What an exchange means: which API it spoke, which session and conversation it belongs to, what was said.

pub(crate) mod identity;
pub(crate) mod message;
pub(crate) mod project;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod text;
pub(crate) mod threading;
