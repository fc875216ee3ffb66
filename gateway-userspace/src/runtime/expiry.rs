//! Certificates near their end, told once a day so that nobody learns of it from a peer.

use crate::base::time::Time;
use crate::net::tls::{EXPIRY_WARNING, TlsTable};
use crate::observe::Event;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);

/// Looks at the certificates in force, at once and then daily.
#[derive(Debug)]
pub struct ExpiryWatch {
    tls: Arc<TlsTable>,
    next: Time,
}

impl ExpiryWatch {
    pub fn new(tls: Arc<TlsTable>) -> Self {
        Self { tls, next: Time(0) }
    }

    /// What there is to tell at `now`, which the wall clock calls `date`.
    pub fn look(&mut self, now: Time, date: SystemTime) -> Vec<Event> {
        if now < self.next {
            return Vec::new();
        }
        self.next = now + DAY;
        let near = self.tls.certificates().iter().filter_map(|own| {
            let left = own.certificate.remaining(date);
            (left < EXPIRY_WARNING).then(|| Event::CertificateExpires {
                trunk: Arc::clone(&own.trunk),
                subject: own.certificate.subject.as_str().into(),
                days: left.as_secs() / DAY.as_secs(),
            })
        });
        near.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tests::authority::{Authority, Leaf, roots};
    use crate::net::tls::{Engine, Suite, TrunkSettings, Version};
    use std::time::UNIX_EPOCH;

    // Statement 33.
    #[test]
    fn a_certificate_in_its_last_thirty_days_is_told_of_once_a_day() {
        let authority = Authority::new("Root");
        let settings = TrunkSettings {
            trunk: "service".into(),
            listen: "192.0.2.1:5061".parse().expect("an address"),
            identity: authority.identity(&Leaf { until: 2027, ..Leaf::default() }),
            roots: roots(&[&authority]),
            peer_names: Vec::new(),
            mutual: true,
            versions: Version::ALL.to_vec(),
            engine: Engine::Rustls,
            suites: Suite::standard(Engine::Rustls),
        };
        let tls = TlsTable::new(&[settings]).expect("sound settings");
        let mut watch = ExpiryWatch::new(Arc::new(tls));
        // 2027-01-01 is its end.
        let end = UNIX_EPOCH + Duration::from_secs(1_798_761_600);
        let mut look = |day: u32| watch.look(Time(0) + DAY * day, end - DAY * 31 + DAY * day);
        assert_eq!(look(0), []);
        let expires = |days| Event::CertificateExpires {
            trunk: "service".into(),
            subject: "sbc.example.net".into(),
            days,
        };
        assert_eq!(look(2), [expires(29)]);
        assert_eq!(look(2), []);
        assert_eq!(look(3), [expires(28)]);
        assert_eq!(look(40), [expires(0)]);
    }
}
