//! Why a packet was not relayed: one numbered list for the XDP program, the reference path, logs and
//! metrics. Numbers are never reused.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $label:literal;)+) => {
        /// Why a packet was not relayed.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[cfg_attr(any(test, feature = "std"), derive(Debug))]
        pub enum Reason {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Reason {
            /// Every reason, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The reason with this number.
            #[inline(always)]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Metric label and the word in logs.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// What it means, for people.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    /// The Ethernet, VLAN, IP or UDP header ends before it should.
    Truncated = 1, "truncated";
    /// More VLAN tags than two.
    VlanDepth = 2, "vlan_depth";
    /// An IPv4 header of another version, or with a length below 20 octets or beyond the packet.
    Ipv4Header = 3, "ipv4_header";
    /// An IPv4 or IPv6 fragment: media is never fragmented on purpose.
    Fragment = 4, "fragment";
    /// An IPv6 extension header chain longer than the bound, or one that media never has.
    Ipv6Extension = 5, "ipv6_extension";
    /// The UDP length disagrees with the packet.
    UdpLength = 6, "udp_length";
    /// An IPv4-mapped or multicast address on the wire.
    BadAddress = 7, "bad_address";
    /// Too short for RTP or RTCP, or not version 2.
    NotRtp = 8, "not_rtp";
    /// CSRC list, extension or padding beyond the packet.
    RtpHeader = 9, "rtp_header";
    /// RTCP on a port that the answer gave to RTP alone.
    RtcpUnexpected = 10, "rtcp_unexpected";
    /// RTP on a port that the answer gave to RTCP alone.
    RtpUnexpected = 11, "rtp_unexpected";
    /// The source address is not one that this flow hears.
    SourceRefused = 12, "source_refused";
    /// Another source is latched and this one may not replace it.
    LatchRefused = 13, "latch_refused";
    /// A payload type that was not negotiated.
    PayloadType = 14, "payload_type";
    /// Above the flow's packet rate.
    RateLimited = 15, "rate_limited";
    /// The direction is closed: hold, or the answer said so.
    Muted = 16, "muted";
    /// No route to the far end, or the far end is this host.
    NoRoute = 17, "no_route";
    /// The far end's link address is not known yet.
    NoNeighbour = 18, "no_neighbour";
    /// Larger than the way out carries.
    TooBig = 19, "too_big";
    /// The route says prohibited.
    RouteRefused = 20, "route_refused";
    /// The driver left no room in front of the packet for a longer header.
    NoHeadroom = 21, "no_headroom";
    /// Neither address nor latch says where to send.
    NoDestination = 22, "no_destination";
    /// A map look-up that cannot fail did: the flow's slot is outside the state array.
    StateMissing = 23, "state_missing";
    /// The ring to userspace was full: a record was lost, the packet itself was relayed.
    RecordLost = 24, "record_lost";
    /// The way out is an interface that the loader has not set up for transmit.
    NoTransmit = 25, "no_transmit";
    /// An IP or UDP checksum that is wrong (checked on the plain-socket path and when IPv6 needs a new one).
    Checksum = 26, "checksum";
    /// The RTCP compound is malformed.
    RtcpHeader = 27, "rtcp_header";
    /// The route is a blackhole.
    RouteBlackhole = 28, "route_blackhole";
    /// The route says unreachable.
    RouteUnreachable = 29, "route_unreachable";
    /// Forwarding is switched off on `lo`, where the route look-up starts: set `net.ipv4.conf.lo.forwarding`
    /// and `net.ipv6.conf.lo.forwarding` to 1.
    ForwardingDisabled = 30, "forwarding_disabled";
    /// The route leads into a tunnel that the kernel puts on with a light-weight encapsulation.
    RouteEncapsulated = 31, "route_encapsulated";
    /// The route look-up itself failed.
    RouteLookup = 32, "route_lookup";
    /// An EtherType of IPv6 in front of something else.
    Ipv6Header = 33, "ipv6_header";
    /// For a SIP socket of ours, from an address that no trunk allows.
    UnknownSource = 34, "unknown_source";
    /// For a SIP socket of ours, from an address that was denied.
    SourceDenied = 35, "source_denied";
    /// For a SIP socket of ours, faster than one address may send.
    SourceRate = 36, "source_rate";
    /// Too short for the header and tag of SRTP: never protected, or cut.
    SrtpShort = 40, "srtp_short";
    /// The tag of SRTP is wrong: another key, a damaged packet, or one that was never protected.
    BadTag = 41, "bad_tag";
    /// An index of SRTP that was there before, or lies too far behind; on the way out, a repeated RTP packet.
    Replayed = 42, "replayed";
    /// More SSRCs than one SRTP stream may have.
    TooManySources = 43, "too_many_sources";
    /// The keys of an SRTP flow are not there, or changed while the packet was under way.
    KeysMissing = 44, "keys_missing";
    /// The driver left no room behind the packet for the tag of SRTP.
    NoTailroom = 45, "no_tailroom";
    /// The program for SRTP is not loaded: this kernel refused it.
    NoSrtp = 46, "no_srtp";
    /// Userspace relays this flow, and no socket of the daemon's takes packets of this receive queue: it is down, or has
    /// no CAP_NET_RAW.
    NoSocket = 47, "no_socket";
    /// Userspace relays this flow, and the worker that it belongs to did not keep up with what others passed on to it.
    HandoverFull = 48, "handover_full";
    /// Userspace relays this flow, and the worker did not take packets off its sockets fast enough.
    SocketFull = 49, "socket_full";
    /// A connectivity check (RFC 8445) that proves nothing, or something that only looks like one.
    CheckRefused = 52, "check_refused";
    /// Connectivity checks of sources that none has vouched for, more than a port hears of them.
    CheckRate = 53, "check_rate";
}

/// Size of an array indexed by [`Reason`], with room for those to come.
pub const REASONS_MAX: u32 = 64;

/// Counters that are not drops, per CPU, indexed by number.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub enum Traffic {
    /// Left to the host's own stack: no flow has this address and port.
    Passed = 0,
    /// Relayed out of the interface it came in by.
    Transmitted = 1,
    /// Relayed out of another interface.
    Redirected = 2,
    /// Route look-ups because no cached next hop was valid.
    RouteLookups = 3,
    /// Left to the host's own stack: later fragments, which name no port. Their first fragment is refused
    /// when it is for a flow, so that the stack never completes the packet.
    LaterFragments = 4,
    /// Handed to userspace, which relays their flow.
    Punted = 5,
    /// Connectivity checks (RFC 8445) that were answered.
    ChecksAnswered = 6,
    /// Copies for captures that found no room; the packets themselves went their way.
    CapturesLost = 7,
}

impl Traffic {
    /// Every counter, by number.
    pub const ALL: &'static [Self] = &[
        Self::Passed,
        Self::Transmitted,
        Self::Redirected,
        Self::RouteLookups,
        Self::LaterFragments,
        Self::Punted,
        Self::ChecksAnswered,
        Self::CapturesLost,
    ];

    /// Metric label and the word in logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Transmitted => "transmitted",
            Self::Redirected => "redirected",
            Self::RouteLookups => "route_lookups",
            Self::LaterFragments => "later_fragments",
            Self::Punted => "punted",
            Self::ChecksAnswered => "checks_answered",
            Self::CapturesLost => "captures_lost",
        }
    }
}

/// Size of an array indexed by [`Traffic`].
pub const TRAFFIC_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_labels_are_unique_and_fit_the_array() {
        let mut labels: Vec<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|reason| (*reason as u32) < REASONS_MAX));
        assert!(Reason::ALL.windows(2).all(|pair| (pair[0] as u8) < pair[1] as u8));
    }
}
