//! Call checkpoints of one core, appended to segment files and cleaned as they age.
//!
//! A record holds the whole state of a call as opaque octets; the last one of a call counts. Records gather in
//! memory and go out in one write when the core ends a turn ([`Journal::flush`]). There is no `fsync`: what was
//! written survives the death of the process, and calls do not survive the death of the host.
//!
//! Checkpoints hold the SRTP keys of their calls, so segments are readable by the daemon's user alone. Encrypting them
//! would not help: the key would have to lie beside them for the next daemon, and who may read them may read the kernel's
//! maps, which hold the same keys.
//!
//! When garbage dominates, live records of the oldest segment are copied forward a few at a time, so that no
//! turn waits for a compaction, and the segment is deleted. Segments are cleaned oldest first: a removal is
//! never deleted before the record it removes.

use super::StoreFault;
use super::frame::{Frame, Frames, PAYLOAD_MAX};
use crate::base::id::{CallId, CoreId};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const SUFFIX: &str = "calls";
/// A segment longer than this is closed and the next begun.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Octets of live records copied forward in one turn.
const CLEAN_STEP: usize = 64 << 10;
/// Octets kept in memory while the disk refuses them.
const PENDING_MAX: usize = 16 << 20;

/// What earlier daemons left in a state directory, of all their cores.
#[derive(Debug)]
pub struct Recovered {
    /// Calls in progress, each with its last checkpoint.
    pub calls: Vec<(CallId, Vec<u8>)>,
    /// Octets at the ends of segments that were no whole record.
    pub damaged: u64,
    segments: Vec<PathBuf>,
    next_sequence: u64,
}

/// Reads all journals in `directory`. The files stay until [`Recovered::discard`], so that a daemon that dies
/// while it adopts calls loses none.
///
/// # Errors
/// Only what the file system says; damaged records are counted, not failed on.
pub fn recover(directory: &Path) -> Result<Recovered, StoreFault> {
    let mut segments: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory).map_err(StoreFault::file("list", directory))? {
        let path = entry.map_err(StoreFault::file("list", directory))?.path();
        if let Some(sequence) = sequence_of(&path) {
            segments.push((sequence, path));
        }
    }
    // A call that moved between cores did so by way of a restart, and every restart begins above the sequence
    // numbers it found: order of sequence is order of time.
    segments.sort();
    let mut calls: BTreeMap<CallId, Vec<u8>> = BTreeMap::new();
    let mut damaged = 0;
    for (_, path) in &segments {
        let bytes = fs::read(path).map_err(StoreFault::file("read", path))?;
        let mut frames = Frames::new(&bytes);
        for frame in frames.by_ref() {
            match frame {
                Frame::Put(call, payload) => drop(calls.insert(call, payload.to_vec())),
                Frame::Remove(call) => drop(calls.remove(&call)),
            }
        }
        damaged += frames.unread() as u64;
    }
    let next_sequence = segments.last().map_or(1, |(sequence, _)| sequence + 1);
    let segments = segments.into_iter().map(|(_, path)| path).collect();
    Ok(Recovered { calls: calls.into_iter().collect(), damaged, segments, next_sequence })
}

impl Recovered {
    /// An empty journal for `core` beside the files found.
    ///
    /// # Errors
    /// What the file system says about the new file.
    pub fn journal(&self, directory: &Path, core: CoreId) -> Result<Journal, StoreFault> {
        Journal::create(directory, core, self.next_sequence)
    }

    /// Deletes the files found. To be called when every call to be kept stands in a journal of this daemon
    /// that was flushed.
    ///
    /// # Errors
    /// What the file system says about the first file that stays.
    pub fn discard(self) -> Result<(), StoreFault> {
        for path in &self.segments {
            fs::remove_file(path).map_err(StoreFault::file("delete", path))?;
        }
        Ok(())
    }
}

/// Checkpoints of the calls of one core.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    core: CoreId,
    /// By sequence; the last one is appended to.
    segments: BTreeMap<u64, Segment>,
    current: u64,
    /// Frames of this turn; they belong to the current segment.
    pending: Vec<u8>,
    live: HashMap<CallId, Place>,
    live_bytes: u64,
    /// Calls of the oldest segment still to be copied forward, while one is being cleaned.
    cleaning: Option<Vec<CallId>>,
    lost: u64,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    /// Octets written.
    length: u64,
}

