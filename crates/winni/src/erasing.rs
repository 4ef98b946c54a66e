//! Erasing content: what must stay is moved before the rest goes.
//!
//! Blocks are shared between conversations, packs between the conversations of a session, and manifests stand on earlier
//! ones. So manifests that stand on erased ones are written in full, and packs that hold both erased and living bytes are
//! written anew with the living ones. Which rows go, and who inherits turns that forks share, is the backend's to say.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::content::manifest::BlockHash;
use crate::ingest::packs::OpenPacks;
use crate::reading::BodyReader;
use crate::reading::blocks::BlockReader;
use crate::store::Result;
use crate::tables::{Erasing, Form, FrameContent, FramesOf, Location};

/// Exchanges whose columns are asked for together.
const TOGETHER: usize = 256;

/// Packs by epoch.
pub(crate) type Packs = BTreeMap<i32, BTreeSet<i64>>;

/// Writes in full the manifests of other exchanges that stand on one of these.
pub(crate) fn free_manifests(tables: &dyn Erasing, exchanges: &[i64]) -> Result<()> {
    let going: HashSet<i64> = exchanges.iter().copied().collect();
    let mut reader = BodyReader::new(tables);
    for &exchange in exchanges {
        for dependent in tables.dependents(exchange)?.into_iter().filter(|d| !going.contains(d)) {
            let Some((manifest, _)) = reader.manifest(dependent)? else {
                continue;
            };
            tables.set_manifest(dependent, &manifest.encode(None))?;
        }
    }
    Ok(())
}

/// The packs that hold bytes of these exchanges.
pub(crate) fn packs_of(tables: &dyn Erasing, exchanges: &[i64]) -> Result<Packs> {
    let mut bodies = BodyReader::new(tables);
    let mut packs = Packs::new();
    for exchanges in exchanges.chunks(TOGETHER) {
        tables.expect_content(exchanges)?;
        for &exchange in exchanges {
            let Some(content) = content_of(&mut bodies, exchange)? else { continue };
            let epoch_packs = packs.entry(content.epoch).or_default();
            epoch_packs.extend(content.envelope.map(|at| at.pack));
            for hash in content.blocks {
                epoch_packs.extend(bodies.blocks.locate(content.epoch, &hash)?.map(|at| at.pack));
            }
        }
    }
    Ok(packs)
}

/// Adds the packs that hold bytes of the messages which served a conversation's tool calls.
pub(crate) fn add_packs_of_frames(tables: &dyn Erasing, conversation: i64, packs: &mut Packs) -> Result<()> {
    for content in tables.frame_contents(FramesOf::Conversation(conversation))? {
        let epoch_packs = packs.entry(content.epoch).or_default();
        epoch_packs.extend(content.at.map(|at| at.pack));
        for hash in content.blocks() {
            epoch_packs.extend(tables.locate(content.epoch, &hash)?.map(|at| at.pack));
        }
    }
    Ok(())
}

/// Where an exchange's envelope is, and the blocks that its bodies need.
struct ContentOf {
    epoch: i32,
    envelope: Option<Location>,
    blocks: Vec<BlockHash>,
}

fn content_of(bodies: &mut BodyReader<'_>, exchange: i64) -> Result<Option<ContentOf>> {
    let Some(row) = bodies.row(exchange)? else {
        return Ok(None);
    };
    let mut blocks: Vec<BlockHash> =
        row.chunk_lists().flat_map(|list| list.chunks_exact(16)).filter_map(|h| h.try_into().ok()).collect();
    if let Some((manifest, _)) = bodies.manifest(exchange)? {
        blocks.extend(manifest.blocks());
    }
    Ok(Some(ContentOf { epoch: row.epoch, envelope: row.envelope, blocks }))
}

/// Moves what is alive in these packs to new ones and deletes them. Blocks are alive if any exchange's body needs them; to
/// know that, every manifest of the epoch is read once.
pub(crate) fn rewrite_packs(tables: &dyn Erasing, packs: &Packs) -> Result<()> {
    packs.iter().filter(|(_, packs)| !packs.is_empty()).try_for_each(|(&epoch, packs)| rewrite(tables, epoch, packs))
}

fn rewrite(tables: &dyn Erasing, epoch: i32, packs: &BTreeSet<i64>) -> Result<()> {
    let mut bodies = BodyReader::new(tables);
    let mut alive = HashSet::new();
    let mut envelopes: Vec<(i64, Location)> = Vec::new();
    for exchanges in tables.living_exchanges(epoch)?.chunks(TOGETHER) {
        tables.expect_content(exchanges)?;
        for &exchange in exchanges {
            let Some(content) = content_of(&mut bodies, exchange)? else { continue };
            alive.extend(content.blocks);
            envelopes.extend(content.envelope.filter(|at| packs.contains(&at.pack)).map(|at| (exchange, at)));
        }
    }
    let mut frames: Vec<FrameContent> = tables.frame_contents(FramesOf::Epoch(epoch))?;
    alive.extend(frames.iter().flat_map(FrameContent::blocks));
    frames.retain(|frame| frame.at.is_some_and(|at| packs.contains(&at.pack)));
    let packs: Vec<i64> = packs.iter().copied().collect();
    let blocks = tables.blocks_in(epoch, &packs)?;
    let mut moving = Moving { tables, epoch, reader: BlockReader::new(tables), packs: OpenPacks::new() };
    let mut moved: Vec<(BlockHash, Location)> = Vec::new();
    for (hash, at) in blocks.iter().filter(|(hash, _)| alive.contains(hash)) {
        moved.push((*hash, moving.relocate(*at)?));
    }
    for (exchange, at) in envelopes {
        let at = moving.relocate(at)?;
        tables.move_envelope(exchange, at)?;
    }
    for frame in frames {
        let Some(at) = frame.at.map(|at| moving.relocate(at)).transpose()? else { continue };
        tables.move_frame(frame.row, at)?;
    }
    let blocks: Vec<BlockHash> = blocks.into_iter().map(|(hash, _)| hash).collect();
    tables.delete_packs(epoch, &packs, &blocks)?;
    moved.into_iter().try_for_each(|(hash, at)| tables.put_block(epoch, &hash, at))
}

struct Moving<'t> {
    tables: &'t dyn Erasing,
    epoch: i32,
    reader: BlockReader<'t>,
    packs: OpenPacks,
}

impl Moving<'_> {
    fn relocate(&mut self, at: Location) -> Result<Location> {
        let bytes = self.reader.bytes(self.epoch, at)?;
        Ok(self.packs.append(self.tables, self.epoch, 0, &bytes)?.0)
    }
}

const _: () = assert!(Form::Empty as i64 == 0, "erased exchanges have the form 0");
