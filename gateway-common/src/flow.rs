//! What the control plane writes for each flow, and only it: the kernel reads these and never writes them.
//!
//! A flow is one direction of one stream, named by the local address and port its packets arrive at. A call
//! with audio between two legs has two flows, four when RTCP has ports of its own on both legs.

use crate::{
    learned::FlowState,
    net::{Addr128, Be16, Be32},
    verdict::Reason,
};
use core::mem::{offset_of, size_of};

/// Key of a flow: where its packets arrive.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct FlowKey {
    pub address: Addr128,
    pub port: Be16,
    /// Always zero. In whole words, which the program writes as such.
    pub padding: u16,
    pub padding_2: u32,
}

impl FlowKey {
    #[inline(always)]
    pub const fn new(address: Addr128, port: Be16) -> Self {
        Self { address, port, padding: 0, padding_2: 0 }
    }
}

/// What a flow's packets are, decided by the answer (RFC 3550, RFC 5761).
#[repr(u8)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub enum FlowKind {
    /// RTP only; RTCP has another port. RTCP arriving here is refused by name.
    #[default]
    Rtp = 0,
    /// RTCP only.
    Rtcp = 1,
    /// Both on one port, told apart by the second octet (RFC 5761 section 4).
    Mux = 2,
    /// Fax (ITU-T T.38), relayed as it is; always with [`flag::PUNT`].
    Udptl = 3,
}

impl FlowKind {
    /// The word in answers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rtp => "rtp",
            Self::Rtcp => "rtcp",
            Self::Mux => "mux",
            Self::Udptl => "udptl",
        }
    }
}

/// Which source addresses a flow hears.
#[repr(u8)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub enum Gate {
    /// The signalled address and port only.
    #[default]
    Exact = 0,
    /// Any port of `gate_address`/`gate_prefix`.
    Subnet = 1,
    /// Everybody.
    Any = 2,
}

/// When the kernel may learn the far end's real source and send there (symmetric RTP, RFC 4961).
#[repr(u8)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub enum Latch {
    /// Never: send where the signalling said.
    #[default]
    Signalled = 0,
    /// To the first source that passes the gate; after that to a new source only if its packets carry the
    /// SSRC already heard.
    SameSsrc = 1,
    /// To the first source that passes the gate, and then to no other.
    FirstPacket = 2,
}

/// Bits of [`FlowConfig::flags`].
pub mod flag {
    /// Copy each RTCP packet to userspace as well as relaying it.
    pub const RTCP_COPY: u16 = 1 << 0;
    /// Record telephone-events (RFC 4733) to userspace.
    pub const TELEPHONE_EVENT: u16 = 1 << 1;
    /// Keep SSRC, sequence and timestamp continuous on the far side when the source of the stream changes.
    pub const CONTINUITY: u16 = 1 << 2;
    /// Swallow RTP after accounting: a leg on hold, or a direction that the answer closed.
    pub const MUTED: u16 = 1 << 3;
    /// What arrives is SRTP, to be unprotected with the keys of [`super::FlowConfig::crypto_slot`].
    pub const UNPROTECT: u16 = 1 << 4;
    /// What leaves is to be protected with them.
    pub const PROTECT: u16 = 1 << 5;
    /// Either.
    pub const SECURED: u16 = UNPROTECT | PROTECT;
    /// Userspace relays: packets leave the program for the socket of their receive queue.
    pub const PUNT: u16 = 1 << 6;
    /// Connectivity checks arrive among the media: packets of STUN leave the program for the socket of their receive queue.
    pub const ICE: u16 = 1 << 7;
    /// Userspace sends reports by this flow, and alone counts the index of SRTCP that leaves by it: RTCP leaves
    /// the program for the socket of its receive queue, and RTP does not.
    pub const REPORTED: u16 = 1 << 8;
    /// A capture of the call takes copies of what comes and leaves.
    pub const CAPTURE: u16 = 1 << 10;
    /// Of whole packets, not of headers alone.
    pub const CAPTURE_AUDIO: u16 = 1 << 11;
    /// Any of these, and packets take a longer way than that of all others: the one question that those are asked.
    pub const UNUSUAL: u16 = SECURED | PUNT | ICE | REPORTED | CAPTURE;
}

