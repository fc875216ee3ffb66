//! The archive that a kernel unpacks as its first root: cpio in the "newc" format of the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// Files for an initramfs, parents first.
#[derive(Default)]
pub(crate) struct Archive {
    octets: Vec<u8>,
    inode: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// An executable file at `path`, which is absolute; its directories are made on the way.
    pub(crate) fn file(&mut self, path: &str, contents: &[u8]) {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            self.directory(&path[..end]);
        }
        self.entry(path, EXECUTABLE, contents);
    }

    pub(crate) fn directory(&mut self, path: &str) {
        let path = path.trim_start_matches('/');
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY, &[]);
        }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.octets
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) {
        self.inode += 1;
        let length = u32::try_from(contents.len()).expect("what is archived was read into memory whole");
        let name_length = u32::try_from(name.len()).expect("names are paths") + 1;
        // Inode, mode, user, group, links, time, length, device (2), special device (2), name, checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0];
        self.octets.extend_from_slice(b"070701");
        for field in fields {
            self.octets.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.octets.extend_from_slice(name.as_bytes());
        self.octets.push(0);
        self.pad();
        self.octets.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_a_header_of_110_octets_and_ends_on_a_multiple_of_four() {
        let mut archive = Archive::default();
        archive.file("/a/b", b"xyz");
        let octets = archive.finish();
        assert!(octets.starts_with(b"070701"));
        assert_eq!(&octets[110..112], b"a\0");
        let file = &octets[112..];
        assert_eq!(&file[110..114], b"a/b\0");
        assert_eq!(&file[116..120], b"xyz\0");
        assert_eq!(octets.len() % 4, 0);
    }
}
