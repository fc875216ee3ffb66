//! From bytes to a [`Description`]: grammar by sdp-types, limits and meaning here.

use super::crypto::{self, Crypto};
use super::fault::SdpFault;
use super::fax::{self, Fax};
use super::ice::Ice;
use super::model::{Audio, Description, Direction, Format, Origin, OtherStream, Profile, RtcpPort};
use super::precondition::Preconditions;
use crate::rtp::Codec;
use sdp_types::{Attribute, Connection, Media, Session};
use std::net::{IpAddr, Ipv4Addr};

/// Longest body, in octets: an order of magnitude above what large WebRTC offers take.
pub(super) const BODY_MAX: usize = 32 * 1024;
/// Longest line, in octets.
pub(super) const LINE_MAX: usize = 2048;
/// Most lines.
const LINES_MAX: usize = 1024;

/// Reads a session description.
///
/// Of several audio streams the first that this gateway can carry is meant, and fax over UDPTL where there is none; where an offer holds a secured stream
/// beside a plain one, the other of the two is [`Description::otherwise`]. Octets that are not UTF-8 are read as U+FFFD, because they stand in names that go no
/// further. Formats whose encoding is unknown (a dynamic number without `a=rtpmap`) are left out.
pub fn parse(body: &[u8]) -> Result<Description, SdpFault> {
    check_limits(body)?;
    let text = String::from_utf8_lossy(body);
    let session = Session::parse(text.as_bytes())?;
    let position = stream_position(&session)?;
    let mut described = description(session.clone(), position)?;
    if described.audio.fax.is_some() {
        return Ok(described);
    }
    let is_secure = described.audio.profile.is_secure();
    described.otherwise = other_position(&session, is_secure)
        .and_then(|position| description(session, position).ok())
        .map(Box::new);
    Ok(described)
}

/// With the stream that is meant at `position` of the media lines.
fn description(mut session: Session, position: usize) -> Result<Description, SdpFault> {
    let after: Vec<Media> = session.medias.drain(position + 1..).collect();
    let media = session.medias.pop().ok_or(SdpFault::NoAudio)?;
    let audio = if is_fax(&media) { image(&session, &media)? } else { audio(&session, &media)? };
    let other = |media: Media| OtherStream { media: media.media, profile: media.proto, formats: media.fmt };
    Ok(Description {
        origin: Origin {
            session_id: session.origin.sess_id,
            version: session.origin.sess_version,
            address: session.origin.unicast_address,
        },
        before: session.medias.into_iter().map(other).collect(),
        audio,
        after: after.into_iter().map(other).collect(),
        otherwise: None,
    })
}

fn check_limits(body: &[u8]) -> Result<(), SdpFault> {
    if body.len() > BODY_MAX {
        return Err(SdpFault::TooLarge(body.len()));
    }
    let mut lines = 0;
    for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        if line.len() > LINE_MAX {
            return Err(SdpFault::LineTooLong(number));
        }
        lines = number;
    }
    if lines > LINES_MAX { Err(SdpFault::TooManyLines(LINES_MAX)) } else { Ok(()) }
}

/// The stream to speak of: the first of audio to carry, else of fax, else the first of audio of a profile that could be
/// carried but is refused or ended (port 0), of fax likewise, else the first audio of any kind, whose fault is then the
/// answer.
fn stream_position(session: &Session) -> Result<usize, SdpFault> {
    let find = |wanted: &dyn Fn(&Media) -> bool| {
        session.medias.iter().position(|media| media.media.eq_ignore_ascii_case("audio") && wanted(media))
    };
    let fax = |wanted: &dyn Fn(&Media) -> bool| {
        session.medias.iter().position(|media| is_fax(media) && wanted(media))
    };
    find(&|media| media.port != 0 && audio(session, media).is_ok())
        .or_else(|| fax(&|media| media.port != 0 && image(session, media).is_ok()))
        .or_else(|| find(&|media| media.port == 0 && Profile::named(&media.proto).is_some()))
        .or_else(|| fax(&|media| media.port == 0))
        .or_else(|| find(&|_| true))
        .ok_or(SdpFault::NoAudio)
}

/// The first audio stream that could be carried and is secured where the one that is meant is not, or the other way round.
fn other_position(session: &Session, is_secure: bool) -> Option<usize> {
    session.medias.iter().position(|media| {
        let profile = Profile::named(&media.proto);
        media.media.eq_ignore_ascii_case("audio")
            && media.port != 0
            && profile.is_some_and(|profile| profile.is_secure() != is_secure)
    })
}

