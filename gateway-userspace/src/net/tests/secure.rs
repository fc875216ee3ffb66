//! Connections over TLS between two gateways, and with peers that do not play by the rules.

use super::authority::{Authority, Leaf, roots};
use super::*;
use crate::net::tls::Profile;
use crate::net::tls::{Engine, HandshakeFault, Identity, Roots, Suite, TrunkSettings, Version};
use crate::policy::{Peer, Trunk};
use crate::sip::message::Limits;
use std::sync::LazyLock;

#[cfg(feature = "openssl")]
mod openssl;

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("Root"));

/// A gateway with one TLS trunk.
struct Gateway {
    rig: Rig,
    local: SocketAddr,
    settings: TrunkSettings,
    peers: Vec<SocketAddr>,
    allowed: &'static str,
}

impl Gateway {
    /// Known and believed by the same authority, towards peers that are called `peer`.
    fn new(name: &str, peer: &str) -> Self {
        Self::of(AUTHORITY.identity(&Leaf { names: &[name], ..Leaf::default() }), roots(&[&AUTHORITY]), peer)
    }

    fn of(identity: Identity, roots: Roots, peer: &str) -> Self {
        // Messages of more than one record are among what crosses.
        let mut rig = Rig::with(Settings { limits: Limits::WIDEST, ..Settings::default() });
        let local = rig.listen(Transport::Tls);
        let settings = TrunkSettings {
            trunk: "service".into(),
            listen: local,
            identity,
            roots,
            peer_names: vec![peer.to_owned()],
            mutual: true,
            engine: Engine::Rustls,
            versions: Version::ALL.to_vec(),
            suites: Suite::standard(Engine::Rustls),
        };
        let mut gateway = Self { rig, local, settings, peers: Vec::new(), allowed: "127.0.0.0/8" };
        gateway.apply();
        gateway
    }

    /// Makes the settings count, as a reload does.
    fn apply(&mut self) {
        self.apply_with(&[]);
    }

    fn apply_with(&mut self, others: &[TrunkSettings]) {
        let trunk = Trunk {
            peers: self.peers.iter().map(|address| Peer::at(*address, 0)).collect(),
            allowed: vec![self.allowed.parse().expect("a network")],
            ..Trunk::new("service", Transport::Tls, self.local)
        };
        let policy = Snapshot::new(vec![trunk], Vec::new()).expect("a sound trunk");
        let trunks = [std::slice::from_ref(&self.settings), others].concat();
        let tls = TlsTable::new(&trunks).expect("sound settings");
        self.rig.net.set_access(self.rig.now, policy.into(), tls.into());
    }

    fn hop_to(&self, other: &Self) -> Hop {
        to(Transport::Tls, self.local, other.local)
    }
}

fn pair() -> (Gateway, Gateway) {
    (Gateway::new("a.example.net", "b.example.net"), Gateway::new("b.example.net", "a.example.net"))
}

fn until_both(a: &mut Gateway, b: &mut Gateway, done: impl Fn(&Rig, &Rig) -> bool) {
    let start = Instant::now();
    while !done(&a.rig, &b.rig) {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?} {:?}", a.rig.heard, b.rig.heard);
        a.rig.look();
        b.rig.look();
    }
}

/// Sends from `a` to `b`, and gives out by which connection it came.
fn deliver(a: &mut Gateway, b: &mut Gateway, text: &str) -> Hop {
    let before = b.rig.messages().len();
    a.rig.send(&a.hop_to(b), text).expect("is queued until the connection is open");
    until_both(a, b, |_, b| b.messages().len() > before);
    let (hop, heard) = b.rig.messages().pop().expect("one more than before");
    assert_eq!(heard, text);
    hop
}

/// Why the first connection between them did not come about, as each side says.
fn refused(a: &mut Gateway, b: &mut Gateway) -> (Closed, Closed) {
    a.rig.send(&a.hop_to(b), OPTIONS).expect("is queued until the connection is open");
    until_both(a, b, |a, b| !a.ends().is_empty() && !b.ends().is_empty());
    assert!(b.rig.messages().is_empty());
    (a.rig.ends()[0], b.rig.ends()[0])
}

