//! Taking over what a recorder left: the ordinary path, run at every start.
//!
//! A folder whose lock is free belongs to a recorder that is gone, whether it died or ended. Adoption takes the lock, reads the
//! whole log once, checking every byte, and closes the books:
//!
//! 1. A last segment whose header never reached the disk is deleted. (None left: the folder held nothing and is removed.)
//! 2. The last segment is cut at its first record that is not whole: what a crash tore.
//! 3. Each entry without an End gets one with [`Flags::RECOVERED`], and the life a LifeEnd with the same flag.
//!
//! So what an adopter hands out always ends with a LifeEnd, and every Begin has its End. Each step only needs what the one before
//! left on the disk: a recovery that dies is simply done again, and doing it again changes nothing.
//!
//! Damage before the tail (bits that rotted, a lost file) is not repaired. It is reported, what precedes it in its segment is
//! kept, the log goes on with the next segment, and nothing of it is deleted before the folder is.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::bounds::Limits;
use crate::error::{Error, Result};
use crate::filesystem::{Access, Disk, DiskFile, FileSystem, Lock};
use crate::folder::{Folder, Name, SegmentFiles};
use crate::format::{
    Flags, HeaderFault, Kind, Position, RECORD_HEADER_BYTES, RecordHeader, RecorderId, SEGMENT_HEADER_BYTES,
    SegmentHeader,
};
use crate::lock;
use crate::piece::{Claim, Piece};
use crate::reader::{Reader, read_header};
use crate::references::References;
use crate::reserve;
use crate::scan::Scan;
use crate::window::Window;
use crate::writer::{Life, Tail, Writer};

/// The folder of a recorder that is gone, recovered and locked. Dropping it frees the lock and leaves the folder for the
/// next adoption.
#[derive(Debug)]
pub struct Adopted {
    recorder: RecorderId,
    files: Arc<SegmentFiles>,
    recovered: Recovered,
    references: Mutex<References>,
    _lock: Box<dyn Lock>,
}

/// What recovery did and found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// How many unfinished entries it ended.
    pub ended_entries: u64,
    /// Whether it had to end the life: the recorder had not.
    pub ended_life: bool,
    /// How many bytes of a torn tail it cut off.
    pub cut_bytes: u64,
    /// What it found damaged and left as it was.
    pub damage: Vec<Damage>,
}

/// A place where the log cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins.
    pub position: Position,
    /// What is wrong there.
    pub what: &'static str,
}

/// Adopts every folder below `root` whose recorder is gone. A folder that cannot be recovered is reported in the log and left
/// alone, and so is one of another format version; the others are not affected. Blocks, for as long as reading them takes.
///
/// A process that is just starting another (between fork and exec) keeps the locks of spools that it has dropped for that
/// moment; such a folder is left to the next adoption.
pub fn adopt(root: &Path) -> Result<Vec<Adopted>> {
    adopt_in(&(Arc::new(Disk) as Arc<dyn FileSystem>), root)
}

pub(crate) fn adopt_in(fs: &Arc<dyn FileSystem>, root: &Path) -> Result<Vec<Adopted>> {
    let mut names = match fs.names(root) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("listing the spool's folders")(error)),
    };
    // Ids of version 7 sort by time: the oldest life first.
    names.sort_unstable();
    let mut adopted = Vec::new();
    for name in names {
        let folder = Folder { fs: fs.clone(), dir: root.join(&name) };
        match Name::of(&name) {
            Name::Recorder(recorder) => match adopt_folder(&folder, recorder) {
                Ok(found) => adopted.extend(found),
                Err(error) => {
                    tracing::error!(%error, dir = %folder.dir.display(), "a spool folder cannot be recovered and is left as it is");
                }
            },
            // Failing is harmless: the next adoption tries again.
            Name::Leftover => drop(folder.sweep()),
            Name::Foreign => {}
        }
    }
    Ok(adopted)
}

fn adopt_folder(folder: &Folder, recorder: RecorderId) -> Result<Option<Adopted>> {
    let held = match folder.try_lock() {
        Ok(Some(lock)) => lock,
        Ok(None) => return Ok(None),
        // Removed by another adopter since it was listed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("locking a spool folder")(error)),
    };
    // The room that its owner kept for this is needed now, if ever.
    reserve::drop_from(folder);
    let Some((recovered, references)) = recover(folder, recorder)? else {
        tracing::warn!(dir = %folder.dir.display(), "a spool folder held no readable segment and is removed");
        folder.remove().map_err(Error::io("removing an empty spool folder"))?;
        return Ok(None);
    };
    for Damage { position, what } in &recovered.damage {
        tracing::error!(%recorder, %position, what, "the spool is damaged; records are missing from here to the segment's end");
    }
    let files = Arc::new(SegmentFiles::new(folder.clone()));
    Ok(Some(Adopted { recorder, files, recovered, references: Mutex::new(references), _lock: held }))
}

