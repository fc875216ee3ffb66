//! Frames of AMR and AMR-WB in RTP payloads (RFC 4867 sections 4.3 and 4.4).

use super::parameters::Band;
use crate::codec::{LONGEST_PACKET_MS, Malformed};

/// "No mode request" in the header of a payload (section 4.3.1).
pub const NO_MODE_REQUEST: u8 = 15;
/// A frame type that carries nothing: lost, or not sent in silence.
const NO_DATA: u8 = 15;
/// The lost frame of AMR-WB.
const SPEECH_LOST: u8 = 14;
/// Octets of the longest frame: 477 bits of AMR-WB 23.85.
pub(super) const LONGEST: usize = 60;
/// Frames of the longest packet.
const MOST_FRAMES: usize = (LONGEST_PACKET_MS / super::FRAME_MS) as usize;

/// How payloads of a leg are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub band: Band,
    pub octet_aligned: bool,
}

/// 20 ms as the codec has them: bits in the order of RFC 4867 section 3.6, the first the most significant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// A mode of speech, a description of silence, or nothing.
    pub(super) kind: u8,
    /// Whether nobody on the way found it damaged (Q of section 4.3.2).
    pub(super) good: bool,
    pub(super) bits: [u8; LONGEST],
}

impl Frame {
    pub(super) const NO_DATA: Self = Self { kind: NO_DATA, good: true, bits: [0; LONGEST] };

    pub(super) fn has_data(&self) -> bool {
        self.kind < SPEECH_LOST
    }
}

/// Bits of a frame by type (RFC 4867 section 3.6 and 3GPP TS 26.101, TS 26.201); `None` for reserved types.
pub(super) fn frame_bits(band: Band, kind: u8) -> Option<usize> {
    const NARROW: [usize; 9] = [95, 103, 118, 134, 148, 159, 204, 244, 39];
    const WIDE: [usize; 10] = [132, 177, 253, 285, 317, 365, 397, 461, 477, 40];
    let lengths = match band {
        Band::Narrow => NARROW.as_slice(),
        Band::Wide => WIDE.as_slice(),
    };
    match kind {
        NO_DATA => Some(0),
        SPEECH_LOST if band == Band::Wide => Some(0),
        _ => lengths.get(usize::from(kind)).copied(),
    }
}

/// Reads the frames of a payload, oldest first, and returns the mode that it asks for.
///
/// # Errors
/// A payload that is none; `frames` then holds what was before it in the payload.
pub fn read(layout: Layout, payload: &[u8], frames: &mut Vec<Frame>) -> Result<u8, Malformed> {
    frames.clear();
    let mut reader = Bits { octets: payload, at: 0 };
    let request = reader.take(4)?;
    reader.skip(if layout.octet_aligned { 4 } else { 0 });
    loop {
        let (follows, kind, good) = (reader.take(1)?, reader.take(4)?, reader.take(1)?);
        reader.skip(if layout.octet_aligned { 2 } else { 0 });
        frame_bits(layout.band, kind).ok_or(Malformed::FrameType)?;
        if frames.len() == MOST_FRAMES {
            return Err(Malformed::Long);
        }
        frames.push(Frame { kind, good: good == 1, bits: [0; LONGEST] });
        if follows == 0 {
            break;
        }
    }
    for frame in frames.iter_mut() {
        let mut missing = frame_bits(layout.band, frame.kind).ok_or(Malformed::FrameType)?;
        for octet in &mut frame.bits[..missing.div_ceil(8)] {
            let taken = missing.min(8);
            *octet = reader.take(taken)? << (8 - taken);
            missing -= taken;
        }
        reader.skip(if layout.octet_aligned { reader.at.next_multiple_of(8) - reader.at } else { 0 });
    }
    Ok(request)
}

/// Appends the payload of `frames`, oldest first, that asks for the mode `request`.
pub fn write(layout: Layout, request: u8, frames: &[Frame], payload: &mut Vec<u8>) {
    let mut writer = Writer { octets: payload, free: 0 };
    writer.put(request, 4);
    writer.put(0, if layout.octet_aligned { 4 } else { 0 });
    for (at, frame) in frames.iter().enumerate() {
        writer.put(u8::from(at + 1 < frames.len()), 1);
        writer.put(frame.kind, 4);
        writer.put(u8::from(frame.good), 1);
        writer.put(0, if layout.octet_aligned { 2 } else { 0 });
    }
    for frame in frames {
        let mut missing = frame_bits(layout.band, frame.kind).unwrap_or_default();
        for octet in &frame.bits[..missing.div_ceil(8)] {
            let put = missing.min(8);
            writer.put(octet >> (8 - put), put);
            missing -= put;
        }
        if layout.octet_aligned {
            writer.free = 0;
        }
    }
}

