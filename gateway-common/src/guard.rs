//! Who may speak SIP to us: judged before the host's stack sees a packet.
//!
//! A guarded service is a socket of ours that trunks are configured on. Sources that no trunk allows get silence, as
//! from the daemon itself, but at the price of a look-up; sources that were denied get it too; and no source gets
//! more packets a second through than its kind may send. Everything else is the host's own business, and so is every
//! packet where nothing is guarded.

use crate::{
    net::{Addr128, Be16},
    verdict::Reason,
};

/// A socket of ours. Key of the map of guarded services.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Service {
    pub address: Addr128,
    pub port: Be16,
    /// IP protocol: 6 or 17.
    pub protocol: u8,
    /// Always zero: the kernel hashes every octet of a key.
    pub padding: u8,
    pub padding_2: u32,
}

impl Service {
    #[inline(always)]
    pub const fn new(address: Addr128, port: Be16, protocol: u8) -> Self {
        Self { address, port, protocol, padding: 0, padding_2: 0 }
    }
}

/// What is known of a guarded service: which sources are its own, and how fast who may send.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Guarded {
    /// Sources of this service carry it in front of their address.
    pub number: u32,
    pub padding: u32,
    /// Of one source that a trunk allows.
    pub known: Pace,
    /// Responses of one source that none allows: they may come from whoever a dialog's Contact names.
    pub stranger: Pace,
    /// Responses of all those together, lest each forged address has a limit of its own.
    pub strangers: Pace,
    /// Other datagrams of all those together: let through to the daemon, which says nothing and remembers who it was.
    pub samples: Pace,
}

/// A limit as virtual scheduling (ITU-T I.371): nanoseconds that a packet takes, and how far ahead of its time one may
/// come. Zero nanoseconds are no limit.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Pace {
    pub interval: u64,
    pub tolerance: u64,
}

impl Pace {
    /// So many packets a second, and `burst` of them at once.
    pub const fn new(packets_per_second: u32, burst: u32) -> Self {
        if packets_per_second == 0 {
            return Self { interval: 0, tolerance: 0 };
        }
        let interval = 1_000_000_000 / packets_per_second as u64;
        Self { interval, tolerance: interval * burst as u64 }
    }

    /// Whether a packet may come now, and when the next one is due then.
    #[inline(always)]
    pub fn admit(&self, due_at: u64, now: u64) -> Option<u64> {
        if self.interval == 0 {
            return Some(0);
        }
        let due = if due_at > now { due_at } else { now };
        if due - now > self.tolerance { None } else { Some(due + self.interval) }
    }
}

/// An address at a service: the service's number and then the address, so that in the trie of sources a prefix of 32
/// bits and more tells services apart.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Source {
    pub number: u32,
    pub address: [u32; 4],
}

/// Bits of a [`Source`] in front of its address.
pub const SOURCE_PREFIX: u32 = 32;

/// Bits of an IPv6 address, and of a mapped IPv4 address in front of the address itself.
pub const ADDRESS_BITS: u32 = 128;
pub const MAPPED_PREFIX: u32 = 96;

impl Source {
    #[inline(always)]
    pub const fn new(number: u32, address: &Addr128) -> Self {
        Self { number: number.to_be(), address: words(address) }
    }

    /// Whose limit a packet of this class shares with all strangers, by addresses that none of them has.
    #[inline(always)]
    pub const fn shared(number: u32, class: Class) -> Self {
        let word = match class {
            Class::Known | Class::Response => 0,
            Class::Other => u32::MAX,
        };
        Self { number: number.to_be(), address: [word; 4] }
    }
}

/// An address as it lies in memory, as the keys of tries begin with it.
#[inline(always)]
pub const fn words(address: &Addr128) -> [u32; 4] {
    let [a, b, c, d] = address.words();
    [a.raw(), b.raw(), c.raw(), d.raw()]
}

/// How long an address or a network gets silence, whoever allows it.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Denial {
    /// Kernel monotonic nanoseconds.
    pub until: u64,
    /// Why, as a number of the control plane's: the kernel only keeps it.
    pub cause: u32,
    pub padding: u32,
}

