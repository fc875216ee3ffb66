//! Sockets over loopback. Time is virtual: deadlines are passed by saying so, and the wall clock only ends a test
//! that would hang.

pub(crate) mod authority;
mod secure;

use super::*;
use mio::{Events, Poll};
use std::io::{self, Read, Write};
use std::net::{TcpListener as StdListener, TcpStream as StdStream, UdpSocket as StdUdp};
use std::time::Instant;

const ANY_PORT: &str = "127.0.0.1:0";
const OPTIONS: &str = "OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n";

struct Rig {
    poll: Poll,
    net: Net,
    now: Time,
    heard: Vec<NetEvent>,
}

impl Rig {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let poll = Poll::new().expect("epoll is there");
        let registry = poll.registry().try_clone().expect("a descriptor is free");
        Self { poll, net: Net::new(registry, settings), now: Time(1_000_000), heard: Vec::new() }
    }

    fn listen(&mut self, transport: Transport) -> SocketAddr {
        self.net.listen(ANY_PORT.parse().expect("an address"), transport).expect("a port is free")
    }

    /// One look at the sockets, waiting a little.
    fn look(&mut self) {
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(Duration::from_millis(5))).expect("epoll works");
        for event in &events {
            assert!(self.net.owns(event.token()));
            self.net.ready(self.now, event, &mut self.heard);
        }
        self.now = self.now + Duration::from_micros(2);
        self.net.expire(self.now, &mut self.heard);
    }

    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < Duration::from_secs(20), "nothing more happens: {:?}", self.heard);
            self.look();
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        self.net.expire(self.now, &mut self.heard);
    }

    fn send(&mut self, hop: &Hop, text: &str) -> Result<(), NetFault> {
        let sent = self.net.send(self.now, hop, &text.as_bytes().into());
        self.net.flush_all(self.now);
        sent
    }

    /// The texts of the messages heard so far, with where each came from.
    fn messages(&self) -> Vec<(Hop, String)> {
        let texts = self.heard.iter().filter_map(|event| match event {
            NetEvent::Datagram { hop, bytes } | NetEvent::Frame { hop, bytes } => {
                Some((*hop, String::from_utf8_lossy(bytes).into_owned()))
            }
            NetEvent::Closed { .. }
            | NetEvent::Failed { .. }
            | NetEvent::Retired { .. }
            | NetEvent::RetiredClosed { .. }
            | NetEvent::Stranger { .. } => None,
        });
        texts.collect()
    }

    /// Why connections ended so far.
    fn ends(&self) -> Vec<Closed> {
        let ends = self.heard.iter().filter_map(|event| match event {
            NetEvent::Closed { why, .. }
            | NetEvent::Failed { why, .. }
            | NetEvent::RetiredClosed { why, .. } => Some(*why),
            NetEvent::Datagram { .. }
            | NetEvent::Frame { .. }
            | NetEvent::Retired { .. }
            | NetEvent::Stranger { .. } => None,
        });
        ends.collect()
    }
}

fn message(body: usize) -> String {
    format!("MESSAGE sip:a@b SIP/2.0\r\nContent-Length: {body}\r\n\r\n{}", "x".repeat(body))
}

fn to(transport: Transport, local: SocketAddr, remote: SocketAddr) -> Hop {
    Hop { transport, local, remote, connection: None }
}

fn client(address: SocketAddr) -> StdStream {
    let stream = StdStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out can be set");
    stream
}

#[test]
fn datagrams_go_both_ways_and_name_both_ends() {
    let mut rig = Rig::new();
    let local = rig.listen(Transport::Udp);
    let peer = StdUdp::bind(ANY_PORT).expect("a port is free");
    let remote = peer.local_addr().expect("it is bound");
    for text in ["\r\n\r\n", "\0", "hello"] {
        peer.send_to(text.as_bytes(), local).expect("loopback takes it");
    }
    rig.until(|rig| !rig.messages().is_empty());
    let hop = to(Transport::Udp, local, remote);
    assert_eq!(rig.messages(), [(hop, "hello".into())]);
    assert_eq!(rig.net.counts().keepalives, 2);

    rig.send(&hop, "answer").expect("loopback takes it");
    let mut buffer = [0; 64];
    let (length, from) = peer.recv_from(&mut buffer).expect("it was sent");
    assert_eq!((&buffer[..length], from), (&b"answer"[..], local));
}

