//! Keys of a telephone: on the way as tones of Q.23, as telephone-events of RFC 4733, or in bodies of SIP requests.
//!
//! * [`Key`]: which one.
//! * [`Detector`]: out of linear audio, within the limits of Q.24.
//! * [`Generator`]: into linear audio.
//! * [`event`]: in packets of their own.
//! * [`body`]: in INFO and NOTIFY requests.

pub mod body;
mod detector;
pub mod event;
mod generator;
#[cfg(test)]
mod tests;

pub use detector::{Detection, Detector, LOOK_AHEAD};
pub use generator::Generator;

/// One of the sixteen keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(u8);

/// Frequencies of rows and columns in Hz (Q.23).
const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
/// Event codes by row and column.
const KEYPAD: [[u8; 4]; 4] = [[1, 2, 3, 12], [4, 5, 6, 13], [7, 8, 9, 14], [10, 0, 11, 15]];
/// Letters by event code.
const LETTERS: &[u8; 16] = b"0123456789*#ABCD";

impl Key {
    pub fn all() -> impl Iterator<Item = Self> {
        (0..16).map(Self)
    }

    /// The key of an event code (RFC 4733 section 3.2); `None` for the flash and for other events.
    pub fn of_code(code: u8) -> Option<Self> {
        (code < 16).then_some(Self(code))
    }

    pub fn code(self) -> u8 {
        self.0
    }

    /// The key of `0` to `9`, `*`, `#` or `A` to `D`.
    pub fn of_letter(letter: char) -> Option<Self> {
        let letter = u8::try_from(letter).ok()?.to_ascii_uppercase();
        LETTERS.iter().position(|known| *known == letter).map(|code| Self(code as u8))
    }

    pub fn letter(self) -> char {
        char::from(LETTERS[usize::from(self.0)])
    }

    /// Frequencies of its two tones in Hz.
    fn tones(self) -> (f32, f32) {
        let (row, column) = self.place();
        (ROWS[row], COLUMNS[column])
    }

    fn at(row: usize, column: usize) -> Self {
        Self(KEYPAD[row][column])
    }

    fn place(self) -> (usize, usize) {
        let row = KEYPAD.iter().position(|row| row.contains(&self.0)).unwrap_or_default();
        (row, KEYPAD[row].iter().position(|code| *code == self.0).unwrap_or_default())
    }
}
