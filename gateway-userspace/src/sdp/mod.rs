//! Session descriptions of audio calls: model, parse, print, offer and answer (RFC 8866, RFC 3264).
//!
//! * [`Description`] is what a back-to-back user agent has to know of a session description; [`parse`] and
//!   [`print`] stand between it and bytes.
//! * [`Leg`] is one side's part in offer and answer. The call hands what one peer says to that peer's leg and
//!   asks the other leg to relay it, with nothing of the first side on the second: own `o=` line, own address,
//!   own payload numbers.
//! * [`Negotiated`] is what a leg's peer and this gateway agreed on; two of them make a media plan.

mod capability;
mod comfort_noise;
mod crypto;
mod events;
mod fault;
mod fax;
mod ice;
mod leg;
mod model;
mod negotiated;
mod numbering;
mod offer_answer;
mod parse;
mod precondition;
mod print;
mod transcoding;

pub use comfort_noise::NoiseTerms;
pub use crypto::{Crypto, MediaSecurity, SecurityTerms};
pub use events::KeyTerms;
pub use fault::{Refusal, SdpFault};
pub use fax::{Fax, FaxTerms};
pub use ice::{Candidate, Checks, Ice, IceTerms};
pub use leg::{Finality, Leg, Progress, Terms};
pub use model::{Audio, Description, Direction, Format, Origin, OtherStream, Profile, RtcpPort};
pub use negotiated::{Keys, Negotiated, NegotiatedFormat, Security};
pub use offer_answer::{Event, OfferAnswer, State};
pub use parse::parse;
pub use precondition::Preconditions;
pub use print::print;
pub use transcoding::Transcoding;