/// T.38 over UDPTL; not over TCP, RTP or DTLS.
fn is_fax(media: &Media) -> bool {
    media.media.eq_ignore_ascii_case(fax::MEDIA)
        && media.proto.eq_ignore_ascii_case(Profile::Udptl.name())
        && media.fmt.trim().eq_ignore_ascii_case(fax::FORMAT)
}

fn image(session: &Session, media: &Media) -> Result<Audio, SdpFault> {
    let direction = direction(&media.attributes).or_else(|| direction(&session.attributes));
    Ok(Audio {
        address: connected(session, media)?,
        port: media.port,
        profile: Profile::Udptl,
        formats: Vec::new(),
        direction: direction.unwrap_or_default(),
        rtcp: None,
        rtcp_mux: false,
        metrics: false,
        ptime: None,
        maxptime: None,
        preconditions: None,
        crypto: Vec::new(),
        ice: None,
        fax: Some(Box::new(Fax::of(&media.attributes))),
    })
}

/// Whether `voip-metrics` is among the blocks of an `a=rtcp-xr` (RFC 3611 section 5.1), which has its flags behind it.
fn asks_for_metrics(blocks: &str) -> bool {
    blocks.split_ascii_whitespace().any(|block| block.split('=').next() == Some("voip-metrics"))
}

/// Where a stream of one port pair is to go.
fn connected(session: &Session, media: &Media) -> Result<IpAddr, SdpFault> {
    if let Some(count) = media.num_ports.filter(|count| *count > 1) {
        return Err(SdpFault::PortCount(count));
    }
    let connection = media.connections.first().or(session.connection.as_ref());
    match connection {
        Some(connection) => address(connection),
        // A refused stream goes nowhere, and some write no address for it.
        None if media.port == 0 => Ok(Ipv4Addr::UNSPECIFIED.into()),
        None => Err(SdpFault::NoAddress),
    }
}

fn audio(session: &Session, media: &Media) -> Result<Audio, SdpFault> {
    let profile = Profile::named(&media.proto).ok_or_else(|| SdpFault::Profile(media.proto.clone()))?;
    let address = connected(session, media)?;
    let direction = direction(&media.attributes).or_else(|| direction(&session.attributes));
    let ptime = |name| value(&media.attributes, name).and_then(leading_number);
    Ok(Audio {
        address,
        port: media.port,
        profile,
        formats: formats(media)?,
        direction: direction.unwrap_or_default(),
        rtcp: value(&media.attributes, "rtcp").and_then(rtcp_port),
        rtcp_mux: media.attributes.iter().any(|attribute| attribute.attribute == "rtcp-mux"),
        metrics: value(&media.attributes, "rtcp-xr")
            .or_else(|| value(&session.attributes, "rtcp-xr"))
            .is_some_and(asks_for_metrics),
        ptime: ptime("ptime"),
        maxptime: ptime("maxptime"),
        preconditions: Preconditions::of(
            media
                .attributes
                .iter()
                .filter_map(|attribute| Some((attribute.attribute.as_str(), attribute.value.as_deref()?))),
        ),
        crypto: media
            .attributes
            .iter()
            .filter(|attribute| attribute.attribute == "crypto")
            .take(crypto::LINES_MAX)
            .filter_map(|attribute| Crypto::parse(attribute.value.as_deref()?))
            .collect(),
        ice: Ice::parse(&session.attributes, &media.attributes).map(Box::new),
        fax: None,
    })
}

/// One numeric unicast address. A host name would need a resolver between two packets of one transaction.
fn address(connection: &Connection) -> Result<IpAddr, SdpFault> {
    let refused = || SdpFault::Address(connection.connection_address.clone());
    let address: IpAddr = connection.connection_address.parse().map_err(|_| refused())?;
    // A mapped address never stands on the wire (RFC 4038 section 4.2): the peer means IPv4.
    let address = address.to_canonical();
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_multicast() || broadcast { Err(refused()) } else { Ok(address) }
}

fn formats(media: &Media) -> Result<Vec<Format>, SdpFault> {
    let mut formats: Vec<Format> = Vec::new();
    // A name among the numbers, as some services have it, stands for no payload.
    let is_name = |word: &str| word.starts_with(|first: char| first.is_ascii_alphabetic());
    let only_names = media.fmt.split_ascii_whitespace().all(is_name);
    for word in media.fmt.split_ascii_whitespace().filter(|word| only_names || !is_name(word)) {
        let number = match word.parse().ok().filter(|number| *number < 128u8) {
            Some(number) => number,
            // Formats of a refused stream are there for the grammar only (RFC 3264 section 6).
            None if media.port == 0 => continue,
            None => return Err(SdpFault::FormatList(media.fmt.clone())),
        };
        let known = formats.iter().any(|format| format.payload_type == number);
        if let Some(codec) = codec(media, number).filter(|_| !known) {
            let fmtp = of_payload(media, "fmtp", number).map(Into::into);
            formats.push(Format { payload_type: number, codec, fmtp });
        }
    }
    Ok(formats)
}

