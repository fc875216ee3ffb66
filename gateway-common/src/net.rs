//! Byte order and addresses as types: a bare integer in a shared struct is host order and only a count.

/// A 16-bit integer in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Be16([u8; 2]);

/// A 32-bit integer in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Be32([u8; 4]);

macro_rules! big_endian {
    ($name:ident, $int:ty, $len:literal) => {
        impl $name {
            #[inline(always)]
            pub const fn new(host: $int) -> Self {
                Self(host.to_be_bytes())
            }

            #[inline(always)]
            pub const fn host(self) -> $int {
                <$int>::from_be_bytes(self.0)
            }

            #[inline(always)]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            #[inline(always)]
            pub const fn bytes(self) -> [u8; $len] {
                self.0
            }
        }

        #[cfg(any(test, feature = "std"))]
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.host().fmt(f)
            }
        }
    };
}

big_endian!(Be16, u16, 2);
big_endian!(Be32, u32, 4);

/// An IPv6 address, or an IPv4 address in its mapped form `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
///
/// One form for both families keeps one key type in one map; no peer can send from or to a mapped
/// address on the wire, because the parser refuses them there.
#[repr(C, align(8))]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Addr128 {
    words: [Be32; 4],
}

impl Addr128 {
    pub const UNSPECIFIED: Self = Self { words: [Be32::new(0); 4] };

    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self { words: [Be32::new(0), Be32::new(0), Be32::new(0xffff), Be32::from_bytes(octets)] }
    }

    #[inline(always)]
    pub const fn v6(words: [Be32; 4]) -> Self {
        Self { words }
    }

    #[inline(always)]
    pub const fn words(&self) -> [Be32; 4] {
        self.words
    }

    #[inline(always)]
    pub const fn octets(&self) -> [u8; 16] {
        let [a, b, c, d] = self.words;
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.0, b.0);
        let ([c0, c1, c2, c3], [d0, d1, d2, d3]) = (c.0, d.0);
        [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3]
    }

    /// The last 32 bits: the IPv4 address of a mapped one.
    #[inline(always)]
    pub const fn v4_word(&self) -> Be32 {
        self.words[3]
    }

    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words[0].host() == 0 && self.words[1].host() == 0 && self.words[2].host() == 0xffff
    }

    /// `::`, or the mapped form of 0.0.0.0.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        let [a, b, c, d] = self.words;
        a.host() | b.host() | d.host() == 0 && (c.host() == 0 || c.host() == 0xffff)
    }

    /// Whether no host can send from it: multicast, broadcast or unspecified (RFC 1122 section 3.2.1.3,
    /// RFC 4291 section 2.7).
    #[inline(always)]
    pub const fn is_no_source(&self) -> bool {
        if self.is_v4() {
            let first = self.words[3].bytes()[0];
            return first == 0 || first >= 224;
        }
        self.words[0].bytes()[0] == 0xff || self.is_unspecified()
    }

    /// Whether the first `prefix` bits (0 to 128; add 96 for a mapped IPv4 prefix) are those of `network`.
    #[inline(always)]
    pub const fn in_prefix(&self, network: &Self, prefix: u8) -> bool {
        let mut word = 0;
        let mut bits = prefix as u32;
        let mut differs = 0;
        while word < 4 {
            let take = if bits > 32 { 32 } else { bits };
            let mask = if take == 0 { 0 } else { u32::MAX << (32 - take) };
            differs |= (self.words[word].host() ^ network.words[word].host()) & mask;
            bits -= take;
            word += 1;
        }
        differs == 0
    }
}

#[cfg(any(test, feature = "std"))]
mod host {
    use super::{Addr128, Be32};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    impl From<IpAddr> for Addr128 {
        fn from(address: IpAddr) -> Self {
            match address {
                IpAddr::V4(v4) => Self::v4(v4.octets()),
                IpAddr::V6(v6) => {
                    let bits = u128::from(v6);
                    Self::v6([96, 64, 32, 0].map(|shift| Be32::new((bits >> shift) as u32)))
                }
            }
        }
    }

    impl From<Addr128> for IpAddr {
        fn from(address: Addr128) -> Self {
            if address.is_v4() {
                return Ipv4Addr::from(address.v4_word().host()).into();
            }
            let bits = address.words.iter().fold(0u128, |bits, word| bits << 32 | u128::from(word.host()));
            Ipv6Addr::from(bits).into()
        }
    }

    impl std::fmt::Debug for Addr128 {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            IpAddr::from(*self).fmt(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn both_families_survive_the_round_trip() {
        for text in ["192.0.2.7", "2001:db8::1:2", "::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Addr128::from(address)), address);
        }
    }

    #[test]
    fn a_prefix_matches_its_network_and_nothing_beside_it() {
        let network = Addr128::v4([10, 1, 0, 0]);
        assert!(Addr128::v4([10, 1, 255, 9]).in_prefix(&network, 96 + 16));
        assert!(!Addr128::v4([10, 2, 0, 1]).in_prefix(&network, 96 + 16));
        assert!(Addr128::v4([10, 2, 0, 1]).in_prefix(&network, 0));
        assert!(!Addr128::v4([10, 1, 0, 1]).in_prefix(&network, 128));
    }
}
