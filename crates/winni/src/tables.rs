//! What the lake's logic asks of a database: questions and changes in its own terms, each answered by a backend with SQL
//! of its own. Threading, keeping bodies and reading them back are written once, over these traits.
//!
//! Numbers (`i64`) name rows within one tenant. An epoch's blocks, packs and manifests refer to no other epoch, so that a
//! backend may keep them apart and drop them together.

mod rows;

use uuid::Uuid;

use crate::content::manifest::BlockHash;
use crate::content::pack::Piece;
use crate::conversation::identity::Chain;
use crate::conversation::threading::Known;
use crate::model::{CapturedFrame, Timestamp};
use crate::store::{Result, Watermark};
pub(crate) use rows::{
    ConnectionRow, ContentRow, Form, FoundFrame, FrameContent, Held, Location, MessageRow, NewExchange, NewFrame,
    NewLine, NewTurn, Owner, RowSizes, Source,
};

/// Reading what was kept.
pub(crate) trait Content {
    fn content_row(&self, exchange: i64) -> Result<Option<ContentRow>>;

    fn locate(&self, epoch: i32, hash: &BlockHash) -> Result<Option<Location>>;

    /// Hands over the pieces of a pack, in order.
    fn pieces(&self, epoch: i32, pack: i64, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;

    /// The content of a message that was handed in, packed.
    fn stored_content(&self, id: i64) -> Result<Vec<u8>>;

    /// Where a turn is held, if it is the assistant's.
    fn assistant_turn(&self, conversation: i64, turn: u64) -> Result<Option<Held>>;

    /// Where the assistant's last turn before this one is held.
    fn assistant_before(&self, conversation: i64, turn: u64) -> Result<Option<Held>>;

    /// These exchanges' content columns will be asked for. A backend for which each question costs a journey gets them,
    /// and those that they stand on, at once.
    fn expect_content(&self, _exchanges: &[i64]) -> Result<()> {
        Ok(())
    }

    /// The contents of these messages that were handed in will be asked for.
    fn expect_stored(&self, _ids: &[i64]) -> Result<()> {
        Ok(())
    }

    /// These blocks will be looked for.
    fn expect_blocks(&self, _epoch: i32, _hashes: &[BlockHash]) -> Result<()> {
        Ok(())
    }
}

/// Reading a conversation's line.
pub(crate) trait Lines: Content {
    /// The conversation that this one forked from, and the last turn that both share.
    fn fork_of(&self, conversation: i64) -> Result<Option<(i64, u64)>>;

    /// The first turn that the conversation holds itself.
    fn first_turn(&self, conversation: i64) -> Result<Option<u64>>;

    /// The conversation's own messages with turns in `after + 1 ..= last`, in order.
    fn messages(&self, conversation: i64, after: u64, last: u64) -> Result<Vec<MessageRow>>;
}

/// Reading messages of connections.
pub(crate) trait Frames: Content {
    fn frame_content(&self, row: i64) -> Result<FrameContent>;

    /// The requests that serve a model's tool call, in order.
    fn asked(&self, tool_use: &str) -> Result<Vec<FoundFrame>>;

    /// The answer to a request.
    fn answered(&self, request: &FoundFrame) -> Result<Option<FoundFrame>>;
}

/// What an exchange is about to ask for, told ahead.
pub(crate) struct Expected<'a> {
    pub(crate) session: Option<i64>,
    pub(crate) agent: Option<&'a str>,
    /// The last steps of its history: how many messages it has up to there, and their chain.
    pub(crate) steps: Vec<(u64, Chain)>,
    /// Blocks that are not remembered.
    pub(crate) blocks: &'a [BlockHash],
}

/// Adding packs and blocks, within a transaction of the tenant's only writer.
pub(crate) trait Packing: Content {
    fn row_sizes(&self) -> RowSizes;

    fn next_pack(&self, epoch: i32) -> Result<i64>;

    fn insert_piece(&self, epoch: i32, pack: i64, piece: Piece) -> Result<()>;

    /// Says where a block stands, whether or not it stood elsewhere before.
    fn put_block(&self, epoch: i32, hash: &BlockHash, at: Location) -> Result<()>;
}

/// Adding messages of connections, within a transaction of the tenant's only writer.
pub(crate) trait FrameIngest: Packing {
    fn connection(&self, uuid: Uuid) -> Result<Option<ConnectionRow>>;

    fn add_connection(&self, frame: &CapturedFrame, server: i64, session: Option<i64>) -> Result<i64>;

    fn give_connection(&self, connection: i64, session: Option<i64>) -> Result<()>;

    /// The newest request of the connection's other side with this id.
    fn owner_of_request(&self, connection: i64, direction: i64, id: &str) -> Result<Option<Owner>>;

    /// Session and conversation of a model's tool call.
    fn owner_of_tool_use(&self, tool_use: &str) -> Result<Option<(i64, i64)>>;

    /// Remembers a model's tool call, and gives its owner to messages and connections that were there first; whether it is
    /// new.
    fn note_tool_use(&self, id: &str, session: i64, conversation: i64) -> Result<bool>;

    fn insert_frame(&self, new: &NewFrame<'_>) -> Result<()>;
}

/// Adding to the record, within a transaction of the tenant's only writer.
pub(crate) trait Ingest: FrameIngest {
    /// The epoch of what happened then.
    fn epoch_of(&self, at: Timestamp) -> Result<i32>;