/// By `a=rtpmap`, and without one by the static assignment (RFC 3551 section 6).
fn codec(media: &Media, number: u8) -> Option<Codec> {
    match of_payload(media, "rtpmap", number) {
        Some(map) => map.parse().ok(),
        None => Codec::of_static_payload_type(number),
    }
}

/// What `a=rtpmap` or `a=fmtp` says of a payload number.
fn of_payload<'a>(media: &'a Media, name: &str, number: u8) -> Option<&'a str> {
    media
        .attributes
        .iter()
        .filter(|attribute| attribute.attribute == name)
        .filter_map(|attribute| attribute.value.as_deref()?.trim().split_once(' '))
        .find(|(word, _)| word.parse() == Ok(number))
        .map(|(_, rest)| rest.trim())
}

fn direction(attributes: &[Attribute]) -> Option<Direction> {
    attributes.iter().find_map(|attribute| Direction::named(&attribute.attribute))
}

fn value<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| attribute.attribute == name)?.value.as_deref()
}

/// `port [IN IP4|IP6 address]` (RFC 3605 section 2.1).
fn rtcp_port(value: &str) -> Option<RtcpPort> {
    let mut words = value.split_ascii_whitespace();
    let port = words.next()?.parse().ok()?;
    let address =
        words.nth(2).and_then(|word| word.parse::<IpAddr>().ok()).map(|address| address.to_canonical());
    Some(RtcpPort { port, address: address.filter(|address| !address.is_unspecified()) })
}