/// What kind of packet it is, to a guarded service.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub enum Class {
    /// A trunk of the service allows its source.
    Known,
    /// None does, and it is a SIP response over UDP.
    Response,
    /// None does, and it is another datagram.
    Other,
}

/// When the next packets are due: of the source, and of all strangers with packets of this class. 0 where it is not
/// known, or does not change.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Due {
    pub own: u64,
    pub shared: u64,
}

/// Whether a packet passes, and when the next ones are due then. TCP of strangers never gets as far.
#[inline(always)]
pub fn judge(guarded: &Guarded, class: Class, due: Due, now: u64) -> Result<Due, Reason> {
    match class {
        Class::Known => {
            let own = guarded.known.admit(due.own, now).ok_or(Reason::SourceRate)?;
            Ok(Due { own, shared: 0 })
        }
        Class::Response => {
            let own = guarded.stranger.admit(due.own, now).ok_or(Reason::SourceRate)?;
            let shared = guarded.strangers.admit(due.shared, now).ok_or(Reason::SourceRate)?;
            Ok(Due { own, shared })
        }
        Class::Other => {
            let shared = guarded.samples.admit(due.shared, now).ok_or(Reason::UnknownSource)?;
            Ok(Due { own: 0, shared })
        }
    }
}

/// RFC 3261 section 7.2: how a response begins, and no request does.
pub const RESPONSE_START: [u8; 8] = *b"SIP/2.0 ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Be32;

    const NOW: u64 = 5_000_000_000;

    fn guarded() -> Guarded {
        Guarded {
            known: Pace::new(1000, 10),
            stranger: Pace::new(10, 1),
            strangers: Pace::new(100, 3),
            samples: Pace::new(1, 0),
            ..Guarded::default()
        }
    }

    fn passes(class: Class, own: u64, shared: u64) -> Result<Due, Reason> {
        judge(&guarded(), class, Due { own, shared }, NOW)
    }

    #[test]
    fn each_class_has_limits_of_its_own_and_a_reason_for_what_is_above() {
        assert_eq!(passes(Class::Known, 0, u64::MAX), Ok(Due { own: NOW + 1_000_000, shared: 0 }));
        assert_eq!(passes(Class::Known, NOW + 10_000_001, 0), Err(Reason::SourceRate));
        let both = Due { own: NOW + 100_000_000, shared: NOW + 10_000_000 };
        assert_eq!(passes(Class::Response, 0, 0), Ok(both));
        assert_eq!(passes(Class::Response, NOW + 100_000_001, 0), Err(Reason::SourceRate));
        assert_eq!(passes(Class::Response, 0, NOW + 30_000_001), Err(Reason::SourceRate));
        assert_eq!(passes(Class::Other, u64::MAX, NOW), Ok(Due { own: 0, shared: NOW + 1_000_000_000 }));
        assert_eq!(passes(Class::Other, 0, NOW + 1), Err(Reason::UnknownSource));
    }

    #[test]
    fn limits_of_all_strangers_are_kept_where_no_strangers_are() {
        let shared = [Class::Response, Class::Other].map(|class| Source::shared(7, class));
        assert_ne!(shared[0], shared[1]);
        let addresses = [Addr128::UNSPECIFIED, Addr128::v6([Be32::new(u32::MAX); 4])];
        assert_eq!(shared, addresses.map(|address| Source::new(7, &address)));
        assert!(addresses.iter().all(Addr128::is_no_source));
    }

    #[test]
    fn a_source_gets_its_burst_and_then_its_rate() {
        let pace = Pace::new(1000, 10);
        let (mut due, mut passed) = (0, 0);
        for packet in 0..1000u64 {
            // Ten times as fast as allowed, for 100 ms.
            if let Some(next) = pace.admit(due, NOW + packet * 100_000) {
                (due, passed) = (next, passed + 1);
            }
        }
        assert_eq!(passed, 100 + 10);
        assert_eq!(Pace::new(0, 0).admit(u64::MAX, NOW), Some(0), "no limit");
    }
}
