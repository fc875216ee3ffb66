//! What callers hear of the network: ringback, busy, congestion, and announcements.
//!
//! * [`Cadence`]: tones and pauses that repeat, as text `400+450/400,0/200`.
//! * [`Plan`]: the tones of a country.
//! * [`Announcement`]: recorded speech out of a WAV file.
//! * [`Player`]: either of them into linear audio.

mod announcement;
mod cadence;
mod plan;
mod player;

pub use announcement::{Announcement, AnnouncementError};
pub use cadence::{Cadence, CadenceError};
pub use plan::{Plan, Signal};
pub use player::{Player, Source};