/// Reads bits, the most significant of an octet first.
struct Bits<'a> {
    octets: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// Up to eight bits, as a number.
    fn take(&mut self, count: usize) -> Result<u8, Malformed> {
        if count == 0 {
            return Ok(0);
        }
        let (octet, shift) = (self.at / 8, self.at % 8);
        if self.at + count > self.octets.len() * 8 {
            return Err(Malformed::Truncated);
        }
        self.at += count;
        let high = u16::from(self.octets[octet]) << 8;
        let low = self.octets.get(octet + 1).copied().map_or(0, u16::from);
        Ok((((high | low) << shift) >> (16 - count)) as u8)
    }

    fn skip(&mut self, count: usize) {
        self.at += count;
    }
}

/// Writes bits, the most significant of an octet first.
struct Writer<'a> {
    octets: &'a mut Vec<u8>,
    /// Bits of the last octet that nothing is in yet.
    free: usize,
}

impl Writer<'_> {
    /// The lowest `count` bits of `value`, at most eight.
    fn put(&mut self, value: u8, count: usize) {
        for bit in (0..count).rev() {
            if self.free == 0 {
                self.octets.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(last) = self.octets.last_mut() {
                *last |= (value >> bit & 1) << self.free;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAYOUTS: [Layout; 4] = [
        Layout { band: Band::Narrow, octet_aligned: false },
        Layout { band: Band::Narrow, octet_aligned: true },
        Layout { band: Band::Wide, octet_aligned: false },
        Layout { band: Band::Wide, octet_aligned: true },
    ];

    /// Figure 3 of RFC 4867 section 4.3.5.1: one frame of AMR 5.9, bandwidth-efficient.
    #[test]
    fn the_single_frame_of_the_rfc_is_read() {
        let layout = LAYOUTS[0];
        // CMR 15, F 0, FT 4 (7.4 kbit/s: 148 bits), Q 1, then the bits, 2 of padding.
        let mut payload = vec![0b1111_0010, 0b0100_0000];
        payload.resize((4 + 6 + 148_usize).div_ceil(8), 0xff);
        payload[1] |= 0x3f;
        let mut frames = Vec::new();
        assert_eq!(read(layout, &payload, &mut frames), Ok(NO_MODE_REQUEST));
        assert_eq!((frames.len(), frames[0].kind, frames[0].good), (1, 4, true));
        assert_eq!(frames[0].bits[..18], [0xff; 18]);
        assert_eq!(frames[0].bits[18], 0xf0);
        assert_eq!(frames[0].bits[19..], [0; 41]);
    }

    fn frames() -> impl Strategy<Value = (Layout, u8, Vec<Frame>)> {
        let frame = |band| {
            (0..16u8, any::<bool>(), prop::collection::vec(any::<u8>(), LONGEST))
                .prop_filter("reserved type", move |(kind, ..)| frame_bits(band, *kind).is_some())
                .prop_map(move |(kind, good, octets)| {
                    let mut bits = [0; LONGEST];
                    let used = frame_bits(band, kind).unwrap();
                    for at in 0..used {
                        bits[at / 8] |= octets[at / 8] & (0x80 >> (at % 8));
                    }
                    Frame { kind, good, bits }
                })
        };
        (prop::sample::select(LAYOUTS.as_slice()), 0..16u8).prop_flat_map(move |(layout, request)| {
            (Just(layout), Just(request), prop::collection::vec(frame(layout.band), 1..=MOST_FRAMES))
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read((layout, request, frames) in frames()) {
            let (mut payload, mut again) = (Vec::new(), Vec::new());
            write(layout, request, &frames, &mut payload);
            prop_assert_eq!(read(layout, &payload, &mut again), Ok(request));
            prop_assert_eq!(&again, &frames);
            // Cut anywhere, it ends before what it announces.
            for length in 0..payload.len() {
                prop_assert_eq!(read(layout, &payload[..length], &mut again), Err(Malformed::Truncated));
            }
        }

        #[test]
        fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            for layout in LAYOUTS {
                let mut frames = Vec::new();
                let _ = read(layout, &octets, &mut frames);
                prop_assert!(frames.len() <= MOST_FRAMES);
            }
        }
    }
}