#[test]
fn a_burst_longer_than_a_turn_is_read_to_its_end() {
    let mut rig = Rig::new();
    let local = rig.listen(Transport::Udp);
    let peer = StdUdp::bind(ANY_PORT).expect("a port is free");
    for index in 0..300 {
        peer.send_to(format!("{index}").as_bytes(), local).expect("loopback takes it");
    }
    rig.until(|rig| rig.messages().len() == 300);
    assert!(rig.messages().iter().enumerate().all(|(index, (_, text))| *text == index.to_string()));
}

#[test]
fn ipv6_works_like_ipv4() {
    let mut rig = Rig::new();
    let local =
        rig.net.listen("[::1]:0".parse().expect("an address"), Transport::Udp).expect("a port is free");
    let peer = StdUdp::bind("[::1]:0").expect("a port is free");
    rig.send(&to(Transport::Udp, local, peer.local_addr().expect("it is bound")), "six")
        .expect("loopback takes it");
    let mut buffer = [0; 64];
    assert_eq!(peer.recv_from(&mut buffer).expect("it was sent").1, local);
}

#[test]
fn a_datagram_needs_a_socket_of_its_address_and_a_size_that_fits() {
    let mut rig = Rig::new();
    let local = rig.listen(Transport::Udp);
    let elsewhere = to(Transport::Udp, "127.0.0.2:5060".parse().expect("an address"), local);
    assert!(matches!(rig.send(&elsewhere, "x"), Err(NetFault::NoSocket { .. })));
    let large = rig.send(&to(Transport::Udp, local, local), &"x".repeat(65_535));
    assert!(matches!(large, Err(NetFault::TooLarge { length: 65_535, .. })), "{large:?}");
}

#[test]
fn two_workers_share_an_address_and_together_hear_everything() {
    let mut one = Rig::new();
    let mut two = Rig::with(Settings { worker: CoreId(1), ..Settings::default() });
    let local = one.listen(Transport::Udp);
    two.net.listen(local, Transport::Udp).expect("the first worker shares it");
    for _ in 0..64 {
        let peer = StdUdp::bind(ANY_PORT).expect("a port is free");
        peer.send_to(b"x", local).expect("loopback takes it");
    }
    let start = Instant::now();
    while one.messages().len() + two.messages().len() < 64 {
        assert!(start.elapsed() < Duration::from_secs(20));
        one.look();
        two.look();
    }
    assert!(!one.messages().is_empty() && !two.messages().is_empty());
}

#[test]
fn an_address_that_cannot_be_listened_on_is_refused_with_its_fix() {
    let mut rig = Rig::new();
    let taken = StdUdp::bind(ANY_PORT).expect("a port is free").local_addr().expect("it is bound");
    let holder = StdUdp::bind(taken).expect("it is free again");
    let in_use = rig.net.listen(taken, Transport::Udp).expect_err("another has it");
    assert!(in_use.to_string().contains(&format!("sport = :{}", taken.port())), "{in_use}");
    drop(holder);

    let nowhere = "192.0.2.77:5060".parse().expect("an address");
    let absent = rig.net.listen(nowhere, Transport::Tcp).expect_err("no interface has it");
    assert!(matches!(absent, ListenFault::NoSuchAddress { .. }), "{absent}");
    let wildcard = rig.net.listen("0.0.0.0:5060".parse().expect("an address"), Transport::Udp);
    assert!(matches!(wildcard, Err(ListenFault::Wildcard { .. })));
}

#[test]
fn a_probe_notices_another_daemon_that_would_share_the_address() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut other = Rig::new();
        let address = other.listen(transport);
        assert!(matches!(probe(address, transport), Err(ListenFault::InUse { .. })), "{transport}");
        drop(other);
        probe(address, transport).expect("it is free again");
    }
}

#[test]
fn messages_to_a_peer_dial_once_and_its_answers_come_back_on_the_connection() {
    let mut rig = Rig::new();
    let local = rig.listen(Transport::Tcp);
    let peer = StdListener::bind(ANY_PORT).expect("a port is free");
    let hop = to(Transport::Tcp, local, peer.local_addr().expect("it is bound"));
    rig.send(&hop, OPTIONS).expect("is queued until the connection is open");
    rig.send(&hop, OPTIONS).expect("is queued until the connection is open");
    let (mut stream, _) = peer.accept().expect("we dial");
    stream.write_all(message(3).as_bytes()).expect("the connection is open");
    rig.until(|rig| !rig.messages().is_empty());
    let (from, text) = rig.messages().remove(0);
    assert_eq!(text, message(3));
    assert_eq!((from.local, from.remote), (hop.local, hop.remote));

    rig.send(&from, "last").expect("the connection is open");
    let mut read = vec![0; 2 * OPTIONS.len() + 4];
    stream.read_exact(&mut read).expect("all three were sent");
    assert_eq!(String::from_utf8_lossy(&read), format!("{OPTIONS}{OPTIONS}last"));
    assert_eq!((rig.net.counts().dialled, rig.net.connections()), (1, 1));
    assert_eq!(from.connection.map(owner), Some(CoreId(0)));
}

