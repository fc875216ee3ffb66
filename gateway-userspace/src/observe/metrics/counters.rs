//! The list of counters: each once, with its name and its help.

use super::super::event::Direction;
use super::super::path::RelayPath;
use crate::base::fault::Fault;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($field:ident: $kind:ty = $name:literal, $help:literal;)+) => {
        /// What one core counts.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $field: $kind,)+
        }

        impl Counters {
            /// Every counter as it stands.
            pub(super) fn series(&self) -> Vec<Series> {
                let mut list = Vec::with_capacity(192);
                $(self.$field.list($name, $help, &mut list);)+
                list
            }
        }
    };
}

counters! {
    calls_started: Counter = "causeway_calls_started", "INVITEs accepted as new calls";
    calls_adopted: Counter = "causeway_calls_adopted", "Calls taken over from an earlier daemon";
    calls_answered: Counter = "causeway_calls_answered", "Calls answered with 200";
    transfers: Counter = "causeway_transfers", "Times that a side of a call got another peer";
    transfers_failed: Counter = "causeway_transfers_failed", "Transfers that left the call as it was";
    calls_ended: Counter = "causeway_calls_ended", "Calls that ended, however they did";
    peers_tried: Counter = "causeway_peers_tried", "Peers that a call was sent to";
    peer_failovers: Counter = "causeway_peer_failovers", "Calls sent to another peer after one failed";
    media_plans: Counter = "causeway_media_plans", "Media negotiated and programmed, re-INVITEs included";
    telephone_events: Counter = "causeway_telephone_events", "Telephone-events heard (RFC 4733)";
    sources_silenced: Counter = "causeway_sources_silenced", "Messages dropped: no trunk allows their source";
    reloads: Counter = "causeway_config_reloads", "Configurations taken into force while running";
    reloads_failed: Counter = "causeway_config_reloads_failed", "Configurations refused while running";
    path_changes: Counter = "causeway_media_path_changes", "Changes of the way that media takes on an interface";
    handshakes_failed: Counter = "causeway_tls_handshakes_failed", "TLS handshakes that failed, by either side";
    expiries_told: Counter = "causeway_certificate_warnings", "Certificates found within 30 days of their end";
    sources_denied: Counter = "causeway_sources_denied", "Times that an address or a network was denied";
    call_panics: Counter = "causeway_call_panics", "Calls that were lost to a panic";
    drains: Counter = "causeway_drains", "Times that the node began to drain";
    drains_ended: Counter = "causeway_drains_ended", "Times that the node was undrained";
    probes: Counter = "causeway_probes", "OPTIONS that peers were asked by";
    probes_failed: Counter = "causeway_probes_failed", "OPTIONS answered by 408, 503 or not at all";
    peers_up: Counter = "causeway_peers_went_up", "Times that an address of a peer came to serve calls";
    peers_down: Counter = "causeway_peers_went_down", "Times that an address of a peer was taken out of service";
    contacts_refused: Counter = "causeway_contacts_refused", "Times that a peer began to answer OPTIONS with 403";
    trunks_near_limit: Counter = "causeway_trunks_near_limit", "Times that a trunk came to nine tenths of its calls";
    tenants_near_limit: Counter = "causeway_tenants_near_limit", "Times that a tenant came to nine tenths of its calls";
    authentications_failed: Counter = "causeway_authentications_failed", "Calls whose callers gave a wrong name or password";
    registrations: Counter = "causeway_registrations", "Times that a peer began to know our Contact";
    registrations_ended: Counter = "causeway_registrations_ended", "Registrations taken back";
    registrations_failed: Counter = "causeway_registrations_failed", "Times that a peer began to refuse our Contact, or fell silent about it";
    trunk_drains: Counter = "causeway_trunk_drains", "Drains of trunks and peers begun and ended";
    records: Counter = "causeway_call_records", "Call detail records handed to the writer";
    records_lost: Counter = "causeway_call_records_lost", "Call detail records lost: the writer was too slow";
    media_directions: PerPath = "causeway_call_media", "Directions of media of calls that ended, by who relayed them last and why";
    calls_failed: PerFault = "causeway_calls_failed", "Calls that a fault ended";
    requests_refused: PerFault = "causeway_requests_refused", "Requests answered with an error";
    sip_requests: PerDirection = "causeway_sip_requests", "SIP requests, without repeats";
    sip_responses: PerDirection = "causeway_sip_responses", "SIP responses, without repeats";
    sip_repeated: PerDirection = "causeway_sip_repeats", "SIP messages seen or sent again";
}

/// One line of the exposition before all cores are added up.
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) labels: Vec<(&'static str, &'static str)>,
    pub(super) value: u64,
}

/// What has a place in the list.
trait Listed {
    fn list(&self, name: &'static str, help: &'static str, list: &mut Vec<Series>);
}

/// One writer, so no atomic addition is needed, only that readers never see half a number.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.store(self.value().wrapping_add(1), Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Listed for Counter {
    fn list(&self, name: &'static str, help: &'static str, list: &mut Vec<Series>) {
        list.push(Series { name, help, labels: Vec::new(), value: self.value() });
    }
}

#[derive(Debug)]
pub(super) struct PerFault([Counter; Fault::ALL.len()]);

impl Default for PerFault {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl PerFault {
    pub(super) fn of(&self, fault: Fault) -> &Counter {
        // `Fault::ALL` lists the variants in the order they are declared in, so the discriminant is the place.
        &self.0[fault as usize]
    }
}

impl Listed for PerFault {
    fn list(&self, name: &'static str, help: &'static str, list: &mut Vec<Series>) {
        for (fault, counter) in Fault::ALL.iter().zip(&self.0) {
            list.push(Series { name, help, labels: vec![("fault", fault.label())], value: counter.value() });
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct PerPath([Counter; RelayPath::COUNT]);

impl PerPath {
    pub(super) fn of(&self, path: RelayPath) -> &Counter {
        &self.0[path.index()]
    }
}

impl Listed for PerPath {
    fn list(&self, name: &'static str, help: &'static str, list: &mut Vec<Series>) {
        for (path, counter) in RelayPath::all().zip(&self.0) {
            let labels = vec![("path", path.label()), ("reason", path.reason().unwrap_or(""))];
            list.push(Series { name, help, labels, value: counter.value() });
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct PerDirection {
    received: Counter,
    sent: Counter,
}

impl PerDirection {
    pub(super) fn of(&self, direction: Direction) -> &Counter {
        match direction {
            Direction::Received => &self.received,
            Direction::Sent => &self.sent,
        }
    }
}

impl Listed for PerDirection {
    fn list(&self, name: &'static str, help: &'static str, list: &mut Vec<Series>) {
        for (word, counter) in [("received", &self.received), ("sent", &self.sent)] {
            list.push(Series { name, help, labels: vec![("direction", word)], value: counter.value() });
        }
    }
}