/// Why userspace relays a flow that has [`flag::PUNT`].
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub enum Punted {
    /// A trunk of the call says so.
    Policy = 1,
    /// The kernel's relay does not know the SRTP suite, or a key identifier of that length.
    SrtpSuite = 2,
    /// This kernel refused the programs for SRTP.
    KernelWithoutSrtp = 3,
    /// Its two peers speak different codecs.
    Codec = 4,
    /// Keys travel differently on its two legs.
    Keys = 5,
    /// A trunk wants packets of another length.
    PacketTime = 6,
    /// One of them hears something of the gateway's own.
    Tones = 7,
    /// Checks have vouched for several sources, or may for several far ends, and none is chosen yet.
    Checks = 8,
    /// It is fax, not RTP.
    Udptl = 9,
    /// Where one of its peers falls silent, the other hears comfort noise.
    Silence = 10,
}

impl Punted {
    pub const ALL: &'static [Self] = &[
        Self::Policy,
        Self::SrtpSuite,
        Self::KernelWithoutSrtp,
        Self::Codec,
        Self::Keys,
        Self::PacketTime,
        Self::Tones,
        Self::Checks,
        Self::Udptl,
        Self::Silence,
    ];

    /// Of [`FlowConfig::punted`].
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|why| *why as u8 == number)
    }

    /// Metric label and the word in logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::SrtpSuite => "srtp_suite",
            Self::KernelWithoutSrtp => "kernel_without_srtp",
            Self::Codec => "codec",
            Self::Keys => "keys",
            Self::PacketTime => "packet_time",
            Self::Tones => "tones",
            Self::Checks => "checks",
            Self::Udptl => "udptl",
            Self::Silence => "silence",
        }
    }
}

/// Where packets leave to and from.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct Output {
    pub local: Addr128,
    pub remote: Addr128,
    pub local_port: Be16,
    pub remote_port: Be16,
    /// Slot of the flow whose latched source replaces `remote`, or [`NO_SLOT`].
    pub learned_slot: u32,
    /// `epoch` and `latch_epoch` of that flow's configuration: what its slot learned for an earlier call, or
    /// before the far end moved, does not count.
    pub learned_epoch: u32,
    pub learned_latch_epoch: u32,
}

impl Output {
    /// Where to send: the source that the flow in `learned_slot` latched to, else the signalled address.
    ///
    /// `learned` is that slot's state. [`Reason::NoDestination`] when nothing names an address and port.
    #[inline(always)]
    pub fn destination(&self, learned: Option<&FlowState>) -> Result<(Addr128, Be16), Reason> {
        if let Some(state) = learned
            && state.latched == 1
            && state.epoch == self.learned_epoch
            && state.latch_epoch == self.learned_latch_epoch
        {
            return Ok((state.source, state.source_port));
        }
        if self.remote_port == Be16::new(0) || self.remote.is_unspecified() {
            return Err(Reason::NoDestination);
        }
        Ok((self.remote, self.remote_port))
    }
}

/// No such slot.
pub const NO_SLOT: u32 = u32::MAX;
/// Entry of [`FlowConfig::payload_types`]: not negotiated, refuse.
pub const PT_REFUSED: u8 = 0xff;
/// Bit of an entry of [`FlowConfig::payload_types`]: this type carries telephone-events.
pub const PT_EVENT: u8 = 0x80;
/// [`FlowConfig::dscp`]: keep the mark of the incoming packet.
pub const DSCP_KEEP: u8 = 0xff;

