//! Keys in bodies of SIP requests: `application/dtmf-relay` and `application/dtmf` in INFO, as switches write them.
//! No RFC defines either; NOTIFY requests carry the payload of [`super::event`] instead.

use super::Key;
use std::time::Duration;

/// How long a key is down where the body does not say.
const USUAL: Duration = Duration::from_millis(160);
/// Bodies of hours or of nothing are brought within these.
const SHORTEST: Duration = Duration::from_millis(40);
const LONGEST: Duration = Duration::from_secs(5);

/// A key that was pressed for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Press {
    pub key: Key,
    pub duration: Duration,
}

/// How a body says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `Signal=5` and `Duration=160` on lines of their own, the duration in milliseconds.
    DtmfRelay,
    /// The key alone.
    Dtmf,
}

/// A body without a key of a telephone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body names no key")]
pub struct NoKey;

impl Kind {
    /// The kind of a content type, without its parameters, in any case.
    pub fn of_content_type(content_type: &str) -> Option<Self> {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        [Self::DtmfRelay, Self::Dtmf]
            .into_iter()
            .find(|known| known.content_type().eq_ignore_ascii_case(kind))
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::DtmfRelay => "application/dtmf-relay",
            Self::Dtmf => "application/dtmf",
        }
    }

    /// Reads a body.
    ///
    /// # Errors
    /// It names no key: nothing, a flash, or something else.
    pub fn read(self, body: &[u8]) -> Result<Press, NoKey> {
        let text = str::from_utf8(body).map_err(|_| NoKey)?;
        let value = |name: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        // Some senders of application/dtmf write it like the other.
        let signal = value("signal").or((self == Self::Dtmf).then_some(text.trim()));
        let key = signal.and_then(key).ok_or(NoKey)?;
        let duration = value("duration").and_then(|duration| duration.parse().ok());
        let duration = duration.map_or(USUAL, Duration::from_millis).clamp(SHORTEST, LONGEST);
        Ok(Press { key, duration })
    }

    /// Writes a body.
    pub fn write(self, press: Press) -> String {
        let letter = press.key.letter();
        match self {
            Self::DtmfRelay => format!("Signal={letter}\r\nDuration={}\r\n", press.duration.as_millis()),
            Self::Dtmf => letter.to_string(),
        }
    }
}

/// A letter, or an event code above 9 as a number.
fn key(signal: &str) -> Option<Key> {
    let mut letters = signal.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => Key::of_letter(letter),
        _ => signal.parse().ok().and_then(Key::of_code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(letter: char, milliseconds: u64) -> Press {
        Press { key: Key::of_letter(letter).unwrap(), duration: Duration::from_millis(milliseconds) }
    }

    #[test]
    fn bodies_of_switches_are_read() {
        let table: [(Kind, &str, Result<Press, NoKey>); 11] = [
            (Kind::DtmfRelay, "Signal=5\r\nDuration=160\r\n", Ok(press('5', 160))),
            (Kind::DtmfRelay, "signal= * \nduration = 2000", Ok(press('*', 2000))),
            (Kind::DtmfRelay, "Signal=11\r\n", Ok(press('#', 160))),
            (Kind::DtmfRelay, "Signal=d\r\nDuration=99999999", Ok(press('D', 5000))),
            (Kind::DtmfRelay, "Signal=1\r\nDuration=-5", Ok(press('1', 160))),
            (Kind::DtmfRelay, "Signal=1\r\nDuration=0", Ok(press('1', 40))),
            (Kind::Dtmf, "7", Ok(press('7', 160))),
            (Kind::Dtmf, "Signal=7\r\nDuration=300\r\n", Ok(press('7', 300))),
            (Kind::DtmfRelay, "Signal=!\r\n", Err(NoKey)),
            (Kind::DtmfRelay, "Duration=100\r\n", Err(NoKey)),
            (Kind::Dtmf, "", Err(NoKey)),
        ];
        for (kind, body, expected) in table {
            assert_eq!(kind.read(body.as_bytes()), expected, "{body:?}");
        }
        assert_eq!(Kind::Dtmf.read(&[0xff, 0xfe]), Err(NoKey));
    }

    #[test]
    fn every_key_survives_both_kinds() {
        for key in Key::all() {
            let press = Press { key, duration: Duration::from_millis(250) };
            assert_eq!(Kind::DtmfRelay.read(Kind::DtmfRelay.write(press).as_bytes()), Ok(press));
            assert_eq!(Kind::Dtmf.read(Kind::Dtmf.write(press).as_bytes()).map(|press| press.key), Ok(key));
        }
    }

    #[test]
    fn content_types_are_known_in_any_case_and_with_parameters() {
        assert_eq!(Kind::of_content_type("Application/DTMF-Relay; charset=utf-8"), Some(Kind::DtmfRelay));
        assert_eq!(Kind::of_content_type("application/dtmf"), Some(Kind::Dtmf));
        assert_eq!(Kind::of_content_type("application/sdp"), None);
    }
}