    /// How often something was erased: what is remembered of blocks and manifests holds until it changes.
    fn erasures(&self) -> Result<i64>;

    /// The recorder's number; it is created if it is new.
    fn recorder(&self, uuid: Uuid) -> Result<i64>;

    /// Which of these places of its sequence are taken.
    fn held(&self, recorder: i64, seqs: &[u64]) -> Result<Vec<u64>>;

    fn begin_life(&self, recorder: i64, at: Timestamp, about: &str) -> Result<()>;

    fn end_life(&self, recorder: i64, at: Option<Timestamp>, orderly: bool) -> Result<()>;

    /// Takes a place of the sequence. `kind`: 0 life begin, 1 exchange, 2 gap, 3 life end.
    fn add_record(&self, recorder: i64, seq: u64, kind: i64, detail: Option<&[u8]>) -> Result<()>;

    /// Moves the recorder's `contiguous` over what has become gap-free.
    fn advance(&self, recorder: i64) -> Result<Watermark>;

    /// Adds to the tenant's totals.
    fn count(&self, captured: u64, stored: u64) -> Result<()>;

    fn count_unrecorded(&self, exchanges: u64) -> Result<()>;

    /// Told before the places of histories of one epoch are looked for. A backend for which each question costs a journey
    /// asks for all of them at once.
    fn expect(&self, _epoch: i32, _expected: &[Expected<'_>]) -> Result<()> {
        Ok(())
    }

    /// The session's number; it is created if it is new. `derived`: the client named none.
    fn session(&self, name: &str, derived: bool) -> Result<i64>;

    /// The session's (and agent's) conversations whose history up to this turn is this one. Asked by session first: a
    /// prompt that is common may open any number of conversations in other sessions.
    fn known_in_session(&self, session: i64, agent: Option<&str>, turn: u64, chain: &Chain) -> Result<Vec<Known>>;

    /// The newest (16 at most) conversations without an agent of other sessions that hold this history. They are local if
    /// no session is given and theirs was not named by a client either.
    fn known_elsewhere(&self, session: Option<i64>, chain: &Chain) -> Result<Vec<Known>>;

    fn create_line(&self, new: &NewLine) -> Result<i64>;

    /// Makes `turns` the end of the conversation; what it had from the first of them on (an answer that broke off) gives
    /// way, in the full-text index too.
    fn add_turns(&self, conversation: i64, exchange: i64, turns: &[NewTurn], at: Timestamp) -> Result<()>;

    /// The chain and wholeness of one turn held by the conversation itself.
    fn turn(&self, conversation: i64, turn: u64) -> Result<Option<(Chain, bool)>>;

    fn session_of(&self, conversation: i64) -> Result<i64>;

    /// The session's captured conversations that no agent id was given for, newest first: number and last turn.
    fn main_lines(&self, session: i64, limit: u64) -> Result<Vec<(i64, u64)>>;

    /// The newest conversation of an agent in a session.
    fn of_agent(&self, session: i64, agent: &str) -> Result<Option<i64>>;

    /// The session's title, which the first messages of its main lines are indexed with.
    fn set_session_title(&self, session: i64, title: &str) -> Result<()>;

    /// Remembers the first project folder that the session named.
    fn set_project(&self, session: i64, folder: &str) -> Result<()>;

    fn set_summary_at(&self, session: i64, at: Option<Timestamp>) -> Result<()>;

    fn summary_at(&self, session: i64) -> Result<Option<Timestamp>>;

    /// The number of a text that many rows share.
    fn name(&self, text: &str) -> Result<i64>;

    /// The newest exchange of the conversation, or of the one that it forked from, whose request is kept as a manifest.
    fn newest_manifest(&self, conversation: i64) -> Result<Option<i64>>;

    fn insert_exchange(&self, new: &NewExchange<'_>) -> Result<i64>;
}

/// Taking content out of the record, within a transaction of the tenant's only writer.
pub(crate) trait Erasing: Packing {
    /// Other exchanges whose manifests are written relative to this one's.
    fn dependents(&self, exchange: i64) -> Result<Vec<i64>>;

    /// Replaces the manifest by one that stands on no other.
    fn set_manifest(&self, exchange: i64, data: &[u8]) -> Result<()>;

    /// The exchanges of an epoch that are not erased, in order.
    fn living_exchanges(&self, epoch: i32) -> Result<Vec<i64>>;

    /// The blocks in these packs, in the order in which they stand.
    fn blocks_in(&self, epoch: i32, packs: &[i64]) -> Result<Vec<(BlockHash, Location)>>;

    fn move_envelope(&self, exchange: i64, at: Location) -> Result<()>;

    /// The contents of messages of connections that are not erased: of one conversation's tool calls, or of a whole epoch.
    fn frame_contents(&self, of: FramesOf) -> Result<Vec<FrameContent>>;

    fn move_frame(&self, row: i64, at: Location) -> Result<()>;

    /// Removes packs, and these blocks, which are all that stood in them.
    fn delete_packs(&self, epoch: i32, packs: &[i64], blocks: &[BlockHash]) -> Result<()>;
}

/// Which messages of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FramesOf {
    Conversation(i64),
    Epoch(i32),
}
