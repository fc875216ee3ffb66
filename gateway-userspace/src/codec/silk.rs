//! SILK as Skype published it in 2010 (draft-vos-silk-01): `SILK/8000` and `SILK/16000`, frames of 20 ms, one to five of
//! them coded as one payload. Not the SILK layer of Opus, which is another bit stream.
//!
//! The codec is the SDK in C, called here and nowhere else, behind types that are safe.
#![expect(unsafe_code, reason = "a C library")]

use super::{EncodeFault, LibraryRefused, Malformed};
use crate::rtp::codec::parameter;
// Links the SDK that it compiles; its own interface reads and writes files only.
extern crate silk_codec as _;
use std::ffi::{c_int, c_void};
use std::fmt;

/// Milliseconds of one frame.
pub const FRAME_MS: u32 = 20;
/// Milliseconds of the longest payload.
pub const LONGEST_MS: u32 = 100;
/// Octets of the longest payload that the SDK reads.
const LONGEST_PAYLOAD: usize = 1_024;
/// Samples of a frame at 16 kHz, the highest rate here, and some room.
const LONGEST_FRAME: usize = 480;
/// Bits a second where the peer says nothing else: what the draft recommends for each rate, at its upper end.
const NARROWBAND_BIT_RATE: u32 = 20_000;
const WIDEBAND_BIT_RATE: u32 = 25_000;
/// Of 0 to 2: the middle costs half of the highest.
const COMPLEXITY: c_int = 1;

/// What the peer's `a=rtpmap` and `a=fmtp` say of packets to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Samples a second, and units of the RTP timestamp.
    pub sampling_rate: u32,
    /// Bits a second that the peer takes at most on average.
    pub bit_rate: u32,
}

impl Parameters {
    /// Reads `a=fmtp` of a stream at `sampling_rate`; values that are none count as not given.
    pub fn read(sampling_rate: u32, fmtp: &str) -> Self {
        let usual = if sampling_rate > 8_000 { WIDEBAND_BIT_RATE } else { NARROWBAND_BIT_RATE };
        let most = parameter(fmtp, "maxaveragebitrate").and_then(|value| value.parse::<u32>().ok());
        Self { sampling_rate, bit_rate: most.map_or(usual, |most| most.clamp(5_000, usual)) }
    }

    fn frame(&self) -> usize {
        (self.sampling_rate * FRAME_MS / 1000) as usize
    }
}

/// Memory of the SDK's choosing. It holds no pointers to itself and nothing outside, so it may move between threads.
struct State(Box<[u64]>);

impl State {
    /// As many octets as `size` asks for, in whole words: more alignment than any of the SDK's fields needs.
    fn sized(size: impl FnOnce(*mut i32) -> c_int) -> Option<Self> {
        let mut octets = 0;
        let asked = size(&raw mut octets);
        let octets = usize::try_from(octets).ok().filter(|octets| asked == 0 && *octets > 0)?;
        Some(Self(vec![0; octets.div_ceil(8)].into_boxed_slice()))
    }

    fn pointer(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }
}

/// State of the coding direction.
pub struct Encoder {
    state: State,
    parameters: Parameters,
}

impl Encoder {
    /// # Errors
    /// The SDK refused.
    pub fn new(parameters: &Parameters) -> Result<Self, LibraryRefused> {
        // SAFETY: writes one integer, which is there.
        let state = State::sized(|octets| unsafe { SKP_Silk_SDK_Get_Encoder_Size(octets) });
        let mut state = state.ok_or(LibraryRefused("SILK"))?;
        let mut status = EncoderControl::default();
        // SAFETY: the state has the octets that the SDK asked for; the status is there to be written.
        let set_up = unsafe { SKP_Silk_SDK_InitEncoder(state.pointer(), &raw mut status) };
        if set_up != 0 {
            return Err(LibraryRefused("SILK"));
        }
        Ok(Self { state, parameters: *parameters })
    }

