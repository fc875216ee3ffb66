//! The tones of a country, after the supplement of ITU-T E.180 ("Various tones used in national networks").

use super::{Cadence, CadenceError};

/// What a tone says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// The called party is being alerted.
    Ringback,
    /// The called party is engaged.
    Busy,
    /// The network cannot carry the call.
    Congestion,
}

/// One cadence for each signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    ringback: Cadence,
    busy: Cadence,
    congestion: Cadence,
}

impl Plan {
    /// Of cadences as text, as an operator writes them.
    ///
    /// # Errors
    /// The first that is no cadence.
    pub fn new(ringback: &str, busy: &str, congestion: &str) -> Result<Self, CadenceError> {
        Ok(Self { ringback: ringback.parse()?, busy: busy.parse()?, congestion: congestion.parse()? })
    }

    pub fn of_cadences(ringback: Cadence, busy: Cadence, congestion: Cadence) -> Self {
        Self { ringback, busy, congestion }
    }

    /// Of a country by the letters of ISO 3166, in any case; `None` for one that is not in the table.
    pub fn of_country(country: &str) -> Option<Self> {
        let row = NATIONAL.iter().find(|row| row.0.eq_ignore_ascii_case(country))?;
        Self::new(row.1, row.2, row.3).ok()
    }

    /// Countries that [`Self::of_country`] knows.
    pub fn countries() -> impl Iterator<Item = &'static str> {
        NATIONAL.iter().map(|row| row.0)
    }

    pub fn cadence(&self, signal: Signal) -> &Cadence {
        match signal {
            Signal::Ringback => &self.ringback,
            Signal::Busy => &self.busy,
            Signal::Congestion => &self.congestion,
        }
    }
}

/// Country, ringback, busy, congestion.
const NATIONAL: [(&str, &str, &str, &str); 18] = [
    ("AT", "420/1000,0/5000", "420/400,0/400", "420/200,0/200"),
    ("AU", "400+450/400,0/200,400+450/400,0/2000", "425/375,0/375", "425/375,0/375"),
    ("BE", "425/1000,0/3000", "425/500,0/500", "425/167,0/167"),
    ("CH", "425/1000,0/4000", "425/500,0/500", "425/200,0/200"),
    ("DE", "425/1000,0/4000", "425/480,0/480", "425/240,0/240"),
    ("DK", "425/1000,0/4000", "425/250,0/250", "425/250,0/250"),
    ("ES", "425/1500,0/3000", "425/200,0/200", "425/200,0/200,425/200,0/200,425/200,0/600"),
    ("FI", "425/1000,0/4000", "425/300,0/300", "425/200,0/200"),
    ("FR", "440/1500,0/3500", "440/500,0/500", "440/250,0/250"),
    ("GB", "400+450/400,0/200,400+450/400,0/2000", "400/375,0/375", "400/400,0/350,400/225,0/525"),
    ("IE", "400+450/400,0/200,400+450/400,0/2000", "425/500,0/500", "425/250,0/250"),
    ("IT", "425/1000,0/4000", "425/500,0/500", "425/200,0/200"),
    ("NL", "425/1000,0/4000", "425/500,0/500", "425/250,0/250"),
    ("NO", "425/1000,0/4000", "425/500,0/500", "425/200,0/200"),
    ("PL", "425/1000,0/4000", "425/500,0/500", "425/500,0/500"),
    ("PT", "425/1000,0/5000", "425/500,0/500", "425/200,0/200"),
    ("SE", "425/1000,0/5000", "425/250,0/250", "425/250,0/750"),
    ("US", "440+480/2000,0/4000", "480+620/500,0/500", "480+620/250,0/250"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_country_of_the_table_has_a_plan() {
        for country in Plan::countries() {
            assert!(Plan::of_country(country).is_some(), "{country}");
        }
        assert_eq!(Plan::of_country("gb"), Plan::of_country("GB"));
        assert_eq!(Plan::of_country("XX"), None);
    }
}