#[test]
fn each_suite_alone_is_enough_in_both_roles() {
    for suite in Suite::standard(Engine::Rustls) {
        let rsa = suite.to_string().contains("-RSA-");
        let mut gateways =
            [("a.example.net", "b.example.net"), ("b.example.net", "a.example.net")].map(|(own, peer)| {
                let identity = AUTHORITY.identity(&Leaf { names: &[own], rsa, ..Leaf::default() });
                Gateway::of(identity, roots(&[&AUTHORITY]), peer)
            });
        gateways[0].settings.suites = vec![suite];
        gateways[0].settings.versions = vec![suite.version()];
        gateways[0].apply();
        let [one, all] = &mut gateways;
        deliver(one, all, &message(10));
        deliver(all, one, &message(20));
    }
}

// Statement 4.
#[test]
fn without_a_common_suite_or_version_there_is_no_connection() {
    let (mut a, mut b) = pair();
    a.settings.versions = vec![Version::Tls12];
    a.settings.suites = vec![Suite::named("ECDHE-RSA-AES128-GCM-SHA256").expect("it is there")];
    a.apply();
    let no_suite = refused(&mut a, &mut b);
    let handshake = |fault| Closed::Handshake(fault);
    assert_eq!(
        no_suite,
        (handshake(HandshakeFault::RefusedByPeer), handshake(HandshakeFault::NoCommonSuite))
    );

    let (mut a, mut b) = pair();
    a.settings.versions = vec![Version::Tls12];
    a.apply();
    b.settings.versions = vec![Version::Tls13];
    b.apply();
    let no_version = refused(&mut a, &mut b);
    assert_eq!(
        no_version,
        (handshake(HandshakeFault::RefusedByPeer), handshake(HandshakeFault::NoCommonVersion))
    );
}

// Statements 8, 206.
#[test]
fn a_caller_needs_a_certificate_of_a_known_root_and_the_very_name() {
    let elsewhere = Authority::new("Elsewhere");
    let other =
        |leaf: &Leaf<'_>| Gateway::of(elsewhere.identity(leaf), roots(&[&AUTHORITY]), "b.example.net");
    for (mut caller, fault) in [
        (Gateway::new("c.example.net", "b.example.net"), HandshakeFault::OtherName),
        (Gateway::new("*.example.net", "b.example.net"), HandshakeFault::OtherName),
        (other(&Leaf { names: &["a.example.net"], ..Leaf::default() }), HandshakeFault::UnknownIssuer),
    ] {
        let (_, mut b) = pair();
        // Over 1.3 the caller takes the connection for open before it is refused.
        caller.settings.versions = vec![Version::Tls12];
        caller.apply();
        let (told, why) = refused(&mut caller, &mut b);
        assert_eq!((told, why), (Closed::Handshake(HandshakeFault::RefusedByPeer), Closed::Handshake(fault)));
    }
    let (_, mut b) = pair();
    let nobody = TlsClient::new(b.local, &[]);
    b.rig.until(|rig| !rig.ends().is_empty());
    assert_eq!(b.rig.ends(), [Closed::Handshake(HandshakeFault::NoCertificate)]);
    assert!(nobody.refused());
}

#[test]
fn whom_we_call_has_to_be_who_we_expect() {
    let (mut a, _) = pair();
    let mut impostor = Gateway::new("c.example.net", "a.example.net");
    let (why, _) = refused(&mut a, &mut impostor);
    assert_eq!(why, Closed::Handshake(HandshakeFault::OtherName));
}

#[test]
fn a_peer_without_configured_name_is_known_by_its_address() {
    let (mut a, _) = pair();
    a.settings.peer_names.clear();
    a.apply();
    let mut b = Gateway::new("127.0.0.1", "a.example.net");
    deliver(&mut a, &mut b, OPTIONS);
}

