//! The packets and messages of one call, taken down for as long as somebody wants to see them.
//!
//! `tcpdump` does not see what XDP relays, so the data plane copies it here. Of media only the fixed header is taken,
//! all that quality can be told from, unless the configuration permits audio; secrets in messages are blotted out
//! unless it permits those. Everything is bounded, and what did not fit is counted.

mod datagram;
mod pcapng;
mod redact;

use super::clock::WallClock;
use super::event::Direction;
use crate::base::time::Time;
pub use datagram::{datagram, shortened};
pub use pcapng::{CaptureUnwritable, write};
use redact::redacted;
use std::net::SocketAddr;
use std::time::Duration;

/// Octets that one capture holds.
const OCTETS_MAX: usize = 32 << 20;
/// What is kept for an item beside its octets, so that many small ones are bounded as well.
const ITEM: usize = size_of::<Item>();
/// Items a second: some six times what a call with audio both ways has on both sides.
const RATE_MAX: u32 = 1_200;

/// What is taken down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub sip: bool,
    /// Whole packets instead of their headers.
    pub audio: bool,
    /// Messages as they are, with passwords' digests and keys.
    pub secrets: bool,
}

/// How the octets of an item begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Ethernet,
    /// With the IP header.
    Ip,
}

/// One packet, or one message as if it had been a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub at: Time,
    pub direction: Direction,
    pub link: Link,
    /// Octets that it had on the wire; `octets` may be fewer.
    pub length: u32,
    pub octets: Box<[u8]>,
}

/// A capture in progress.
#[derive(Clone, Debug)]
pub struct Capture {
    wanted: Wanted,
    /// When nobody is expected to fetch it any more.
    expires: Time,
    items: Vec<Item>,
    octets: usize,
    dropped: u64,
    /// Second that is counted, and items in it.
    second: (u64, u32),
}

/// A capture that came to its end, with the clock that its times are of.
#[derive(Clone, Debug)]
pub struct Captured {
    pub capture: Capture,
    pub clock: WallClock,
}

impl PartialEq for Captured {
    fn eq(&self, other: &Self) -> bool {
        self.capture.items == other.capture.items && self.capture.dropped == other.capture.dropped
    }
}

impl Capture {
    /// For `span` from now on; it may be fetched for a while after.
    pub fn new(wanted: Wanted, now: Time, span: Duration) -> Self {
        const PATIENCE: Duration = Duration::from_secs(10);
        let expires = now + span + PATIENCE;
        Self { wanted, expires, items: Vec::new(), octets: 0, dropped: 0, second: (0, 0) }
    }

    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    pub fn is_over(&self, now: Time) -> bool {
        now >= self.expires
    }

    /// In the order in which they were heard of.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// What did not fit.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// A copy by the data plane.
    pub fn packet(&mut self, item: Item) {
        let second = item.at.0 / 1_000_000;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        self.second.1 += 1;
        if self.second.1 > RATE_MAX || self.octets + item.octets.len() + ITEM > OCTETS_MAX {
            self.dropped += 1;
            return;
        }
        self.octets += item.octets.len() + ITEM;
        self.items.push(item);
    }

    /// A SIP message, over whatever transport: a datagram holds the same octets, without handshakes and ciphers.
    pub fn message(&mut self, at: Time, direction: Direction, way: (SocketAddr, SocketAddr), message: &[u8]) {
        if !self.wanted.sip {
            return;
        }
        let octets = match self.wanted.secrets {
            true => datagram(way.0, way.1, 0, message, message.len()),
            false => datagram(way.0, way.1, 0, &redacted(message), message.len()),
        };
        let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
        self.packet(Item { at, direction, link: Link::Ip, length, octets: octets.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(at: u64, octets: usize) -> Item {
        let octets = vec![7; octets].into_boxed_slice();
        Item { at: Time(at), direction: Direction::Received, link: Link::Ip, length: 0, octets }
    }

    #[test]
    fn a_flood_and_a_long_capture_are_bounded_and_counted() {
        let mut capture = Capture::new(Wanted::default(), Time(0), Duration::from_secs(10));
        (0..2_000).for_each(|packet| capture.packet(item(1_000_000 + packet, 54)));
        assert_eq!((capture.items().len(), capture.dropped()), (1_200, 800));
        for second in 2..1_000u64 {
            (0..100).for_each(|packet| capture.packet(item(second * 1_000_000 + packet, 1_500)));
        }
        let held: usize = capture.items().iter().map(|item| item.octets.len() + ITEM).sum();
        assert!(held <= OCTETS_MAX && held > OCTETS_MAX - 2_000);
        assert_eq!(capture.items().len() as u64 + capture.dropped(), 2_000 + 998 * 100);
    }

    #[test]
    fn messages_are_taken_when_they_are_wanted() {
        let way = ("192.0.2.1:5060".parse().unwrap(), "192.0.2.2:5061".parse().unwrap());
        let mut capture = Capture::new(Wanted::default(), Time(0), Duration::from_secs(1));
        capture.message(Time(1), Direction::Sent, way, b"BYE");
        assert!(capture.items().is_empty());
        let wanted = Wanted { sip: true, ..Wanted::default() };
        let mut capture = Capture::new(wanted, Time(0), Duration::from_secs(1));
        capture.message(Time(1), Direction::Sent, way, b"BYE");
        assert!(capture.items()[0].octets.ends_with(b"BYE"));
        assert!(!capture.is_over(Time(10_999_999)) && capture.is_over(Time(11_000_000)));
    }

    proptest! {
        #[test]
        fn what_is_blotted_out_keeps_its_length(message in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(redacted(&message).len(), message.len());
        }
    }
}
