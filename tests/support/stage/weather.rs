//! The network between the parties of a scenario: a value fed datagrams and time that loses, repeats and reorders
//! by a seed.

use gateway_userspace::base::time::Time;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// How bad the network is. Shares are of one datagram in 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    pub lost: u32,
    pub repeated: u32,
    pub delayed: u32,
    /// The way takes between the two, in milliseconds.
    pub delay: (u64, u64),
}

impl Weather {
    /// Everything arrives once, in order, after 10 ms.
    pub const FAIR: Self = Self { lost: 0, repeated: 0, delayed: 0, delay: (10, 10) };
    /// One in ten is lost, one in twenty comes twice, and later ones overtake.
    pub const FOUL: Self = Self { lost: 100, repeated: 50, delayed: 100, delay: (2, 40) };
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

/// What became of a datagram when it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Carried,
    Lost,
    Repeated,
}

#[derive(Debug)]
pub struct Network {
    weather: Weather,
    random: StdRng,
    /// By arrival, then by order of sending.
    on_the_way: BTreeMap<(Time, u64), Datagram>,
    sent: u64,
}

impl Network {
    pub fn new(weather: Weather, seed: u64) -> Self {
        Self { weather, random: StdRng::seed_from_u64(seed), on_the_way: BTreeMap::new(), sent: 0 }
    }

    pub fn send(&mut self, now: Time, datagram: Datagram) -> Fate {
        if self.happens(self.weather.lost) {
            return Fate::Lost;
        }
        let repeated = self.happens(self.weather.repeated);
        if repeated {
            self.carry(now, datagram.clone());
        }
        self.carry(now, datagram);
        if repeated { Fate::Repeated } else { Fate::Carried }
    }

    /// Sends by a stream: nothing is lost, repeated or overtaken.
    pub fn stream(&mut self, now: Time, datagram: Datagram) {
        let (least, most) = self.weather.delay;
        let own = now + Duration::from_millis(self.random.random_range(least..=most));
        let same = |other: &&Datagram| other.from == datagram.from && other.to == datagram.to;
        let ahead = self.on_the_way.iter().rev().find(|(_, other)| same(other)).map(|((at, _), _)| *at);
        self.sent += 1;
        self.on_the_way.insert((ahead.map_or(own, |at| at.max(own)), self.sent), datagram);
    }

    /// Loses all that is on the way between the two.
    pub fn reset(&mut self, one: SocketAddr, other: SocketAddr) {
        self.on_the_way.retain(|_, it| (it.from, it.to) != (one, other) && (it.from, it.to) != (other, one));
    }

    pub fn next_arrival(&self) -> Option<Time> {
        self.on_the_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// The datagram that arrives first, if it has by `now`.
    pub fn arrive(&mut self, now: Time) -> Option<Datagram> {
        let entry = self.on_the_way.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    fn carry(&mut self, now: Time, datagram: Datagram) {
        let (least, most) = self.weather.delay;
        let mut delay = self.random.random_range(least..=most);
        if self.happens(self.weather.delayed) {
            delay += self.random.random_range(50..=900);
        }
        self.sent += 1;
        self.on_the_way.insert((now + Duration::from_millis(delay), self.sent), datagram);
    }

    fn happens(&mut self, of_a_thousand: u32) -> bool {
        of_a_thousand > 0 && self.random.random_range(0..1000) < of_a_thousand
    }
}
