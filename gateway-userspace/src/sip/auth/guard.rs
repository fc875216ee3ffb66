//! Digest authentication as the one who asks (RFC 3261 section 22, RFC 7616, RFC 8760).
//!
//! Who has not shown that he knows a password costs no memory: a nonce carries its time and a code over time, trunk and
//! source that only we can make, and the count of its uses is kept from the first right answer on.

use super::challenge::{parameters, quoted};
use super::{Algorithm, Password, hexadecimal};
use crate::base::time::Time;
use crate::base::token::Tokens;
use crate::sip::message::{HeaderName, Headers, Request, Response, Uri};
use aws_lc_rs::{constant_time, hmac};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Whom a trunk believes, and how it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenger {
    pub realm: String,
    /// The passwords of its peers, by name.
    pub users: Vec<(String, Password)>,
    /// In the order in which they are offered, the preferred first.
    pub algorithms: Vec<Algorithm>,
    /// How long a nonce may be used.
    pub lifetime: Duration,
}

/// What a request says of who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It knows the password.
    Known,
    /// It has to be asked; `stale` if what it answered was right and its nonce is used up.
    Unknown { stale: bool },
    /// What it answered is wrong. Name or password, nobody is told which.
    Wrong,
}

/// Makes nonces and judges answers to them, for one core: nonces of another are out of date here.
#[derive(Debug)]
pub struct Guard {
    key: hmac::Key,
    uses: HashMap<Nonce, Uses>,
    /// Nonces made until then are out of date, because their uses are forgotten.
    forgotten: u64,
}

/// Seconds of its making, and the code over them.
type Nonce = [u8; NONCE];

/// The counts of a nonce that were used: the highest, and of those below it a bit each.
#[derive(Clone, Copy, Debug)]
struct Uses {
    highest: u32,
    below: u64,
}

const NONCE: usize = 8 + 16;
/// Nonces in use; the oldest goes for one more.
const MAX_NONCES: usize = 4_096;

impl Challenger {
    /// Puts the challenges into a 401 (RFC 8760 section 2.3: the preferred one first).
    fn ask(&self, nonce: &str, stale: bool, headers: &mut Headers) {
        let stale = if stale { ", stale=true" } else { "" };
        for algorithm in &self.algorithms {
            let line = format!(
                "Digest realm={}, nonce=\"{nonce}\", algorithm={}, qop=\"auth\"{stale}",
                quoted(&self.realm),
                algorithm.name()
            );
            headers.push(HeaderName::WwwAuthenticate, line);
        }
    }
}

impl Guard {
    pub fn new(tokens: &mut Tokens) -> Self {
        let seed: Vec<u8> = (0..4).flat_map(|_| tokens.number().to_be_bytes()).collect();
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &seed), uses: HashMap::new(), forgotten: 0 }
    }

    /// Puts fresh challenges of `trunk` for `source` into a 401.
    pub fn challenge(
        &self,
        (trunk, challenger): (&str, &Challenger),
        source: IpAddr,
        stale: bool,
        response: &mut Response,
        now: Time,
    ) {
        let nonce = hexadecimal(&self.nonce(trunk, source, seconds(now)));
        challenger.ask(&nonce, stale, &mut response.headers);
    }

    /// Who sent a request that came by `trunk` from `source`.
    pub fn judge(
        &mut self,
        (trunk, challenger): (&str, &Challenger),
        source: IpAddr,
        request: &Request,
        now: Time,
    ) -> Verdict {
        let answers = request.headers.values(&HeaderName::Authorization).filter_map(Answer::parse);
        let Some(answer) = answers.into_iter().find(|answer| answer.realm == challenger.realm) else {
            let named = request.headers.value(&HeaderName::Authorization).is_some();
            return if named { Verdict::Wrong } else { Verdict::Unknown { stale: false } };
        };
        if !answer.is_right(challenger, request) {
            return Verdict::Wrong;
        }
        let fresh = self.take(&answer, (trunk, challenger), source, now);
        if fresh { Verdict::Known } else { Verdict::Unknown { stale: true } }
    }

    /// Whether the nonce is of ours, young enough, and its count new.
    fn take(
        &mut self,
        answer: &Answer,
        (trunk, challenger): (&str, &Challenger),
        source: IpAddr,
        now: Time,
    ) -> bool {
        let Some((nonce, made)) = read(&answer.nonce) else { return false };
        let own = self.nonce(trunk, source, made);
        let age = Duration::from_secs(seconds(now).saturating_sub(made));
        if constant_time::verify_slices_are_equal(&own, &nonce).is_err()
            || age > challenger.lifetime
            || made <= self.forgotten
        {
            return false;
        }
        if let Some(uses) = self.uses.get_mut(&nonce) {
            return uses.take(answer.count);
        }
        if self.uses.len() >= MAX_NONCES {
            self.forget(now, challenger.lifetime);
        }
        self.uses.insert(nonce, Uses { highest: answer.count, below: 0 });
        true
    }

    /// Drops what is out of date, and the oldest if nothing is; those as old are out of date from then on.
    fn forget(&mut self, now: Time, lifetime: Duration) {
        let young = |nonce: &Nonce| {
            let made = made(nonce);
            Duration::from_secs(seconds(now).saturating_sub(made)) <= lifetime
        };
        self.uses.retain(|nonce, _| young(nonce));
        if self.uses.len() >= MAX_NONCES {
            self.forgotten = self.uses.keys().map(made).min().unwrap_or(self.forgotten);
            let forgotten = self.forgotten;
            self.uses.retain(|nonce, _| made(nonce) > forgotten);
        }
    }

    fn nonce(&self, trunk: &str, source: IpAddr, made: u64) -> Nonce {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&made.to_be_bytes());
        match source {
            IpAddr::V4(address) => context.update(&address.octets()),
            IpAddr::V6(address) => context.update(&address.octets()),
        }
        context.update(trunk.as_bytes());
        let mut nonce = [0; NONCE];
        nonce[..8].copy_from_slice(&made.to_be_bytes());
        nonce[8..].copy_from_slice(&context.sign().as_ref()[..NONCE - 8]);
        nonce
    }
}

