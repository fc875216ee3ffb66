//! opencore-amr and vo-amrwbenc: C libraries, called here and nowhere else, behind types that are safe.
//!
//! Declarations are those of `opencore-amrnb/interf_{enc,dec}.h`, `opencore-amrwb/dec_if.h` and
//! `vo-amrwbenc/enc_if.h`, as Debian 12 has them. `build.rs` asks pkg-config for the libraries.
#![expect(unsafe_code, reason = "C libraries")]

use super::parameters::Band;
use super::payload::{Frame, LONGEST, frame_bits};
use crate::codec::LibraryRefused;
use std::ffi::{c_int, c_short, c_uchar, c_void};
use std::ptr::NonNull;

/// Samples of the longest frame: 20 ms at 16 kHz.
pub(super) const LONGEST_FRAME: usize = 320;
/// Speech of one frame; AMR uses the first half.
pub(super) type SpeechFrame = [i16; LONGEST_FRAME];
/// A type octet and the longest frame, with room to spare: libraries read whole frames of their own reckoning.
const STORAGE: usize = 128;

/// An encoder of either band. `dtx` is off: this gateway's silence is decided where packets are made.
#[derive(Debug)]
pub(super) struct FrameEncoder {
    band: Band,
    state: NonNull<c_void>,
}

/// A decoder of either band.
#[derive(Debug)]
pub(super) struct FrameDecoder {
    band: Band,
    state: NonNull<c_void>,
}

// SAFETY: the state is heap memory that only this value points to; the libraries keep nothing per thread.
unsafe impl Send for FrameEncoder {}
// SAFETY: as for the encoder.
unsafe impl Send for FrameDecoder {}

impl FrameEncoder {
    pub(super) fn new(band: Band) -> Result<Self, LibraryRefused> {
        let state = match band {
            // SAFETY: takes a flag, gives a new state or null.
            Band::Narrow => unsafe { Encoder_Interface_init(0) },
            // SAFETY: takes nothing, gives a new state or null.
            Band::Wide => unsafe { E_IF_init() },
        };
        Ok(Self { band, state: NonNull::new(state).ok_or(LibraryRefused(band.name()))? })
    }

    /// Codes one frame; `speech` has the band's samples of 20 ms, `mode` is one of its speech modes.
    pub(super) fn encode(&mut self, speech: &[i16], mode: u8) -> Frame {
        assert_eq!(speech.len(), self.band.frame_samples(), "the caller cuts audio into frames");
        assert!(mode <= self.band.highest_mode(), "modes are those of the band");
        let mut stored = [0u8; STORAGE];
        // opencore-amr halves the samples where they lie, whatever its header promises.
        let mut samples: SpeechFrame = [0; LONGEST_FRAME];
        samples[..speech.len()].copy_from_slice(speech);
        let (mode, from, to) = (c_int::from(mode), samples.as_mut_ptr(), stored.as_mut_ptr());
        match self.band {
            // SAFETY: the state is ours and alive; `from` has the 160 samples that are read and written, `to` more
            // than the 32 octets that are written at most; the mode is one of the enumeration.
            Band::Narrow => unsafe { Encoder_Interface_Encode(self.state.as_ptr(), mode, from, to, 0) },
            // SAFETY: the state is ours and alive; `from` has the 320 samples that are read, `to` more than the
            // 61 octets that are written at most; the mode is 0 to 8.
            Band::Wide => unsafe { E_IF_encode(self.state.as_ptr(), mode, from, to, 0) },
        };
        let mut frame = Frame { kind: stored[0] >> 3 & 0x0f, good: true, bits: [0; LONGEST] };
        frame.bits.copy_from_slice(&stored[1..=LONGEST]);
        // Libraries leave what they like behind the last bit.
        let used = frame_bits(self.band, frame.kind).unwrap_or_default();
        frame.bits[used.div_ceil(8)..].fill(0);
        if !used.is_multiple_of(8) {
            frame.bits[used / 8] &= 0xffu8 << (8 - used % 8);
        }
        frame
    }
}