    /// Appends one payload that carries `audio`.
    ///
    /// # Errors
    /// A length other than 20, 40, 60, 80 or 100 ms.
    pub fn encode(&mut self, audio: &[i16], payload: &mut Vec<u8>) -> Result<(), EncodeFault> {
        let fault = EncodeFault { codec: "SILK", samples: audio.len() };
        let frame = self.parameters.frame();
        if audio.is_empty() || !audio.len().is_multiple_of(frame) || audio.len() > 5 * frame {
            return Err(fault);
        }
        let control = EncoderControl {
            sampling_rate: self.parameters.sampling_rate as i32,
            highest_internal_rate: self.parameters.sampling_rate as i32,
            samples_per_packet: audio.len() as c_int,
            bit_rate: self.parameters.bit_rate as i32,
            complexity: COMPLEXITY,
            ..EncoderControl::default()
        };
        let start = payload.len();
        payload.resize(start + LONGEST_PAYLOAD, 0);
        let mut written = LONGEST_PAYLOAD as i16;
        // SAFETY: the state was set up and is ours alone; `audio` has the samples that are announced; the payload has
        // the octets that `written` announces, and the SDK writes no more.
        let coded = unsafe {
            let (from, to) = (audio.as_ptr(), payload[start..].as_mut_ptr());
            let samples = audio.len() as c_int;
            SKP_Silk_SDK_Encode(self.state.pointer(), &raw const control, from, samples, to, &raw mut written)
        };
        let written = usize::try_from(written).ok().filter(|_| coded == 0);
        payload.truncate(start + written.unwrap_or_default());
        written.map(drop).ok_or(fault)
    }
}

/// State of the decoding direction.
pub struct Decoder {
    state: State,
    parameters: Parameters,
}

impl Decoder {
    /// # Errors
    /// The SDK refused.
    pub fn new(parameters: &Parameters) -> Result<Self, LibraryRefused> {
        // SAFETY: writes one integer, which is there.
        let state = State::sized(|octets| unsafe { SKP_Silk_SDK_Get_Decoder_Size(octets) });
        let mut state = state.ok_or(LibraryRefused("SILK"))?;
        // SAFETY: the state has the octets that the SDK asked for.
        if unsafe { SKP_Silk_SDK_InitDecoder(state.pointer()) } != 0 {
            return Err(LibraryRefused("SILK"));
        }
        Ok(Self { state, parameters: *parameters })
    }

    /// Appends the audio of one payload, at most 100 ms.
    ///
    /// # Errors
    /// What is no payload of SILK; nothing is appended.
    pub fn decode(&mut self, payload: &[u8], audio: &mut Vec<i16>) -> Result<(), Malformed> {
        if payload.len() > LONGEST_PAYLOAD {
            return Err(Malformed::Long);
        }
        let start = audio.len();
        let longest = start + 5 * self.parameters.frame();
        while let Some(more) = self.frame(Some(payload), audio) {
            if !more {
                return Ok(());
            }
            if audio.len() >= longest {
                break;
            }
        }
        audio.truncate(start);
        Err(Malformed::Refused)
    }

    /// Appends at least `samples` in place of what was lost, or less if the SDK refuses.
    pub fn conceal(&mut self, samples: usize, audio: &mut Vec<i16>) {
        for _ in 0..samples.div_ceil(self.parameters.frame()) {
            if self.frame(None, audio).is_none() {
                return;
            }
        }
    }