impl Uses {
    /// RFC 7616 section 3.4: each count once. Requests may overtake one another a little.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            let step = count - self.highest;
            self.below =
                if step > 64 { 0 } else { self.below.checked_shl(step).unwrap_or(0) | 1 << (step - 1) };
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        let Some(bit) = behind.checked_sub(1).and_then(|place| 1_u64.checked_shl(place)) else {
            return false;
        };
        let new = self.below & bit == 0;
        self.below |= bit;
        new
    }
}

/// What Authorization says (RFC 7616 section 3.4).
struct Answer {
    user: String,
    realm: String,
    nonce: String,
    uri: String,
    response: String,
    algorithm: Algorithm,
    cnonce: String,
    /// As it came, and what it means.
    nc: String,
    count: u32,
}

impl Answer {
    /// `None` for other schemes, and for what is no answer to a challenge of ours: it has to count its uses.
    fn parse(line: &str) -> Option<Self> {
        let parameters = parameters(line)?;
        let value =
            |name: &str| parameters.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        let algorithm = match value("algorithm") {
            Some(name) => Algorithm::named(&name)?,
            None => Algorithm::Md5,
        };
        let nc = value("nc").filter(|nc| nc.len() == 8)?;
        let count = u32::from_str_radix(&nc, 16).ok()?;
        value("qop").filter(|qop| qop.eq_ignore_ascii_case("auth"))?;
        Some(Self {
            user: value("username")?,
            realm: value("realm")?,
            nonce: value("nonce")?,
            uri: value("uri")?,
            response: value("response")?,
            algorithm,
            cnonce: value("cnonce")?,
            nc,
            count,
        })
    }

    /// Whether it was made with the password of its user, for this very request. An unknown user takes as long.
    fn is_right(&self, challenger: &Challenger, request: &Request) -> bool {
        let known = challenger.users.iter().find(|(name, _)| *name == self.user);
        let password = known.map_or("", |(_, password)| &password.0);
        let hash = |text: String| self.algorithm.hash(&text);
        let Self { user, realm, nonce, cnonce, nc, uri, .. } = self;
        let secret = hash(format!("{user}:{realm}:{password}"));
        let asked = hash(format!("{}:{uri}", request.method));
        let right = hash(format!("{secret}:{nonce}:{nc}:{cnonce}:auth:{asked}"));
        let given = self.response.to_ascii_lowercase();
        let equal = constant_time::verify_slices_are_equal(right.as_bytes(), given.as_bytes()).is_ok();
        // Without this an answer that was overheard would serve for a call to any number (RFC 7616 section 3.4.6).
        let meant = uri.parse::<Uri>().is_ok_and(|uri| uri.is_equivalent(&request.uri));
        equal && known.is_some() && meant && challenger.algorithms.contains(&self.algorithm)
    }
}

fn seconds(now: Time) -> u64 {
    // From 1 on: 0 is before all nonces.
    now.since(Time::ZERO).as_secs() + 1
}

fn made(nonce: &Nonce) -> u64 {
    nonce.iter().take(8).fold(0, |made, octet| made << 8 | u64::from(*octet))
}

/// The nonce that hexadecimal digits stand for, and when it says that it was made.
fn read(text: &str) -> Option<(Nonce, u64)> {
    let mut nonce = [0; NONCE];
    if text.len() != 2 * NONCE || !text.is_ascii() {
        return None;
    }
    for (place, octet) in nonce.iter_mut().enumerate() {
        *octet = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some((nonce, made(&nonce)))
}

#[cfg(test)]
mod tests;