impl Adopted {
    /// The recorder's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.files.folder().dir
    }

    /// Whose log it is.
    #[must_use]
    pub const fn recorder(&self) -> RecorderId {
        self.recorder
    }

    /// What recovery did and found.
    #[must_use]
    pub const fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// A reader of the log, at its first retained segment. It and its blobs keep no lock: keep the `Adopted` while they are used.
    pub fn reader(&self) -> Result<Reader> {
        Reader::at_rest(self.files.clone(), lock(&self.references).wanted_from())
    }

    /// Bytes on disk that are not released.
    pub fn pending_bytes(&self) -> Result<u64> {
        let folder = self.files.folder();
        let length = |number: u64| folder.open_segment(number, Access::Read)?.len();
        let lengths = folder.segments().and_then(|numbers| numbers.into_iter().map(length).sum());
        lengths.map_err(Error::io("measuring the segments"))
    }

    /// Releases all segments with a number lower than `segment`, but never the last: that one goes with the folder. The files of
    /// those that a later segment refers to stay until that one is released.
    pub fn release_before(&self, segment: u64) -> Result<()> {
        let mut numbers = self.files.folder().segments().map_err(Error::io("listing the segments"))?;
        let Some(last) = numbers.pop() else { return Ok(()) };
        // Ascending: when one cannot be deleted, what remains is still the end of the log without a hole.
        let keep_from = lock(&self.references).release_before(segment.min(last));
        numbers.into_iter().filter(|number| *number < keep_from).try_for_each(|number| self.files.remove(number))
    }

    /// Deletes the folder: all that is in it is stored elsewhere.
    pub fn remove(self) -> Result<()> {
        self.files.folder().remove().map_err(Error::io("removing a spool folder"))
    }
}

/// What a reading of the whole log finds out.
#[derive(Debug, Default)]
struct Findings {
    /// From the first readable segment header.
    began_unix_ns: Option<u64>,
    next_seq: u64,
    last_mono_ns: u64,
    unfinished: BTreeSet<u64>,
    life_ended: bool,
    damage: Vec<Damage>,
    references: References,
}

impl Findings {
    fn enter(&mut self, header: &SegmentHeader) {
        self.began_unix_ns.get_or_insert(header.began_unix_ns);
        self.next_seq = self.next_seq.max(header.first_seq);
    }

    fn note(&mut self, header: &RecordHeader) {
        self.last_mono_ns = self.last_mono_ns.max(header.mono_ns);
        if header.kind.allots_seq() {
            self.next_seq = self.next_seq.max(header.seq + 1);
        }
        match header.kind {
            // A Part may be all that is retained of an entry: then its End follows, or must be written.
            Kind::Begin | Kind::Part(_) => drop(self.unfinished.insert(header.seq)),
            Kind::End { .. } => drop(self.unfinished.remove(&header.seq)),
            Kind::LifeEnd { .. } => self.life_ended = true,
            Kind::LifeBegin | Kind::Note => {}
        }
    }

    fn damaged(&mut self, segment: u64, offset: u64, what: &'static str) {
        self.damage.push(Damage { position: Position { segment, offset }, what });
    }
}

/// The segment that the log ends with, and where in it.
struct End {
    number: u64,
    /// `None`: its header is damaged, nothing can be appended to it.
    sound: Option<SoundEnd>,
}

struct SoundEnd {
    file: Arc<dyn DiskFile>,
    offset: u64,
    len: u64,
}

/// `None`: the folder holds no log.
fn recover(folder: &Folder, recorder: RecorderId) -> Result<Option<(Recovered, References)>> {
    let numbers = drop_unwritten(folder)?;
    let Some(last) = numbers.last().copied() else {
        return Ok(None);
    };
    let mut findings = Findings { references: References::between(numbers[0], last), ..Findings::default() };
    let mut end = End { number: last, sound: None };
    let mut expected = numbers[0];
    for number in numbers {
        if number != expected {
            findings.damaged(expected, 0, "a segment is missing");
            (expected..number).for_each(|missing| findings.references.lost(missing, 0..u64::MAX));
        }
        expected = number + 1;
        let known_len = len_when_left(folder, number)?;
        end.sound = scan_segment(folder, recorder, number, known_len, number == last, &mut findings)?;
    }
    let references = std::mem::take(&mut findings.references);
    let recovered = close_books(folder, recorder, end, findings)?;
    Ok(Some((recovered, references)))
}

/// Deletes last segments whose header never reached the disk; returns the numbers of the others.
fn drop_unwritten(folder: &Folder) -> Result<Vec<u64>> {
    let mut numbers = folder.segments().map_err(Error::io("listing the segments"))?;
    while let Some(last) = numbers.last().copied() {
        let file = folder.open_segment(last, Access::Read).map_err(Error::io("opening a segment"))?;
        if !matches!(read_header(&*file, last)?, Err(HeaderFault::Unwritten)) {
            break;
        }
        let removed = folder.fs.remove_file(&folder.segment_path(last));
        removed.map_err(Error::io("deleting a segment that was never written"))?;
        numbers.pop();
    }
    Ok(numbers)
}

/// How long a segment was when the next one was begun, if there is a next one that knows.
fn len_when_left(folder: &Folder, number: u64) -> Result<Option<u64>> {
    let file = match folder.open_segment(number + 1, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Error::io("opening a segment"))?,
    };
    let header = read_header(&*file, number + 1)?.ok();
    Ok(header.map(|header| u64::from(header.previous_bytes)).filter(|len| *len > 0))
}