    /// Appends one frame: the next one of a payload, or one made up where there is none. Whether the payload holds
    /// more; `None` when the SDK refuses.
    fn frame(&mut self, payload: Option<&[u8]>, audio: &mut Vec<i16>) -> Option<bool> {
        let mut control = DecoderControl {
            sampling_rate: self.parameters.sampling_rate as i32,
            frames_per_packet: 1,
            ..DecoderControl::default()
        };
        let (lost, octets) = (c_int::from(payload.is_none()), payload.unwrap_or(&[0]));
        let mut speech = [0; LONGEST_FRAME];
        let mut samples = LONGEST_FRAME as i16;
        // SAFETY: the state was set up and is ours alone; the payload has the octets that are announced; a frame at
        // 16 kHz at most has 320 samples, for which there is room.
        let decoded = unsafe {
            let (from, length) = (octets.as_ptr(), octets.len() as c_int);
            let (to, count) = (speech.as_mut_ptr(), &raw mut samples);
            SKP_Silk_SDK_Decode(self.state.pointer(), &raw mut control, lost, from, length, to, count)
        };
        let speech = usize::try_from(samples).ok().and_then(|samples| speech.get(..samples))?;
        if decoded != 0 || speech.is_empty() {
            return None;
        }
        audio.extend_from_slice(speech);
        Some(control.more_frames != 0)
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("silk::Encoder")
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("silk::Decoder")
    }
}

/// `SKP_SILK_SDK_EncControlStruct` of `SKP_Silk_control.h`.
#[repr(C)]
#[derive(Default)]
struct EncoderControl {
    sampling_rate: i32,
    highest_internal_rate: i32,
    samples_per_packet: c_int,
    bit_rate: i32,
    /// Per cent.
    expected_loss: c_int,
    complexity: c_int,
    forward_error_correction: c_int,
    discontinuous: c_int,
}

/// `SKP_SILK_SDK_DecControlStruct` of `SKP_Silk_control.h`.
#[repr(C)]
#[derive(Default)]
struct DecoderControl {
    sampling_rate: i32,
    frame_size: c_int,
    frames_per_packet: c_int,
    more_frames: c_int,
    redundancy_offset: c_int,
}

// SAFETY: signatures as in `SKP_Silk_SDK_API.h`, version 1.0.9.
unsafe extern "C" {
    fn SKP_Silk_SDK_Get_Encoder_Size(octets: *mut i32) -> c_int;
    fn SKP_Silk_SDK_InitEncoder(state: *mut c_void, status: *mut EncoderControl) -> c_int;
    fn SKP_Silk_SDK_Encode(
        state: *mut c_void,
        control: *const EncoderControl,
        samples: *const i16,
        sample_count: c_int,
        payload: *mut u8,
        octets: *mut i16,
    ) -> c_int;
    fn SKP_Silk_SDK_Get_Decoder_Size(octets: *mut i32) -> c_int;
    fn SKP_Silk_SDK_InitDecoder(state: *mut c_void) -> c_int;
    fn SKP_Silk_SDK_Decode(
        state: *mut c_void,
        control: *mut DecoderControl,
        lost: c_int,
        payload: *const u8,
        octets: c_int,
        samples: *mut i16,
        sample_count: *mut i16,
    ) -> c_int;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bit_rate_is_what_the_peer_takes() {
        assert_eq!(Parameters::read(16_000, "").bit_rate, 25_000);
        assert_eq!(Parameters::read(8_000, "maxaveragebitrate=12000; usedtx=0").bit_rate, 12_000);
        assert_eq!(Parameters::read(8_000, "maxaveragebitrate=lots").bit_rate, 20_000);
        assert_eq!(Parameters::read(8_000, "maxaveragebitrate=1").bit_rate, 5_000);
    }

    #[test]
    fn a_payload_has_one_to_five_frames() {
        let parameters = Parameters::read(16_000, "");
        let lengths = [320, 640, 960, 1_280, 1_600];
        for samples in lengths {
            let (mut encoder, mut decoder) =
                (Encoder::new(&parameters).unwrap(), Decoder::new(&parameters).unwrap());
            let (mut payload, mut heard) = (Vec::new(), Vec::new());
            encoder.encode(&vec![100; samples], &mut payload).unwrap();
            decoder.decode(&payload, &mut heard).unwrap();
            assert_eq!(heard.len(), samples);
        }
        let mut encoder = Encoder::new(&parameters).unwrap();
        for samples in [0, 160, 321, 1_920] {
            assert!(encoder.encode(&vec![0; samples], &mut Vec::new()).is_err(), "{samples}");
        }
    }
}
