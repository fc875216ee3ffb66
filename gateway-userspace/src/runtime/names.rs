//! Peers by name: which are wanted of the DNS, and how what they mean reaches the cores.

use super::defence::Defence;
use super::mailbox::{Mail, Mailbox};
use crate::config::Config;
use crate::policy::{PeerAddress, Snapshot, Trunk};
use crate::resolve::{Findings, Wanted};
use crate::sip::message::{Contact, Message, Method};
use crate::sip::transport::{Hop, Transport};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// All names of peers.
pub(super) fn wanted(policy: &Snapshot) -> Vec<Wanted> {
    let peers = policy.trunks().flat_map(|(_, trunk)| trunk.peers.iter().map(move |peer| (trunk, peer)));
    let named = peers.filter(|(_, peer)| peer.address.authority().is_some());
    named.map(|(trunk, peer)| trunk.wanted(peer.address.clone())).collect()
}

/// Tells all cores what names mean now.
pub(super) fn publisher(
    config: Arc<Mutex<(PathBuf, Config)>>,
    mailboxes: Arc<[Mailbox]>,
    defence: Arc<Defence>,
) -> Box<dyn Fn(Arc<Findings>) + Send + Sync> {
    Box::new(move |findings| {
        let (_, config) = &mut *config.lock();
        let look_up = |trunk: &Trunk, address: &PeerAddress| {
            findings.meaning(&trunk.wanted(address.clone())).map(<[_]>::to_vec)
        };
        config.policy = Arc::new(config.policy.resolved(&look_up).knowing(Arc::clone(&findings)));
        defence.follow(&config.policy, config.defence);
        for core in mailboxes.iter() {
            core.post(Mail::Policy { policy: Arc::clone(&config.policy), tls: Arc::clone(&config.tls) });
        }
    })
}

/// The name that requests inside the dialog of this INVITE, or of this answer to one, will go to, if the trunk is one
/// that does not send them back by the connection that the message came by: to be looked up before they are sent.
pub(super) fn learned_from(policy: &Snapshot, message: &Message, hop: &Hop) -> Option<Wanted> {
    let head = message.head();
    if hop.transport != Transport::Tls || head.cseq.method != Method::Invite {
        return None;
    }
    let route = match message {
        Message::Request(_) => head.record_route.first(),
        Message::Response(_) => head.record_route.last(),
    };
    let contact = match &head.contact {
        Contact::Addresses(addresses) => addresses.first(),
        Contact::Wildcard => None,
    };
    let uri = route.or(contact)?.uri.as_sip()?;
    if uri.host.address().is_some() {
        return None;
    }
    let trunk = policy.trunk(policy.identify(hop.local, hop.remote, hop.transport)?)?;
    let name = uri.host.to_string().to_ascii_lowercase().into();
    let wanted = trunk.wanted(PeerAddress::Host { name, port: uri.port });
    policy.names().meaning(&wanted).is_none().then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Time;
    use crate::resolve::{Kind, Outcome, Records, Resolver};
    use crate::sip::message::{Host, parse};
    use std::net::SocketAddr;
    use std::time::Duration;

    fn policy() -> Snapshot {
        let listen = "192.0.2.1:5061".parse().expect("an address");
        let allowed = vec!["52.112.0.0/14".parse().expect("a network")];
        let trunk = Trunk { allowed, ..Trunk::new("service", Transport::Tls, listen) };
        Snapshot::new(vec![trunk], Vec::new()).expect("a sound trunk")
    }

    fn message(start: &str, routes: &str, contact: &str) -> Message {
        let text = format!(
            "{start}\r\nVia: SIP/2.0/TLS 52.112.0.9;branch=z9hG4bKa\r\n{routes}From: <sip:b@h>;tag=1\r\n\
             To: <sip:a@192.0.2.1>\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\nContact: <{contact}>\r\n\r\n"
        );
        parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn hop(remote: &str) -> Hop {
        let local = "192.0.2.1:5061".parse().expect("an address");
        Hop {
            transport: Transport::Tls,
            local,
            remote: remote.parse().expect("an address"),
            connection: None,
        }
    }

    #[test]
    fn the_name_that_a_dialog_will_go_to_is_looked_up_before_it_is_needed() {
        let policy = policy();
        let routes = "Record-Route: <sip:first.example:5061;lr>, <sip:second.example;lr>\r\n";
        let learned = |start: &str, routes: &str, contact: &str, from: &str| {
            let wanted = learned_from(&policy, &message(start, routes, contact), &hop(from))?;
            Some(wanted.address.to_string())
        };
        let (invite, answer) = ("INVITE sip:a@192.0.2.1 SIP/2.0", "SIP/2.0 200 OK");
        let name = |text: &str| Some(text.to_owned());
        assert_eq!(learned(invite, routes, "sip:c.example", "52.112.0.9:4000"), name("first.example:5061"));
        assert_eq!(learned(answer, routes, "sip:c.example", "52.112.0.9:5061"), name("second.example"));
        assert_eq!(learned(invite, "", "sip:C.example:443", "52.112.0.9:4000"), name("c.example:443"));
        assert_eq!(learned(invite, "", "sip:52.112.0.7", "52.112.0.9:4000"), None);
        assert_eq!(learned(invite, routes, "sip:c.example", "203.0.113.9:4000"), None, "a stranger's name");
    }

    // Statement 13.
    #[test]
    fn what_a_learned_name_means_is_where_its_dialogs_go_if_the_trunk_hears_it() {
        let policy = policy();
        let invite = message("INVITE sip:a@192.0.2.1 SIP/2.0", "", "sip:c.example:443");
        let wanted = learned_from(&policy, &invite, &hop("52.112.0.9:4000")).expect("a name");
        let mut resolver = Resolver::default();
        resolver.learn(Time(0), wanted);
        let [question] = &resolver.poll(Time(0))[..] else { panic!("one question is enough") };
        assert_eq!((&*question.name, question.kind), ("c.example", Kind::A));
        let addresses = ["203.0.113.1", "52.112.0.44"].map(|text| text.parse().expect("an address"));
        let records = Records::Addresses(addresses.to_vec());
        let outcome = Outcome::Records { records, ttl: Duration::from_secs(60) };
        resolver.answered(Time(0), question, outcome);
        assert!(resolver.poll(Time(0)).is_empty());
        let (id, _) = policy.trunk_named("service").expect("it is there");
        let host: Host = "C.example".parse().expect("a host");
        assert_eq!(policy.meant_by(id, &host, Some(443)), None);
        let policy = policy.knowing(resolver.news().expect("it is known now"));
        let meant: SocketAddr = "52.112.0.44:443".parse().expect("an address");
        assert_eq!(policy.meant_by(id, &host, Some(443)), Some(meant));
        assert_eq!(learned_from(&policy, &invite, &hop("52.112.0.9:4000")), None, "known by now");
    }
}