// Statements 5, 9.
#[test]
fn two_roots_count_at_once_and_the_chain_below_them_is_sent_whole() {
    let new = Authority::new("New root");
    let (mut old_peer, mut a) = pair();
    let identity = new.identity(&Leaf { names: &["a.example.net"], ..Leaf::default() });
    let mut new_peer = Gateway::of(identity, roots(&[&AUTHORITY]), "b.example.net");
    a.settings.roots = roots(&[&AUTHORITY, &new]);
    a.apply();
    // Either is known by its root alone, so the intermediate has to come from the peer.
    deliver(&mut old_peer, &mut a, OPTIONS);
    deliver(&mut new_peer, &mut a, OPTIONS);
}

// Statement 10.
#[test]
fn after_a_reload_new_connections_have_the_new_certificate_and_old_ones_still_bring_answers() {
    let new = Authority::new("New root");
    let (mut a, mut b) = pair();
    b.settings.roots = roots(&[&AUTHORITY, &new]);
    b.apply();
    let first = deliver(&mut a, &mut b, OPTIONS);
    a.settings.identity = new.identity(&Leaf { names: &["a.example.net"], ..Leaf::default() });
    a.apply();
    let second = deliver(&mut a, &mut b, OPTIONS);
    assert_ne!(first.connection, second.connection);
    // The answer to what went before.
    b.rig.send(&first, &message(1)).expect("the old connection is open");
    until_both(&mut a, &mut b, |a, _| a.messages().len() == 1);
    // Once nothing comes any more it ends, and no request with it.
    a.rig.pass(Duration::from_secs(201));
    let retired = a.rig.heard.iter().filter(|event| matches!(event, NetEvent::RetiredClosed { .. })).count();
    assert_eq!((retired, a.rig.net.connections()), (1, 1));
    // From now on the old root is not believed any more, and only a new certificate gets in.
    b.settings.roots = roots(&[&new]);
    b.apply();
    a.apply();
    deliver(&mut a, &mut b, OPTIONS);
}

#[test]
fn trunks_on_one_socket_show_the_certificate_that_the_caller_asks_for() {
    let (mut a, mut b) = pair();
    let identity = AUTHORITY.identity(&Leaf { names: &["*.tenant.example"], ..Leaf::default() });
    let second = TrunkSettings { trunk: "second".into(), identity, ..b.settings.clone() };
    b.apply_with(&[second]);
    for asked in ["one.tenant.example", "b.example.net"] {
        a.settings.peer_names = vec![asked.to_owned()];
        a.apply();
        deliver(&mut a, &mut b, OPTIONS);
    }
}

// Statement 20.
#[test]
fn strangers_are_closed_before_a_word_of_tls() {
    let (_, mut b) = pair();
    b.allowed = "192.0.2.0/24";
    b.apply();
    let mut stream = client(b.local);
    b.rig.until(|rig| rig.net.counts().strangers == 1);
    assert!(matches!(b.rig.heard[..], [NetEvent::Stranger { .. }]));
    assert_eq!((stream.read(&mut [0; 1]).unwrap_or(0), b.rig.net.connections()), (0, 0));
}

// Statements 12, 13.
#[test]
fn answers_go_back_on_the_connection_of_the_request_and_requests_by_one_of_our_own() {
    let (mut a, mut b) = pair();
    let inbound = deliver(&mut a, &mut b, OPTIONS);
    b.rig.send(&inbound, &message(1)).expect("the connection is open");
    until_both(&mut a, &mut b, |a, _| a.messages().len() == 1);
    assert_eq!(b.rig.net.counts().dialled, 0);
    // To the very address and port that the peer's connection comes from: nobody listens there, and still it is not
    // taken for the peer.
    let back = Hop { connection: None, ..inbound };
    b.rig.send(&back, OPTIONS).expect("is queued until the connection is open");
    assert_eq!(b.rig.net.counts().dialled, 1);
}

