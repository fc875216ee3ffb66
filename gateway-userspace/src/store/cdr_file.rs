//! Call detail records as JSON lines in a file, written by a thread of its own so that no core waits for a disk.

use super::StoreFault;
use crate::observe::cdr::CallRecord;
use crossbeam::channel::{self, Receiver, Sender};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Records that wait while the disk is slow: at 1,500 calls a second, more than five seconds of them.
const QUEUE: usize = 8_192;
/// How long the writer lets records gather behind one that it has written: a core that finds it at work need not wake it,
/// which costs both of them more than the record does. What gathers is lost if the daemon is killed.
const GATHER: Duration = Duration::from_millis(10);
/// How often the file is looked after: put on stable storage, and reopened if it was renamed or deleted.
const CARE: Duration = Duration::from_secs(1);

/// The writer of the CDR file. Dropping it writes what is queued and ends the thread.
#[derive(Debug)]
pub struct CdrFile {
    records: Sender<CallRecord>,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Order {
    Reopen,
    Close,
}

impl CdrFile {
    /// Opens `path` for appending, making it and its directory if needed, and starts the writer.
    ///
    /// # Errors
    /// What the file system says, so that a wrong path fails the start and not the first call.
    pub fn open(path: &Path) -> Result<Self, StoreFault> {
        let file = open(path)?;
        let (records, queued) = channel::bounded(QUEUE);
        let (orders, ordered) = channel::unbounded();
        let writer = Writer { path: path.to_owned(), file, unwritten: Vec::new(), written: false };
        let thread = thread::Builder::new()
            .name("causeway-cdr".into())
            .spawn(move || writer.run(&queued, &ordered))
            .map_err(StoreFault::file("start the writer of", path))?;
        Ok(Self { records, orders, thread: Some(thread) })
    }

    /// Where records go in: bounded, so a full queue is for the sender to count
    /// ([`crate::observe::ObserverSettings::records`]).
    pub fn records(&self) -> Sender<CallRecord> {
        self.records.clone()
    }

    /// Opens the path anew, after a rotation. The writer also sees by itself within a second that its file was
    /// renamed or deleted.
    pub fn reopen(&self) {
        // The thread lives as long as `self`, unless it panicked, which the log has.
        let _ = self.orders.send(Order::Reopen);
    }
}

impl Drop for CdrFile {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    /// Lines that the file has not taken yet.
    unwritten: Vec<u8>,
    /// Written since the file was last put on stable storage.
    written: bool,
}

impl Writer {
    fn run(mut self, queued: &Receiver<CallRecord>, ordered: &Receiver<Order>) {
        let mut cared = Instant::now();
        loop {
            let blocked = !self.unwritten.is_empty();
            let nothing = channel::never();
            // While the disk refuses, the queue fills, and its senders count what does not fit.
            crossbeam::select! {
                recv(if blocked { &nothing } else { queued }) -> record => {
                    self.take(record.ok(), queued);
                    thread::sleep(GATHER);
                }
                recv(ordered) -> order => match order {
                    Ok(Order::Reopen) => self.reopen(),
                    Ok(Order::Close) | Err(_) => {
                        self.take(None, queued);
                        self.care();
                        return;
                    }
                },
                default(CARE) => {}
            }
            if cared.elapsed() >= CARE {
                self.care();
                cared = Instant::now();
            }
        }
    }

    /// Writes `first` and what else is queued, in one go.
    fn take(&mut self, first: Option<CallRecord>, queued: &Receiver<CallRecord>) {
        for record in first.into_iter().chain(queued.try_iter().take(QUEUE)) {
            match record.to_json() {
                Ok(line) => {
                    self.unwritten.extend(line.into_bytes());
                    self.unwritten.push(b'\n');
                }
                Err(error) => {
                    tracing::error!(call = record.call, %error, "call detail record cannot be written")
                }
            }
        }
        self.write();
    }

    fn write(&mut self) {
        if self.unwritten.is_empty() {
            return;
        }
        let length = self.file.metadata().map(|file| file.len());
        match self.file.write_all(&self.unwritten) {
            Ok(()) => {
                self.unwritten.clear();
                self.written = true;
            }
            Err(error) => {
                // No half line: the whole batch is tried again.
                if let Ok(length) = length {
                    let _ = self.file.set_len(length);
                }
                tracing::error!(path = %self.path.display(), %error, "call detail records wait for the disk");
            }
        }
    }

    fn care(&mut self) {
        self.write();
        if std::mem::take(&mut self.written)
            && let Err(error) = self.file.sync_data()
        {
            tracing::error!(path = %self.path.display(), %error, "call detail records may not be on the disk yet");
        }
        if !self.is_same_file() {
            self.reopen();
        }
    }

    fn is_same_file(&self) -> bool {
        let identity = |file: io::Result<fs::Metadata>| file.map(|file| (file.dev(), file.ino())).ok();
        identity(fs::metadata(&self.path)) == identity(self.file.metadata())
    }

    fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => {
                let _ = self.file.sync_data();
                self.file = file;
            }
            Err(error) => tracing::error!(%error, "the CDR file stays the old one"),
        }
    }
}

fn open(path: &Path) -> Result<File, StoreFault> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(StoreFault::file("make the directory", directory))?;
    }
    // Numbers of callers: for the owner and the group that collects the records.
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o640);
    options.open(path).map_err(StoreFault::file("open the CDR file", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Time;
    use crate::observe::clock::WallClock;
    use crate::observe::event::samples;

    fn record(node: &str) -> CallRecord {
        let clock = WallClock::new(Time::ZERO, std::time::UNIX_EPOCH);
        CallRecord::new(node, &samples::end(), Time(5_000_000), &clock)
    }

    fn nodes(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str::<CallRecord>(line).unwrap().node).collect()
    }

    #[test]
    fn records_are_appended_in_order_and_all_written_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/cdr.jsonl");
        for part in 0..2 {
            let file = CdrFile::open(&path).unwrap();
            for index in 0..500 {
                file.records().send(record(&format!("{part}-{index}"))).unwrap();
            }
        }
        let expected: Vec<_> =
            (0..2).flat_map(|part| (0..500).map(move |index| format!("{part}-{index}"))).collect();
        assert_eq!(nodes(&path), expected);
    }

    #[test]
    fn a_rotated_file_keeps_its_records_and_a_new_one_is_begun() {
        let directory = tempfile::tempdir().unwrap();
        let (path, rotated) = (directory.path().join("cdr.jsonl"), directory.path().join("cdr.jsonl.1"));
        let file = CdrFile::open(&path).unwrap();
        file.records().send(record("before")).unwrap();
        drop(file);
        let file = CdrFile::open(&path).unwrap();
        fs::rename(&path, &rotated).unwrap();
        file.reopen();
        // Orders and records are separate queues: the new file tells that the order was carried out.
        while !path.exists() {
            thread::yield_now();
        }
        file.records().send(record("after")).unwrap();
        drop(file);
        assert_eq!(nodes(&rotated), ["before"]);
        assert_eq!(nodes(&path), ["after"]);
    }

    #[test]
    fn a_path_that_cannot_be_opened_fails_at_once_and_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let error = CdrFile::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("open the CDR file") && error.contains(directory.path().to_str().unwrap()));
    }
}