/// Reads one segment. Returns where its sound records end, or `None` when not even its header is sound.
fn scan_segment(
    folder: &Folder,
    recorder: RecorderId,
    number: u64,
    known_len: Option<u64>,
    is_last: bool,
    findings: &mut Findings,
) -> Result<Option<SoundEnd>> {
    let access = if is_last { Access::Write } else { Access::Read };
    let file = folder.open_segment(number, access).map_err(Error::io("opening a segment"))?;
    let header = match read_header(&*file, number)? {
        Ok(header) if header.recorder == recorder => header,
        Ok(_) => {
            let position = Position { segment: number, offset: 0 };
            return Err(Error::Damaged { position, what: "the segment is another recorder's" });
        }
        Err(HeaderFault::Version(version)) => return Err(Error::Version(version)),
        Err(HeaderFault::Unwritten | HeaderFault::Damaged) => {
            findings.damaged(number, 0, "the segment's header is damaged");
            findings.references.lost(number, 0..u64::MAX);
            return Ok(None);
        }
    };
    findings.enter(&header);
    // A segment may be longer than the next one says: one whose creation failed may come back with the power, and the log went on
    // in this one.
    let len = file.len().map_err(Error::io("reading a segment's length"))?;
    let mut scan = Scan { file: &*file, number, seed: header.seed(), len, window: Window::default() };
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset < len {
        let (found, fault) = scan.record(offset)?;
        if let Some(what) = fault {
            if is_last {
                break;
            }
            findings.damaged(number, offset, what);
        }
        // A broken payload is stepped over, its header being sound; behind a broken header nothing can be found.
        let Some(record) = found else {
            findings.references.lost(number, offset..u64::MAX);
            break;
        };
        findings.note(&record);
        let begin = offset + RECORD_HEADER_BYTES;
        let end = begin + u64::from(record.payload_len);
        match fault {
            Some(_) => findings.references.lost(number, begin..end),
            None if record.composed => {
                let table = scan.table(begin, record.payload_len)?;
                if let Some(what) = findings.references.check(number, end, table) {
                    findings.damaged(number, offset, what);
                }
            }
            None => {}
        }
        offset = end;
    }
    if offset == len && known_len.is_some_and(|known| known > len) {
        findings.damaged(number, offset, "the segment's end is missing");
        findings.references.lost(number, offset..u64::MAX);
    }
    Ok(Some(SoundEnd { file, offset, len }))
}

/// Cuts the tail and appends what is missing.
fn close_books(folder: &Folder, recorder: RecorderId, end: End, findings: Findings) -> Result<Recovered> {
    let Some(began_unix_ns) = findings.began_unix_ns else {
        let position = Position { segment: end.number, offset: 0 };
        return Err(Error::Damaged { position, what: "no segment has a readable header" });
    };
    let cut_bytes = cut(end.sound.as_ref())?;
    let recovered = Recovered {
        ended_entries: findings.unfinished.len() as u64,
        ended_life: !findings.life_ended,
        cut_bytes,
        damage: findings.damage,
    };
    if recovered.ended_entries > 0 || recovered.ended_life {
        // A dead recorder's clock cannot be read any more: what recovery writes bears the last time that it wrote down.
        let now = findings.last_mono_ns;
        let life = Life { recorder, began_unix_ns };
        let limits = Limits { segment_bytes: u64::MAX, max_bytes: u64::MAX };
        let (names, folder, clock) = (folder, folder.clone(), Box::new(move || now));
        let number = end.number;
        let next_seq = findings.next_seq;
        let mut writer = match end.sound {
            Some(SoundEnd { file, offset, .. }) => {
                Writer::on(folder, life, limits, clock, file, &Tail { number, offset, next_seq })
            }
            None => Writer::begin(folder, life, limits, clock, number + 1, next_seq)?,
        };
        append_ends(&mut writer, &findings.unfinished, recovered.ended_life)?;
        writer.file().sync_data().map_err(Error::io("syncing a recovered segment"))?;
        names.sync_names().map_err(Error::io("syncing a recovered folder"))?;
    }
    Ok(recovered)
}

fn cut(end: Option<&SoundEnd>) -> Result<u64> {
    match end {
        Some(SoundEnd { file, offset, len }) if offset < len => {
            file.set_len(*offset).map_err(Error::io("cutting a torn tail"))?;
            file.sync_data().map_err(Error::io("syncing a cut segment"))?;
            Ok(len - offset)
        }
        _ => Ok(0),
    }
}

fn append_ends(writer: &mut Writer, unfinished: &BTreeSet<u64>, end_life: bool) -> Result<()> {
    let flags = Flags::RECOVERED;
    for seq in unfinished {
        writer.append(Claim::End, *seq, std::iter::once(Piece::control(Kind::End { flags }, &[])), None)?;
    }
    if end_life {
        writer.append_new(Claim::Life, std::iter::once(Piece::control(Kind::LifeEnd { flags }, &[])), None)?;
    }
    Ok(())
}