impl FrameDecoder {
    pub(super) fn new(band: Band) -> Result<Self, LibraryRefused> {
        let state = match band {
            // SAFETY: takes nothing, gives a new state or null.
            Band::Narrow => unsafe { Decoder_Interface_init() },
            // SAFETY: takes nothing, gives a new state or null.
            Band::Wide => unsafe { D_IF_init() },
        };
        Ok(Self { band, state: NonNull::new(state).ok_or(LibraryRefused(band.name()))? })
    }

    /// Decodes one frame into the first samples of `speech`; what is damaged or missing is concealed.
    pub(super) fn decode(&mut self, frame: &Frame, speech: &mut SpeechFrame) {
        let mut stored = [0u8; STORAGE];
        let known = frame_bits(self.band, frame.kind).is_some() && frame.has_data() && frame.good;
        let frame = if known { frame } else { &Frame::NO_DATA };
        stored[0] = frame.kind << 3 | 0x04;
        stored[1..=LONGEST].copy_from_slice(&frame.bits);
        let (from, to) = (stored.as_ptr(), speech.as_mut_ptr());
        match self.band {
            // SAFETY: the state is ours and alive; `from` has a type that the library knows and more octets than
            // the longest frame; `to` has room for the 160 samples that are written.
            Band::Narrow => unsafe { Decoder_Interface_Decode(self.state.as_ptr(), from, to, 0) },
            // SAFETY: the state is ours and alive; `from` has a type that the library knows and more octets than
            // the longest frame; `to` has room for the 320 samples that are written.
            Band::Wide => unsafe { D_IF_decode(self.state.as_ptr(), from, to, 0) },
        }
    }
}

impl Drop for FrameEncoder {
    fn drop(&mut self) {
        match self.band {
            // SAFETY: made by its counterpart in `new`, and freed once.
            Band::Narrow => unsafe { Encoder_Interface_exit(self.state.as_ptr()) },
            // SAFETY: made by its counterpart in `new`, and freed once.
            Band::Wide => unsafe { E_IF_exit(self.state.as_ptr()) },
        }
    }
}

impl Drop for FrameDecoder {
    fn drop(&mut self) {
        match self.band {
            // SAFETY: made by its counterpart in `new`, and freed once.
            Band::Narrow => unsafe { Decoder_Interface_exit(self.state.as_ptr()) },
            // SAFETY: made by its counterpart in `new`, and freed once.
            Band::Wide => unsafe { D_IF_exit(self.state.as_ptr()) },
        }
    }
}

// SAFETY: signatures as in the headers named above, but for `speech`, which opencore-amr writes to; C's
// `enum Mode` is an `int`.
unsafe extern "C" {
    fn Encoder_Interface_init(dtx: c_int) -> *mut c_void;
    fn Encoder_Interface_exit(state: *mut c_void);
    fn Encoder_Interface_Encode(
        state: *mut c_void,
        mode: c_int,
        speech: *mut c_short,
        out: *mut c_uchar,
        force_speech: c_int,
    ) -> c_int;
    fn Decoder_Interface_init() -> *mut c_void;
    fn Decoder_Interface_exit(state: *mut c_void);
    fn Decoder_Interface_Decode(
        state: *mut c_void,
        bits: *const c_uchar,
        synth: *mut c_short,
        bad_frame: c_int,
    );
    fn E_IF_init() -> *mut c_void;
    fn E_IF_exit(state: *mut c_void);
    fn E_IF_encode(
        state: *mut c_void,
        mode: c_int,
        speech: *mut c_short,
        out: *mut c_uchar,
        dtx: c_int,
    ) -> c_int;
    fn D_IF_init() -> *mut c_void;
    fn D_IF_exit(state: *mut c_void);
    fn D_IF_decode(state: *mut c_void, bits: *const c_uchar, synth: *mut c_short, bad_frame: c_int);
}