/// Milliseconds: the grammar allows a fraction (RFC 8866 section 6.4), which no packet needs.
fn leading_number(value: &str) -> Option<u16> {
    let digits = value.trim().split(|character: char| !character.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fault::Fault;
    use crate::sdp::print;
    use proptest::prelude::*;

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";

    fn parsed(rest: &str) -> Result<Description, SdpFault> {
        parse(format!("{HEAD}{rest}").as_bytes())
    }

    /// `number:codec:fmtp` of each format.
    fn formats(description: &Description) -> Vec<String> {
        let text = |format: &Format| {
            format!("{}:{}:{}", format.payload_type, format.codec, format.fmtp.as_deref().unwrap_or_default())
        };
        description.audio.formats.iter().map(text).collect()
    }

    #[test]
    fn static_numbers_need_no_rtpmap_and_dynamic_ones_without_are_left_out() {
        let description = parsed(
            "m=audio 4000 RTP/AVP 0 8 96 97 101 8\r\na=rtpmap:96 AMR-WB/16000\r\na=fmtp:96 octet-align=1; \
             mode-set=0,1\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=rtpmap:8 pcma/8000/1\r\n",
        )
        .unwrap();
        let expected = [
            "0:PCMU/8000:",
            "8:PCMA/8000:",
            "96:AMR-WB/16000:octet-align=1; mode-set=0,1",
            "101:telephone-event/8000:0-16",
        ];
        assert_eq!(formats(&description), expected);
    }

    // RFC 3611 section 5.1.
    #[test]
    fn whether_voip_metrics_are_wanted_is_read() {
        for (attribute, wanted) in [
            ("a=rtcp-xr:voip-metrics", true),
            ("a=rtcp-xr:rcvr-rtt=all:10000 voip-metrics=sentonly pkt-loss-rle", true),
            ("a=rtcp-xr:stat-summary=loss,dup", false),
            ("a=rtcp-xr", false),
            ("a=sendrecv", false),
        ] {
            for (session, media) in [(attribute, ""), ("", attribute)] {
                let lines: String = [session, "m=audio 4000 RTP/AVP 0", media]
                    .iter()
                    .filter(|line| !line.is_empty())
                    .map(|line| format!("{line}\r\n"))
                    .collect();
                assert_eq!(parsed(&lines).unwrap().audio.metrics, wanted, "{lines}");
            }
        }
    }

    #[test]
    fn the_streams_own_lines_go_before_the_sessions() {
        let audio = parsed(
            "a=inactive\r\nm=audio 4000 RTP/AVPF 0\r\nc=IN IP6 2001:db8::1\r\na=recvonly\r\na=ptime:30.5\r\n\
             a=maxptime:60\r\na=rtcp-mux\r\na=rtcp:4009 IN IP6 2001:db8::2\r\n",
        )
        .unwrap()
        .audio;
        assert_eq!(audio.address, "2001:db8::1".parse::<IpAddr>().unwrap());
        assert_eq!((audio.profile, audio.direction), (Profile::Avpf, Direction::ReceiveOnly));
        assert_eq!((audio.ptime, audio.maxptime, audio.rtcp_mux), (Some(30), Some(60), true));
        assert_eq!(audio.rtcp(), Some("[2001:db8::2]:4009".parse().unwrap()));
        assert_eq!(
            parsed("a=inactive\r\nm=audio 4000 RTP/AVP 0\r\n").unwrap().audio.direction,
            Direction::Inactive
        );
    }

    #[test]
    fn rtcp_goes_to_the_port_above_unless_there_is_none() {
        let rtcp = |line: &str| parsed(line).unwrap().audio.rtcp().map(|address| address.to_string());
        assert_eq!(rtcp("m=audio 4000 RTP/AVP 0\r\n").as_deref(), Some("192.0.2.1:4001"));
        assert_eq!(rtcp("m=audio 65535 RTP/AVP 0\r\n"), None);
        assert_eq!(rtcp("m=audio 4000 RTP/AVP 0\r\na=rtcp:0\r\n"), None);
        assert_eq!(rtcp("m=audio 4000 RTP/AVP 0\r\na=rtcp:nonsense\r\n").as_deref(), Some("192.0.2.1:4001"));
    }

    #[test]
    fn the_first_audio_stream_that_can_be_carried_is_meant() {
        let description = parsed(
            "m=video 3000 RTP/AVP 31\r\nm=audio 4000 TCP/RTP/AVP 0\r\nm=audio 4002 RTP/AVP 8\r\nm=audio 4004 RTP/AVP 0\r\n",
        )
        .unwrap();
        assert_eq!(description.audio.port, 4002);
        assert_eq!((description.before.len(), description.after.len()), (2, 1));
        assert_eq!(description.before[1].profile, "TCP/RTP/AVP");
        let refused = parsed("m=audio 0 TCP/RTP/AVP 0\r\nm=audio 0 RTP/AVP 0\r\n").unwrap();
        assert_eq!(refused.before.len(), 1);
    }

    #[test]
    fn a_secured_stream_beside_a_plain_one_is_kept_for_a_choice() {
        let description = parsed("m=audio 4000 RTP/SAVP 0\r\nm=audio 4002 RTP/AVP 8\r\n").unwrap();
        let other = description.otherwise.unwrap();
        assert_eq!((description.audio.port, other.audio.port), (4000, 4002));
        assert_eq!((description.before.len(), other.before.len()), (0, 1));
        assert_eq!(parsed("m=audio 4000 RTP/AVP 0\r\nm=audio 0 RTP/SAVP 8\r\n").unwrap().otherwise, None);
    }

    // Statement 131.
    #[test]
    fn every_line_with_a_key_is_read_and_one_that_cannot_be_used_costs_only_itself() {
        let key = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
        let audio = parsed(&format!(
            "m=audio 4000 UDP/TLS/RTP/SAVP 0\r\na=crypto:0 AES_CM_128_HMAC_SHA1_32 inline:{key}|2^31\r\n\
             a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^31\r\na=crypto:2 AES_UNKNOWN inline:{key}\r\n"
        ))
        .unwrap()
        .audio;
        let lines: Vec<_> = audio.crypto.iter().map(|line| (line.tag, line.key.suite().name())).collect();
        assert_eq!(lines, [(0, "AES_CM_128_HMAC_SHA1_32"), (1, "AES_CM_128_HMAC_SHA1_80")]);
        assert_eq!(audio.profile, Profile::TlsSavp);
        assert!(!format!("{audio:?}").contains(&key[5..20]));
    }

    #[test]
    fn sloppy_descriptions_are_read() {
        let rest = "m=audio 4000 RTP/AVP 0";
        for body in [
            format!("{HEAD}{rest}"),
            format!("{HEAD}{rest}\r\n\r\n"),
            format!("{HEAD}{rest}").replace("\r\n", "\n"),
            format!("{HEAD}{rest}").replace("s=-\r\n", ""),
            format!("{HEAD}{rest}").replace("t=0 0\r\n", ""),
            format!("{HEAD}{rest}").replace("o=- 1 ", "o=- 99999999999999999999999999 "),
            format!("{HEAD}{rest}").replace("t=0 0\r\n", "b=AS:80\r\nb=X-Y:1\r\nt=0 0\r\n"),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap().audio.port, 4000, "{body}");
        }
        let latin_1 = [HEAD.replace("s=-", "s=Caf\u{fffd}").as_bytes(), rest.as_bytes()].concat();
        assert!(parse(&latin_1).is_ok());
        assert!(parse(b"v=0\r\ns=\xe9\xff\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n").is_ok());
        assert_eq!(parsed("m=audio 0 RTP/AVP what=ever 200\r\n").unwrap().audio.formats, []);
    }

    #[test]
    fn what_cannot_be_read_or_carried_has_a_name_and_a_status() {
        let table: &[(&str, Fault)] = &[
            ("m=audio x RTP/AVP 0\r\n", Fault::MalformedSdp),
            ("m=audio 70000 RTP/AVP 0\r\n", Fault::MalformedSdp),
            ("m=audio -1 RTP/AVP 0\r\n", Fault::MalformedSdp),
            ("m=audio 4000 RTP/AVP zero\r\n", Fault::MalformedSdp),
            ("m=audio 4000 RTP/AVP 128\r\n", Fault::MalformedSdp),
            ("m=audio 4000 RTP/AVP 0\r\na=x\0y\r\n", Fault::MalformedSdp),
            ("", Fault::NotAcceptableHere),
            ("m=video 4000 RTP/AVP 31\r\n", Fault::NotAcceptableHere),
            ("m=audio 4000 UDP/BFCP 0\r\n", Fault::NotAcceptableHere),
            ("m=audio 4000 TCP/RTP/SAVP 0\r\n", Fault::NotAcceptableHere),
            ("m=audio 4000/2 RTP/AVP 0\r\n", Fault::NotAcceptableHere),
            ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 media.example.com\r\n", Fault::NotAcceptableHere),
            ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 224.2.1.1/127\r\n", Fault::NotAcceptableHere),
            ("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 255.255.255.255\r\n", Fault::NotAcceptableHere),
        ];
        for (rest, fault) in table {
            let error = parsed(rest).unwrap_err();
            assert_eq!(error.fault(), *fault, "{rest:?}: {error}");
        }
        assert!(matches!(parse(b""), Err(SdpFault::Grammar(_))));
        assert_eq!(parse(b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n"), Err(SdpFault::NoAddress));
        assert_eq!(parse(&vec![b'v'; BODY_MAX + 1]), Err(SdpFault::TooLarge(BODY_MAX + 1)));
        assert_eq!(parsed(&format!("a={}\r\n", "x".repeat(LINE_MAX))), Err(SdpFault::LineTooLong(6)));
        assert_eq!(parsed(&"a=x\r\n".repeat(LINES_MAX)), Err(SdpFault::TooManyLines(LINES_MAX)));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_it_maps() {
        let audio = parsed("m=audio 4000 RTP/AVP 0\r\nc=IN IP6 ::ffff:198.51.100.7\r\n").unwrap().audio;
        assert_eq!(audio.rtp(), Some("198.51.100.7:4000".parse().unwrap()));
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z]=[ -~]{0,40}",
            "a=(rtpmap|fmtp|rtcp|ptime|maxptime):[0-9 a-zA-Z/.;=-]{0,30}",
            "m=audio [0-9]{0,6} RTP/(AVP|AVPF|SAVP)( [0-9]{1,3}){0,6}",
            "c=IN IP[46] [0-9a-f.:/]{0,20}",
            "a=crypto:[0-9]{1,2} AES_CM_128_HMAC_SHA1_80 inline:[a-zA-Z0-9]{40}([|]2\\^[0-9]{1,2})?([|]1:[0-9])?",
            Just("a=rtcp-mux".to_owned()),
            Just("a=ice-lite".to_owned()),
            "a=ice-ufrag:[a-zA-Z0-9+/]{4,8}",
            "a=ice-pwd:[a-zA-Z0-9+/]{22,24}",
            "a=candidate:[0-9] [12] (UDP|TCP) [0-9]{1,9} 192\\.0\\.2\\.[0-9]{1,3} [0-9]{1,5} typ (host|srflx)",
            Just("a=sendonly".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&body);
        }

        /// What was read is printed, and reads the same again.
        #[test]
        fn what_was_read_survives_printing(lines in prop::collection::vec(line(), 0..25)) {
            let body = format!("{HEAD}m=audio 4000 RTP/AVP 0 8 101\r\n{}\r\n", lines.join("\r\n"));
            let Ok(description) = parse(body.as_bytes()) else { return Ok(()) };
            // We print no empty list of formats, and of several refused streams another may be meant afterwards.
            prop_assume!(!description.audio.formats.is_empty() && description.audio.port != 0);
            let again = parse(print(&description).as_bytes());
            prop_assert_eq!(again.as_ref().map(|again| &again.audio), Ok(&description.audio));
        }
    }
}