/// One flow, without the key. Laid out for the cache behind the key of a [`FlowEntry`]: what an RTP packet asks for that
/// finds no shortcut lies in two lines, of which one that does needs the first.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct FlowConfig {
    /// Index of this flow's [`crate::learned::FlowState`].
    pub slot: u32,
    /// Differs from any epoch this slot had before: the kernel starts a fresh state when it sees a new one.
    pub epoch: u32,
    /// Raised by the control plane when the far end may have moved (re-INVITE): the kernel forgets the latch.
    pub latch_epoch: u32,
    /// RTP clock of the stream in Hz, for jitter (RFC 3550 section 6.4.1).
    pub clock_rate: u32,
    pub kind: FlowKind,
    pub gate: Gate,
    pub latch: Latch,
    /// 0 to 63, or [`DSCP_KEEP`].
    pub dscp: u8,
    /// See [`flag`].
    pub flags: u16,
    /// Bits of `gate_address` that must match, 0 to 128 (IPv4 prefixes plus 96).
    pub gate_prefix: u8,
    /// [`Punted`] of a flow with [`flag::PUNT`], else 0. For people: no program looks at it.
    pub punted: u8,
    pub gate_address: Addr128,

    /// Where RTP goes.
    pub rtp: Output,
    pub gate_port: Be16,
    pub usual: UsualPayloadType,
    /// Packets per second, 0 for no limit.
    pub rate: u32,
    /// Packets that may come at once above the rate.
    pub burst: u32,
    /// SSRC that the far side hears when [`flag::CONTINUITY`] is set, or 0: that of the first source heard.
    pub ssrc: Be32,

    /// Where RTCP goes: of a [`FlowKind::Rtcp`] or [`FlowKind::Mux`] flow.
    pub rtcp: Output,
    /// Slot of the flow that carries the RTP stream this flow's RTCP speaks for: the flow itself when both
    /// share a port. Its SSRC and timestamps are translated as the stream's are; [`NO_SLOT`] translates none.
    pub stream_slot: u32,
    /// Slot of the flow that carries the RTP stream this flow's RTCP reports on (the opposite direction), so
    /// that report blocks name the SSRC which the far end sends; [`NO_SLOT`] translates none.
    pub reported_slot: u32,
    /// Index of this flow's [`crate::srtp::FlowKeys`] and [`crate::srtp::FlowCrypto`], or [`NO_SLOT`] for none.
    pub crypto_slot: u32,
    /// Slot of the flow whose RTP goes where packets of this one come from, or [`NO_SLOT`]: a new source is news to it.
    pub follower_slot: u32,

    /// Outgoing payload type by incoming one: [`PT_REFUSED`], or 0 to 127 with [`PT_EVENT`] where it applies.
    pub payload_types: [u8; 128],
}

/// One entry of [`FlowConfig::payload_types`] again, where most packets find it without a look into the table.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct UsualPayloadType {
    /// 0 to 127, or [`PT_REFUSED`] for none.
    pub incoming: u8,
    pub entry: u8,
}

impl UsualPayloadType {
    pub const NONE: Self = Self { incoming: PT_REFUSED, entry: PT_REFUSED };
}

/// A flow as the flow table holds it.
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct FlowEntry {
    /// Of the [`FlowKey`].
    pub address: Addr128,
    pub port: Be16,
    pub padding: u16,
    /// Another one than any that this slot had before; never 0.
    pub revision: u32,
    pub config: FlowConfig,
}

impl FlowEntry {
    pub const fn new(key: FlowKey, revision: u32, config: FlowConfig) -> Self {
        Self { address: key.address, port: key.port, padding: 0, revision, config }
    }

    pub const fn key(&self) -> FlowKey {
        FlowKey::new(self.address, self.port)
    }

    /// Whether packets for this address and port are the flow's.
    #[inline(always)]
    pub fn is_at(&self, address: Addr128, port: Be16) -> bool {
        self.address == address && self.port == port
    }
}

/// All that the flow table holds of a slot, in one element of one map: a packet finds it by one look-up, most often in one
/// page. Control writes the versions, the kernel the state; they have no cache line in common.
///
/// Not of a power of two: what packets need of all flows would then meet in a few sets of each cache.
#[repr(C, align(64))]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "std"), derive(Debug))]
pub struct FlowSlot {
    /// A flow changes by its other version being written and the index then pointing there, so that no packet sees half
    /// of a change.
    pub versions: [FlowEntry; 2],
    pub state: FlowState,
}

const _: () = {
    assert!(offset_of!(FlowEntry, config) + offset_of!(FlowConfig, rtp) == 64);
    assert!(offset_of!(FlowEntry, config) + offset_of!(FlowConfig, rtcp) == 128);
    assert!(size_of::<FlowEntry>() == 320);
    assert!(offset_of!(FlowSlot, state).is_multiple_of(64));
    assert!(size_of::<FlowSlot>() == 1088);
};

impl Default for FlowConfig {
    fn default() -> Self {
        let output = Output { learned_slot: NO_SLOT, ..Output::default() };
        Self {
            slot: 0,
            epoch: 0,
            latch_epoch: 0,
            clock_rate: 8000,
            kind: FlowKind::default(),
            gate: Gate::default(),
            latch: Latch::default(),
            dscp: DSCP_KEEP,
            flags: 0,
            gate_prefix: 128,
            punted: 0,
            gate_address: Addr128::UNSPECIFIED,
            rtp: output,
            gate_port: Be16::new(0),
            usual: UsualPayloadType::NONE,
            rate: 0,
            burst: 0,
            ssrc: Be32::new(0),
            rtcp: output,
            stream_slot: NO_SLOT,
            reported_slot: NO_SLOT,
            crypto_slot: NO_SLOT,
            follower_slot: NO_SLOT,
            payload_types: [PT_REFUSED; 128],
        }
    }
}
