//! Byte order and addresses as types: a bare integer in a shared struct is host order and only a count.

/// A 16-bit integer in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Be16(u16);

/// A 32-bit integer in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Be32(u32);

macro_rules! big_endian {
    ($name:ident, $int:ty, $len:literal) => {
        impl $name {
            #[inline(always)]
            pub const fn new(host: $int) -> Self {
                Self(host.to_be())
            }

            #[inline(always)]
            pub const fn host(self) -> $int {
                <$int>::from_be(self.0)
            }

            #[inline(always)]
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(<$int>::from_ne_bytes(bytes))
            }

            #[inline(always)]
            pub const fn bytes(self) -> [u8; $len] {
                self.0.to_ne_bytes()
            }

            /// As it lies in memory.
            #[inline(always)]
            pub const fn raw(self) -> $int {
                self.0
            }

            #[inline(always)]
            pub const fn from_raw(raw: $int) -> Self {
                Self(raw)
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
///
/// Two words as they lie in memory: what is compared and summed most is compared and summed in one go.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Addr128 {
    high: u64,
    low: u64,
}

impl Addr128 {
    pub const UNSPECIFIED: Self = Self { high: 0, low: 0 };

    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self::v4_from(Be32::from_bytes(octets))
    }

    #[inline(always)]
    pub const fn v4_from(word: Be32) -> Self {
        Self { high: 0, low: join(MAPPED, word) }
    }

    #[inline(always)]
    pub const fn v6(words: [Be32; 4]) -> Self {
        let [a, b, c, d] = words;
        Self { high: join(a, b), low: join(c, d) }
    }

    /// From the two halves as they lie in memory.
    #[inline(always)]
    pub const fn from_raw(high: u64, low: u64) -> Self {
        Self { high, low }
    }

    #[inline(always)]
    pub const fn raw(&self) -> [u64; 2] {
        [self.high, self.low]
    }

    #[inline(always)]
    pub const fn words(&self) -> [Be32; 4] {
        let ((a, b), (c, d)) = (split(self.high), split(self.low));
        [a, b, c, d]
    }

    #[inline(always)]
    pub const fn octets(&self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.high.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.low.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The last 32 bits: the IPv4 address of a mapped one.
    #[inline(always)]
    pub const fn v4_word(&self) -> Be32 {
        split(self.low).1
    }

    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.high == 0 && split(self.low).0.raw() == MAPPED.raw()
    }

    /// `::`, or the mapped form of 0.0.0.0.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        self.high == 0 && (self.low == 0 || self.low == join(MAPPED, Be32::new(0)))
    }

    /// Whether no host can send from it: multicast, broadcast or unspecified (RFC 1122 section 3.2.1.3,
    /// RFC 4291 section 2.7).
    #[inline(always)]
    pub const fn is_no_source(&self) -> bool {
        if self.is_v4() {
            let [first, ..] = self.v4_word().bytes();
            return first == 0 || first >= 224;
        }
        self.high.to_ne_bytes()[0] == 0xff || self.is_unspecified()
    }

    /// Whether the first `prefix` bits (0 to 128; add 96 for a mapped IPv4 prefix) are those of `network`.
    #[inline(always)]
    pub const fn in_prefix(&self, network: &Self, prefix: u8) -> bool {
        let (ours, theirs) = (u64::from_be(self.high), u64::from_be(network.high));
        let differs_high = (ours ^ theirs) & mask(prefix as u32);
        let (ours, theirs) = (u64::from_be(self.low), u64::from_be(network.low));
        differs_high == 0 && (ours ^ theirs) & mask((prefix as u32).saturating_sub(64)) == 0
    }
}

/// `0000:ffff` in front of a mapped IPv4 address.
const MAPPED: Be32 = Be32::new(0xffff);

/// The first `bits` of 64; all of them from 64 on.
#[inline(always)]
const fn mask(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { !(u64::MAX >> bits) }
}

#[inline(always)]
const fn join(first: Be32, second: Be32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.bytes(), second.bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

#[inline(always)]
const fn split(half: u64) -> (Be32, Be32) {
    let [a, b, c, d, e, f, g, h] = half.to_ne_bytes();
    (Be32::from_bytes([a, b, c, d]), Be32::from_bytes([e, f, g, h]))
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
            let bits = address.words().iter().fold(0u128, |bits, word| bits << 32 | u128::from(word.host()));
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
