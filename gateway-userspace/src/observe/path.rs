//! The way that packets of a flow take through this host.

use gateway_common::flow::Punted;
use serde::de::Error as _;
use std::fmt;

/// Who relays a flow, and why where it is not the kernel. In words, in records and answers: `kernel`,
/// `userspace (srtp_suite)`, `sockets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayPath {
    /// The XDP program.
    Kernel,
    /// The engine, to which the XDP program hands the packets.
    Userspace(Punted),
    /// The engine over plain sockets, where there is no XDP.
    Sockets,
}

impl RelayPath {
    /// Every path, in the order of [`Self::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        let userspace = Punted::ALL.iter().map(|why| Self::Userspace(*why));
        [Self::Kernel, Self::Sockets].into_iter().chain(userspace)
    }

    /// How many there are.
    pub const COUNT: usize = 2 + Punted::ALL.len();

    /// Its place among all.
    pub fn index(self) -> usize {
        Self::all().position(|path| path == self).unwrap_or_default()
    }

    /// Metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Userspace(_) => "userspace",
            Self::Sockets => "sockets",
        }
    }

    /// Why it is not the kernel.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Kernel => None,
            Self::Userspace(why) => Some(why.label()),
            Self::Sockets => Some("without_xdp"),
        }
    }
}

impl fmt::Display for RelayPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel | Self::Sockets => f.write_str(self.label()),
            Self::Userspace(why) => write!(f, "{} ({})", self.label(), why.label()),
        }
    }
}

impl serde::Serialize for RelayPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for RelayPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let path = Self::all().find(|path| path.to_string() == word);
        path.ok_or_else(|| D::Error::custom(format!("no path of media: {word}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_words_of_its_own_that_read_back_and_a_place_of_its_own() {
        for (place, path) in RelayPath::all().enumerate() {
            let words = serde_json::to_string(&path).unwrap();
            assert_eq!(serde_json::from_str::<RelayPath>(&words).unwrap(), path, "{words}");
            assert_eq!(path.index(), place);
        }
        assert_eq!(RelayPath::all().count(), RelayPath::COUNT);
    }
}