/// Where the last frame of a call stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    segment: u64,
    offset: u64,
    length: usize,
}

impl Journal {
    fn create(directory: &Path, core: CoreId, sequence: u64) -> Result<Self, StoreFault> {
        let mut journal = Self {
            directory: directory.to_owned(),
            core,
            segments: BTreeMap::new(),
            current: sequence,
            pending: Vec::new(),
            live: HashMap::new(),
            live_bytes: 0,
            cleaning: None,
            lost: 0,
        };
        journal.begin_segment(sequence)?;
        Ok(journal)
    }

    /// Keeps `payload` as the state of `call` from the next [`Self::flush`] on.
    pub fn put(&mut self, call: CallId, payload: &[u8]) {
        if self.pending.len() + payload.len() > PENDING_MAX || payload.len() > PAYLOAD_MAX {
            self.lost += 1;
            return;
        }
        let offset = self.length_of_current() + self.pending.len() as u64;
        let length = Frame::Put(call, payload).write(&mut self.pending);
        self.place(call, Place { segment: self.current, offset, length });
    }

    /// Forgets `call`, if it is known.
    pub fn remove(&mut self, call: CallId) {
        let Some(place) = self.live.remove(&call) else { return };
        self.live_bytes -= place.length as u64;
        Frame::Remove(call).write(&mut self.pending);
    }

