//! Bad input while a good call is going on: it gets what it deserves, and the call does not notice.

use anyhow::{Context, Result, bail};
use gateway_userspace::admin::answer::{Drops, FlowList};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;
use support::daemon::{Daemon, SOON, TRUNKS};
use support::lab::{Host, Lab};
use support::phone::{Message, Phone, connect};
use support::process::until;
use support::stream::Streams;

const GARBAGE: usize = 500;
/// Octets of the largest UDP payload over IPv4.
const LARGEST_DATAGRAM: usize = 65_507;

#[test]
fn bad_datagrams_get_their_status_and_leave_the_call_alone() -> Result<()> {
    beside_a_call(|lab, _| {
        let mut enemy = Phone::on_port(lab, Host::Caller, 5070)?;
        for (what, message, status) in bad_messages("UDP") {
            enemy.send_raw(&message)?;
            let answer = enemy.receive(what, |answer| answer.status().is_some())?;
            assert_eq!(answer.status(), Some(status), "{what}: {}", answer.start);
            is_alive(&mut enemy, what)?;
        }
        // A datagram ends where it ends (RFC 3261 section 18.3), whatever it says.
        for length in ["1000", "99999999", "18446744073709551617"] {
            enemy
                .send_raw(options("UDP", "short", &format!("Content-Length: {length}\r\n"), "").as_bytes())?;
            let answer = enemy.receive("an answer to a short body", |answer| answer.status().is_some())?;
            assert_eq!(answer.status(), Some(400), "{length}: {}", answer.start);
        }
        // What is too long to be echoed is not answered, so that nobody is sent more than he sent.
        let vias = "Via: SIP/2.0/UDP 10.81.1.2:5070;branch=z9hG4bKx\r\n".repeat(200);
        enemy.send_raw(options("UDP", "vias", &format!("{vias}Content-Length: 0\r\n"), "").as_bytes())?;
        is_alive(&mut enemy, "200 Via headers")
    })
}

#[test]
fn garbage_is_met_with_silence() -> Result<()> {
    beside_a_call(|lab, _| {
        let mut enemy = Phone::on_port(lab, Host::Caller, 5070)?;
        let mut random = StdRng::seed_from_u64(5060);
        for round in 0..20 {
            for _ in 0..GARBAGE / 20 {
                let mut octets = vec![0; random.random_range(0..1400)];
                random.fill_bytes(&mut octets);
                enemy.send_raw(&octets)?;
            }
            let mut largest = vec![0; LARGEST_DATAGRAM];
            random.fill_bytes(&mut largest);
            enemy.send_raw(&largest)?;
            enemy.send_raw(b"")?;
            enemy.send_raw(b"\r\n\r\n")?;
            // An answer to any of it would come before this one.
            let name = format!("round-{round}");
            enemy.send_raw(options("UDP", &name, "Content-Length: 0\r\n", "").as_bytes())?;
            let answer = enemy.receive("an answer", |_| true)?;
            assert_eq!((answer.status(), answer.header("Call-ID")), (Some(200), name.as_str()));
        }
        Ok(())
    })
}

#[test]
fn an_offer_that_cannot_be_read_or_carried_is_refused_by_name() -> Result<()> {
    const SDP: &str = "application/sdp";
    beside_a_call(|lab, daemon| {
        let mut enemy = Phone::on_port(lab, Host::Caller, 5070)?;
        let session = "v=0\r\no=- 1 1 IN IP4 10.81.1.2\r\ns=-\r\nc=IN IP4 10.81.1.2\r\nt=0 0\r\n";
        let audio = |line: &str| format!("{session}{line}\r\n");
        let no_address = audio("m=audio 30500 RTP/AVP 0").replace("c=IN IP4 10.81.1.2\r\n", "");
        let bad = [
            ("no session description", SDP, "hello".to_owned(), 400),
            ("a port beyond 65535", SDP, audio("m=audio 70000 RTP/AVP 0"), 400),
            ("formats that are no numbers", SDP, audio("m=audio 30500 RTP/AVP x"), 400),
            ("no address", SDP, no_address, 400),
            ("SRTP", SDP, audio("m=audio 30500 RTP/SAVP 0"), 488),
            ("fax only", SDP, audio("m=image 30500 udptl t38"), 488),
            ("no codec that is known", SDP, audio("m=audio 30500 RTP/AVP 77"), 488),
            ("another type of body", "text/plain", "hello".to_owned(), 415),
        ];
        for (what, content_type, body, status) in bad {
            let call = enemy.invite_with("0800", 30_500, content_type, &body)?;
            let answer = enemy.final_response(&call).context(what)?;
            assert_eq!(answer.status(), Some(status), "{what}: {}", answer.start);
        }
        // None of them is still there.
        until(SOON, || Ok((daemon.status()?.calls == 1).then_some(())))
    })
}

