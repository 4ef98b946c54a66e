//! From the spool's records to the items that the store takes.
//!
//! Guaranteed: memory holds where an exchange's bytes lie, never the bytes; items come in the order of their ends; an
//! exchange whose record has a hole (the spool was full, or is damaged) never comes out as `complete`.
//!
//! Refused: guessing. What does not decode is an [`Unreadable`], and it is the drain's to decide what becomes of it.

use std::collections::BTreeMap;

use spool::{Blob, Channel, Flags, Kind, Payload, Reader, Record};
use winni::model::{BodySource, CapturedExchange, CapturedFrame, ChunkTiming, Item, Outcome, Timestamp};
use wire::head::{HeadError, RequestHead, ResponseHead};

use crate::entry::{
    Begin, End, EntryError, Life, MESSAGE_BYTES, MessageBegin, Note, REQUEST_BODY, RESPONSE_BODY, RESPONSE_HEAD,
};

/// Why an item cannot be made of its records.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// A payload cannot be read from the spool.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// A payload does not decode.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A head does not decode.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The record that begins the item is missing.
    #[error("the record that begins it is missing")]
    NoBegin,
}

/// One record of an item: what it says and where its payload lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    pub(crate) payload: Payload,
    pub(crate) mono_ns: u64,
    unix_ns: u64,
    continued: bool,
}

/// An item all of whose records have been seen.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) seq: u64,
    /// Every record of it, in their order.
    pub(crate) pieces: Vec<Piece>,
    /// Bytes of its payloads.
    pub(crate) bytes: u64,
    /// The spool was damaged while it was running: records may be missing.
    holed: bool,
}

/// Items that are still running.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    running: BTreeMap<u64, Assembled>,
}

impl Assembler {
    /// Takes the next record; gives the item that it completes.
    pub(crate) fn add(&mut self, record: &Record) -> Option<Assembled> {
        let piece = Piece {
            kind: record.kind,
            payload: record.payload,
            mono_ns: record.mono_ns,
            unix_ns: record.unix_ns,
            continued: record.continued,
        };
        let new = || Assembled { seq: record.seq, pieces: Vec::new(), bytes: 0, holed: false };
        let mut item = self.running.remove(&record.seq).unwrap_or_else(new);
        item.pieces.push(piece);
        item.bytes += u64::from(record.payload.len);
        match record.kind {
            Kind::Begin | Kind::Part(_) => {
                self.running.insert(record.seq, item);
                None
            }
            Kind::LifeBegin | Kind::End { .. } | Kind::Note | Kind::LifeEnd { .. } => Some(item),
        }
    }

    /// The spool is damaged here: whatever is running may have lost records.
    pub(crate) fn damaged(&mut self) {
        self.running.values_mut().for_each(|item| item.holed = true);
    }

    /// How many items are running.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// The lowest segment that a running item has a record in.
    pub(crate) fn first_segment(&self) -> Option<u64> {
        self.running.values().map(Assembled::first_segment).min()
    }
}

impl Assembled {
    /// The lowest segment that it has a record in.
    pub(crate) fn first_segment(&self) -> u64 {
        self.pieces.first().map_or(u64::MAX, |piece| piece.payload.segment)
    }

    /// Whether the record that begins it is missing. Then it has been released, and the item is stored; or, in a damaged
    /// spool, it is lost.
    pub(crate) fn is_headless(&self) -> bool {
        let first = self.pieces.first().map(|piece| piece.kind);
        matches!(first, Some(Kind::Part(_) | Kind::End { .. }))
    }

    /// Reads its heads and makes the item; bodies are read later, from where they lie.
    pub(crate) fn item(&self, reader: &Reader) -> Result<Item, Unreadable> {
        let last = self.pieces.last().ok_or(Unreadable::NoBegin)?;
        match last.kind {
            Kind::LifeBegin => {
                let life = Life::decode(&reader.read(&last.payload)?)?;
                Ok(Item::LifeBegin { at: life.at, about: life.about })
            }
            Kind::Note => Ok(match Note::decode(&reader.read(&last.payload)?)? {
                Note::Gap(gap) => Item::Gap(gap),
                Note::Closed(closed) => Item::ConnectionEnd(closed),
            }),
            Kind::LifeEnd { flags } if flags.contains(Flags::RECOVERED) => {
                Ok(Item::LifeEnd { at: None, orderly: false })
            }
            Kind::LifeEnd { .. } => {
                Ok(Item::LifeEnd { at: Some(Life::decode(&reader.read(&last.payload)?)?.at), orderly: true })
            }
            Kind::End { flags } => self.ended(reader, last, flags),
            Kind::Begin | Kind::Part(_) => Err(Unreadable::NoBegin),
        }
    }