    /// The last state of `call` that was put, flushed or not; `None` if there is none.
    ///
    /// # Errors
    /// What the file system says, or that the record is damaged.
    pub fn read(&self, call: CallId) -> Result<Option<Vec<u8>>, StoreFault> {
        let Some(place) = self.live.get(&call) else { return Ok(None) };
        let Some(segment) = self.segments.get(&place.segment) else { return Ok(None) };
        let mut bytes = vec![0; place.length];
        match place.offset.checked_sub(segment.length) {
            Some(ahead) => {
                let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
                let pending = self.pending.get(ahead..).and_then(|rest| rest.get(..place.length));
                bytes.copy_from_slice(pending.expect("what is live and not written yet is pending"));
            }
            None => segment
                .file
                .read_exact_at(&mut bytes, place.offset)
                .map_err(StoreFault::file("read", &segment.path))?,
        }
        match Frames::new(&bytes).next() {
            Some(Frame::Put(_, payload)) => Ok(Some(payload.to_vec())),
            _ => Err(StoreFault::file("read", &segment.path)(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Calls kept.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Writes what gathered since the last time, with one system call. Does nothing when nothing did.
    ///
    /// # Errors
    /// When the file system refuses: the records stay in memory up to a bound and go out with a later flush;
    /// beyond it they are lost and counted.
    pub fn flush(&mut self) -> Result<(), StoreFault> {
        if self.pending.is_empty() {
            return self.lost_fault(None);
        }
        self.clean_step();
        let segment = self.segments.get_mut(&self.current).expect("the current segment is open");
        if let Err(source) = segment.file.write_all(&self.pending) {
            // Half a record in the middle would hide all behind it.
            let _ = segment.file.set_len(segment.length);
            let path = segment.path.clone();
            return self.lost_fault(Some(&source)).and(Err(StoreFault::File {
                doing: "write call checkpoints to",
                path,
                source,
            }));
        }
        segment.length += self.pending.len() as u64;
        let full = segment.length >= SEGMENT_BYTES;
        self.pending.clear();
        self.delete_cleaned()?;
        if full {
            self.begin_segment(self.current + 1)?;
        }
        self.lost_fault(None)
    }

    fn place(&mut self, call: CallId, place: Place) {
        self.live_bytes += place.length as u64;
        if let Some(before) = self.live.insert(call, place) {
            self.live_bytes -= before.length as u64;
        }
    }

    fn length_of_current(&self) -> u64 {
        self.segments.get(&self.current).map_or(0, |segment| segment.length)
    }

    fn begin_segment(&mut self, sequence: u64) -> Result<(), StoreFault> {
        let path = self.directory.join(format!("{sequence:016x}-{}.{SUFFIX}", self.core.0));
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .read(true)
            .mode(0o600)
            .open(&path)
            .map_err(StoreFault::file("create", &path))?;
        self.segments.insert(sequence, Segment { path, file, length: 0 });
        self.current = sequence;
        Ok(())
    }

    fn lost_fault(&mut self, source: Option<&io::Error>) -> Result<(), StoreFault> {
        if self.lost == 0 {
            return Ok(());
        }
        let lost = std::mem::take(&mut self.lost);
        let source = source.map_or_else(
            || io::Error::other("records larger than a checkpoint may be"),
            |source| io::Error::new(source.kind(), source.to_string()),
        );
        Err(StoreFault::CheckpointsLost { lost, path: self.directory.clone(), source })
    }
}

/// Cleaning of the oldest segment.
impl Journal {
    /// Copies some live records of the oldest segment to the pending ones, when garbage dominates.
    fn clean_step(&mut self) {
        let Some(oldest) = self.segments.keys().next().copied().filter(|oldest| *oldest != self.current)
        else {
            return;
        };
        if self.cleaning.is_none() {
            let bytes: u64 = self.segments.values().map(|segment| segment.length).sum();
            if bytes <= 2 * self.live_bytes + SEGMENT_BYTES {
                return;
            }
            let in_oldest = self.live.iter().filter(|(_, place)| place.segment == oldest);
            self.cleaning = Some(in_oldest.map(|(call, _)| *call).collect());
        }
        let mut copied = 0;
        while copied < CLEAN_STEP
            && let Some(call) = self.cleaning.as_mut().and_then(Vec::pop)
        {
            copied += self.copy_forward(call, oldest);
        }
    }

    fn copy_forward(&mut self, call: CallId, oldest: u64) -> usize {
        let Some(place) = self.live.get(&call).copied().filter(|place| place.segment == oldest) else {
            return 0;
        };
        let Some(segment) = self.segments.get(&oldest) else { return 0 };
        let start = self.pending.len();
        self.pending.resize(start + place.length, 0);
        if let Err(error) = segment.file.read_exact_at(&mut self.pending[start..], place.offset) {
            self.pending.truncate(start);
            self.cleaning.get_or_insert_default().push(call);
            tracing::error!(path = %segment.path.display(), %error, "call checkpoint cannot be read back");
            return CLEAN_STEP;
        }
        let offset = self.length_of_current() + start as u64;
        self.place(call, Place { segment: self.current, offset, length: place.length });
        place.length
    }

    /// Deletes the oldest segment once all its live records are written elsewhere.
    fn delete_cleaned(&mut self) -> Result<(), StoreFault> {
        if self.cleaning.as_ref().is_none_or(|calls| !calls.is_empty()) {
            return Ok(());
        }
        // A file that stays would bring back calls whose removal later segments say and take along: tried
        // again with the next flush.
        if let Some(oldest) = self.segments.first_entry() {
            let path = &oldest.get().path;
            fs::remove_file(path).map_err(StoreFault::file("delete", path))?;
            oldest.remove();
        }
        self.cleaning = None;
        Ok(())
    }
}

/// Sequence number in a segment's name; `None` for files that are none.
fn sequence_of(path: &Path) -> Option<u64> {
    if path.extension()?.to_str()? != SUFFIX {
        return None;
    }
    let (sequence, _core) = path.file_stem()?.to_str()?.split_once('-')?;
    u64::from_str_radix(sequence, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};
    use std::os::unix::fs::PermissionsExt as _;

    const CORE: CoreId = CoreId(0);

    fn journal(directory: &Path) -> Journal {
        recover(directory).unwrap().journal(directory, CORE).unwrap()
    }

    fn bytes_on_disk(directory: &Path) -> u64 {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    }

    #[test]
    fn a_segment_is_readable_by_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let _journal = journal(directory.path());
        let modes: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().permissions().mode() & 0o777)
            .collect();
        assert_eq!(modes, [0o600]);
    }

    #[test]
    fn the_last_checkpoint_of_each_call_in_progress_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(directory.path());
        journal.put(CallId(1), b"ringing");
        journal.put(CallId(2), b"ringing");
        journal.flush().unwrap();
        journal.put(CallId(1), b"answered");
        journal.remove(CallId(2));
        journal.put(CallId(3), b"never flushed");
        let written = journal.pending.len();
        journal.flush().unwrap();
        assert!(written > 0 && journal.pending.is_empty());
        journal.put(CallId(4), b"never flushed");
        // Dropped without ceremony, as kill -9 does it.
        drop(journal);
        let recovered = recover(directory.path()).unwrap();
        let expected = vec![(CallId(1), b"answered".to_vec()), (CallId(3), b"never flushed".to_vec())];
        assert_eq!(recovered.calls, expected);
        assert_eq!(recovered.damaged, 0);
    }

    #[test]
    fn a_torn_tail_costs_only_its_own_record() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(directory.path());
        journal.put(CallId(1), b"first");
        journal.put(CallId(2), b"second");
        journal.flush().unwrap();
        let path = journal.segments[&journal.current].path.clone();
        let length = fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
        let recovered = recover(directory.path()).unwrap();
        assert_eq!(recovered.calls, vec![(CallId(1), b"first".to_vec())]);
        assert!(recovered.damaged > 0);
    }