// Statements 12, 22.
#[test]
fn several_messages_in_one_segment_and_one_in_many_are_each_answered() -> Result<()> {
    beside_a_call(|lab, _| {
        let mut stream = tcp(lab)?;
        let message = |name| options("TCP", name, "Content-Length: 0\r\n", "");
        stream.write_all(["one", "two", "three"].map(message).concat().as_bytes())?;
        let mut answers = Vec::new();
        while answers.len() < 3 {
            let answer = read_message(&mut stream)?.context("closed")?;
            assert_eq!(answer.status(), Some(200), "{}", answer.start);
            answers.push(answer.header("Call-ID").to_owned());
        }
        // The cores that own them may answer in any order.
        answers.sort();
        assert_eq!(answers, ["one", "three", "two"]);
        for octet in message("slow").as_bytes() {
            stream.write_all(&[*octet])?;
        }
        let answer = read_message(&mut stream)?.context("closed")?;
        assert_eq!((answer.status(), answer.header("Call-ID")), (Some(200), "slow"));
        Ok(())
    })
}

#[test]
fn bad_messages_on_a_connection_get_their_status() -> Result<()> {
    beside_a_call(|lab, _| {
        for (what, message, status) in bad_messages("TCP") {
            let mut stream = tcp(lab)?;
            stream.write_all(&message)?;
            let answer =
                read_message(&mut stream)?.with_context(|| format!("{what}: closed without answer"))?;
            assert_eq!(answer.status(), Some(status), "{what}: {}", answer.start);
        }
        // The next connection is served as if nothing had been.
        let mut stream = tcp(lab)?;
        stream.write_all(options("TCP", "after", "Content-Length: 0\r\n", "").as_bytes())?;
        assert_eq!(read_message(&mut stream)?.context("closed")?.status(), Some(200));
        Ok(())
    })
}

#[test]
fn a_stream_that_cannot_be_framed_is_closed() -> Result<()> {
    beside_a_call(|lab, _| {
        let endless =
            [b"OPTIONS sip:a@10.81.1.1 SIP/2.0\r\n".as_slice(), &b"X: y\r\n".repeat(20_000)].concat();
        let huge = options("TCP", "huge", "Content-Length: 4294967297\r\n", "");
        for (what, octets) in [("headers without end", endless), ("a huge body", huge.into_bytes())] {
            let mut stream = tcp(lab)?;
            // It may be closed while this is still sending.
            let _ = stream.write_all(&octets);
            let mut last = None;
            while let Some(answer) = read_message(&mut stream).with_context(|| what.to_owned())? {
                last = answer.status();
            }
            assert!(matches!(last, None | Some(513)), "{what}: {last:?}");
        }
        Ok(())
    })
}

#[test]
fn garbage_at_a_media_port_is_dropped_and_counted() -> Result<()> {
    beside_a_call(|lab, daemon| {
        let flows = daemon.ask::<FlowList>(&["flows"])?.flows;
        let socket = lab.on(Host::Caller, || Ok(UdpSocket::bind("10.81.1.2:0")?))?;
        let port = flows.iter().find(|flow| flow.kind != "rtcp" && flow.at.ip().to_string() == "10.81.1.1");
        let port = port.context("no flow on the caller's side")?.at;
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..GARBAGE {
            let mut octets = vec![0; random.random_range(0..1200)];
            random.fill_bytes(&mut octets);
            socket.send_to(&octets, port)?;
        }
        let dropped = || -> Result<u64> {
            Ok(daemon.ask::<Drops>(&["drops"])?.packets.iter().map(|line| line.count).sum())
        };
        until(SOON, || Ok((dropped()? == GARBAGE as u64).then_some(())))
            .with_context(|| format!("{:?}", daemon.ask::<Drops>(&["drops"])))
    })
}

#[test]
fn a_source_that_no_trunk_allows_gets_silence_and_is_counted() -> Result<()> {
    beside_a_call(|lab, daemon| {
        lab.on(Host::Callee, || support::namespace::ip("address add 10.81.2.99/24 dev to-gateway"))?;
        let stranger = lab.on(Host::Callee, || Ok(UdpSocket::bind("10.81.2.99:5060")?))?;
        for name in ["one", "two", "three"] {
            let message = options("UDP", name, "Content-Length: 0\r\n", "");
            stranger.send_to(message.as_bytes(), "10.81.2.1:5060")?;
        }
        let silenced = until(SOON, || {
            let silenced = daemon.ask::<serde_json::Value>(&["drops"])?["silenced"].clone();
            Ok(silenced.to_string().contains("10.81.2.99").then_some(silenced))
        })?;
        assert!(silenced.to_string().contains("10.81.2.99"), "{silenced}");
        stranger.set_nonblocking(true)?;
        let answer = stranger.recv(&mut [0; 1500]).map_err(|error| error.kind());
        assert_eq!(answer, Err(ErrorKind::WouldBlock));
        Ok(())
    })
}

