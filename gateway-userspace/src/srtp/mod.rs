//! Secure RTP (RFC 3711): suites, keys as signalled, the keys derived from them, and the transform in userspace.
//!
//! * [`Suite`] names what is computed; [`MasterKey`] is one direction's key as the session description carries it;
//!   [`MasterKey::derive`] gives the [`SessionKeys`] that packets meet.
//! * No room prints a key: [`MasterKey`] and [`SessionKeys`] are redacted in `Debug` and wiped on release.

mod derive;
mod key;
mod suite;

pub use derive::{SessionKeys, StreamKeys};
pub use key::{KeyFault, MasterKey, Mki};
pub use suite::Suite;

#[cfg(test)]
mod tests {
    /// Octets of a vector as the RFCs print them.
    pub(super) fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
        digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }
}