#[test]
fn messages_for_a_connection_are_gathered_and_leave_together_in_their_order() {
    let mut rig = Rig::new();
    let local = rig.listen(Transport::Tcp);
    let mut stream = client(local);
    stream.write_all(message(3).as_bytes()).expect("the connection is open");
    rig.until(|rig| !rig.messages().is_empty());
    let (hop, _) = rig.messages().remove(0);
    let texts: Vec<String> = (0..100).map(|number| format!("{number};")).collect();
    for text in &texts {
        rig.net.send(rig.now, &hop, &text.as_bytes().into()).expect("the connection is open");
    }
    stream.set_nonblocking(true).expect("it can be set");
    assert!(stream.read(&mut [0; 1]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
    rig.net.flush_all(rig.now);
    stream.set_nonblocking(false).expect("it can be set");
    let mut read = vec![0; texts.concat().len()];
    stream.read_exact(&mut read).expect("all were sent");
    assert_eq!(String::from_utf8_lossy(&read), texts.concat());
}

#[test]
fn more_than_a_queue_holds_can_be_gathered_while_the_peer_reads() {
    let mut rig = Rig::with(Settings { queue: 1_000, ..Settings::default() });
    let local = rig.listen(Transport::Tcp);
    let mut stream = client(local);
    stream.write_all(message(3).as_bytes()).expect("the connection is open");
    rig.until(|rig| !rig.messages().is_empty());
    let (hop, _) = rig.messages().remove(0);
    for _ in 0..3 {
        rig.net.send(rig.now, &hop, &[b'x'; 900].as_slice().into()).expect("the kernel has room");
    }
    rig.net.flush_all(rig.now);
    stream.read_exact(&mut [0; 2_700]).expect("all were sent");
}

// Statement 49.
#[test]
fn a_connection_that_is_left_is_answered_on_and_the_next_message_opens_another() {
    let mut rig = Rig::new();
    let local = rig.listen(Transport::Tcp);
    let peer = StdListener::bind(ANY_PORT).expect("a port is free");
    let hop = to(Transport::Tcp, local, peer.local_addr().expect("it is bound"));
    rig.send(&hop, OPTIONS).expect("is queued until the connection is open");
    let (mut first, _) = peer.accept().expect("we dial");
    let read = |stream: &mut StdStream| {
        let mut read = vec![0; OPTIONS.len()];
        stream.read_exact(&mut read).expect("it was sent");
    };
    rig.until(|rig| rig.net.timers.next().is_some());
    rig.look();
    read(&mut first);
    rig.net.leave(rig.now, &hop);
    first.write_all(message(3).as_bytes()).expect("the connection is open");
    rig.until(|rig| !rig.messages().is_empty());
    rig.send(&hop, OPTIONS).expect("is queued until the connection is open");
    let (mut second, _) = peer.accept().expect("we dial again");
    rig.look();
    read(&mut second);
    rig.pass(Settings::default().retirement);
    rig.until(|rig| !rig.ends().is_empty());
    assert_eq!((rig.net.counts().dialled, rig.net.connections()), (2, 1));
    // Nothing left to leave.
    rig.net.leave(rig.now, &to(Transport::Tcp, local, local));
}

// Statement 22.
#[test]
fn one_message_in_many_segments_and_many_in_one_come_out_as_they_are() {
    let mut rig = Rig::new();
    let local = rig.listen(Transport::Tcp);
    let mut stream = client(local);
    stream.set_nodelay(true).expect("can be set");
    for octet in message(5).bytes() {
        stream.write_all(&[octet]).expect("the connection is open");
        rig.look();
    }
    stream.write_all(message(2).repeat(3).as_bytes()).expect("the connection is open");
    rig.until(|rig| rig.messages().len() == 4);
    let texts: Vec<_> = rig.messages().into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, [message(5), message(2), message(2), message(2)]);
    assert_eq!(rig.net.counts().frames_received, 4);
}

// Statement 17.
#[test]
fn a_ping_gets_its_pong() {
    let mut rig = Rig::new();
    let mut stream = client(rig.listen(Transport::Tcp));
    stream.write_all(b"\r\n\r\n").expect("the connection is open");
    rig.until(|rig| rig.net.counts().accepted == 1);
    rig.look();
    rig.look();
    let mut pong = [0; 2];
    stream.read_exact(&mut pong).expect("it was sent");
    assert_eq!(&pong, b"\r\n");
    assert!(rig.messages().is_empty());
}

#[test]
fn a_stream_that_cannot_be_framed_gets_its_answer_and_is_closed() {
    let mut rig = Rig::new();
    let mut stream = client(rig.listen(Transport::Tcp));
    let request = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                   To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: -1\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("the connection is open");
    rig.until(|rig| !rig.ends().is_empty());
    assert!(matches!(rig.ends()[..], [Closed::Unframed(_)]));
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the connection ends well");
    assert!(answer.starts_with("SIP/2.0 400 "), "{answer}");
    assert_eq!(rig.net.connections(), 0);
}

#[test]
fn a_peer_that_refuses_is_reported_with_the_hop_that_was_asked_for() {
    let mut rig = Rig::new();
    let local = rig.listen(Transport::Tcp);
    let peer = StdListener::bind(ANY_PORT).expect("a port is free").local_addr().expect("it is bound");
    // The kernel may say it at once, or when asked again.
    match rig.send(&to(Transport::Tcp, local, peer), OPTIONS) {
        Err(NetFault::Unreachable { hop, .. }) => assert_eq!(hop.remote, peer),
        Err(other) => panic!("{other}"),
        Ok(()) => {
            rig.until(|rig| !rig.heard.is_empty());
            let [NetEvent::Failed { hop, why: Closed::NotOpened }] = rig.heard[..] else {
                panic!("{:?}", rig.heard)
            };
            assert_eq!((hop.local, hop.remote), (local, peer));
        }
    }
    assert_eq!(rig.net.connections(), 0);
}

#[test]
fn a_peer_that_does_not_accept_in_time_is_given_up() {
    let mut rig = Rig::new();
    let local = rig.listen(Transport::Tcp);
    let peer = StdListener::bind(ANY_PORT).expect("a port is free");
    rig.send(&to(Transport::Tcp, local, peer.local_addr().expect("it is bound")), OPTIONS)
        .expect("is queued");
    // The sockets are not looked at, so that the connection is not seen to open.
    rig.pass(Duration::from_secs(5));
    assert!(
        matches!(rig.heard[..], [NetEvent::Failed { why: Closed::ConnectTimedOut, .. }]),
        "{:?}",
        rig.heard
    );
    assert_eq!(rig.net.next_deadline(), None);
}

#[test]
fn head_and_body_that_trickle_in_have_their_time_from_their_first_octet() {
    let whole = message(100);
    let head = whole.find("\r\n\r\n").expect("a head has an end") + 4;
    for (first, timers, time) in [(10, 2, 5), (head, 2, 10), (head + 50, 2, 10)] {
        let mut rig = Rig::new();
        let mut stream = client(rig.listen(Transport::Tcp));
        stream.write_all(message(0).as_bytes()).expect("the connection is open");
        rig.until(|rig| rig.messages().len() == 1);
        stream.write_all(&whole.as_bytes()[..first]).expect("the connection is open");
        rig.until(|rig| rig.net.timers.len() == timers);
        rig.pass(Duration::from_secs(time - 1));
        stream.write_all(&whole.as_bytes()[first..first + 5]).expect("the connection is open");
        rig.look();
        assert!(rig.ends().is_empty(), "{first}");
        rig.pass(Duration::from_secs(1));
        assert_eq!(rig.ends(), [Closed::MessageTimedOut], "{first}");
    }
}

#[test]
fn a_head_that_is_done_in_time_leaves_the_body_its_own() {
    let whole = message(100);
    let mut rig = Rig::new();
    let mut stream = client(rig.listen(Transport::Tcp));
    stream.write_all(&whole.as_bytes()[..10]).expect("the connection is open");
    rig.until(|rig| rig.net.timers.len() == 2);
    rig.pass(Duration::from_secs(4));
    stream.write_all(&whole.as_bytes()[10..whole.len() - 1]).expect("the connection is open");
    for _ in 0..3 {
        rig.look();
    }
    rig.pass(Duration::from_secs(9));
    assert!(rig.ends().is_empty());
    stream.write_all(&whole.as_bytes()[whole.len() - 1..]).expect("the connection is open");
    rig.until(|rig| rig.messages().len() == 1);
    assert_eq!(rig.net.timers.len(), 1);
}

#[test]
fn a_connection_ends_when_nothing_was_said_for_long_and_not_before() {
    let mut rig = Rig::new();
    let mut stream = client(rig.listen(Transport::Tcp));
    rig.until(|rig| rig.net.counts().accepted == 1);
    rig.pass(Duration::from_secs(500));
    stream.write_all(message(0).as_bytes()).expect("the connection is open");
    rig.until(|rig| rig.messages().len() == 1);
    rig.pass(Duration::from_secs(500));
    assert!(rig.ends().is_empty());
    rig.pass(Duration::from_secs(100));
    assert_eq!(rig.ends(), [Closed::Idle]);
}

#[test]
fn a_peer_that_does_not_read_is_cut_off_after_the_queue_is_full() {
    let mut rig = Rig::with(Settings { queue: 100_000, ..Settings::default() });
    let local = rig.listen(Transport::Tcp);
    let mut stream = client(local);
    stream.write_all(message(0).as_bytes()).expect("the connection is open");
    rig.until(|rig| rig.messages().len() == 1);
    let hop = rig.messages()[0].0;
    let full = (0..10_000).find_map(|_| rig.send(&hop, &message(10_000)).err()).expect("a buffer has an end");
    assert!(matches!(full, NetFault::QueueFull { limit: 100_000, .. }), "{full}");
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.ends(), [Closed::NotRead]);
    assert!(matches!(rig.send(&hop, OPTIONS), Err(NetFault::Gone { .. })));
}

