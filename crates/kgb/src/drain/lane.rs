//! One recorder's spool on its way into the store.
//!
//! A lane reads ahead of the store by one batch at most. It knows which items the store holds (its own word, the last
//! [`Watermark`]), and lets go of a segment only when every item that has a record in it is stored or put aside.
//!
//! Everything here blocks; the drain calls it on a blocking thread.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use spool::recovery::Adopted;
use spool::{Kind, Position, Reader, Spool};
use uuid::Uuid;
use winni::model::{Batch, Item};
use winni::store::Watermark;

use super::quarantine;
use crate::assemble::{Assembled, Assembler, Unreadable};

/// A batch holds this many items at most …
const BATCH_ITEMS: usize = 64;
/// … and about this many bytes, unless a single item is larger.
const BATCH_BYTES: u64 = 8 << 20;
/// With so many items that the store does not take, it is not the items.
const SUSPECTS: usize = 64;

/// Whose spool it is.
pub(super) enum Origin {
    /// This process's; more may come.
    Own(Spool),
    /// A dead recorder's; it is whole.
    Adopted(Adopted),
}

/// An item that the store has refused by itself.
struct Suspect {
    item: Assembled,
    /// How many batches the store had taken when it refused this one.
    refused_at: u64,
}

/// What is being handed to the store.
pub(super) struct Attempt {
    pub(super) batch: Batch,
    pub(super) seqs: Vec<u64>,
}

/// What follows from a refusal.
pub(super) enum Refused {
    /// The other items are tried before anything is concluded.
    OthersFirst,
    /// A suspect was refused again, but so is everything else: it may be the store.
    Undecided,
    /// A suspect was refused again, and the store has taken something else in between.
    Condemned,
}

pub(super) struct Lane {
    origin: Origin,
    recorder: Uuid,
    reader: Reader,
    assembler: Assembler,
    /// Complete, not stored yet, in the order of their ends.
    ready: VecDeque<Assembled>,
    suspects: VecDeque<Suspect>,
    /// What the store said last.
    stored: Watermark,
    /// Put aside in the quarantine.
    aside: BTreeSet<u64>,
    /// So many items are still to be tried one by one, because their batch was refused.
    singly: usize,
    /// Whether something could not be read; then nothing is deleted, and the folder is kept in the quarantine.
    damaged: bool,
    life_ended: bool,
    /// Whether the last reading went to the end of what there was.
    read_all: bool,
    /// Whether the store has said what it holds, since it last failed to answer.
    pub(super) knows_store: bool,
    /// Whether the attempt that is under way is the first suspect's.
    trying_suspect: bool,
}

impl Lane {
    pub(super) fn own(spool: &Spool) -> Self {
        let reader = Reader::follow(spool);
        Self::new(Origin::Own(spool.clone()), spool.recorder().0, reader)
    }

    pub(super) fn adopted(adopted: Adopted) -> spool::Result<Self> {
        let reader = adopted.reader()?;
        let damaged = !adopted.recovered().damage.is_empty();
        let recorder = adopted.recorder().0;
        let mut lane = Self::new(Origin::Adopted(adopted), recorder, reader);
        lane.damaged = damaged;
        Ok(lane)
    }

    fn new(origin: Origin, recorder: Uuid, reader: Reader) -> Self {
        Self {
            origin,
            recorder,
            reader,
            assembler: Assembler::default(),
            ready: VecDeque::new(),
            suspects: VecDeque::new(),
            stored: Watermark::default(),
            aside: BTreeSet::new(),
            singly: 0,
            damaged: false,
            life_ended: false,
            read_all: false,
            knows_store: false,
            trying_suspect: false,
        }
    }

    pub(super) fn recorder(&self) -> Uuid {
        self.recorder
    }

    /// Everything before this has been read.
    pub(super) fn position(&self) -> Position {
        self.reader.position()
    }

    /// Whether all that there was is stored, as far as this lane knows.
    pub(super) fn is_caught_up(&self) -> bool {
        self.read_all && self.ready.is_empty() && self.suspects.is_empty()
    }

    /// Items that have been read and are not stored.
    pub(super) fn pending_items(&self) -> u64 {
        (self.ready.len() + self.suspects.len()) as u64
    }