    /// An exchange or a message, as its Begin says.
    fn ended(&self, reader: &Reader, last: &Piece, flags: Flags) -> Result<Item, Unreadable> {
        let first = self.pieces.first().filter(|piece| piece.kind == Kind::Begin).ok_or(Unreadable::NoBegin)?;
        let begin = reader.read(&first.payload)?;
        let ending = self.ending(reader, last, flags)?;
        if MessageBegin::is_one(&begin) {
            return Ok(Item::Frame(Box::new(self.message(reader, MessageBegin::decode(&begin)?, ending))));
        }
        Ok(Item::Exchange(Box::new(self.exchange(reader, (first, last), Begin::decode(&begin)?, ending)?)))
    }

    fn message(&self, reader: &Reader, begin: MessageBegin, ending: (Outcome, Option<Timestamp>)) -> CapturedFrame {
        let (outcome, ended_at) = ending;
        CapturedFrame {
            id: begin.id,
            connection_id: begin.connection,
            at: begin.at,
            ended_at,
            durability: begin.durability,
            outcome,
            direction: begin.direction,
            source: begin.source,
            form: begin.form,
            server: begin.server,
            session_id: begin.session,
            body: self.body(reader, MESSAGE_BYTES),
        }
    }

    fn exchange(
        &self,
        reader: &Reader,
        (first, last): (&Piece, &Piece),
        begin: Begin,
        (outcome, ended_at): (Outcome, Option<Timestamp>),
    ) -> Result<CapturedExchange, Unreadable> {
        let response_head = self.response_head(reader)?;
        let answered = response_head.is_some() && outcome == Outcome::Complete;
        let first_byte = self.parts(RESPONSE_BODY).next().or(answered.then_some(last));
        Ok(CapturedExchange {
            id: begin.id,
            started_at: begin.at,
            first_byte_at: first_byte.map(|piece| begin.at.after(first.mono_ns, piece.mono_ns)),
            ended_at,
            durability: begin.durability,
            outcome,
            upstream: begin.upstream,
            server: begin.server,
            key_fingerprint: begin.key_fingerprint,
            request_head: RequestHead::decode(&begin.head)?,
            request_body: self.body(reader, REQUEST_BODY),
            response_head,
            response_body: self.body(reader, RESPONSE_BODY),
            response_chunks: self.chunks(first.mono_ns),
        })
    }

    /// How and when it ended. An end that the recorder did not write itself means that the recorder died; and what is
    /// not whole on record must not be told as complete, whatever the client saw.
    fn ending(&self, reader: &Reader, last: &Piece, flags: Flags) -> Result<(Outcome, Option<Timestamp>), Unreadable> {
        if flags.contains(Flags::RECOVERED) {
            return Ok((Outcome::RecorderCrashed, None));
        }
        if flags.contains(Flags::ABANDONED) {
            let at = i64::try_from(last.unix_ns / 1000).ok().map(Timestamp);
            return Ok((Outcome::RecorderCrashed, at));
        }
        let end = End::decode(&reader.read(&last.payload)?)?;
        let has_hole = self.holed || end.missing_bytes > 0;
        match end.outcome {
            Outcome::Complete if has_hole => Ok((Outcome::RecorderCrashed, Some(end.at))),
            outcome => Ok((outcome, Some(end.at))),
        }
    }

    fn response_head(&self, reader: &Reader) -> Result<Option<ResponseHead>, Unreadable> {
        let mut bytes = Vec::new();
        for piece in self.parts(RESPONSE_HEAD) {
            bytes.extend(reader.read(&piece.payload)?);
        }
        let head = (!bytes.is_empty()).then(|| ResponseHead::decode(&bytes));
        Ok(head.transpose()?)
    }

    fn parts(&self, channel: Channel) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().filter(move |piece| piece.kind == Kind::Part(channel))
    }

    fn body(&self, reader: &Reader, channel: Channel) -> Box<dyn BodySource> {
        let payloads: Vec<_> = self.parts(channel).map(|piece| piece.payload).collect();
        if payloads.is_empty() {
            return Box::new(Vec::new());
        }
        Box::new(SpooledBody(reader.blob(&payloads)))
    }

    /// The response's cadence. Parts that one append was split into are one chunk.
    fn chunks(&self, began_mono_ns: u64) -> Vec<ChunkTiming> {
        let mut chunks: Vec<ChunkTiming> = Vec::new();
        for piece in self.parts(RESPONSE_BODY) {
            let bytes = u64::from(piece.payload.len);
            match chunks.last_mut() {
                Some(chunk) if piece.continued => chunk.bytes += bytes,
                _ => chunks.push(ChunkTiming { after_us: piece.mono_ns.saturating_sub(began_mono_ns) / 1000, bytes }),
            }
        }
        chunks
    }
}

trait After {
    /// The wall clock at a later moment of the same life, from the monotonic clock: it may not run backwards.
    fn after(self, from_ns: u64, to_ns: u64) -> Timestamp;
}

impl After for Timestamp {
    fn after(self, from_ns: u64, to_ns: u64) -> Timestamp {
        let passed_us = i64::try_from(to_ns.saturating_sub(from_ns) / 1000).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(passed_us))
    }
}

/// A body that lies in the spool.
struct SpooledBody(Blob);

impl BodySource for SpooledBody {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, max: usize) -> std::io::Result<Vec<u8>> {
        self.0.read_at(offset, max)
    }
}
