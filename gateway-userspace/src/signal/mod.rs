//! What is said in tones beside speech.
//!
//! * [`dtmf`]: pressed keys: as tones, as telephone-events (RFC 4733), as bodies of SIP requests.
//! * [`tone`]: ringback, busy and congestion tones of national plans, and announcements.

pub mod dtmf;
pub mod tone;