#[test]
fn what_waits_is_sent_when_the_peer_reads_again() {
    let mut rig = Rig::new();
    let mut stream = client(rig.listen(Transport::Tcp));
    stream.write_all(message(0).as_bytes()).expect("the connection is open");
    rig.until(|rig| rig.messages().len() == 1);
    let hop = rig.messages()[0].0;
    let mut sent = 0;
    while rig.send(&hop, &message(10_000)).is_ok() {
        sent += message(10_000).len();
    }
    let reader = std::thread::spawn(move || {
        let mut read = vec![0; sent];
        stream.read_exact(&mut read).map(|()| (stream, read))
    });
    rig.until(|_| reader.is_finished());
    let (_stream, read) = reader.join().expect("the reader does not panic").expect("all was sent");
    assert!(read == message(10_000).repeat(sent / message(10_000).len()).into_bytes());
    assert!(rig.ends().is_empty());
}

#[test]
fn a_peer_that_hangs_up_is_told_apart_from_one_that_breaks_off_a_message() {
    for (text, why) in [(message(0), Closed::ByPeer), (message(0)[..20].to_owned(), Closed::Broken)] {
        let mut rig = Rig::new();
        let mut stream = client(rig.listen(Transport::Tcp));
        stream.write_all(text.as_bytes()).expect("the connection is open");
        drop(stream);
        rig.until(|rig| !rig.ends().is_empty());
        assert_eq!(rig.ends(), [why]);
        assert!(
            rig.net.per_source.is_empty() && rig.net.by_peer.is_empty() && rig.net.connections.is_empty()
        );
        assert_eq!(rig.net.next_deadline(), None);
    }
}

#[test]
fn connections_are_bounded_for_each_source_and_in_all() {
    for settings in [
        Settings { connections_per_source: 2, ..Settings::default() },
        Settings { connections: 2, ..Settings::default() },
    ] {
        let mut rig = Rig::with(settings);
        let local = rig.listen(Transport::Tcp);
        let first = [client(local), client(local)];
        let mut third = client(local);
        rig.until(|rig| rig.net.counts().refused == 1);
        assert_eq!(third.read(&mut [0; 1]).ok(), Some(0), "closed without a word");
        assert_eq!(rig.net.connections(), 2);
        drop(first);
        rig.until(|rig| rig.net.connections() == 0);
        let _fourth = client(local);
        rig.until(|rig| rig.net.connections() == 1);
    }
}

#[test]
fn a_full_table_of_connections_dials_no_more() {
    let mut rig = Rig::with(Settings { connections: 0, ..Settings::default() });
    let local = rig.listen(Transport::Tcp);
    let refused = rig.send(&to(Transport::Tcp, local, local), OPTIONS);
    assert!(matches!(refused, Err(NetFault::TooManyConnections { limit: 0, .. })));
}
