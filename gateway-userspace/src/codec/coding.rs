//! What a session description settled about a coding, as far as it changes what is sent and read.

#[cfg(feature = "amr")]
use super::amr;
#[cfg(feature = "g729")]
use super::g729;
#[cfg(feature = "opus")]
use super::opus;
#[cfg(feature = "silk")]
use super::silk;
use crate::rtp::{Codec, Encoding};

/// A coding of speech that this gateway can read and write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coding {
    Pcmu,
    Pcma,
    G722,
    #[cfg(feature = "opus")]
    Opus(opus::Parameters),
    #[cfg(feature = "amr")]
    Amr(amr::Parameters),
    #[cfg(feature = "g729")]
    G729,
    #[cfg(feature = "silk")]
    Silk(silk::Parameters),
}

/// A format that audio cannot be coded in here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    #[error("{0} is not among the codings of this build")]
    Unknown(String),
    #[error("{codec}: {parameter}={value} in a=fmtp is not supported")]
    Parameter { codec: &'static str, parameter: &'static str, value: String },
}

impl Coding {
    /// The coding of `codec` with the parameters of its `a=fmtp` line.
    ///
    /// # Errors
    /// A codec that is not here, or a layout of its payload that is not: the stream can be relayed at most.
    pub fn of(codec: &Codec, fmtp: Option<&str>) -> Result<Self, CodingError> {
        let fmtp = fmtp.unwrap_or_default();
        match (&codec.encoding, codec.clock_rate, codec.channels) {
            (Encoding::Pcmu, 8_000, 1) => Ok(Self::Pcmu),
            (Encoding::Pcma, 8_000, 1) => Ok(Self::Pcma),
            (Encoding::G722, 8_000, 1) => Ok(Self::G722),
            // RFC 7587 section 7: always written as 48000/2, whatever is sent.
            #[cfg(feature = "opus")]
            (Encoding::Opus, 48_000, _) => Ok(Self::Opus(opus::Parameters::read(fmtp))),
            #[cfg(feature = "amr")]
            (Encoding::Amr, 8_000, 1) => amr::Parameters::read(amr::Band::Narrow, fmtp).map(Self::Amr),
            #[cfg(feature = "amr")]
            (Encoding::AmrWb, 16_000, 1) => amr::Parameters::read(amr::Band::Wide, fmtp).map(Self::Amr),
            #[cfg(feature = "g729")]
            (Encoding::G729, 8_000, 1) => Ok(Self::G729),
            #[cfg(feature = "silk")]
            (Encoding::Silk, rate @ (8_000 | 16_000), 1) => {
                Ok(Self::Silk(silk::Parameters::read(rate, fmtp)))
            }
            _ => {
                let _ = fmtp;
                Err(CodingError::Unknown(codec.to_string()))
            }
        }
    }

    /// Samples a second of the linear audio that goes in and comes out.
    pub fn sampling_rate(&self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma => 8_000,
            Self::G722 => g722_rates::SAMPLING,
            #[cfg(feature = "opus")]
            Self::Opus(parameters) => parameters.sampling_rate,
            #[cfg(feature = "amr")]
            Self::Amr(parameters) => parameters.band.sampling_rate(),
            #[cfg(feature = "g729")]
            Self::G729 => 8_000,
            #[cfg(feature = "silk")]
            Self::Silk(parameters) => parameters.sampling_rate,
        }
    }

    /// Units a second of the RTP timestamp.
    pub fn clock_rate(&self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma => 8_000,
            Self::G722 => g722_rates::CLOCK,
            #[cfg(feature = "opus")]
            Self::Opus(_) => opus::CLOCK_RATE,
            #[cfg(feature = "amr")]
            Self::Amr(parameters) => parameters.band.sampling_rate(),
            #[cfg(feature = "g729")]
            Self::G729 => 8_000,
            #[cfg(feature = "silk")]
            Self::Silk(parameters) => parameters.sampling_rate,
        }
    }

    /// Milliseconds of the shortest packet: packets are a multiple of it.
    pub fn frame_ms(&self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 10,
            #[cfg(feature = "opus")]
            Self::Opus(_) => 10,
            #[cfg(feature = "amr")]
            Self::Amr(_) => amr::FRAME_MS,
            #[cfg(feature = "g729")]
            Self::G729 => g729::FRAME_MS,
            #[cfg(feature = "silk")]
            Self::Silk(_) => silk::FRAME_MS,
        }
    }

    /// The milliseconds nearest to `wished` that packets may carry, at most [`super::LONGEST_PACKET_MS`].
    pub fn packet_ms(&self, wished: u32) -> u32 {
        let frame = self.frame_ms();
        let whole = wished.clamp(frame, self.longest_packet_ms()).div_ceil(frame) * frame;
        #[cfg(feature = "opus")]
        if let Self::Opus(_) = self {
            return opus::packet_ms(whole);
        }
        whole
    }

    fn longest_packet_ms(&self) -> u32 {
        match self {
            // Libraries of version 1.3 take no frame above 60 ms.
            #[cfg(feature = "opus")]
            Self::Opus(_) => 60,
            #[cfg(feature = "silk")]
            Self::Silk(_) => silk::LONGEST_MS,
            _ => super::LONGEST_PACKET_MS,
        }
    }
}

/// RFC 3551 section 4.5.2: G.722 samples at 16 kHz, and its RTP clock is 8 kHz for history's sake.
mod g722_rates {
    pub(super) const SAMPLING: u32 = 16_000;
    pub(super) const CLOCK: u32 = 8_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coding(codec: &str, fmtp: &str) -> Result<Coding, CodingError> {
        Coding::of(&codec.parse().unwrap(), Some(fmtp))
    }

    #[test]
    fn clocks_are_those_of_the_payload_formats_and_not_of_the_audio() {
        let rates = |codec: &str| {
            let coding = coding(codec, "").unwrap();
            (coding.sampling_rate(), coding.clock_rate())
        };
        assert_eq!(rates("PCMU/8000"), (8_000, 8_000));
        assert_eq!(rates("G722/8000"), (16_000, 8_000));
        #[cfg(feature = "opus")]
        assert_eq!(rates("opus/48000/2"), (16_000, 48_000));
        #[cfg(feature = "amr")]
        assert_eq!(rates("AMR-WB/16000"), (16_000, 16_000));
    }

    #[test]
    fn what_cannot_be_coded_is_refused_by_name() {
        assert_eq!(coding("EVS/16000", ""), Err(CodingError::Unknown("EVS/16000".into())));
        assert!(coding("PCMU/16000", "").is_err());
        assert!(coding("telephone-event/8000", "0-15").is_err());
    }

    #[test]
    fn packets_are_whole_frames() {
        assert_eq!(Coding::Pcma.packet_ms(20), 20);
        assert_eq!(Coding::Pcma.packet_ms(25), 30);
        assert_eq!(Coding::Pcma.packet_ms(0), 10);
        assert_eq!(Coding::Pcma.packet_ms(1_000), 120);
        #[cfg(feature = "opus")]
        assert_eq!(
            [10, 20, 30, 40, 50, 60].map(|ms| coding("opus/48000/2", "").unwrap().packet_ms(ms)),
            [10, 20, 40, 40, 60, 60]
        );
        #[cfg(feature = "amr")]
        assert_eq!([10, 20, 30].map(|ms| coding("AMR/8000", "").unwrap().packet_ms(ms)), [20, 20, 40]);
    }
}
