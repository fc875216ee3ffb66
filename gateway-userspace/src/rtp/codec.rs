//! The identity of an encoding: name, clock and channels (RFC 3551, RFC 4855), without a payload number.

use std::fmt;
use std::str::FromStr;

/// An encoding at one clock rate: what an `a=rtpmap` line says after the payload number.
///
/// Prints and parses as `PCMA/8000` or `opus/48000/2`; one channel is not written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Codec {
    pub encoding: Encoding,
    /// RTP clock in Hz. Not the sampling rate: G.722 samples at 16 kHz on an 8 kHz clock (RFC 3551 section 4.5.2).
    pub clock_rate: u32,
    pub channels: u8,
}

impl Codec {
    /// One channel of `encoding`.
    pub const fn mono(encoding: Encoding, clock_rate: u32) -> Self {
        Self { encoding, clock_rate, channels: 1 }
    }

    /// The encoding of a payload number that RFC 3551 (section 6, tables 4 and 5) assigns; `None` for a dynamic
    /// or unassigned number.
    pub fn of_static_payload_type(number: u8) -> Option<Self> {
        let (name, clock_rate, channels) = match number {
            0 => ("PCMU", 8_000, 1),
            3 => ("GSM", 8_000, 1),
            4 => ("G723", 8_000, 1),
            5 => ("DVI4", 8_000, 1),
            6 => ("DVI4", 16_000, 1),
            7 => ("LPC", 8_000, 1),
            8 => ("PCMA", 8_000, 1),
            9 => ("G722", 8_000, 1),
            10 => ("L16", 44_100, 2),
            11 => ("L16", 44_100, 1),
            12 => ("QCELP", 8_000, 1),
            13 => ("CN", 8_000, 1),
            14 => ("MPA", 90_000, 1),
            15 => ("G728", 8_000, 1),
            16 => ("DVI4", 11_025, 1),
            17 => ("DVI4", 22_050, 1),
            18 => ("G729", 8_000, 1),
            _ => return None,
        };
        Some(Self { encoding: Encoding::named(name), clock_rate, channels })
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.encoding, self.clock_rate)?;
        if self.channels > 1 {
            write!(f, "/{}", self.channels)?;
        }
        Ok(())
    }
}

/// The value of `name` in an `a=fmtp` line of the form `key=value;key=value`, keys in any case.
pub fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// Text that is no `name/clock[/channels]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no codec: write name/clock or name/clock/channels, as in PCMA/8000")]
pub struct CodecError(pub String);

impl FromStr for Codec {
    type Err = CodecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || CodecError(text.to_owned());
        let mut parts = text.split('/');
        let name = parts.next().filter(|name| is_token(name)).ok_or_else(refused)?;
        let clock_rate = parts.next().and_then(|clock| clock.parse().ok()).filter(|clock| *clock > 0);
        let channels = parts.next().map_or(Some(1), |count| count.parse().ok()).filter(|count| *count > 0);
        match (clock_rate, channels, parts.next()) {
            (Some(clock_rate), Some(channels), None) => {
                Ok(Self { encoding: Encoding::named(name), clock_rate, channels })
            }
            _ => Err(refused()),
        }
    }
}

/// Token of RFC 8866 section 9, which is what an encoding name is made of.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&byte))
}

macro_rules! encodings {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal;)+) => {
        /// An encoding name as registered with IANA. Names compare without case (RFC 4855 section 3); a known
        /// one prints in its registered spelling, another in the spelling it came with.
        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Encoding {
            $($(#[doc = $doc])* $variant,)+
            /// A name that this gateway only passes on.
            Other(Box<str>),
        }

        impl Encoding {
            /// The encoding of this name, in any case.
            pub fn named(name: &str) -> Self {
                $(if name.eq_ignore_ascii_case($name) {
                    return Self::$variant;
                })+
                Self::Other(name.into())
            }

            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Other(name) => name,
                }
            }
        }
    };
}

encodings! {
    /// G.711 µ-law.
    Pcmu = "PCMU";
    /// G.711 A-law.
    Pcma = "PCMA";
    G722 = "G722";
    G7221 = "G7221";
    G723 = "G723";
    G726_32 = "G726-32";
    G728 = "G728";
    G729 = "G729";
    Gsm = "GSM";
    GsmEfr = "GSM-EFR";
    Ilbc = "iLBC";
    Amr = "AMR";
    AmrWb = "AMR-WB";
    /// Enhanced Voice Services (3GPP TS 26.445).
    Evs = "EVS";
    Opus = "opus";
    /// Of Skype, 2010; not the layer of that name in Opus.
    Silk = "SILK";
    L16 = "L16";
    /// Named telephone events (RFC 4733).
    TelephoneEvent = "telephone-event";
    /// Comfort noise (RFC 3389).
    ComfortNoise = "CN";
    /// Redundant audio (RFC 2198): its payload and its `a=fmtp` carry payload numbers of other formats.
    Red = "red";
}

impl Encoding {
    /// Those that fixed and mobile networks speak.
    pub const OF_NETWORKS: [Self; 7] =
        [Self::Pcmu, Self::Pcma, Self::G722, Self::G729, Self::Amr, Self::AmrWb, Self::Evs];

    /// Whether it carries speech by itself: a stream of events, comfort noise or redundancy alone is no call.
    pub fn is_speech(&self) -> bool {
        !matches!(self, Self::TelephoneEvent | Self::ComfortNoise | Self::Red)
    }
}

impl PartialEq for Encoding {
    fn eq(&self, other: &Self) -> bool {
        self.name().eq_ignore_ascii_case(other.name())
    }
}

impl Eq for Encoding {}

impl std::hash::Hash for Encoding {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for byte in self.name().bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Encoding {
    type Err = CodecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_token(text) { Ok(Self::named(text)) } else { Err(CodecError(text.to_owned())) }
    }
}

macro_rules! text_in_serde {
    ($($type:ty),+) => {$(
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $type {
            type Error = CodecError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    )+};
}

text_in_serde!(Codec, Encoding);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_without_case_and_unknown_ones_keep_their_spelling() {
        assert_eq!("pcma/8000".parse::<Codec>().unwrap().to_string(), "PCMA/8000");
        assert_eq!("OPUS/48000/2".parse::<Codec>().unwrap().to_string(), "opus/48000/2");
        let unknown: Codec = "X-Speak/11025".parse().unwrap();
        assert_eq!(unknown, "x-speak/11025/1".parse().unwrap());
        assert_eq!(unknown.to_string(), "X-Speak/11025");
    }

    #[test]
    fn text_that_is_no_codec_is_refused() {
        for text in
            ["", "PCMA", "PCMA/", "PCMA/0", "PCMA/8000/0", "PCMA/8000/1/1", "P CMA/8000", "/8000", "a/-1"]
        {
            assert!(text.parse::<Codec>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn static_numbers_are_those_of_rfc_3551() {
        assert_eq!(Codec::of_static_payload_type(8), Some(Codec::mono(Encoding::Pcma, 8_000)));
        assert_eq!(Codec::of_static_payload_type(9), Some(Codec::mono(Encoding::G722, 8_000)));
        assert_eq!(Codec::of_static_payload_type(10).map(|codec| codec.channels), Some(2));
        assert!((96..128).all(|number| Codec::of_static_payload_type(number).is_none()));
    }

    #[test]
    fn events_noise_and_redundancy_are_no_speech() {
        for name in ["telephone-event", "CN", "RED"] {
            assert!(!Encoding::named(name).is_speech());
        }
        assert!(Encoding::named("PCMU").is_speech());
    }
}