/// Does this to a daemon that carries a call with media, and looks at the call afterwards.
fn beside_a_call(act: impl FnOnce(&Lab, &Daemon<'_>) -> Result<()>) -> Result<()> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, TRUNKS)?;
    let mut caller = Phone::new(&lab, Host::Caller)?;
    let mut callee = Phone::new(&lab, Host::Callee)?;
    let (mut from, to) = connect(&mut caller, &mut callee, 30_000)?;
    let streams = Streams::start(&lab, &daemon.ask::<FlowList>(&["flows"])?.flows)?;

    act(&lab, &daemon)?;

    assert!(daemon.is_running()?, "{}", daemon.log());
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    let tally = streams.stop()?;
    assert!(tally.sent > 0);
    assert_eq!((tally.sent, tally.repeated), (tally.received, 0), "{tally:?}");
    caller.hang_up(&mut from)?;
    callee.be_hung_up(&to)?;
    let records = daemon.records(1)?;
    assert_eq!((records[0].sip_status, records[0].fault.as_deref()), (200, None));
    assert_eq!(records[0].from_caller.packets + records[0].from_callee.packets, tally.sent as u64);
    Ok(())
}

/// What it is, its octets, and the status that answers it.
fn bad_messages(transport: &str) -> Vec<(&'static str, Vec<u8>, u16)> {
    let empty = "Content-Length: 0\r\n";
    let with = |what, headers: &str| (what, options(transport, what, headers, "").into_bytes());
    let bomb = (0..3000).map(|number| format!("X-{number}: y\r\n")).collect::<String>() + empty;
    let long = format!("Subject: {}\r\n{empty}", "x".repeat(20_000));
    let vias = format!("Via: SIP/2.0/{transport} 10.81.1.2:5070;branch=z9hG4bKx\r\n").repeat(75) + empty;
    let (nul, nul_octets) = with("a NUL in a header's name", &format!("Sub\0ject: x\r\n{empty}"));
    let mut bad = vec![(nul, nul_octets, 400)];
    let mut add = |(what, octets), status| bad.push((what, octets, status));
    add(with("3000 headers", &bomb), 513);
    add(with("a header of 20,000 octets", &long), 513);
    add(with("75 Via headers", &vias), 513);
    add(with("a negative Content-Length", "Content-Length: -1\r\n"), 400);
    add(with("two Content-Lengths that differ", "Content-Length: 0\r\nContent-Length: 5\r\n"), 400);
    add(with("a Content-Length that is no number", "Content-Length: many\r\n"), 400);
    add(with("a header without a colon", &format!("Subject\r\n{empty}")), 400);
    let version = options(transport, "version", empty, "").replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia");
    add(("a version to come", version.into_bytes()), 505);
    let no_sequence = options(transport, "cseq", empty, "").replace("CSeq: 1 OPTIONS\r\n", "");
    add(("no CSeq", no_sequence.into_bytes()), 400);
    let mut truncated = options(transport, "utf-8", empty, "").into_bytes();
    let name = truncated.windows(5).position(|window| window == b"enemy").unwrap_or_default();
    // The first two octets of a character of three, in a display name.
    truncated.splice(name..name + 5, *b"\xe2\x82\" ");
    add(("UTF-8 that ends in the middle of a character", truncated), 400);
    bad
}

/// An OPTIONS request; `headers` must hold Content-Length.
fn options(transport: &str, call_id: &str, headers: &str, body: &str) -> String {
    let branch: String = call_id.chars().filter(char::is_ascii_alphanumeric).collect();
    let call_id = call_id.replace(' ', "-");
    format!(
        "OPTIONS sip:gateway@10.81.1.1 SIP/2.0\r\n\
         Via: SIP/2.0/{transport} 10.81.1.2:5070;branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\n\
         From: \"enemy\" <sip:enemy@10.81.1.2>;tag=1\r\n\
         To: <sip:gateway@10.81.1.1>\r\n\
         Call-ID: {call_id}\r\nCSeq: 1 OPTIONS\r\n{headers}\r\n{body}"
    )
}

fn is_alive(phone: &mut Phone, after: &str) -> Result<()> {
    let name = format!("alive-{}", after.replace(' ', "-"));
    phone.send_raw(options("UDP", &name, "Content-Length: 0\r\n", "").as_bytes())?;
    let answer = phone.receive(after, |answer| answer.header("Call-ID") == name)?;
    if answer.status() != Some(200) {
        bail!("after {after}: {}", answer.start);
    }
    Ok(())
}

fn tcp(lab: &Lab) -> Result<TcpStream> {
    let stream = lab.on(Host::Caller, || Ok(TcpStream::connect("10.81.1.1:5060")?))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// The next message without a body; `None` when the connection was closed.
fn read_message(stream: &mut TcpStream) -> Result<Option<Message>> {
    let mut octets = Vec::new();
    while !octets.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        match stream.read(&mut octet) {
            Ok(0) => return Ok(None),
            Ok(_) => octets.push(octet[0]),
            // Closed while we had still something to say.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Message::parse(std::str::from_utf8(&octets)?).map(Some)
}
