//! What a phone of a scenario says about media: one audio stream, or fax in its place, written and read with string operations only, so
//! that it shares nothing with the parser under test.

use std::fmt::Write as _;

/// A phone's part of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Media address and port.
    pub at: (String, u16),
    pub direction: &'static str,
    /// Payload number and encoding, in order of preference.
    pub formats: Vec<(u8, &'static str)>,
    /// Writes this into `c=` instead of the address, as phones of RFC 2543 times do to hold.
    pub connection: Option<&'static str>,
    /// Further attribute lines, each with its end.
    pub attributes: &'static str,
    pub profile: &'static str,
    /// Values of `a=crypto`, in order.
    pub crypto: &'static [&'static str],
    /// What it says of its end of fax over UDPTL: attribute lines, each with its end. With them offers of fax are answered
    /// by fax, without by nothing in common.
    pub fax: Option<&'static str>,
    /// It speaks of fax now, in the place of audio.
    pub is_fax: bool,
}

impl Session {
    pub fn at(address: &str, port: u16) -> Self {
        Self {
            at: (address.to_owned(), port),
            direction: "sendrecv",
            formats: vec![(8, "PCMA/8000"), (0, "PCMU/8000"), (101, "telephone-event/8000")],
            connection: None,
            attributes: "",
            profile: "RTP/AVP",
            crypto: &[],
            fax: None,
            is_fax: false,
        }
    }

    /// Fax in the place of audio, at the next port but one.
    pub fn faxing(&self) -> Self {
        Self { at: (self.at.0.clone(), self.at.1 + 2), is_fax: true, ..self.clone() }
    }

    /// The same over another profile, with these values of `a=crypto`.
    pub fn secured(&self, profile: &'static str, crypto: &'static [&'static str]) -> Self {
        Self { profile, crypto, ..self.clone() }
    }

    pub fn directed(&self, direction: &'static str) -> Self {
        Self { direction, ..self.clone() }
    }

    pub fn with_formats(&self, formats: &[(u8, &'static str)]) -> Self {
        Self { formats: formats.to_vec(), ..self.clone() }
    }

    /// The description; every line that could travel carries `name`.
    pub fn print(&self, name: &str, version: u32) -> String {
        let (address, port) = &self.at;
        let connection = self.connection.unwrap_or(address);
        if self.is_fax {
            return format!(
                "v=0\r\no={name} 77{version} {version} IN IP4 {address}\r\ns={name}\r\nc=IN IP4 {connection}\r\n\
                 t=0 0\r\nm=image {port} udptl t38\r\n{}",
                self.fax.unwrap_or_default()
            );
        }
        let numbers: Vec<_> = self.formats.iter().map(|(number, _)| number.to_string()).collect();
        let mut text = format!(
            "v=0\r\no={name} 77{version} {version} IN IP4 {address}\r\ns={name}\r\nc=IN IP4 {connection}\r\nt=0 0\r\n\
             m=audio {port} {} {}\r\n",
            self.profile,
            numbers.join(" ")
        );
        for line in self.crypto {
            write!(text, "a=crypto:{line}\r\n").expect("a string takes all");
        }
        for (number, encoding) in &self.formats {
            write!(text, "a=rtpmap:{number} {encoding}\r\n").expect("a string takes all");
        }
        write!(text, "{}a={}\r\n", self.attributes, self.direction).expect("a string takes all");
        text
    }

    /// The answer to `offer` in this phone's terms (RFC 3264 section 6); its own numbers only if `own_numbers`.
    pub fn answer(&self, offer: &str, own_numbers: bool) -> Self {
        if offer.contains("m=image ") && self.fax.is_some() {
            return self.faxing();
        }
        let offered = formats_of(offer);
        let common = |(own, encoding): &(u8, &'static str)| {
            let (number, _) = offered.iter().find(|(_, name)| name == encoding)?;
            Some((if own_numbers { *own } else { *number }, *encoding))
        };
        let direction = match direction_of(offer) {
            "sendonly" => "recvonly",
            "recvonly" => "sendonly",
            "inactive" => "inactive",
            _ if offer.contains("c=IN IP4 0.0.0.0") => "recvonly",
            _ => self.direction,
        };
        Self { direction, formats: self.formats.iter().filter_map(common).collect(), ..self.clone() }
    }
}

/// Values of `a=crypto` of a description.
pub fn crypto_of(sdp: &str) -> Vec<&str> {
    sdp.lines().filter_map(|line| line.strip_prefix("a=crypto:")).collect()
}

/// The profile of the audio stream of a description.
pub fn profile_of(sdp: &str) -> &str {
    let line = sdp.lines().find(|line| line.starts_with("m=audio"));
    line.and_then(|line| line.split(' ').nth(2)).unwrap_or("?")
}

/// The last direction attribute of a description.
pub fn direction_of(sdp: &str) -> &'static str {
    let known = ["sendrecv", "sendonly", "recvonly", "inactive"];
    let found = sdp.lines().rev().find_map(|line| {
        let word = line.strip_prefix("a=")?;
        known.into_iter().find(|known| *known == word)
    });
    found.unwrap_or("sendrecv")
}

/// Numbers and encodings as `rtpmap` names them.
pub fn formats_of(sdp: &str) -> Vec<(u8, String)> {
    let map = |line: &str| {
        let (number, encoding) = line.strip_prefix("a=rtpmap:")?.split_once(' ')?;
        Some((number.parse().ok()?, encoding.trim_end_matches("/1").to_owned()))
    };
    sdp.lines().filter_map(map).collect()
}

/// Where a description wants RTP.
pub fn media_of(sdp: &str) -> String {
    let word = |prefix: &str, at: usize| {
        let line = sdp.lines().find(|line| line.starts_with(prefix))?;
        line.split_whitespace().nth(at)
    };
    let port = word("m=audio", 1).or(word("m=image", 1));
    format!("{}:{}", word("c=", 2).unwrap_or("?"), port.unwrap_or("?"))
}