    /// Their bytes.
    pub(super) fn pending_bytes(&self) -> u64 {
        let suspects = self.suspects.iter().map(|suspect| &suspect.item);
        self.ready.iter().chain(suspects).map(|item| item.bytes).sum()
    }

    /// Whether nothing will come any more and everything that came is stored or put aside.
    pub(super) fn is_finished(&self) -> bool {
        let all_read = match self.origin {
            Origin::Own(_) => self.life_ended,
            Origin::Adopted(_) => self.life_ended && self.assembler.running() == 0,
        };
        all_read && self.ready.is_empty() && self.suspects.is_empty()
    }

    /// Reads on until there is enough for a batch, or nothing more for now.
    pub(super) fn read_on(&mut self) -> spool::Result<()> {
        let mut bytes: u64 = self.ready.iter().map(|item| item.bytes).sum();
        self.read_all = false;
        while self.ready.len() < BATCH_ITEMS && bytes < BATCH_BYTES && self.suspects.len() < SUSPECTS {
            let record = match self.reader.next() {
                Ok(Some(record)) => record,
                Ok(None) => {
                    self.read_all = true;
                    return Ok(());
                }
                Err(error @ spool::Error::Damaged { .. }) => {
                    tracing::error!(recorder = %self.recorder, %error, "records are lost here; the folder will be kept");
                    self.assembler.damaged();
                    self.damaged = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.life_ended |= matches!(record.kind, Kind::LifeEnd { .. });
            if self.stored.covers(record.seq) || self.aside.contains(&record.seq) {
                continue;
            }
            if let Some(item) = self.assembler.add(&record)
                && (self.damaged || !item.is_headless())
            {
                bytes += item.bytes;
                self.ready.push_back(item);
            }
        }
        Ok(())
    }

    /// What to hand to the store next: a batch, or else a suspect once more. `Err`: it cannot be read.
    pub(super) fn next_attempt(&mut self, batches_taken: u64) -> Option<Result<Attempt, Unreadable>> {
        let due = self.suspects.front().is_some_and(|suspect| {
            // The store has taken something since: now it is down to the item. Or nothing else is left to try.
            batches_taken > suspect.refused_at || self.ready.is_empty()
        });
        self.trying_suspect = due;
        if due { self.suspect_attempt() } else { self.batch() }
    }

    fn batch(&self) -> Option<Result<Attempt, Unreadable>> {
        let most = if self.singly > 0 { 1 } else { BATCH_ITEMS };
        let (mut items, mut seqs, mut bytes) = (Vec::new(), Vec::new(), 0);
        for ready in self.ready.iter().take(most) {
            if bytes > 0 && bytes + ready.bytes > BATCH_BYTES {
                break;
            }
            match ready.item(&self.reader) {
                Ok(item) => items.push((ready.seq, item)),
                Err(_) if !items.is_empty() => break,
                Err(error) => return Some(Err(error)),
            }
            seqs.push(ready.seq);
            bytes += ready.bytes;
        }
        (!items.is_empty()).then(|| Ok(self.attempt_of(items, seqs)))
    }

    fn suspect_attempt(&self) -> Option<Result<Attempt, Unreadable>> {
        let suspect = self.suspects.front()?;
        let item = suspect.item.item(&self.reader);
        Some(item.map(|item| self.attempt_of(vec![(suspect.item.seq, item)], vec![suspect.item.seq])))
    }

    fn attempt_of(&self, items: Vec<(u64, Item)>, seqs: Vec<u64>) -> Attempt {
        Attempt { batch: Batch { recorder: self.recorder, items }, seqs }
    }

    /// The store has taken an attempt.
    pub(super) fn taken(&mut self, attempt: &[u64], watermark: Watermark) {
        self.singly = self.singly.saturating_sub(attempt.len());
        self.ready.retain(|item| !attempt.contains(&item.seq));
        self.suspects.retain(|suspect| !attempt.contains(&suspect.item.seq));
        self.believe(watermark);
    }

    /// The store says what it holds. If that is less than it held before (somebody deleted the database), everything that
    /// the spool still has is read again.
    pub(super) fn believe(&mut self, watermark: Watermark) {
        let kept = |seq: &u64| watermark.covers(*seq);
        let lost = watermark.contiguous < self.stored.contiguous && !self.covers_below(&watermark)
            || !self.stored.beyond.iter().all(kept);
        self.stored = watermark;
        self.knows_store = true;
        if lost && let Err(error) = self.start_over() {
            tracing::warn!(recorder = %self.recorder, %error, "cannot read the spool from its beginning");
        }
    }

    fn covers_below(&self, watermark: &Watermark) -> bool {
        (watermark.contiguous..self.stored.contiguous).all(|seq| watermark.covers(seq))
    }

    fn start_over(&mut self) -> spool::Result<()> {
        tracing::warn!(recorder = %self.recorder, "the database has lost items; the spool is read again from its beginning");
        self.assembler = Assembler::default();
        self.ready.clear();
        self.suspects.clear();
        self.singly = 0;
        self.life_ended = false;
        self.reader.rewind()
    }

    /// The attempt was refused because of what is in it. Its items are tried one by one, and an item that is refused by
    /// itself becomes a suspect and lets the others pass.
    pub(super) fn refused(&mut self, attempt: &[u64], batches_taken: u64) -> Refused {
        if self.trying_suspect {
            if self.suspects.front().is_some_and(|suspect| batches_taken > suspect.refused_at) {
                return Refused::Condemned;
            }
            self.suspects.rotate_left(usize::from(!self.suspects.is_empty()));
            return Refused::Undecided;
        }
        if attempt.len() > 1 {
            self.singly = attempt.len();
        } else if let Some(item) = self.ready.pop_front() {
            self.singly = self.singly.saturating_sub(1);
            self.suspects.push_back(Suspect { item, refused_at: batches_taken });
        }
        Refused::OthersFirst
    }

    /// The first suspect is put aside: the store takes others, and not this one.
    pub(super) fn condemn(&mut self, quarantine: &Path, why: &str) -> std::io::Result<()> {
        let Some(suspect) = self.suspects.front() else { return Ok(()) };
        let aside = quarantine::put_aside(quarantine, self.recorder, &suspect.item, &self.reader)?;
        // What could not be read may be worth more to its owner than the room it takes: nothing of this folder goes.
        self.damaged |= !aside.is_whole;
        let seq = suspect.item.seq;
        tracing::error!(
            recorder = %self.recorder, seq, why, file = %aside.file.display(),
            "the database refuses this item; it is put aside, please report it together with the file"
        );
        self.aside.insert(seq);
        self.suspects.pop_front();
        Ok(())
    }

    /// Lets go of the segments whose items all are stored or put aside.
    pub(super) fn release(&self) -> spool::Result<()> {
        if self.damaged {
            return Ok(());
        }
        let waiting = self.ready.iter().chain(self.suspects.iter().map(|suspect| &suspect.item));
        let first = waiting.map(Assembled::first_segment).chain(self.assembler.first_segment());
        let first = first.min().unwrap_or(u64::MAX).min(self.reader.position().segment);
        match &self.origin {
            Origin::Own(spool) => spool.release_before(first),
            Origin::Adopted(adopted) => adopted.release_before(first),
        }
    }

    /// Deletes the folder of a lane that is finished, or keeps it in the quarantine if it is damaged.
    pub(super) fn remove(self, quarantine: &Path) -> Result<(), Arc<dyn std::error::Error + Send + Sync>> {
        if self.damaged {
            let dir = match &self.origin {
                Origin::Own(spool) => spool.dir(),
                Origin::Adopted(adopted) => adopted.dir(),
            };
            let kept = quarantine::put_folder_aside(quarantine, dir).map_err(boxed)?;
            tracing::error!(folder = %kept.display(), "a damaged spool folder is kept there; what was readable is stored");
            return Ok(());
        }
        match self.origin {
            Origin::Own(spool) => spool.remove().map_err(boxed),
            Origin::Adopted(adopted) => adopted.remove().map_err(boxed),
        }
    }
}

fn boxed(error: impl std::error::Error + Send + Sync + 'static) -> Arc<dyn std::error::Error + Send + Sync> {
    Arc::new(error)
}