// Statement 14.
#[test]
fn the_next_request_to_a_peer_reuses_the_idle_connection() {
    let (mut a, mut b) = pair();
    let first = deliver(&mut a, &mut b, OPTIONS);
    a.rig.pass(Duration::from_secs(50));
    assert_eq!(deliver(&mut a, &mut b, OPTIONS), first);
    assert_eq!(a.rig.net.counts().dialled, 1);
}

// Statement 15.
#[test]
fn a_connection_of_our_own_is_replaced_within_the_hour() {
    let (mut a, mut b) = pair();
    let first = deliver(&mut a, &mut b, OPTIONS);
    a.rig.pass(Duration::from_secs(54 * 60));
    assert_eq!(deliver(&mut a, &mut b, OPTIONS), first);
    a.rig.pass(Duration::from_secs(60));
    assert_ne!(deliver(&mut a, &mut b, OPTIONS).connection, first.connection);
    // The old one still brings the answer to what went by it a minute ago.
    b.rig.send(&first, &message(1)).expect("the old connection is open");
    until_both(&mut a, &mut b, |a, _| a.messages().len() == 1);
}

// Statement 16.
#[test]
fn a_connection_of_our_own_never_stays_silent_for_two_minutes() {
    let (mut a, mut b) = pair();
    deliver(&mut a, &mut b, OPTIONS);
    for pings in 1..=10 {
        a.rig.pass(Duration::from_secs(60));
        assert_eq!(a.rig.net.counts().pings_sent, pings);
        // The peer sees it alive, and its pong is no message.
        until_both(&mut a, &mut b, |_, _| true);
    }
    assert!(a.rig.messages().is_empty() && b.rig.messages().len() == 1);
    assert!(a.rig.ends().is_empty());
}

/// RFC 5626 section 4.4.1: a flow whose ping has no answer within ten seconds is over.
#[test]
fn a_flow_that_the_peer_keeps_is_pinged_as_it_wants_and_closed_when_no_pong_comes() {
    let (mut a, mut b) = pair();
    let there = deliver(&mut a, &mut b, OPTIONS);
    let own = to(Transport::Tls, a.local, b.local);
    a.rig.net.keep_alive(a.rig.now, &own, Duration::from_secs(27));
    for pings in 1..=3 {
        a.rig.pass(Duration::from_secs(27));
        assert_eq!(a.rig.net.counts().pings_sent, pings);
        // The pong is no message, and nothing else tells that it came.
        for _ in 0..10 {
            a.rig.look();
            b.rig.look();
        }
    }
    assert!(a.rig.ends().is_empty());
    // The peer is gone without a word.
    a.rig.pass(Duration::from_secs(27));
    a.rig.pass(Duration::from_secs(9));
    assert!(a.rig.ends().is_empty());
    a.rig.pass(Duration::from_secs(1));
    assert_eq!(a.rig.ends(), [Closed::PingUnanswered]);
    assert_ne!(deliver(&mut a, &mut b, OPTIONS).connection, there.connection);
}

#[test]
fn a_connection_that_has_had_its_time_says_so() {
    let (mut a, mut b) = pair();
    deliver(&mut a, &mut b, OPTIONS);
    a.rig.pass(Duration::from_secs(55 * 60));
    let retired = a.rig.heard.iter().filter(|event| matches!(event, NetEvent::Retired { .. }));
    assert_eq!(retired.count(), 1);
}

// Statement 18.
#[test]
fn the_end_of_an_idle_connection_is_survived_and_the_next_request_opens_another() {
    let (mut a, mut b) = pair();
    let first = deliver(&mut a, &mut b, OPTIONS);
    b.rig.pass(Duration::from_secs(600));
    until_both(&mut a, &mut b, |a, _| !a.ends().is_empty());
    assert_eq!((a.rig.ends(), b.rig.ends()), (vec![Closed::ByPeer], vec![Closed::Idle]));
    assert_ne!(deliver(&mut a, &mut b, OPTIONS).connection, first.connection);
}