    #[test]
    fn adoption_that_dies_half_way_loses_no_call() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = journal(directory.path());
        first.put(CallId(1), b"old");
        first.put(CallId(2), b"old");
        first.flush().unwrap();

        let recovered = recover(directory.path()).unwrap();
        let mut other_core = recovered.journal(directory.path(), CoreId(1)).unwrap();
        other_core.put(CallId(1), b"new");
        other_core.remove(CallId(1));
        other_core.put(CallId(1), b"newer");
        other_core.flush().unwrap();
        drop((other_core, recovered));

        let recovered = recover(directory.path()).unwrap();
        let expected = vec![(CallId(1), b"newer".to_vec()), (CallId(2), b"old".to_vec())];
        assert_eq!(recovered.calls, expected);
        let mut third = recovered.journal(directory.path(), CORE).unwrap();
        for (call, payload) in &recovered.calls {
            third.put(*call, payload);
        }
        third.flush().unwrap();
        recovered.discard().unwrap();
        assert_eq!(recover(directory.path()).unwrap().calls, expected);
    }

    #[test]
    fn garbage_is_cleaned_while_calls_come_and_go() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(directory.path());
        let mut random = StdRng::seed_from_u64(7);
        let mut expected: BTreeMap<CallId, Vec<u8>> = BTreeMap::new();
        // A call that never changes: cleaning has to carry it along.
        expected.insert(CallId(0), vec![9; 1_500]);
        journal.put(CallId(0), &[9; 1_500]);
        for turn in 1..40_000_u64 {
            let call = CallId(1 + random.random_range(0..800));
            if turn % 3 == 0 {
                journal.remove(call);
                expected.remove(&call);
            } else {
                let payload = vec![turn as u8; random.random_range(500..2_000)];
                journal.put(call, &payload);
                expected.insert(call, payload);
            }
            journal.flush().unwrap();
        }
        assert_eq!(journal.len(), expected.len());
        let live: u64 = expected.values().map(|payload| payload.len() as u64).sum();
        assert!(bytes_on_disk(directory.path()) < 2 * live + 3 * SEGMENT_BYTES);
        let recovered = recover(directory.path()).unwrap();
        assert_eq!(recovered.calls, expected.into_iter().collect::<Vec<_>>());
        assert_eq!(recovered.damaged, 0);
    }

    #[test]
    fn files_of_others_in_the_directory_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["lock", "cdr.jsonl", "x.calls", "notes-1.txt"] {
            fs::write(directory.path().join(name), b"not a journal").unwrap();
        }
        let recovered = recover(directory.path()).unwrap();
        assert!(recovered.calls.is_empty() && recovered.damaged == 0);
        recovered.discard().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4);
    }
}
