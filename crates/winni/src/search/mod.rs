//! Search, as far as it does not depend on a database.
//!
//! There is one tokenizer (`tokens`), one language (`query`), one view of what a message holds (`document`) and one
//! way to show a passage (`snippet`). A backend stores the documents' tokens as they are and renders a parsed query in
//! its own terms, so that all of them find the same messages.

pub(crate) mod document;
pub mod moment;
pub(crate) mod names;
pub(crate) mod query;
pub(crate) mod snippet;
pub(crate) mod tokens;

/// A search's matches are counted up to so many: who found more narrows the search, and counting takes time.
pub const MAX_COUNTED: u64 = 2_000;