// Statement 19.
#[test]
fn a_peer_may_have_a_hundred_connections_at_once() {
    let (a, mut b) = pair();
    let clients: Vec<_> =
        (0..100).map(|_| TlsClient::new(b.local, std::slice::from_ref(&a.settings))).collect();
    b.rig.until(|rig| rig.messages().len() == 100);
    assert_eq!((b.rig.net.connections(), b.rig.net.counts().handshakes), (100, 100));
    assert!(b.rig.ends().is_empty());
    clients.into_iter().for_each(TlsClient::hang_up);
}

#[test]
fn a_handshake_that_dawdles_is_ended() {
    let (_, mut b) = pair();
    let mut stream = client(b.local);
    b.rig.until(|rig| rig.net.counts().accepted == 1);
    // The beginning of a record, octet by octet.
    for octet in [22, 3, 1, 2] {
        stream.write_all(&[octet]).expect("the connection is open");
        b.rig.look();
        b.rig.pass(Duration::from_secs(1));
        assert!(b.rig.ends().is_empty());
    }
    b.rig.pass(Duration::from_secs(1));
    assert_eq!(b.rig.ends(), [Closed::HandshakeTimedOut]);
}

#[test]
fn sip_without_tls_on_a_tls_port_is_told_as_such() {
    let (_, mut b) = pair();
    let mut stream = client(b.local);
    stream.write_all(OPTIONS.as_bytes()).expect("the connection is open");
    b.rig.until(|rig| !rig.ends().is_empty());
    assert_eq!(b.rig.ends(), [Closed::Handshake(HandshakeFault::NotTls)]);
}

// Statement 22.
#[test]
fn large_messages_cross_whole_whatever_records_and_segments_they_come_in() {
    let (mut a, mut b) = pair();
    let sizes = [60_000, 0, 17_000, 1];
    for size in sizes {
        a.rig.send(&a.hop_to(&b), &message(size)).expect("is queued until the connection is open");
    }
    until_both(&mut a, &mut b, |_, b| b.messages().len() == sizes.len());
    let heard: Vec<_> = b.rig.messages().into_iter().map(|(_, text)| text).collect();
    assert_eq!(heard, sizes.map(message));
}

/// A client that is no gateway: it shows `settings`' certificate, or none, sends OPTIONS, and waits.
struct TlsClient {
    thread: std::thread::JoinHandle<std::io::Result<usize>>,
    socket: StdStream,
}

impl TlsClient {
    fn new(server: SocketAddr, settings: &[TrunkSettings]) -> Self {
        let client = settings.first().map_or_else(anonymous, |settings| {
            let table = TlsTable::new(std::slice::from_ref(settings)).expect("sound settings");
            table.profile("service").and_then(Profile::rustls_client).expect("it was just made")
        });
        let name = "b.example.net".try_into().expect("a name");
        let session = rustls::ClientConnection::new(client, name).expect("a sound configuration");
        let mut socket = StdStream::connect(server).expect("somebody listens");
        let kept = socket.try_clone().expect("a descriptor is free");
        let thread = std::thread::spawn(move || {
            let mut session = session;
            let mut stream = rustls::Stream::new(&mut session, &mut socket);
            stream.write_all(OPTIONS.as_bytes())?;
            stream.flush()?;
            stream.read(&mut [0; 1])
        });
        Self { thread, socket: kept }
    }

    /// Waits for its end by the server; whether that was an alert.
    fn refused(self) -> bool {
        let ended = self.thread.join().expect("the client does not panic");
        ended.is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidData)
    }

    fn hang_up(self) {
        // A socket that the server has closed is as good.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.thread.join().expect("the client does not panic");
    }
}

/// Without a certificate, and content with any root of the tests.
fn anonymous() -> Arc<rustls::ClientConfig> {
    let (gateway, _) = pair();
    let table = TlsTable::new(&[gateway.settings]).expect("sound settings");
    let made = table.profile("service").and_then(Profile::rustls_client).expect("it was just made");
    let mut config = (*made).clone();
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    Arc::new(config)
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
